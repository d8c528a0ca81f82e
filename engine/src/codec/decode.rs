//! Record and inputs to raw bytes (format-spec.md section 10.6).

use crate::codec::coder::{Coder, Contexts, fill_constant};
use crate::codec::grid::{Grid, Levels};
use crate::codec::leading::{self, Shifts, StreamsView};
use crate::codec::transform::Transform;
use crate::codec::word::Word;
use crate::codec::{Layout, Method, Predictor, Workspace, planes};
use crate::error::{Error, ErrorKind, Result};
use crate::format::record::{self, RecordHead, StreamEntry};

/// Decodes a record into exactly `out`, from inputs in the order of the record's index entry.
///
/// # Errors
/// `Corrupt` if the record breaks a rule of its encoding, `Unsupported` if an encoding is not
/// known to this version. `out` is then of no meaning.
pub fn decode(
    record: &[u8],
    inputs: &[&[u8]],
    out: &mut [u8],
    workspace: &mut Workspace,
) -> Result<()> {
    let head = record::decode_head(record)?;
    let plan = DecodePlan::new(&head, inputs, out.len())?;
    match plan.layout {
        Layout::Whole => {
            let [stream] = head.streams.as_slice() else {
                return Err(stream_count(1, head.streams.len()));
            };
            decode_stream(record, stream, out, &mut workspace.contexts)?;
            undo_in_place(plan, head.lane_width, out)
        }
        Layout::Planes => decode_planes(record, &head, plan, out, workspace),
        Layout::Leading => match head.lane_width {
            2 => decode_leading::<u16>(record, &head, plan, out, workspace),
            4 => decode_leading::<u32>(record, &head, plan, out, workspace),
            _ => decode_leading::<u64>(record, &head, plan, out, workspace),
        },
        Layout::Grid | Layout::GridDelta => match head.lane_width {
            2 => decode_grid::<u16>(record, &head, plan, out, workspace),
            4 => decode_grid::<u32>(record, &head, plan, out, workspace),
            _ => decode_grid::<u64>(record, &head, plan, out, workspace),
        },
    }
}

/// The record's raw bytes where they lie as they are: a depth-0 record of one raw stream.
///
/// # Errors
/// `Corrupt` if the record is malformed.
pub fn borrow_raw(record: &[u8]) -> Result<Option<&[u8]>> {
    let head = record::decode_head(record)?;
    let plain = head.predictor == Predictor::None.code()
        && head.transform == Transform::Identity.code()
        && head.layout == Layout::Whole.code()
        && head.inputs == 0;
    let [stream] = head.streams.as_slice() else {
        return Ok(None);
    };
    if !plain || stream.coder != Coder::Raw.code() {
        return Ok(None);
    }
    DecodePlan::new(&head, &[], head.raw_len as usize)?;
    Ok(record
        .get(stream.stored.clone())
        .filter(|raw| raw.len() == head.raw_len as usize))
}

/// What a head asks for, with every rule checked that needs no stream.
#[derive(Clone, Copy)]
struct DecodePlan<'a> {
    transform: Transform,
    layout: Layout,
    base: &'a [u8],
}

impl<'a> DecodePlan<'a> {
    fn new(head: &RecordHead<'_>, inputs: &[&'a [u8]], out_len: usize) -> Result<Self> {
        let predictor = named("predictor", &Predictor::ALL, |p| p.code(), head.predictor)?;
        let transform = named("transform", &Transform::ALL, |t| t.code(), head.transform)?;
        let layout = named("layout", &Layout::ALL, |l| l.code(), head.layout)?;
        let width = usize::from(head.lane_width);
        let rules = [
            (
                "the record is of another length",
                head.raw_len as usize == out_len,
            ),
            (
                "the lane width is not 1, 2, 4 or 8",
                matches!(width, 1 | 2 | 4 | 8),
            ),
            (
                "lanes do not fill the chunk",
                width != 0 && out_len.is_multiple_of(width),
            ),
            (
                "the number of inputs is wrong",
                usize::from(head.inputs) == inputs.len(),
            ),
            (
                "the predictor takes another number of inputs",
                predictor.inputs() == inputs.len(),
            ),
            (
                "the transform does not fit the predictor",
                Method { transform, layout }.needs_base() == (predictor == Predictor::Base),
            ),
            (
                "an input is of another length",
                inputs.iter().all(|i| i.len() == out_len),
            ),
            (
                "there are parameters that nothing takes",
                head.params.is_empty() || layout == Layout::Leading || layout.is_grid(),
            ),
            (
                "a grid takes rotated lanes of several bytes",
                !layout.is_grid() || (transform == Transform::Rotate && width > 1),
            ),
            (
                "leading bits need a base and lanes of several bytes",
                layout != Layout::Leading || (transform.needs_base() && width > 1),
            ),
        ];
        if let Some((broken, _)) = rules.into_iter().find(|(_, holds)| !holds) {
            return Err(Error::corrupt(
                "record-rule",
                format!("a record cannot be decoded: {broken}"),
            ));
        }
        Ok(Self {
            transform,
            layout,
            base: inputs.first().copied().unwrap_or_default(),
        })
    }
}

