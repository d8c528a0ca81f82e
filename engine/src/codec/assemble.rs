//! Coded streams to a record: the head, then every stream as its coder leaves it.

use std::ops::Range;

use crate::codec::choose::{Method, StreamPlan};
use crate::codec::coder::{Coder, Contexts, PATTERN_LEN_MAX, ZstdMode};
use crate::codec::encode::Encoding;
use crate::codec::{Layout, Prediction, Predictor};
use crate::dtype::Lane;
use crate::error::Result;
use crate::format::record::{RecordHead, encode_head};
use crate::format::store_file::Level;

/// A coded stream must be at least this much shorter than raw, or decoding it is not worth it.
const WORTH_CODING_PERCENT: usize = 99;

/// The streams of one record, in order.
pub(super) struct StreamSet<'a> {
    level: Level,
    contexts: &'a mut Contexts,
    /// Bytes of the streams that are not stored raw.
    coded: &'a mut Vec<u8>,
    streams: Vec<(Coder, Stored<'a>)>,
    zstd_len: usize,
}

enum Stored<'a> {
    AsItIs(&'a [u8]),
    Coded(Range<usize>),
}

impl<'a> StreamSet<'a> {
    pub(super) fn new(level: Level, contexts: &'a mut Contexts, coded: &'a mut Vec<u8>) -> Self {
        coded.clear();
        Self {
            level,
            contexts,
            coded,
            streams: Vec::new(),
            zstd_len: 0,
        }
    }

    /// Adds a stream as it is.
    pub(super) fn push_raw(&mut self, stream: &'a [u8]) {
        self.streams.push((Coder::Raw, Stored::AsItIs(stream)));
    }

    /// Adds a stream by the coder that the plan and the result speak for.
    pub(super) fn push(&mut self, stream: &'a [u8], plan: StreamPlan) -> Result<()> {
        let start = self.coded.len();
        let at_most = stream.len() * WORTH_CODING_PERCENT / 100;
        let coder = if let Some(pattern) = constant_pattern(stream, 1) {
            self.coded.extend_from_slice(pattern);
            Coder::Constant
        } else if self.compress(stream, plan, at_most)? {
            self.zstd_len += stream.len();
            Coder::Zstd
        } else {
            self.push_raw(stream);
            return Ok(());
        };
        let range = start..self.coded.len();
        self.streams.push((coder, Stored::Coded(range)));
        Ok(())
    }

    /// Appends the stream's zstd frame if it is shorter than `at_most`.
    fn compress(&mut self, stream: &[u8], plan: StreamPlan, at_most: usize) -> Result<bool> {
        let StreamPlan::Zstd(mode) = plan else {
            return Ok(false);
        };
        let start = self.coded.len();
        let mut kept = self.contexts.compress(mode, stream, at_most, self.coded)?;
        if self.level == Level::Fast {
            return Ok(kept);
        }
        // The other levels try both kinds and keep the shorter.
        let other = match mode {
            ZstdMode::Huffman if self.level == Level::Archive => ZstdMode::Level(19),
            ZstdMode::Huffman => ZstdMode::Level(3),
            ZstdMode::Level(_) => ZstdMode::Huffman,
        };
        let middle = self.coded.len();
        let at_most = if kept { middle - start } else { at_most };
        if self.contexts.compress(other, stream, at_most, self.coded)? {
            self.coded.drain(start..middle);
            kept = true;
        }
        Ok(kept)
    }

    /// Appends the record of these streams.
    pub(super) fn finish(
        self,
        raw_len: usize,
        lane: Lane,
        method: Method,
        (prediction, inputs): (&Prediction, usize),
        params: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Encoding> {
        let bytes = |stored: &'_ Stored<'_>| match stored {
            Stored::AsItIs(bytes) => bytes.len(),
            Stored::Coded(range) => range.len(),
        };
        let table = self.streams.iter();
        let table = table.map(|(coder, stored)| (coder.code(), bytes(stored)));
        let mut head = head_of(raw_len, lane, method);
        let mut all_params = Vec::new();
        if method.needs_base() {
            head.predictor = prediction.predictor().code();
            head.inputs = u8::try_from(inputs).unwrap_or(u8::MAX);
            all_params = prediction.to_params();
        }
        all_params.extend_from_slice(params);
        head.params = &all_params;
        encode_head(out, &head, table)?;
        for (_, stored) in self.streams {
            out.extend_from_slice(match stored {
                Stored::AsItIs(bytes) => bytes,
                Stored::Coded(range) => self.coded.get(range).unwrap_or_default(),
            });
        }
        Ok(Encoding {
            uses_base: method.needs_base(),
            zstd_len: self.zstd_len,
            layout: method.layout,
            is_patch: false,
        })
    }
}

/// The pattern of `width` bytes that all of `raw` repeats, if it does.
pub(super) fn constant_pattern(raw: &[u8], width: usize) -> Option<&[u8]> {
    let pattern = raw.get(..width).filter(|p| p.len() <= PATTERN_LEN_MAX)?;
    // Equal to itself shifted by one lane: a comparison of two slices, at memory speed.
    let constant = raw.get(width..)? == raw.get(..raw.len() - width)?;
    constant.then_some(pattern)
}

/// A record of one whole stream that is stored as given.
pub(super) fn whole(
    raw_len: usize,
    lane: Lane,
    coder: Coder,
    stored: &[u8],
    out: &mut Vec<u8>,
) -> Result<Encoding> {
    let method = Method::WHOLE;
    let head = head_of(raw_len, lane, method);
    encode_head(out, &head, std::iter::once((coder.code(), stored.len())))?;
    out.extend_from_slice(stored);
    Ok(Encoding {
        uses_base: false,
        zstd_len: if coder == Coder::Zstd { raw_len } else { 0 },
        layout: Layout::Whole,
        is_patch: false,
    })
}

/// The head of a record that predicts nothing and has no parameters.
fn head_of<'a>(raw_len: usize, lane: Lane, method: Method) -> RecordHead<'a> {
    RecordHead {
        predictor: Predictor::None.code(),
        transform: method.transform.code(),
        layout: method.layout.code(),
        lane_width: u8::try_from(lane.width).unwrap_or(1),
        inputs: 0,
        raw_len: u32::try_from(raw_len).unwrap_or(u32::MAX),
        params: &[],
        streams: Vec::new(),
    }
}
