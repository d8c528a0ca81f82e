//! What an encoding will take, judged from a sample: which base and which method to try.

use crate::codec::Form;
use crate::codec::choose::{self, Choice, Learnt, Method};
use crate::codec::encode::STREAM_HEAD_LEN;
use crate::format::record::RECORD_FIXED_LEN;

/// What an encoding of a chunk will take, judged from a sample.
#[derive(Clone, Debug)]
pub struct Estimate {
    /// The best method for it.
    pub method: Method,
    /// Bytes of the record, more or less.
    pub stored_len: usize,
    /// What the method learnt of the whole chunk.
    pub(super) learnt: Option<Learnt>,
}

impl Estimate {
    /// Whether the record will be decoded by changing a few lanes of its base.
    #[must_use]
    pub fn is_patch(&self) -> bool {
        matches!(&self.learnt, Some(Learnt::Classes(fit)) if fit.classes.is_patch())
    }
}

impl Estimate {
    /// Of a record that is not judged yet.
    pub(crate) const NOTHING: Self = Self {
        method: Method::WHOLE,
        stored_len: 0,
        learnt: None,
    };
}

/// What `raw` would take on its own.
#[must_use]
pub fn estimate_alone(raw: &[u8], form: impl Into<Form>) -> Estimate {
    let form = form.into();
    to_estimate(raw, form, choose::best_method(form, raw, None))
}

/// What `raw` would take against `base`, which is as long.
#[must_use]
pub fn estimate(raw: &[u8], base: &[u8], form: impl Into<Form>) -> Estimate {
    let form = form.into();
    to_estimate(raw, form, choose::best_method(form, raw, Some(base)))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "an estimate; chunks are far below 2^24 lanes and bits are not negative"
)]
fn to_estimate(raw: &[u8], form: Form, choice: Choice) -> Estimate {
    let Choice {
        method,
        bits,
        learnt,
    } = choice;
    let width = form.lane.width;
    let head = RECORD_FIXED_LEN + width * STREAM_HEAD_LEN;
    let bytes = ((raw.len() / width) as f32 * bits / 8.0) as usize;
    Estimate {
        method,
        stored_len: head + bytes,
        learnt,
    }
}
