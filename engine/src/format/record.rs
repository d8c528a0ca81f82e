//! The head of a record (format-spec.md section 9.2): how one chunk is encoded.

use std::ops::Range;

use crate::error::{Error, Result};
use crate::format::cursor::{Reader, Writer};
use crate::format::limits;

/// Bytes before the parameters.
pub const RECORD_FIXED_LEN: usize = 12;
/// Records start at multiples of this, so that raw bytes can be borrowed aligned.
pub const RECORD_ALIGN: u64 = 16;

/// One stream: how it is coded and where its bytes lie in the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamEntry {
    /// The coder's code (format-spec.md section 10.5).
    pub coder: u8,
    /// Its stored bytes, as a range of the record.
    pub stored: Range<usize>,
}

/// A record's head, checked for shape; the codes themselves are the codec's to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordHead<'a> {
    /// The predictor's code (section 10.2).
    pub predictor: u8,
    /// The transform's code (section 10.3).
    pub transform: u8,
    /// The layout's code (section 10.4).
    pub layout: u8,
    /// Bytes per lane.
    pub lane_width: u8,
    /// How many inputs the decoder needs.
    pub inputs: u8,
    /// Bytes of the decoded chunk.
    pub raw_len: u32,
    /// Parameters of the predictor and layout.
    pub params: &'a [u8],
    /// The streams, in order; they fill the record to its end.
    pub streams: Vec<StreamEntry>,
}

/// Writes a record's head; the stream bytes follow it.
///
/// # Errors
/// `Limit` if a count or length does not fit the format.
pub fn encode_head(
    out: &mut Vec<u8>,
    head: &RecordHead<'_>,
    streams: impl ExactSizeIterator<Item = (u8, usize)>,
) -> Result<()> {
    let too_many = || {
        Error::new(
            crate::ErrorKind::Limit,
            "record-head",
            "a record's head does not fit",
        )
    };
    let mut w = Writer::new();
    w.u8(head.predictor)
        .u8(head.transform)
        .u8(head.layout)
        .u8(head.lane_width);
    w.u8(head.inputs)
        .u8(u8::try_from(streams.len()).map_err(|_| too_many())?);
    w.u16(u16::try_from(head.params.len()).map_err(|_| too_many())?);
    w.u32(head.raw_len).bytes(head.params);
    for (coder, stored_len) in streams {
        let len = u32::try_from(stored_len).map_err(|_| too_many())?;
        if len > limits::STREAM_LEN_MAX || coder > 15 {
            return Err(too_many());
        }
        w.u32(u32::from(coder) << 28 | len);
    }
    out.extend_from_slice(w.as_slice());
    Ok(())
}

/// Reads a record's head and the extents of its streams.
///
/// # Errors
/// `Corrupt` if the lengths do not add up to the record, `Limit` above a limit.
pub fn decode_head(record: &[u8]) -> Result<RecordHead<'_>> {
    let mut r = Reader::new(record, 0);
    let (predictor, transform, layout, lane_width) = (r.u8()?, r.u8()?, r.u8()?, r.u8()?);
    let (inputs, stream_count) = (r.u8()?, r.u8()?);
    let params_len = usize::from(r.u16()?);
    let raw_len = r.u32()?;
    if raw_len > limits::CHUNK_LEN_MAX || params_len > limits::PARAMS_LEN_MAX {
        return Err(Error::new(
            crate::ErrorKind::Limit,
            "record-limits",
            "a record's chunk or parameters are above the limit",
        ));
    }
    let params = r.bytes(params_len)?;
    let mut table = Reader::new(r.bytes(usize::from(stream_count) * 4)?, 0);
    let mut start = record.len() - r.left();
    let mut streams = Vec::with_capacity(usize::from(stream_count));
    for _ in 0..stream_count {
        let word = table.u32()?;
        let coder = (word >> 28).to_le_bytes()[0];
        let end = start + (word & limits::STREAM_LEN_MAX) as usize;
        streams.push(StreamEntry {
            coder,
            stored: start..end,
        });
        start = end;
    }
    if start != record.len() {
        return Err(
            Error::corrupt("record-length", "a record's streams do not fill it")
                .differs(record.len(), start),
        );
    }
    Ok(RecordHead {
        predictor,
        transform,
        layout,
        lane_width,
        inputs,
        raw_len,
        params,
        streams,
    })
}
