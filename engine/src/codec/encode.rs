//! Raw bytes to a record (format-spec.md section 10).

use crate::codec::assemble::{constant_pattern, whole};
use crate::codec::choose::{self, Learnt, Method};
use crate::codec::coder::{Coder, ZstdMode};
use crate::codec::encode_layouts::{Chunk, encode_words};
use crate::codec::palette;
use crate::codec::transform::Transform;
use crate::codec::word::with_word;
use crate::codec::{Estimate, Form, Layout, Prediction, Workspace, cost, estimate};
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
    /// Whether it is decoded by changing a few lanes of the base.
    pub is_patch: bool,
}

/// What a chunk is coded against: every lane's predicted value, and how it came about.
#[derive(Clone, Copy, Debug)]
pub struct Reference<'a> {
    /// As long as the chunk.
    pub bytes: &'a [u8],
    /// What makes them from the record's inputs.
    pub prediction: &'a Prediction,
    /// How many inputs there are.
    pub inputs: usize,
}

impl<'a> Reference<'a> {
    /// The bytes of the only input, as they are.
    #[must_use]
    pub const fn base(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            prediction: &Prediction::Base,
            inputs: 1,
        }
    }

    const NONE: Self = Self::base(&[]);
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
        learnt: None,
    };
    let reference = base.map(Reference::base);
    encode_estimated(
        raw,
        reference,
        form.into(),
        &estimate,
        level,
        workspace,
        out,
    )
}

/// Does what [`encode`] does, by the method of an estimate for the same bytes, which may have
/// learnt something of them.
///
/// # Errors
/// Only if the encoder runs out of memory.
pub fn encode_estimated(
    raw: &[u8],
    reference: Option<Reference<'_>>,
    form: Form,
    estimate: &Estimate,
    level: Level,
    workspace: &mut Workspace,
    out: &mut Vec<u8>,
) -> Result<Encoding> {
    let (method, learnt) = (estimate.method, estimate.learnt.as_ref());
    let lane = form.lane;
    if raw.is_empty() || !raw.len().is_multiple_of(lane.width) {
        return encode_raw(raw, lane, out);
    }
    if let Some(pattern) = constant_pattern(raw, lane.width) {
        return whole(raw.len(), lane, Coder::Constant, pattern, out);
    }
    let start = out.len();
    let reference = reference.unwrap_or(Reference::NONE);
    let mut best = encode_by(
        raw,
        reference,
        form,
        (method, learnt),
        level,
        workspace,
        out,
    )?;
    let judged = (out.len() - start, best);
    if level != Level::Fast {
        let others = choose::candidates(form, method.needs_base());
        let base = method.needs_base().then_some(reference.bytes);
        let pays = |other: &Method| choose::may_pay(*other, form, raw, base);
        for other in others.into_iter().filter(|o| *o != method && pays(o)) {
            let wins = |len, made| cost::pays(raw.len(), judged, (len, made));
            best = shorter_of(best, start, out, wins, |out| {
                encode_by(raw, reference, form, (other, None), level, workspace, out)
            })?;
        }
    }
    let matches = !lane.float || (lane.width > 1 && palette::repeats(lane.width, raw));
    if matches && !method.needs_base() {
        let wins = |_, _| true;
        best = shorter_of(best, start, out, wins, |out| {
            encode_matches(raw, lane, level, workspace, out)
        })?;
    }
    if out.len() - start >= max_encoded_len(raw.len()) {
        out.truncate(start);
        return whole(raw.len(), lane, Coder::Raw, raw, out);
    }
    Ok(best)
}

/// Keeps what lies at `start`, or what `other` appends where that is shorter and wins.
fn shorter_of(
    held: Encoding,
    start: usize,
    out: &mut Vec<u8>,
    wins: impl Fn(usize, Encoding) -> bool,
    other: impl FnOnce(&mut Vec<u8>) -> Result<Encoding>,
) -> Result<Encoding> {
    let middle = out.len();
    let found = other(out)?;
    let len = out.len() - middle;
    if len < middle - start && wins(len, found) {
        out.drain(start..middle);
        return Ok(found);
    }
    out.truncate(middle);
    Ok(held)
}

