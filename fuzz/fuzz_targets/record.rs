//! A hostile record with hostile inputs: an error or bytes, never more memory than its output.
#![no_main]

use libfuzzer_sys::fuzz_target;
use milepost_engine::codec::{self, Workspace};
use milepost_engine::format::record;

fuzz_target!(|input: (u16, Vec<Vec<u8>>, &[u8])| {
    let (out_len, inputs, bytes) = input;
    let Ok(head) = record::decode_head(bytes) else {
        return;
    };
    let streams: usize = head.streams.iter().map(|s| s.stored.len()).sum();
    assert_eq!(
        12 + head.params.len() + head.streams.len() * 4 + streams,
        bytes.len()
    );
    let mut out = vec![0x55; usize::from(out_len)];
    let mut workspace = Workspace::default();
    let inputs: Vec<&[u8]> = inputs.iter().map(Vec::as_slice).collect();
    let decoded = codec::decode(bytes, &inputs, &mut out, &mut workspace);
    if decoded.is_ok() {
        let mut again = vec![0xaa; out.len()];
        codec::decode(bytes, &inputs, &mut again, &mut workspace).unwrap();
        assert_eq!(out, again, "every byte of the output is written");
    }
    if let Ok(Some(raw)) = codec::borrow_raw(bytes) {
        let mut copied = vec![0; raw.len()];
        codec::decode(bytes, &[], &mut copied, &mut workspace).unwrap();
        assert_eq!(copied, raw);
    }
});
