//! Manifests: sections, body, placement, hints, statistics and relations, behind right checksums.
#![no_main]

use libfuzzer_sys::fuzz_target;
use milepost_engine::codec;
use milepost_engine::format::body::Body;
use milepost_engine::format::manifest::Manifest;
use milepost_engine::format::part::Part as WritersPart;
use milepost_engine::format::placement::{self, Placement};
use milepost_engine::format::relations;
use milepost_fuzz::parts::{self, Part};

fuzz_target!(|input: (Vec<Part>, &[u8])| {
    let (given, data) = input;
    let _ = Manifest::decode(data, &codec::decompress_section);
    let _ = WritersPart::decode(data, &codec::decompress_section);
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
    let _ = placement::decode_hints(data);
    let _ = placement::decode_statistics(data);
    if let Ok(found) = relations::decode_relations(data, 9) {
        assert_eq!(relations::encode_relations(&found).unwrap(), data);
    }
    let file = parts::file(&given).unwrap();
    if let Ok(manifest) = Manifest::decode(&file, &codec::decompress_section) {
        let bytes = manifest.encode(&codec::compress_section).unwrap();
        let again = Manifest::decode(&bytes, &codec::decompress_section).unwrap();
        assert_eq!(again.id, manifest.id);
        assert_eq!(again.placement, manifest.placement);
    }
});
