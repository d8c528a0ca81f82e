//! Any bytes, against any base, by any transform: what is encoded decodes and is never long.

use milepost_engine::Level;
use milepost_engine::codec::{
    self, Form, Layout, Method, Reference, Rows, Workspace, transform::Transform,
};
use milepost_engine::dtype::Lane;
use proptest::prelude::*;
use proptest::sample::select;

use crate::properties::cases;
use crate::support::state::noise;

fn lane() -> impl Strategy<Value = Lane> {
    (select(&[1usize, 2, 4, 8][..]), any::<bool>()).prop_map(|(width, float)| Lane { width, float })
}

/// Bytes that are noise, all alike, noise in the low byte of each lane only, few values, or zeros
/// but for a few lanes.
fn content(len: usize, width: usize) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        any::<u64>().prop_map(move |seed| noise(seed, len)),
        any::<u8>().prop_map(move |byte| vec![byte; len]),
        any::<u64>().prop_map(move |seed| {
            let mut bytes = noise(seed, len);
            let high = |(i, byte): (usize, &mut u8)| {
                if i % width != 0 {
                    *byte = 0x3f;
                }
            };
            bytes.iter_mut().enumerate().for_each(high);
            bytes
        }),
        (any::<u64>(), 1..300usize).prop_map(move |(seed, values)| {
            let values = noise(seed, values * width);
            let values: Vec<&[u8]> = values.chunks(width).collect();
            let drawn = noise(seed ^ 1, 2 * (len / width));
            let value =
                |w: &[u8]| values[usize::from(u16::from_le_bytes([w[0], w[1]])) % values.len()];
            drawn.chunks(2).flat_map(value).copied().collect()
        }),
        (any::<u64>(), 1..600usize).prop_map(move |(seed, every)| {
            let mut bytes = noise(seed, len);
            let lanes = bytes.chunks_mut(width).enumerate();
            lanes
                .filter(|(i, _)| i % every != 0)
                .for_each(|(_, lane)| lane.fill(0));
            bytes
        }),
    ]
}

/// A lane, and a chunk and a base of it.
fn chunk() -> impl Strategy<Value = (Lane, Vec<u8>, Vec<u8>)> {
    (lane(), 1..3000usize).prop_flat_map(|(lane, lanes)| {
        let len = lanes * lane.width;
        let raw = content(len, lane.width);
        (Just(lane), raw, content(len, lane.width))
    })
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn what_is_encoded_decodes(
        (lane, raw, base) in chunk(),
        near in any::<bool>(),
        transform in select(&Transform::ALL[..]),
        layout in select(&Layout::ALL[..]),
        level in select(&Level::ALL[..2]),
        rows in proptest::option::of((1..70usize, any::<u16>().prop_map(usize::from))),
    ) {
        let base = if near {
            raw.iter().enumerate().map(|(i, b)| b ^ u8::from(i % 7 == 0)).collect()
        } else {
            base
        };
        let (mut workspace, mut record) = (Workspace::default(), vec![0xaa]);
        let method = Method { transform, layout };
        let rows = rows.map(|(len, column)| Rows { len, column: column % len });
        let form = Form { lane, rows };
        let encoding = codec::encode(
            &raw, Some(&base), form, method, level, &mut workspace, &mut record,
        ).unwrap();
        let record = &record[1..];
        prop_assert!(record.len() <= codec::max_encoded_len(raw.len()));
        prop_assert!(!encoding.uses_base || method.needs_base());
        let inputs: Vec<&[u8]> = encoding.uses_base.then_some(&base[..]).into_iter().collect();
        let mut out = vec![0x55; raw.len()];
        codec::decode(record, &inputs, &mut out, &mut workspace).unwrap();
        prop_assert_eq!(&out, &raw);
        if let Some(borrowed) = codec::borrow_raw(record).unwrap() {
            prop_assert_eq!(borrowed, &raw[..]);
        }
        let mut alone = Vec::new();
        codec::encode_alone(&raw, form, level, &mut workspace, &mut alone).unwrap();
        codec::decode(&alone, &[], &mut out, &mut workspace).unwrap();
        prop_assert_eq!(&out, &raw);
        prop_assert!(alone.len() <= codec::max_encoded_len(raw.len()));
    }

    #[test]
    fn estimates_never_fail_and_a_changed_lane_is_counted((lane, raw, base) in chunk()) {
        let form = Form { lane, rows: Some(Rows { len: 13, column: 5 }) };
        let _ = codec::estimate(&raw, &base, form);
        let _ = codec::estimate_alone(&raw, form);
        let lanes = raw.chunks(lane.width).zip(base.chunks(lane.width));
        let changed = lanes.filter(|(a, b)| a != b).count();
        prop_assert_eq!(codec::changed_lanes(&raw, &base, lane), changed as u64);
    }

    #[test]
    fn a_patch_is_as_it_was_judged(
        (lane, base, other) in chunk(),
        every in 1..200usize,
        level in select(&Level::ALL[..2]),
    ) {
        let lanes = base.chunks(lane.width).zip(other.chunks(lane.width)).enumerate();
        let raw: Vec<u8> = lanes
            .flat_map(|(i, (kept, new))| if i % every == 0 { new } else { kept })
            .copied()
            .collect();
        let changed = codec::changed_lanes(&raw, &base, lane);
        let lanes = (raw.len() / lane.width) as u64;
        let Some(patch) = codec::estimate_patch(&raw, &base, lane) else {
            prop_assert!(changed > 0);
            return Ok(());
        };
        prop_assert!(changed * 10 <= lanes);
        prop_assert_eq!(patch.changed_lanes().unwrap_or(changed), changed);
        let (mut workspace, mut record) = (Workspace::default(), Vec::new());
        let against = Some(Reference::base(&base));
        let encoding = codec::encode_estimated(
            &raw, against, lane.into(), &patch, level, &mut workspace, &mut record,
        ).unwrap();
        prop_assert!(record.len() <= codec::max_encoded_len(raw.len()));
        let inputs: Vec<&[u8]> = encoding.uses_base.then_some(&base[..]).into_iter().collect();
        let mut out = vec![0x55; raw.len()];
        codec::decode(&record, &inputs, &mut out, &mut workspace).unwrap();
        prop_assert_eq!(&out, &raw);
    }

    #[test]
    fn any_bytes_as_a_record_are_an_error_or_a_chunk(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        head in (0..3u8, 0..7u8, 0..9u8, select(&[1u8, 2, 4, 8, 3][..])),
        len in 0..64usize,
    ) {
        let mut record = bytes;
        if let Some(start) = record.get_mut(..12) {
            start.copy_from_slice(&[head.0, head.1, head.2, head.3, head.0 & 1, head.3, 0, 0, 0, 0, 0, 0]);
            start[8] = u8::try_from(len).unwrap();
        }
        let base = vec![7; len];
        let inputs: Vec<&[u8]> = (head.0 == 1).then_some(&base[..]).into_iter().collect();
        let mut workspace = Workspace::default();
        let decoded = codec::decode(&record, &inputs, &mut vec![0; len], &mut workspace);
        if let Err(error) = decoded {
            prop_assert_ne!(error.kind(), milepost_engine::ErrorKind::InvalidInput);
        }
    }
}
