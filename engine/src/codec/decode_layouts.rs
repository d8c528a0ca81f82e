//! Each layout's streams to lanes (format-spec.md section 10.4).

use crate::codec::bits::BitReader;
use crate::codec::classes::{self, Class, Classes, Found};
use crate::codec::coder::{Coder, Contexts};
use crate::codec::decode::{DecodePlan, decode_stream, stored, stream_count};
use crate::codec::grid::{Grid, Levels};
use crate::codec::leading::{self, Shifts, StreamsView};
use crate::codec::palette;
use crate::codec::places::Places;
use crate::codec::sparse::{self, Counts};
use crate::codec::word::{Word, with_word};
use crate::codec::{Layout, Workspace, planes, residual};
use crate::error::{Error, Result};
use crate::format::record::{RecordHead, StreamEntry};

pub(super) fn decode_leading<W: Word>(
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
    let shifts = Shifts::from_params(plan.params, W::BYTES)?;
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

pub(super) fn decode_classes<W: Word>(
    record: &[u8],
    head: &RecordHead<'_>,
    plan: DecodePlan<'_>,
    out: &mut [u8],
    workspace: &mut Workspace,
) -> Result<()> {
    let classes = Classes::from_params(plan.params, W::BYTES)?;
    let dense = classes.0.iter().filter(|c| c.rice.is_none()).count();
    let wrong_count = || stream_count(dense + 4, head.streams.len());
    let split = head
        .streams
        .split_last_chunk()
        .filter(|(own, _)| own.len() == dense);
    let Some((own, [gaps, values, low, escapes])) = split else {
        return Err(wrong_count());
    };
    if [gaps, low, escapes]
        .iter()
        .any(|s| s.coder != Coder::Raw.code())
    {
        return Err(Error::corrupt(
            "classes-coder",
            "gaps, low bits and escapes must be stored raw",
        ));
    }
    if classes.is_patch() {
        return decode_patch::<W>(record, head, (plan, &classes), out, workspace);
    }
    let lanes = out.len() / W::BYTES;
    let Workspace {
        planes,
        words,
        contexts,
        ..
    } = workspace;
    let places = Places::new::<W>(&classes, plan.base);
    planes.resize(2 * lanes, 0);
    let streams = ClassStreams {
        own,
        gaps,
        values,
        low,
        escapes,
    };
    let (found, shared) = streams.decode(record, &classes, &places, planes, contexts)?;
    words.clear();
    words.resize(2 * out.len().div_ceil(8), 0);
    let (sorted, words) = words.split_at_mut(out.len().div_ceil(8));
    let (sorted, _) = bytemuck::cast_slice_mut::<u64, W>(sorted).split_at_mut(lanes);
    let (words, _) = bytemuck::cast_slice_mut::<u64, W>(words).split_at_mut(lanes);
    classes::merge(
        &classes,
        &found,
        (&places, plan.base),
        shared,
        (sorted, words),
    )?;
    residual::lanes(plan.transform, words, plan.base, out);
    Ok(())
}

/// The streams of layout classes.
struct ClassStreams<'h> {
    own: &'h [StreamEntry],
    gaps: &'h StreamEntry,
    values: &'h StreamEntry,
    low: &'h StreamEntry,
    escapes: &'h StreamEntry,
}

impl ClassStreams<'_> {
    /// Decodes what each class has, into `room` of two bytes for each lane.
    fn decode<'r>(
        &self,
        record: &'r [u8],
        classes: &Classes,
        places: &Places,
        mut room: &'r mut [u8],
        contexts: &mut Contexts,
    ) -> Result<(Vec<Found<'r>>, classes::Shared<'r>)> {
        let mut gaps = BitReader::new(stored(record, self.gaps));
        let (mut own, mut changed, mut found) = (self.own.iter(), 0, Vec::new());
        for (class, count) in classes.0.iter().zip(places.counts()) {
            if let Some(k) = class.rice {
                let changes = classes::read_gaps(&mut gaps, k, *count)?;
                changed += changes.len();
                found.push(Found::Sparse(changes));
                continue;
            }
            let (symbols, behind) = room.split_at_mut(*count);
            room = behind;
            let stream = own.next().ok_or_else(|| stream_count(1, 0))?;
            decode_stream(record, stream, symbols, contexts)?;
            found.push(Found::Dense(symbols));
        }
        if !gaps.is_done() {
            return Err(Error::corrupt("classes-streams", "gaps are left over"));
        }
        let (room, _) = room.split_at_mut(changed);
        decode_stream(record, self.values, room, contexts)?;
        let shared = classes::Shared {
            values: room,
            low: BitReader::new(stored(record, self.low)),
            escapes: stored(record, self.escapes),
        };
        Ok((found, shared))
    }
}

