//! Cache files and the pack indexes in them, behind right checksums and hashes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use milepost_engine::format::cache_file::{self, CachedIndex};
use milepost_engine::format::envelope::FileKind;
use milepost_engine::hash;
use milepost_fuzz::seal;

fuzz_target!(|data: &[u8]| {
    let _ = cache_file::decode(data);
    let file = seal::file(FileKind::Cache, data);
    if let Ok(items) = cache_file::decode(&file) {
        for item in &items {
            let _ = CachedIndex::decode(item, |_| true);
        }
        let owned: Vec<Vec<u8>> = items.iter().map(|item| item.to_vec()).collect();
        assert_eq!(
            cache_file::encode(&owned),
            file,
            "what is accepted is canonical"
        );
    }
    // An item whose name is the hash of its index, as only a forger could make it.
    if let Some((lengths, index)) = data.split_first_chunk::<16>() {
        let item = [&hash::pack_id(index).0[..], lengths, index].concat();
        if let Ok(Some(found)) = CachedIndex::decode(&item, |_| true) {
            let again = CachedIndex::decode(&found.clone().encode().unwrap(), |_| true);
            assert!(again.is_err() || again.is_ok_and(|a| a.as_ref() == Some(&found)));
        }
    }
});
