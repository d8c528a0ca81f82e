//! A pack's trailer and index: accepted only if they are what the writer would make.
#![no_main]

use libfuzzer_sys::fuzz_target;
use milepost_engine::format::pack::{self, Trailer};
use milepost_engine::hash;
use milepost_fuzz::seal;

fuzz_target!(|input: (u64, &[u8])| {
    let (at, data) = input;
    let _ = Trailer::decode(data, at);
    if let Some(fields) = data.get(..28) {
        let sealed = seal::sealed(fields.to_vec());
        if let Ok(trailer) = Trailer::decode(&sealed, at) {
            assert_eq!(trailer.encode(), sealed);
            assert!(trailer.index_offset + trailer.index_len < at);
        }
    }
    if let Ok(mut entries) = pack::decode_index(data, at) {
        let (bytes, id) = pack::encode_index(&mut entries).unwrap();
        assert_eq!(bytes, data, "what is accepted is canonical");
        assert_eq!(id, hash::pack_id(data));
        let ends = entries.iter().map(|e| e.offset + u64::from(e.stored_len));
        assert!(
            ends.max().unwrap_or_default() <= at,
            "records lie before the index"
        );
    }
});
