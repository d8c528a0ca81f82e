//! Whatever is encoded, against whatever base, decodes to the same bytes and is never long.
#![no_main]

use libfuzzer_sys::fuzz_target;
use milepost_engine::Level;
use milepost_engine::codec::{self, Layout, Method, Workspace, transform::Transform};
use milepost_engine::dtype::Lane;

fuzz_target!(|input: ([u8; 4], &[u8])| {
    let ([width, float, transform, level], data) = input;
    let width = 1 << (width % 4);
    let lane = Lane {
        width,
        float: float & 1 == 1,
    };
    let layout = Layout::ALL[usize::from(transform / 8) % Layout::ALL.len()];
    let transform = Transform::ALL[usize::from(transform % 8) % Transform::ALL.len()];
    let method = Method { transform, layout };
    let level = Level::ALL[usize::from(level) % 2];
    let half = data.len() / 2;
    let (base, raw) = (&data[..half], &data[half..half * 2]);
    let mut workspace = Workspace::default();
    if !raw.is_empty() && half % width == 0 {
        let _ = codec::estimate(raw, base, lane);
        let _ = codec::estimate_alone(raw, lane);
    }
    let base = (half % width == 0).then_some(base);
    let mut record = vec![0xaa];
    let encoding = codec::encode(
        raw,
        base,
        lane,
        method,
        level,
        &mut workspace,
        &mut record,
    )
    .unwrap();
    let record = &record[1..];
    assert!(record.len() <= codec::max_encoded_len(raw.len()));
    let inputs: Vec<&[u8]> = base.filter(|_| encoding.uses_base).into_iter().collect();
    let mut out = vec![0x55; raw.len()];
    codec::decode(record, &inputs, &mut out, &mut workspace).unwrap();
    assert_eq!(out, raw);
    if let Some(borrowed) = codec::borrow_raw(record).unwrap() {
        assert_eq!(borrowed, raw);
    }
});
