//! Raw bytes to a record (format-spec.md section 10).

use crate::codec::choose::{self, Method, StreamPlan};
use crate::codec::coder::{Coder, Contexts, PATTERN_LEN_MAX, ZstdMode};
use crate::codec::leading::{self, Shifts};
use crate::codec::transform::Transform;
use crate::codec::word::Word;
use crate::codec::{Layout, Predictor, Workspace, planes, residual};
use crate::dtype::Lane;
use crate::error::Result;
use crate::format::record::{RECORD_FIXED_LEN, RecordHead, encode_head};
use crate::format::store_file::Level;

/// Bytes that a stream takes in a record's head.
pub(super) const STREAM_HEAD_LEN: usize = 4;
/// A coded stream must be at least this much shorter than raw, or decoding it is not worth it.
const WORTH_CODING_PERCENT: usize = 99;

/// What an encoded record turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encoding {
    /// Whether it needs the base.
    pub uses_base: bool,
    /// Bytes that a zstd decoder makes when it is decoded.
    pub zstd_len: usize,
    /// How the words are laid out.
    pub layout: Layout,
}

/// The largest record that [`encode`] makes of `raw_len` bytes.
#[must_use]
pub const fn max_encoded_len(raw_len: usize) -> usize {
    raw_len + RECORD_FIXED_LEN + STREAM_HEAD_LEN
}

/// Appends a record of `raw` that needs no input.
///
/// # Errors
/// Only if the encoder runs out of memory.
pub fn encode_alone(
    raw: &[u8],
    lane: Lane,
    level: Level,
    workspace: &mut Workspace,
    out: &mut Vec<u8>,
) -> Result<Encoding> {
    let plain = Method {
        transform: Transform::Identity,
        layout: Layout::Planes,
    };
    let method = choose::candidates(lane, false)
        .first()
        .copied()
        .unwrap_or(plain);
    encode(raw, None, lane, method, level, workspace, out)
}

/// Appends a record of `raw` by `method`, against `base` if its transform needs one. The levels
/// above `Fast` try the other layouts as well and keep the shortest.
///
/// Falls back to a constant or to raw bytes where these are no longer, and to raw bytes where
/// `raw` is no whole number of lanes.
///
/// # Errors
/// Only if the encoder runs out of memory.
pub fn encode(
    raw: &[u8],
    base: Option<&[u8]>,
    lane: Lane,
    method: Method,
    level: Level,
    workspace: &mut Workspace,
    out: &mut Vec<u8>,
) -> Result<Encoding> {
    if raw.is_empty() || !raw.len().is_multiple_of(lane.width) {
        let bytes = Lane {
            width: 1,
            float: false,
        };
        return whole(raw, bytes, Coder::Raw, raw, out);
    }
    if let Some(pattern) = constant_pattern(raw, lane.width) {
        return whole(raw, lane, Coder::Constant, pattern, out);
    }
    let start = out.len();
    let base = base.unwrap_or_default();
    let mut best = encode_by(raw, base, lane, method, level, workspace, out)?;
    if level != Level::Fast {
        let others = choose::candidates(lane, method.transform.needs_base());
        for other in others.into_iter().filter(|other| *other != method) {
            best = shorter_of(best, start, out, |out| {
                encode_by(raw, base, lane, other, level, workspace, out)
            })?;
        }
    }
    if !lane.float && !method.transform.needs_base() {
        best = shorter_of(best, start, out, |out| {
            encode_matches(raw, lane, level, workspace, out)
        })?;
    }
    if out.len() - start >= max_encoded_len(raw.len()) {
        out.truncate(start);
        return whole(raw, lane, Coder::Raw, raw, out);
    }
    Ok(best)
}