/// The entry of a registry that has a code.
fn named<T: Copy>(what: &str, all: &[T], code_of: fn(T) -> u8, code: u8) -> Result<T> {
    let found = all.iter().copied().find(|entry| code_of(*entry) == code);
    found.ok_or_else(|| {
        Error::new(
            ErrorKind::Unsupported,
            "encoding",
            format!("{what} {code} is not known"),
        )
        .hint("upgrade milepost")
    })
}

fn stream_count(expected: usize, found: usize) -> Error {
    Error::corrupt("record-streams", "a record has a wrong number of streams")
        .differs(expected, found)
}

fn stored<'r>(record: &'r [u8], stream: &StreamEntry) -> &'r [u8] {
    record.get(stream.stored.clone()).unwrap_or_default()
}

fn decode_stream(
    record: &[u8],
    stream: &StreamEntry,
    out: &mut [u8],
    contexts: &mut Contexts,
) -> Result<()> {
    let bytes = stored(record, stream);
    match Coder::from_code(stream.coder)? {
        Coder::Raw if bytes.len() == out.len() => {
            out.copy_from_slice(bytes);
            Ok(())
        }
        Coder::Raw => Err(
            Error::corrupt("raw-stream", "a raw stream is of another length")
                .differs(out.len(), bytes.len()),
        ),
        Coder::Constant => fill_constant(bytes, out),
        Coder::Zstd => contexts.decompress(bytes, out),
    }
}

/// A whole stream holds residual words in little-endian order.
fn undo_in_place(plan: DecodePlan<'_>, lane_width: u8, out: &mut [u8]) -> Result<()> {
    if plan.transform == Transform::Identity {
        return Ok(());
    }
    match lane_width {
        1 => undo_words::<u8>(plan, out),
        2 => undo_words::<u16>(plan, out),
        4 => undo_words::<u32>(plan, out),
        _ => undo_words::<u64>(plan, out),
    }
    Ok(())
}

fn undo_words<W: crate::codec::word::Word>(plan: DecodePlan<'_>, out: &mut [u8]) {
    if !plan.transform.needs_base() {
        for x in out.chunks_exact_mut(W::BYTES) {
            plan.transform.inverse(W::load(x), W::ZERO).store(x);
        }
        return;
    }
    for (x, b) in out
        .chunks_exact_mut(W::BYTES)
        .zip(plan.base.chunks_exact(W::BYTES))
    {
        plan.transform.inverse(W::load(x), W::load(b)).store(x);
    }
}

fn decode_leading<W: Word>(
    record: &[u8],
    head: &RecordHead<'_>,
    plan: DecodePlan<'_>,
    out: &mut [u8],
    workspace: &mut Workspace,
) -> Result<()> {
    let [leading, low, escapes] = head.streams.as_slice() else {
        return Err(stream_count(3, head.streams.len()));
    };
    if low.coder != Coder::Raw.code() || escapes.coder != Coder::Raw.code() {
        return Err(Error::corrupt(
            "leading-coder",
            "low bits and escapes must be stored raw",
        ));
    }
    let shifts = Shifts::from_params(head.params, W::BYTES)?;
    let (lanes, low) = (out.len() / W::BYTES, stored(record, low));
    let Workspace {
        planes, contexts, ..
    } = workspace;
    planes.resize(lanes + low.len() + leading::look_ahead(), 0);
    let (symbols, padded) = planes.split_at_mut(lanes);
    decode_stream(record, leading, symbols, contexts)?;
    let (copy, zeros) = padded.split_at_mut(low.len());
    copy.copy_from_slice(low);
    zeros.fill(0);
    let streams = StreamsView {
        leading: symbols,
        low: padded,
        low_len: low.len(),
        escapes: stored(record, escapes),
    };
    leading::merge::<W>(plan.transform, &streams, plan.base, &shifts, out)
}

