//! What an encoding will take, judged from a sample: which base and which method to try.

use crate::codec::choose::{self, Method};
use crate::codec::encode::STREAM_HEAD_LEN;
use crate::dtype::Lane;
use crate::format::record::RECORD_FIXED_LEN;

/// What an encoding of a chunk will take, judged from a sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The best method for it.
    pub method: Method,
    /// Bytes of the record, more or less.
    pub stored_len: usize,
}

/// What `raw` would take on its own.
#[must_use]
pub fn estimate_alone(raw: &[u8], lane: Lane) -> Estimate {
    to_estimate(raw, lane, choose::best_method(lane, raw, None))
}

/// What `raw` would take against `base`, which is as long.
#[must_use]
pub fn estimate(raw: &[u8], base: &[u8], lane: Lane) -> Estimate {
    to_estimate(raw, lane, choose::best_method(lane, raw, Some(base)))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "an estimate; chunks are far below 2^24 lanes and bits are not negative"
)]
fn to_estimate(raw: &[u8], lane: Lane, (method, bits): (Method, f32)) -> Estimate {
    let head = RECORD_FIXED_LEN + lane.width * STREAM_HEAD_LEN;
    let bytes = ((raw.len() / lane.width) as f32 * bits / 8.0) as usize;
    Estimate {
        method,
        stored_len: head + bytes,
    }
}