/// Classes of which there is one, and sparse.
fn decode_patch<W: Word>(
    record: &[u8],
    head: &RecordHead<'_>,
    (plan, classes): (DecodePlan<'_>, &Classes),
    out: &mut [u8],
    workspace: &mut Workspace,
) -> Result<()> {
    let ([gaps, values, low, escapes], [Class { rice: Some(k), .. }]) =
        (head.streams.as_slice(), classes.0.as_slice())
    else {
        return Err(stream_count(4, head.streams.len()));
    };
    let mut gaps = BitReader::new(stored(record, gaps));
    let places = classes::read_gaps(&mut gaps, *k, out.len() / W::BYTES)?;
    if !gaps.is_done() {
        return Err(Error::corrupt("classes-streams", "gaps are left over"));
    }
    let Workspace {
        planes, contexts, ..
    } = workspace;
    planes.resize(places.len(), 0);
    decode_stream(record, values, planes, contexts)?;
    let shared = classes::Shared {
        values: planes,
        low: BitReader::new(stored(record, low)),
        escapes: stored(record, escapes),
    };
    classes::patch::<W>(plan.transform, &places, plan.base, shared, out)
}

pub(super) fn decode_planes(
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
    with_word!(width, W => planes::merge::<W>(plan.transform, found, plan.base, out));
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

pub(super) fn decode_grid<W: Word>(
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
    let grid = Grid::from_params(plan.params, W::BYTES, lanes)?;
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

pub(super) fn decode_sparse<W: Word>(
    record: &[u8],
    head: &RecordHead<'_>,
    plan: DecodePlan<'_>,
    out: &mut [u8],
    workspace: &mut Workspace,
) -> Result<()> {
    let [gaps, of_words @ ..] = head.streams.as_slice() else {
        return Err(stream_count(W::BYTES + 1, 0));
    };
    if of_words.len() != W::BYTES {
        return Err(stream_count(W::BYTES + 1, head.streams.len()));
    }
    let counts = Counts::from_params(plan.params, out.len() / W::BYTES)?;
    let Workspace {
        planes, contexts, ..
    } = workspace;
    planes.resize(counts.gaps + counts.words * W::BYTES, 0);
    let (gap_bytes, scratch) = planes.split_at_mut(counts.gaps);
    decode_stream(record, gaps, gap_bytes, contexts)?;
    let found = collect_planes(record, of_words, counts.words, scratch, contexts)?;
    let (found, _) = found.split_at(W::BYTES);
    sparse::merge::<W>(plan.transform, gap_bytes, found, plan.base, out)
}

pub(super) fn decode_palette<W: Word>(
    record: &[u8],
    head: &RecordHead<'_>,
    plan: DecodePlan<'_>,
    out: &mut [u8],
    workspace: &mut Workspace,
) -> Result<()> {
    let [entries, indices] = head.streams.as_slice() else {
        return Err(stream_count(2, head.streams.len()));
    };
    let [last] = plan.params else {
        return Err(
            Error::corrupt("palette-params", "a palette's parameters are one byte")
                .differs(1, plan.params.len()),
        );
    };
    let count = usize::from(*last) + 1;
    let Workspace {
        planes, contexts, ..
    } = workspace;
    let lanes = out.len() / W::BYTES;
    planes.resize(count * W::BYTES + palette::packed_len(lanes, count), 0);
    let (entry_bytes, packed) = planes.split_at_mut(count * W::BYTES);
    decode_stream(record, entries, entry_bytes, contexts)?;
    decode_stream(record, indices, packed, contexts)?;
    palette::unpack::<W>(packed, entry_bytes, out)
}