fn encode_by(
    raw: &[u8],
    base: &[u8],
    lane: Lane,
    method: Method,
    level: Level,
    workspace: &mut Workspace,
    out: &mut Vec<u8>,
) -> Result<Encoding> {
    let base = if method.transform.needs_base() {
        base
    } else {
        &[]
    };
    // Leading bits need a base to learn their shifts by.
    let layout = if base.is_empty() {
        Layout::Planes
    } else {
        method.layout
    };
    match (layout, lane.width) {
        (Layout::Leading, 2) => {
            encode_leading::<u16>(raw, base, lane, method.transform, level, workspace, out)
        }
        (Layout::Leading, 4) => {
            encode_leading::<u32>(raw, base, lane, method.transform, level, workspace, out)
        }
        (Layout::Leading, 8) => {
            encode_leading::<u64>(raw, base, lane, method.transform, level, workspace, out)
        }
        _ => encode_planes(raw, base, lane, method.transform, level, workspace, out),
    }
}

/// Keeps what lies at `start`, or what `other` appends where that is shorter.
fn shorter_of(
    held: Encoding,
    start: usize,
    out: &mut Vec<u8>,
    other: impl FnOnce(&mut Vec<u8>) -> Result<Encoding>,
) -> Result<Encoding> {
    let middle = out.len();
    let found = other(out)?;
    if out.len() - middle < middle - start {
        out.drain(start..middle);
        return Ok(found);
    }
    out.truncate(middle);
    Ok(held)
}

/// The lane that all of `raw` repeats, if it does.
fn constant_pattern(raw: &[u8], width: usize) -> Option<&[u8]> {
    let pattern = raw.get(..width).filter(|p| p.len() <= PATTERN_LEN_MAX)?;
    // Equal to itself shifted by one lane: a comparison of two slices, at memory speed.
    let constant = raw.get(width..)? == raw.get(..raw.len() - width)?;
    constant.then_some(pattern)
}

fn head_of<'a>(raw: &[u8], lane: Lane, transform: Transform, layout: Layout) -> RecordHead<'a> {
    let predictor = if transform.needs_base() {
        Predictor::Base
    } else {
        Predictor::None
    };
    RecordHead {
        predictor: predictor.code(),
        transform: transform.code(),
        layout: layout.code(),
        lane_width: u8::try_from(lane.width).unwrap_or(1),
        inputs: u8::from(transform.needs_base()),
        raw_len: u32::try_from(raw.len()).unwrap_or(u32::MAX),
        params: &[],
        streams: Vec::new(),
    }
}

fn whole(
    raw: &[u8],
    lane: Lane,
    coder: Coder,
    stored: &[u8],
    out: &mut Vec<u8>,
) -> Result<Encoding> {
    let head = head_of(raw, lane, Transform::Identity, Layout::Whole);
    encode_head(out, &head, std::iter::once((coder.code(), stored.len())))?;
    out.extend_from_slice(stored);
    Ok(Encoding {
        uses_base: false,
        zstd_len: 0,
        layout: Layout::Whole,
    })
}

/// One zstd frame over the bytes as they are: integers and text, where matches pay.
fn encode_matches(
    raw: &[u8],
    lane: Lane,
    level: Level,
    workspace: &mut Workspace,
    out: &mut Vec<u8>,
) -> Result<Encoding> {
    let level = match level {
        Level::Fast => 1,
        Level::Balanced => 9,
        Level::Archive => 19,
    };
    workspace.streams.clear();
    let coded = workspace.contexts.compress(
        ZstdMode::Level(level),
        raw,
        raw.len(),
        &mut workspace.streams,
    )?;
    if !coded {
        return whole(raw, lane, Coder::Raw, raw, out);
    }
    let streams = std::mem::take(&mut workspace.streams);
    let encoding = whole(raw, lane, Coder::Zstd, &streams, out)?;
    workspace.streams = streams;
    Ok(Encoding {
        zstd_len: raw.len(),
        ..encoding
    })
}

