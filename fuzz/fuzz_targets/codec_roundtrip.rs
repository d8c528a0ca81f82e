//! Whatever is encoded, against whatever base, decodes to the same bytes and is never long.
#![no_main]

use libfuzzer_sys::fuzz_target;
use milepost_engine::Level;
use milepost_engine::codec::{self, Form, Layout, Method, Rows, Workspace, transform::Transform};
use milepost_engine::dtype::Lane;

fuzz_target!(|input: ([u8; 6], &[u8])| {
    let ([width, kind, transform, level, row_len, column], data) = input;
    let width = 1 << (width % 4);
    let float = kind & 1 == 1;
    let lane = Lane { width, float };
    let (len, column) = (usize::from(row_len), usize::from(column));
    let rows = (len > 0).then(|| Rows {
        len,
        column: column % len,
    });
    let form = Form { lane, rows };
    let layout = Layout::ALL[usize::from(transform / 8) % Layout::ALL.len()];
    let transform = Transform::ALL[usize::from(transform % 8) % Transform::ALL.len()];
    let method = Method { transform, layout };
    let level = Level::ALL[usize::from(level) % 2];
    let (base, raw) = data.split_at(data.len() / 2);
    let raw = &raw[..base.len()];
    let whole = raw.len() % width == 0;
    if whole && !raw.is_empty() {
        let _ = codec::estimate(raw, base, form);
        let _ = codec::estimate_alone(raw, form);
    }
    let base = whole.then_some(base);
    let (mut work, mut record) = (Workspace::default(), Vec::new());
    let encoded = codec::encode(raw, base, form, method, level, &mut work, &mut record);
    let encoding = encoded.unwrap();
    assert!(record.len() <= codec::max_encoded_len(raw.len()));
    let inputs: Vec<&[u8]> = base.filter(|_| encoding.uses_base).into_iter().collect();
    let mut out = vec![0x55; raw.len()];
    codec::decode(&record, &inputs, &mut out, &mut work).unwrap();
    assert_eq!(out, raw);
    if let Some(borrowed) = codec::borrow_raw(&record).unwrap() {
        assert_eq!(borrowed, raw);
    }
});
