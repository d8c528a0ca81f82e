//! Record and inputs to raw bytes (format-spec.md section 10.6).

use crate::codec::coder::{Coder, Contexts, fill_constant};
use crate::codec::decode_layouts::{
    decode_classes, decode_grid, decode_leading, decode_palette, decode_planes, decode_sparse,
};
use crate::codec::transform::Transform;
use crate::codec::word::with_word;
use crate::codec::{Layout, Method, Prediction, Predictor, Workspace};
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
    let rules = rules_of(&head, inputs, out.len())?;
    let mut predicted = std::mem::take(&mut workspace.predicted);
    let plan = rules.predict(inputs, &mut predicted, out.len());
    let done = decode_streams(record, &head, plan, out, workspace);
    workspace.predicted = predicted;
    done
}

/// The layout's part, with the predicted lanes at hand.
fn decode_streams(
    record: &[u8],
    head: &RecordHead<'_>,
    plan: DecodePlan<'_>,
    out: &mut [u8],
    workspace: &mut Workspace,
) -> Result<()> {
    match plan.layout {
        Layout::Whole => {
            let [stream] = head.streams.as_slice() else {
                return Err(stream_count(1, head.streams.len()));
            };
            decode_stream(record, stream, out, &mut workspace.contexts)?;
            undo_in_place(plan, head.lane_width, out)
        }
        Layout::Planes => decode_planes(record, head, plan, out, workspace),
        Layout::Leading => match head.lane_width {
            2 => decode_leading::<u16>(record, head, plan, out, workspace),
            4 => decode_leading::<u32>(record, head, plan, out, workspace),
            _ => decode_leading::<u64>(record, head, plan, out, workspace),
        },
        Layout::Classes => {
            with_word!(head.lane_width, W => decode_classes::<W>(record, head, plan, out, workspace))
        }
        Layout::Grid | Layout::GridDelta => match head.lane_width {
            2 => decode_grid::<u16>(record, head, plan, out, workspace),
            4 => decode_grid::<u32>(record, head, plan, out, workspace),
            _ => decode_grid::<u64>(record, head, plan, out, workspace),
        },
        Layout::Sparse => {
            with_word!(head.lane_width, W => decode_sparse::<W>(record, head, plan, out, workspace))
        }
        Layout::Palette => {
            with_word!(head.lane_width, W => decode_palette::<W>(record, head, plan, out, workspace))
        }
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
    rules_of(&head, &[], head.raw_len as usize)?;
    Ok(record
        .get(stream.stored.clone())
        .filter(|raw| raw.len() == head.raw_len as usize))
}

/// What a head asks for, with every rule checked that needs no stream.
#[derive(Clone, Copy)]
pub(super) struct DecodePlan<'a> {
    pub(super) transform: Transform,
    pub(super) layout: Layout,
    /// The predicted lanes, or nothing.
    pub(super) base: &'a [u8],
    /// Parameters of the layout.
    pub(super) params: &'a [u8],
}

/// The same before its inputs were looked at.
struct Rules<'a> {
    transform: Transform,
    layout: Layout,
    prediction: Option<Prediction>,
    params: &'a [u8],
}

impl<'a> Rules<'a> {
    /// Makes the predicted lanes, in `room` unless an input holds them as they are.
    fn predict(self, inputs: &[&'a [u8]], room: &'a mut Vec<u8>, len: usize) -> DecodePlan<'a> {
        let base = match &self.prediction {
            None => &[],
            Some(Prediction::Base) => inputs.first().copied().unwrap_or_default(),
            Some(prediction) => {
                room.resize(len, 0);
                prediction.predict(inputs, room);
                room.as_slice()
            }
        };
        DecodePlan {
            transform: self.transform,
            layout: self.layout,
            base,
            params: self.params,
        }
    }
}

/// Reads what a head asks for, and holds it against the rules.
fn rules_of<'a>(head: &RecordHead<'a>, inputs: &[&[u8]], out_len: usize) -> Result<Rules<'a>> {
    let predictor = named("predictor", &Predictor::ALL, |p| p.code(), head.predictor)?;
    let transform = named("transform", &Transform::ALL, |t| t.code(), head.transform)?;
    let layout = named("layout", &Layout::ALL, |l| l.code(), head.layout)?;
    let own_params = Prediction::params_len(predictor, inputs.len());
    let broken = broken_rule(head, (predictor, transform, layout), inputs, out_len);
    if let Some(broken) = broken {
        return Err(Error::corrupt(
            "record-rule",
            format!("a record cannot be decoded: {broken}"),
        ));
    }
    let (own, params) = head.params.split_at(own_params);
    Ok(Rules {
        transform,
        layout,
        prediction: Prediction::from_params(predictor, own)?,
        params,
    })
}

/// The first rule on a head that does not hold.
fn broken_rule(
    head: &RecordHead<'_>,
    (predictor, transform, layout): (Predictor, Transform, Layout),
    inputs: &[&[u8]],
    out_len: usize,
) -> Option<&'static str> {
    let width = usize::from(head.lane_width);
    let own_params = Prediction::params_len(predictor, inputs.len());
    let input_len = Prediction::input_len(predictor, out_len);
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
            predictor.takes(inputs.len()),
        ),
        (
            "the transform does not fit the predictor",
            Method { transform, layout }.needs_base() == (predictor != Predictor::None),
        ),
        (
            "an input is of another length",
            inputs.iter().all(|i| i.len() == input_len),
        ),
        (
            "there are parameters that nothing takes",
            head.params.len() == own_params || layout.has_params(),
        ),
        (
            "the predictor's parameters are not all there",
            head.params.len() >= own_params,
        ),
        (
            "the predictor takes lanes of another width",
            Prediction::lane_len(predictor).is_none_or(|len| len == width),
        ),
        (
            "a grid takes rotated lanes of several bytes",
            !layout.is_grid() || (transform == Transform::Rotate && width > 1),
        ),
        (
            "leading bits need a base and lanes of several bytes",
            layout != Layout::Leading || (transform.needs_base() && width > 1),
        ),
        (
            "classes need a base",
            layout != Layout::Classes || transform.needs_base(),
        ),
        (
            "a palette is of lanes as they are",
            layout != Layout::Palette || transform == Transform::Identity,
        ),
    ];
    let mut rules = rules.into_iter();
    rules.find(|(_, holds)| !holds).map(|(broken, _)| broken)
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

pub(super) fn stream_count(expected: usize, found: usize) -> Error {
    Error::corrupt("record-streams", "a record has a wrong number of streams")
        .differs(expected, found)
}

pub(super) fn stored<'r>(record: &'r [u8], stream: &StreamEntry) -> &'r [u8] {
    record.get(stream.stored.clone()).unwrap_or_default()
}

pub(super) fn decode_stream(
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
    with_word!(lane_width, W => undo_words::<W>(plan, out));
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