fn encode_planes(
    raw: &[u8],
    base: &[u8],
    lane: Lane,
    transform: Transform,
    level: Level,
    workspace: &mut Workspace,
    out: &mut Vec<u8>,
) -> Result<Encoding> {
    let plans = choose::plane_plans(lane, transform, raw, base, level);
    let Workspace {
        planes,
        streams,
        contexts,
        ..
    } = workspace;
    planes.resize(raw.len(), 0);
    match lane.width {
        1 => planes::split::<u8>(transform, raw, base, planes),
        2 => planes::split::<u16>(transform, raw, base, planes),
        4 => planes::split::<u32>(transform, raw, base, planes),
        _ => planes::split::<u64>(transform, raw, base, planes),
    }
    streams.clear();
    let lanes = raw.len() / lane.width;
    let mut coded = Vec::with_capacity(lane.width);
    let mut zstd_len = 0;
    for (plane, plan) in planes.chunks_exact(lanes).zip(plans) {
        let start = streams.len();
        let at_most = lanes * WORTH_CODING_PERCENT / 100;
        let coder = if let Some(pattern) = constant_pattern(plane, 1) {
            streams.extend_from_slice(pattern);
            Coder::Constant
        } else if code_plane(plan, level, plane, at_most, contexts, streams)? {
            zstd_len += lanes;
            Coder::Zstd
        } else {
            Coder::Raw
        };
        coded.push((coder, start..streams.len(), plane));
    }
    let head = head_of(raw, lane, transform, Layout::Planes);
    let stored = |(coder, range, plane): &(Coder, std::ops::Range<usize>, &[u8])| {
        (
            coder.code(),
            if *coder == Coder::Raw {
                plane.len()
            } else {
                range.len()
            },
        )
    };
    encode_head(out, &head, coded.iter().map(stored))?;
    for (coder, range, plane) in coded {
        let stored = streams.get(range).unwrap_or_default();
        out.extend_from_slice(if coder == Coder::Raw { plane } else { stored });
    }
    Ok(Encoding {
        uses_base: transform.needs_base(),
        zstd_len,
        layout: Layout::Planes,
    })
}

fn encode_leading<W: Word>(
    raw: &[u8],
    base: &[u8],
    lane: Lane,
    transform: Transform,
    level: Level,
    workspace: &mut Workspace,
    out: &mut Vec<u8>,
) -> Result<Encoding> {
    let Workspace {
        words,
        leading: split,
        streams,
        contexts,
        ..
    } = workspace;
    words.resize(raw.len().div_ceil(8), 0);
    let (words, _) = bytemuck::cast_slice_mut::<u64, W>(words).split_at_mut(raw.len() / W::BYTES);
    residual::residuals(transform, raw, base, words);
    let shifts = Shifts::learn(words, base);
    leading::split(words, base, &shifts, split);
    streams.clear();
    let count = split.leading.len();
    let plan = choose::leading_plan(&split.leading, level);
    let at_most = count * WORTH_CODING_PERCENT / 100;
    let coded = code_plane(plan, level, &split.leading, at_most, contexts, streams)?;
    let (coder, stored) = if coded {
        (Coder::Zstd, &*streams)
    } else {
        (Coder::Raw, &split.leading)
    };
    let params = shifts.to_params();
    let head = RecordHead {
        params: &params,
        ..head_of(raw, lane, transform, Layout::Leading)
    };
    let stored = [
        (coder, stored),
        (Coder::Raw, &split.low),
        (Coder::Raw, &split.escapes),
    ];
    encode_head(
        out,
        &head,
        stored
            .iter()
            .map(|(coder, bytes)| (coder.code(), bytes.len())),
    )?;
    stored
        .iter()
        .for_each(|(_, bytes)| out.extend_from_slice(bytes));
    let zstd_len = if coded { count } else { 0 };
    Ok(Encoding {
        uses_base: true,
        zstd_len,
        layout: Layout::Leading,
    })
}

