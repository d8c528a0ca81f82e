//! What an encoding will take, judged from a sample: which base and which method to try.

use crate::codec::choose::{self, Choice, Learnt, Method};
use crate::codec::encode::STREAM_HEAD_LEN;
use crate::codec::{Form, Prediction, histogram};
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
        self.learnt.as_ref().is_some_and(Learnt::is_patch)
    }

    /// How many of the lanes that were judged differ from what they were held against, if those
    /// were counted: all lanes, or a sample of them by [`estimate_predicted`].
    #[must_use]
    pub fn changed_lanes(&self) -> Option<u64> {
        match &self.learnt {
            Some(Learnt::Sparse(fit)) if self.method.needs_base() => Some(fit.parted.words as u64),
            _ => None,
        }
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

/// What `raw` would take as a patch of `base`, which is as long; `None` unless few lanes differ,
/// so that no other way to code it against that base is much shorter. Takes a fraction of
/// [`estimate`]'s time.
#[must_use]
pub fn estimate_patch(raw: &[u8], base: &[u8], form: impl Into<Form>) -> Option<Estimate> {
    let form = form.into();
    let choice = choose::patch(form.lane, raw, base)?;
    Some(to_estimate(raw, form, choice))
}

/// What `raw` would take against what a prediction makes of its inputs, from a sample of lanes:
/// the prediction is not worked out for the others.
#[must_use]
pub fn estimate_predicted(
    raw: &[u8],
    inputs: &[&[u8]],
    prediction: &Prediction,
    form: impl Into<Form>,
) -> Estimate {
    let form = form.into();
    let lanes = (raw.len() / form.lane.width).max(1);
    // An input may be twice as wide as what is made of it.
    let sample = |bytes: &[u8]| histogram::sample_lanes((bytes.len() / lanes).max(1), bytes);
    let sampled_inputs: Vec<Vec<u8>> = inputs.iter().map(|input| sample(input)).collect();
    let sampled_inputs: Vec<&[u8]> = sampled_inputs.iter().map(Vec::as_slice).collect();
    let sampled = sample(raw);
    let mut predicted = vec![0; sampled.len()];
    prediction.predict(&sampled_inputs, &mut predicted);
    let choice = choose::best_method(form.lane.into(), &sampled, Some(&predicted));
    to_estimate(raw, form, choice)
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
