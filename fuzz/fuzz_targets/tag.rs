//! Tags: 32 bytes behind right checksums are a tag, nothing else is.
#![no_main]

use libfuzzer_sys::fuzz_target;
use milepost_engine::format::envelope::FileKind;
use milepost_engine::format::tag;
use milepost_fuzz::seal;

fuzz_target!(|data: &[u8]| {
    let _ = tag::decode(data);
    let file = seal::file(FileKind::Tag, data);
    match tag::decode(&file) {
        Ok(id) => assert_eq!(tag::encode(&id), file),
        Err(_) => assert_ne!(data.len(), 32),
    }
});