/// Appends the plane's zstd frame if the plan and the result say so.
fn code_plane(
    plan: StreamPlan,
    level: Level,
    plane: &[u8],
    at_most: usize,
    contexts: &mut Contexts,
    streams: &mut Vec<u8>,
) -> Result<bool> {
    let StreamPlan::Zstd(mode) = plan else {
        return Ok(false);
    };
    let start = streams.len();
    let mut kept = contexts.compress(mode, plane, at_most, streams)?;
    if level == Level::Fast {
        return Ok(kept);
    }
    // The other levels try both kinds and keep the shorter.
    let other = match mode {
        ZstdMode::Huffman if level == Level::Archive => ZstdMode::Level(19),
        ZstdMode::Huffman => ZstdMode::Level(3),
        ZstdMode::Level(_) => ZstdMode::Huffman,
    };
    let middle = streams.len();
    let at_most = if kept { middle - start } else { at_most };
    if contexts.compress(other, plane, at_most, streams)? {
        streams.drain(start..middle);
        kept = true;
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{borrow_raw, decode};

    fn planes(transform: Transform) -> Method {
        Method {
            transform,
            layout: Layout::Planes,
        }
    }

    fn check(raw: &[u8], base: Option<&[u8]>, lane: Lane, method: Method) -> (Encoding, usize) {
        let mut workspace = Workspace::default();
        let mut shortest = (
            Encoding {
                uses_base: false,
                zstd_len: 0,
                layout: Layout::Whole,
            },
            usize::MAX,
        );
        for level in Level::ALL {
            let mut record = vec![0xaa; 3];
            let encoding =
                encode(raw, base, lane, method, level, &mut workspace, &mut record).unwrap();
            let record = &record[3..];
            assert!(record.len() <= max_encoded_len(raw.len()));
            let inputs: Vec<&[u8]> = base.filter(|_| encoding.uses_base).into_iter().collect();
            let mut out = vec![0x55; raw.len()];
            decode(record, &inputs, &mut out, &mut workspace).unwrap();
            assert_eq!(out, raw, "{lane:?} {method:?} {level:?}");
            if record.len() < shortest.1 {
                shortest = (encoding, record.len());
            }
        }
        shortest
    }

    #[test]
    fn every_lane_transform_and_length_round_trips() {
        for width in [1, 2, 4, 8] {
            for lanes in [1usize, 2, 3, 63, 64, 1023, 5000] {
                let bytes = |seed: u64| -> Vec<u8> {
                    let mut state = seed;
                    (0..lanes * width)
                        .map(|_| {
                            state = state
                                .wrapping_mul(6_364_136_223_846_793_005)
                                .wrapping_add(99);
                            (state >> 59).to_le_bytes()[0]
                        })
                        .collect()
                };
                let (raw, base) = (bytes(1), bytes(7));
                for float in [false, true] {
                    for transform in Transform::ALL {
                        let base = transform.needs_base().then_some(&base[..]);
                        let lane = Lane { width, float };
                        check(
                            &raw,
                            base,
                            lane,
                            Method {
                                transform,
                                layout: Layout::Planes,
                            },
                        );
                        if base.is_some() && width > 1 {
                            check(
                                &raw,
                                base,
                                lane,
                                Method {
                                    transform,
                                    layout: Layout::Leading,
                                },
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_constant_chunk_takes_a_lane_and_a_head() {
        let raw: Vec<u8> = std::iter::repeat_n(1.5f32.to_le_bytes(), 5000)
            .flatten()
            .collect();
        let lane = Lane {
            width: 4,
            float: true,
        };
        let (_, len) = check(&raw, None, lane, planes(Transform::Rotate));
        assert_eq!(len, RECORD_FIXED_LEN + STREAM_HEAD_LEN + 4);
    }

    #[test]
    fn noise_is_stored_raw_and_can_be_borrowed() {
        let mut state = 5u64;
        let raw: Vec<u8> = (0..65_536)
            .map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                (state >> 56).to_le_bytes()[0]
            })
            .collect();
        let mut record = Vec::new();
        let lane = Lane {
            width: 1,
            float: false,
        };
        encode_alone(
            &raw,
            lane,
            Level::Fast,
            &mut Workspace::default(),
            &mut record,
        )
        .unwrap();
        assert_eq!(borrow_raw(&record).unwrap().unwrap(), raw);
        assert_eq!(record.len(), max_encoded_len(raw.len()));
    }

    #[test]
    fn a_tiny_change_costs_next_to_nothing() {
        let base: Vec<u8> = (0..65_536u32)
            .flat_map(|i| (f32::from_bits(0x3f00_0000 + i * 77)).to_le_bytes())
            .collect();
        let mut raw = base.clone();
        raw[1000] ^= 3;
        let lane = Lane {
            width: 4,
            float: true,
        };
        let (encoding, len) = check(&raw, Some(&base), lane, planes(Transform::FloatSubtract));
        assert!(encoding.uses_base && len < 200, "{len}");
    }
}