/// One zstd frame over the bytes as they are: integers, text and values that come again, where
/// matches pay.
fn encode_matches(
    raw: &[u8],
    lane: Lane,
    level: Level,
    workspace: &mut Workspace,
    out: &mut Vec<u8>,
) -> Result<Encoding> {
    let level = match level {
        Level::Fast if lane.float => 3,
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
    reference: Reference<'_>,
    form: Form,
    (method, learnt): (Method, Option<&Learnt>),
    level: Level,
    workspace: &mut Workspace,
    out: &mut Vec<u8>,
) -> Result<Encoding> {
    // A grid lies under rotated lanes and a palette under them as they are, whatever was asked.
    let method = Method {
        transform: match method.layout {
            Layout::Grid | Layout::GridDelta => Transform::Rotate,
            Layout::Palette => Transform::Identity,
            _ => method.transform,
        },
        ..method
    };
    let chunk = Chunk {
        raw,
        base: if method.needs_base() {
            reference.bytes
        } else {
            &[]
        },
        made: (reference.prediction, reference.inputs),
        lane: form.lane,
        level,
    };
    let learnt_now = match (learnt, form.rows, method.layout) {
        (None, Some(rows), Layout::Grid | Layout::GridDelta) => {
            choose::fit_grid(form.lane, rows, raw, chunk.base).map(Learnt::Grid)
        }
        (None, _, Layout::Palette) => choose::fit_palette(form.lane, raw).map(Learnt::Palette),
        (None, _, Layout::Classes) => {
            choose::fit_classes(form.lane, method.transform, raw, chunk.base).map(Learnt::Classes)
        }
        _ => None,
    };
    let learnt = learnt.or(learnt_now.as_ref());
    with_word!(form.lane.width, W => encode_words::<W>(chunk, learnt, method, workspace, out))
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
                is_patch: false,
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
                        if base.is_some() {
                            let layout = Layout::Classes;
                            check(&raw, base, lane, Method { transform, layout });
                        }
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

    /// Under a small learning rate, small weights of bf16 move and large ones stay: nearly all
    /// classes are sparse, and the record is near the entropy of where and how they move.
    #[test]
    fn rare_changes_cost_what_their_places_cost() {
        let mut state = 3u64;
        let mut random = move || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(9);
            state >> 33
        };
        let (mut base, mut raw, mut bits) = (Vec::new(), Vec::new(), 0.0);
        for _ in 0..100_000 {
            let exponent = 110 + u16::try_from(random() % 8).unwrap();
            let b = exponent << 7 | u16::try_from(random() % 128).unwrap();
            let rate = 0.5 / f64::from(1u32 << (exponent - 110));
            let moves = (random() as f64) < rate * (1u64 << 31) as f64;
            bits -= if moves {
                rate.log2() - 1.0
            } else {
                (1.0 - rate).log2()
            };
            let x = if moves {
                b + 1 - 2 * u16::try_from(random() % 2).unwrap()
            } else {
                b
            };
            base.extend(b.to_le_bytes());
            raw.extend(x.to_le_bytes());
        }
        let lane = Lane {
            width: 2,
            float: true,
        };
        let estimate = estimate::estimate(&raw, &base, lane);
        assert_eq!(estimate.method.layout, Layout::Classes);
        let (_, len) = check(&raw, Some(&base), lane, estimate.method);
        let best = bits / 8.0;
        assert!((len as f64) < best * 1.1, "{len} bytes against {best:.0}");
    }

    /// Weights of rows whose sizes differ by this much.
    fn rows_of_sizes(spread: f32) -> Vec<u8> {
        let mut state = 11u64;
        let mut uniform = move || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            f32::from(u16::try_from(state >> 48).unwrap()) / 65_536.0 - 0.5
        };
        let size = |row: u16| 0.02 * (spread * f32::from(row).sin()).exp2();
        let weights = (0..256).flat_map(|row| std::iter::repeat_n(size(row), 256));
        let weights = weights.map(|size| (uniform() + uniform() + uniform()) * size);
        weights.flat_map(f32::to_le_bytes).collect()
    }

    /// Balanced took more space than fast: grids that gained a thousandth used up the restore
    /// budget, so that later chunks could not be deltas.
    #[test]
    fn a_layout_that_gains_next_to_nothing_is_not_taken() {
        let lane = Lane {
            width: 4,
            float: true,
        };
        let rows = Some(crate::codec::Rows {
            len: 256,
            column: 0,
        });
        let mut workspace = Workspace::default();
        let mut encoded = |raw: &[u8], layout, level| {
            let method = Method {
                transform: Transform::Rotate,
                layout,
            };
            let (form, mut record) = (Form { lane, rows }, Vec::new());
            let made = encode(raw, None, form, method, level, &mut workspace, &mut record);
            (made.unwrap().layout, record.len())
        };
        let mut tried = 0;
        for spread in 0..60u8 {
            let raw = rows_of_sizes(f32::from(spread) * 0.02);
            let (_, planes) = encoded(&raw, Layout::Planes, Level::Fast);
            let (_, grid) = encoded(&raw, Layout::Grid, Level::Fast);
            let (gains, pays) = (grid < planes, grid * 1000 < planes * 996);
            if gains && (pays || grid * 1000 > planes * 998) {
                let wanted = if pays { Layout::Grid } else { Layout::Planes };
                assert_eq!(encoded(&raw, Layout::Planes, Level::Balanced).0, wanted);
                tried |= if pays { 2 } else { 1 };
            }
        }
        assert_eq!(tried, 3, "grids that gain little, and some that gain much");
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
