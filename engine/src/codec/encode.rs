//! Raw bytes to a record (format-spec.md section 10).

use crate::codec::assemble::{StreamSet, constant_pattern, whole};
use crate::codec::choose::{self, Method};
use crate::codec::coder::{Coder, ZstdMode};
use crate::codec::grid::Levels;
use crate::codec::grid_fit::Fit;
use crate::codec::leading::{self, Shifts};
use crate::codec::transform::Transform;
use crate::codec::word::Word;
use crate::codec::{Estimate, Form, Layout, Workspace, estimate, planes, residual};
use crate::dtype::Lane;
use crate::error::Result;
use crate::format::record::RECORD_FIXED_LEN;
use crate::format::store_file::Level;

/// Bytes that a stream takes in a record's head.
pub(super) const STREAM_HEAD_LEN: usize = 4;

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

/// Appends a record of `raw` that needs no input, by the method that its estimate speaks for.
///
/// # Errors
/// Only if the encoder runs out of memory.
pub fn encode_alone(
    raw: &[u8],
    form: impl Into<Form>,
    level: Level,
    workspace: &mut Workspace,
    out: &mut Vec<u8>,
) -> Result<Encoding> {
    let form = form.into();
    let estimate = estimate::estimate_alone(raw, form);
    encode_estimated(raw, None, form, &estimate, level, workspace, out)
}

/// Appends a record that holds `raw` as it is, which costs least to restore.
///
/// # Errors
/// Never, so far.
pub fn encode_raw(raw: &[u8], lane: Lane, out: &mut Vec<u8>) -> Result<Encoding> {
    whole(raw.len(), lane_of(raw, lane), Coder::Raw, raw, out)
}

/// Bytes that are no whole number of lanes are lanes of one byte.
fn lane_of(raw: &[u8], lane: Lane) -> Lane {
    match raw.len().is_multiple_of(lane.width) {
        true => lane,
        false => Lane {
            width: 1,
            float: false,
        },
    }
}

/// Appends a record of `raw` by `method`, against `base` if the method needs one. The levels
/// above `Fast` try the other methods as well and keep the shortest.
///
/// Falls back to a constant or to raw bytes where these are no longer, and to raw bytes where
/// `raw` is no whole number of lanes.
///
/// # Errors
/// Only if the encoder runs out of memory.
pub fn encode(
    raw: &[u8],
    base: Option<&[u8]>,
    form: impl Into<Form>,
    method: Method,
    level: Level,
    workspace: &mut Workspace,
    out: &mut Vec<u8>,
) -> Result<Encoding> {
    let estimate = Estimate {
        method,
        stored_len: 0,
        fit: None,
    };
    encode_estimated(raw, base, form.into(), &estimate, level, workspace, out)
}

/// Does what [`encode`] does, by the method of an estimate for the same bytes, which may have
/// learnt something of them.
///
/// # Errors
/// Only if the encoder runs out of memory.
pub fn encode_estimated(
    raw: &[u8],
    base: Option<&[u8]>,
    form: Form,
    estimate: &Estimate,
    level: Level,
    workspace: &mut Workspace,
    out: &mut Vec<u8>,
) -> Result<Encoding> {
    let (method, fit) = (estimate.method, estimate.fit.as_ref());
    let lane = form.lane;
    if raw.is_empty() || !raw.len().is_multiple_of(lane.width) {
        return encode_raw(raw, lane, out);
    }
    if let Some(pattern) = constant_pattern(raw, lane.width) {
        return whole(raw.len(), lane, Coder::Constant, pattern, out);
    }
    let start = out.len();
    let base = base.unwrap_or_default();
    let mut best = encode_by(raw, base, form, (method, fit), level, workspace, out)?;
    if level != Level::Fast {
        let others = choose::candidates(form, method.needs_base());
        for other in others.into_iter().filter(|other| *other != method) {
            best = shorter_of(best, start, out, |out| {
                encode_by(raw, base, form, (other, None), level, workspace, out)
            })?;
        }
    }
    if !lane.float && !method.needs_base() {
        best = shorter_of(best, start, out, |out| {
            encode_matches(raw, lane, level, workspace, out)
        })?;
    }
    if out.len() - start >= max_encoded_len(raw.len()) {
        out.truncate(start);
        return whole(raw.len(), lane, Coder::Raw, raw, out);
    }
    Ok(best)
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
    let mode = ZstdMode::Level(level);
    let Workspace {
        contexts, streams, ..
    } = workspace;
    streams.clear();
    if contexts.compress(mode, raw, raw.len(), streams)? {
        return whole(raw.len(), lane, Coder::Zstd, streams, out);
    }
    whole(raw.len(), lane, Coder::Raw, raw, out)
}

