//! Manifests: sections, body, placement, hints and statistics, behind right checksums.
#![no_main]

use libfuzzer_sys::fuzz_target;
use milepost_engine::codec;
use milepost_engine::format::body::Body;
use milepost_engine::format::manifest::Manifest;
use milepost_engine::format::placement::{self, Placement};
use milepost_engine::format::section::{self, Section};

fuzz_target!(|input: (Vec<(u8, u8, u32, Vec<u8>)>, &[u8])| {
    let (parts, data) = input;
    let _ = Manifest::decode(data, &codec::decompress_section);
    if let Ok(body) = Body::decode(data) {
        assert_eq!(
            body.encode().unwrap(),
            data,
            "what is accepted is canonical"
        );
    }
    if let Ok(found) = Placement::decode(data) {
        assert!(data.starts_with(&found.encode().unwrap()));
    }
    let _ = (
        placement::decode_hints(data),
        placement::decode_statistics(data),
    );
    let section = |(kind, coder, raw_len, stored): &(u8, u8, u32, Vec<u8>)| {
        let known = [
            section::BODY,
            section::PLACEMENT,
            section::PACKS,
            section::STATISTICS,
            9,
        ];
        // Mostly the right length, so that what is behind the check is reached.
        let raw_len = if *coder == 0 {
            stored.len() as u32
        } else {
            raw_len % (1 << 22)
        };
        (
            known[usize::from(*kind) % 5],
            u32::from(*coder),
            raw_len,
            stored.clone(),
        )
    };
    let parts: Vec<_> = parts.iter().take(64).map(section).collect();
    let mut sections: Vec<Section<'_>> = Vec::new();
    for (kind, coder, raw_len, stored) in &parts {
        sections.push(Section {
            kind: *kind,
            coder: *coder,
            raw_len: *raw_len,
            stored,
        });
    }
    let file = section::encode_file(&mut sections).unwrap();
    if let Ok(manifest) = Manifest::decode(&file, &codec::decompress_section) {
        let bytes = manifest.encode(&codec::compress_section).unwrap();
        let again = Manifest::decode(&bytes, &codec::decompress_section).unwrap();
        assert_eq!(
            (again.id, again.placement),
            (manifest.id, manifest.placement)
        );
    }
});