fn decode_planes(
    record: &[u8],
    head: &RecordHead<'_>,
    plan: DecodePlan<'_>,
    out: &mut [u8],
    workspace: &mut Workspace,
) -> Result<()> {
    let width = usize::from(head.lane_width);
    if head.streams.len() != width {
        return Err(stream_count(width, head.streams.len()));
    }
    workspace.planes.resize(out.len(), 0);
    let Workspace {
        planes, contexts, ..
    } = workspace;
    let found = collect_planes(record, &head.streams, out.len() / width, planes, contexts)?;
    let (found, _) = found.split_at(width);
    match width {
        1 => planes::merge::<u8>(plan.transform, found, plan.base, out),
        2 => planes::merge::<u16>(plan.transform, found, plan.base, out),
        4 => planes::merge::<u32>(plan.transform, found, plan.base, out),
        _ => planes::merge::<u64>(plan.transform, found, plan.base, out),
    }
    Ok(())
}

/// Decodes planes of `lanes` bytes each into `scratch`; a raw one is taken from where it lies.
fn collect_planes<'a>(
    record: &'a [u8],
    streams: &[StreamEntry],
    lanes: usize,
    mut scratch: &'a mut [u8],
    contexts: &mut Contexts,
) -> Result<[&'a [u8]; 8]> {
    let mut found: [&[u8]; 8] = [&[]; 8];
    for (plane, stream) in found.iter_mut().zip(streams) {
        let bytes = stored(record, stream);
        if stream.coder == Coder::Raw.code() && bytes.len() == lanes {
            *plane = bytes;
            continue;
        }
        let (target, rest) = scratch.split_at_mut(lanes);
        scratch = rest;
        decode_stream(record, stream, target, contexts)?;
        *plane = target;
    }
    Ok(found)
}

fn decode_grid<W: Word>(
    record: &[u8],
    head: &RecordHead<'_>,
    plan: DecodePlan<'_>,
    out: &mut [u8],
    workspace: &mut Workspace,
) -> Result<()> {
    let streams = head.streams.as_slice();
    let count = W::BYTES + 2;
    let [low, upper @ .., overflow, terms] = streams else {
        return Err(stream_count(count, streams.len()));
    };
    if streams.len() != count {
        return Err(stream_count(count, streams.len()));
    }
    let lanes = out.len() / W::BYTES;
    let grid = Grid::from_params(head.params, W::BYTES, lanes)?;
    if plan.layout == Layout::Grid && grid.weight != 0 {
        return Err(Error::corrupt(
            "grid-params",
            "a record's grid gives a weight to a base that it does not have",
        ));
    }
    let Workspace {
        planes,
        streams: term_bytes,
        contexts,
        ..
    } = workspace;
    term_bytes.resize(grid.terms(lanes), 0);
    decode_stream(record, terms, term_bytes, contexts)?;
    let levels = Levels::<W>::new(grid, term_bytes, lanes);
    planes.resize(out.len() + lanes, 0);
    let (joined, scratch) = planes.split_at_mut(lanes);
    let (parted, scratch) = scratch.split_at_mut(lanes);
    decode_stream(record, low, parted, contexts)?;
    decode_stream(record, overflow, joined, contexts)?;
    grid.join(parted, joined)
        .ok_or_else(|| Error::corrupt("grid-overflow", "two parts of a record's byte overlap"))?;
    let mut found = collect_planes(record, upper, lanes, scratch, contexts)?;
    found.rotate_right(1);
    if let Some(first) = found.first_mut() {
        *first = joined;
    }
    let (found, _) = found.split_at(W::BYTES);
    levels.merge(found, plan.base, out);
    Ok(())
}