/// By the method, or by planes where the method does not fit the chunk.
fn encode_by(
    raw: &[u8],
    base: &[u8],
    form: Form,
    (method, fit): (Method, Option<&Fit>),
    level: Level,
    workspace: &mut Workspace,
    out: &mut Vec<u8>,
) -> Result<Encoding> {
    // A grid lies under rotated lanes, whatever was asked for.
    let method = Method {
        transform: if method.layout.is_grid() {
            Transform::Rotate
        } else {
            method.transform
        },
        ..method
    };
    let chunk = Chunk {
        raw,
        base: if method.needs_base() { base } else { &[] },
        lane: form.lane,
        level,
    };
    let learnt = match form.rows {
        Some(rows) if fit.is_none() && method.layout.is_grid() => {
            choose::fit_grid(form.lane, rows, raw, chunk.base)
        }
        _ => None,
    };
    let fit = fit.or(learnt.as_ref());
    match form.lane.width {
        1 => encode_words::<u8>(chunk, fit, method, workspace, out),
        2 => encode_words::<u16>(chunk, fit, method, workspace, out),
        4 => encode_words::<u32>(chunk, fit, method, workspace, out),
        _ => encode_words::<u64>(chunk, fit, method, workspace, out),
    }
}

/// What is encoded, and against what.
#[derive(Clone, Copy)]
struct Chunk<'a> {
    raw: &'a [u8],
    base: &'a [u8],
    lane: Lane,
    level: Level,
}

fn encode_words<W: Word>(
    chunk: Chunk<'_>,
    fit: Option<&Fit>,
    method: Method,
    workspace: &mut Workspace,
    out: &mut Vec<u8>,
) -> Result<Encoding> {
    let plain = |transform| Method {
        transform,
        layout: Layout::Planes,
    };
    match (method.layout, fit) {
        // Leading bits need a base to learn their shifts by.
        (Layout::Leading, _) if W::BYTES > 1 && !chunk.base.is_empty() => {
            encode_leading::<W>(chunk, method, workspace, out)
        }
        (Layout::Grid | Layout::GridDelta, Some(fit)) => {
            encode_grid::<W>(chunk, fit, method, workspace, out)
        }
        _ => encode_planes::<W>(chunk, plain(method.transform), workspace, out),
    }
}

fn encode_planes<W: Word>(
    chunk: Chunk<'_>,
    method: Method,
    workspace: &mut Workspace,
    out: &mut Vec<u8>,
) -> Result<Encoding> {
    let Chunk {
        raw,
        base,
        lane,
        level,
    } = chunk;
    let plans = choose::plane_plans(lane, method.transform, raw, base, level);
    let Workspace {
        planes,
        streams,
        contexts,
        ..
    } = workspace;
    planes.resize(raw.len(), 0);
    planes::split::<W>(method.transform, raw, base, planes);
    let mut set = StreamSet::new(level, contexts, streams);
    for (plane, plan) in planes.chunks_exact(raw.len() / W::BYTES).zip(plans) {
        set.push(plane, plan)?;
    }
    set.finish(raw.len(), lane, method, &[], out)
}

fn encode_leading<W: Word>(
    chunk: Chunk<'_>,
    method: Method,
    workspace: &mut Workspace,
    out: &mut Vec<u8>,
) -> Result<Encoding> {
    let Chunk {
        raw,
        base,
        lane,
        level,
    } = chunk;
    let Workspace {
        words,
        leading: split,
        streams,
        contexts,
        ..
    } = workspace;
    words.resize(raw.len().div_ceil(8), 0);
    let (words, _) = bytemuck::cast_slice_mut::<u64, W>(words).split_at_mut(raw.len() / W::BYTES);
    residual::residuals(method.transform, raw, base, words);
    let shifts = Shifts::learn(words, base);
    leading::split(words, base, &shifts, split);
    let mut set = StreamSet::new(level, contexts, streams);
    set.push(&split.leading, choose::symbol_plan(&split.leading, level))?;
    set.push_raw(&split.low);
    set.push_raw(&split.escapes);
    set.finish(raw.len(), lane, method, &shifts.to_params(), out)
}

fn encode_grid<W: Word>(
    chunk: Chunk<'_>,
    fit: &Fit,
    method: Method,
    workspace: &mut Workspace,
    out: &mut Vec<u8>,
) -> Result<Encoding> {
    let Chunk {
        raw,
        base,
        lane,
        level,
    } = chunk;
    let Workspace {
        planes,
        streams,
        contexts,
        ..
    } = workspace;
    let lanes = raw.len() / W::BYTES;
    // One plane more, for what the top byte of a difference does not hold.
    planes.resize(raw.len() + lanes, 0);
    let (words, overflow) = planes.split_at_mut(raw.len());
    Levels::<W>::new(fit.grid, &fit.terms, lanes).split(raw, base, words);
    fit.grid.part(words.split_at_mut(lanes).0, overflow);
    let mut set = StreamSet::new(level, contexts, streams);
    for plane in planes.chunks_exact(lanes).chain([fit.terms.as_slice()]) {
        set.push(plane, choose::symbol_plan(plane, level))?;
    }
    set.finish(raw.len(), lane, method, &fit.grid.to_params(), out)
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
