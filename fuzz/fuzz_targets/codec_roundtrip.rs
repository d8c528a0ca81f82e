//! Whatever is encoded, against whatever base, decodes to the same bytes and is never long.
#![no_main]

use libfuzzer_sys::fuzz_target;
use milepost_engine::Level;
use milepost_engine::codec::{
    self, Estimate, Form, Layout, Method, Reference, Rows, Workspace, transform::Transform,
};
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
    let (mut work, mut record) = (Workspace::default(), Vec::new());
    if whole && !raw.is_empty() {
        let _ = codec::estimate(raw, base, form);
        let _ = codec::estimate_alone(raw, form);
        if let Some(patch) = codec::estimate_patch(raw, base, form) {
            patched(raw, base, form, &patch, level);
        }
    }
    let base = whole.then_some(base);
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

/// What few changes are judged to take is what encoding them by that comes to.
fn patched(raw: &[u8], base: &[u8], form: Form, patch: &Estimate, level: Level) {
    let (mut work, mut record) = (Workspace::default(), Vec::new());
    let counted = patch.changed_lanes();
    assert!(counted.is_none_or(|lanes| lanes == codec::changed_lanes(raw, base, form.lane)));
    let against = Some(Reference::base(base));
    let encoding =
        codec::encode_estimated(raw, against, form, patch, level, &mut work, &mut record).unwrap();
    let inputs: &[&[u8]] = if encoding.uses_base { &[base] } else { &[] };
    let mut out = vec![0x55; raw.len()];
    codec::decode(&record, inputs, &mut out, &mut work).unwrap();
    assert_eq!(out, raw);
}
