//! Predictions from several inputs (format-spec.md section 10.2): what a lane's value was likely
//! made from, worked out again.
//!
//! An optimizer step, a running average or a cast makes one tensor from others. Doing the same
//! with the stored ones foretells the new one to the last bit or two. Every machine must come to
//! the same bits: binary64 and the operations that IEEE 754 rounds correctly, in a fixed order,
//! on numbers that are never subnormal, whatever the thread flushes to zero.

mod cast;
mod evaluate;
pub(super) mod fit;
mod fit_adam;
mod fit_rounded;
mod fit_sparse;

use crate::codec::Predictor;
use crate::error::{Error, Result};
use crate::format::cursor::{Reader, Writer};

pub use cast::Half;

/// Most inputs that a predictor takes.
pub const INPUTS_MAX: usize = 4;
/// Bytes of a lane that is predicted from several inputs: binary32.
pub(super) const LANE_LEN: usize = 4;
/// Coefficients beyond 2 to this power, either way, could leave the normal numbers.
const EXPONENT_MAX: i32 = 200;

/// A predictor with its parameters.
#[derive(Clone, Debug, PartialEq)]
pub enum Prediction {
    /// The same lane of the only input.
    Base,
    /// The input, twice as wide, rounded to the lane's width.
    Cast(Half),
    /// A sum of inputs, each with a coefficient.
    Linear(Vec<f64>),
    /// Of `v0, m1, m0`: a sum of `v0`, `m1 * m1`, `m1 * m0` and `m0 * m0`.
    SecondMoment([f64; 4]),
    /// Of `w0, m1, v1`: one step of Adam in the arithmetic of binary32.
    Adam(AdamStep),
    /// The same as `SecondMoment` where `m1` is not `m0`, else `v0`: rows that were not touched.
    SparseSecondMoment([f64; 4]),
    /// Of `w0, m1, v1, m0`: the same as `Adam` where `m1` is not `m0`, else `w0`.
    SparseAdam(AdamStep),
    /// Of `s0, w1, w0`: what Adagrad's sum is after it moved the weight, or was before.
    SumOfSquares(AdagradStep),
    /// The same as `Linear` of a mean that was first scaled in place: that product is rounded.
    RoundedLinear(Vec<f64>),
    /// The same as `SecondMoment` of a moment that was first scaled in place.
    RoundedSecondMoment([f64; 4]),
}

/// Adagrad moves a weight by `rate * g / sqrt(s1)` with `s1 = s0 + g * g`: hence
/// `s0 = s1 * (1 - d * d)` with `d = (w1 - w0) / rate`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdagradStep {
    /// Whether the sum is told from the one after it.
    pub is_backward: bool,
    /// One over the learning rate.
    pub inverse_rate: f64,
}

/// The numbers of `w1 = w0 * decay + step * m1 / (sqrt(v1) / scale + epsilon)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamStep {
    /// 1 less learning rate times weight decay.
    pub decay: f32,
    /// The learning rate over the first moment's bias correction, negative.
    pub step: f32,
    /// The square root of the second moment's bias correction.
    pub scale: f32,
    /// What keeps the denominator from 0.
    pub epsilon: f32,
}

impl Prediction {
    /// The predictor whose parameters these are.
    #[must_use]
    pub const fn predictor(&self) -> Predictor {
        match self {
            Self::Base => Predictor::Base,
            Self::Cast(_) => Predictor::Cast,
            Self::Linear(_) => Predictor::Linear,
            Self::SecondMoment(_) => Predictor::SecondMoment,
            Self::Adam(_) => Predictor::Adam,
            Self::SparseSecondMoment(_) => Predictor::SparseSecondMoment,
            Self::SparseAdam(_) => Predictor::SparseAdam,
            Self::SumOfSquares(_) => Predictor::SumOfSquares,
            Self::RoundedLinear(_) => Predictor::RoundedLinear,
            Self::RoundedSecondMoment(_) => Predictor::RoundedSecondMoment,
        }
    }

    /// Bytes of parameters in a record with so many inputs.
    pub(super) const fn params_len(predictor: Predictor, inputs: usize) -> usize {
        match predictor {
            Predictor::None | Predictor::Base => 0,
            Predictor::Cast => 1,
            Predictor::Linear | Predictor::RoundedLinear => inputs * 8,
            Predictor::SecondMoment
            | Predictor::SparseSecondMoment
            | Predictor::RoundedSecondMoment => 32,
            Predictor::Adam | Predictor::SparseAdam => 16,
            Predictor::SumOfSquares => 9,
        }
    }

    pub(super) fn to_params(&self) -> Vec<u8> {
        let mut w = Writer::new();
        match self {
            Self::Base => {}
            Self::Cast(half) => {
                w.u8(half.code());
            }
            Self::Linear(coefficients) | Self::RoundedLinear(coefficients) => {
                write_wide(&mut w, coefficients);
            }
            Self::SecondMoment(coefficients)
            | Self::SparseSecondMoment(coefficients)
            | Self::RoundedSecondMoment(coefficients) => write_wide(&mut w, coefficients),
            Self::SumOfSquares(step) => {
                w.u8(u8::from(step.is_backward));
                w.u64(step.inverse_rate.to_bits());
            }
            Self::Adam(a) | Self::SparseAdam(a) => {
                [a.decay, a.step, a.scale, a.epsilon].iter().for_each(|c| {
                    w.u32(c.to_bits());
                })
            }
        }
        w.finish()
    }

    /// Reads and checks the parameters of a predictor; there are exactly as many bytes.
    pub(super) fn from_params(predictor: Predictor, params: &[u8]) -> Result<Option<Self>> {
        let mut r = Reader::new(params, 0);
        let prediction = match predictor {
            Predictor::None => return Ok(None),
            Predictor::Base => Self::Base,
            Predictor::Cast => Self::Cast(Half::from_code(r.u8()?).ok_or_else(bad_params)?),
            Predictor::Linear => Self::Linear(wide_all(&mut r, params)?),
            Predictor::RoundedLinear => Self::RoundedLinear(wide_all(&mut r, params)?),
            Predictor::SecondMoment => Self::SecondMoment(wide_four(&mut r)?),
            Predictor::SparseSecondMoment => Self::SparseSecondMoment(wide_four(&mut r)?),
            Predictor::RoundedSecondMoment => Self::RoundedSecondMoment(wide_four(&mut r)?),
            Predictor::Adam => Self::Adam(adam_step(&mut r)?),
            Predictor::SparseAdam => Self::SparseAdam(adam_step(&mut r)?),
            Predictor::SumOfSquares => Self::SumOfSquares(AdagradStep {
                is_backward: match r.u8()? {
                    0 => false,
                    1 => true,
                    _ => return Err(bad_params()),
                },
                inverse_rate: wide(&mut r)?,
            }),
        };
        Ok(Some(prediction))
    }

    /// Bytes of each input for a chunk of `raw_len`.
    pub(super) const fn input_len(predictor: Predictor, raw_len: usize) -> usize {
        match predictor {
            Predictor::Cast => raw_len * 2,
            _ => raw_len,
        }
    }

    /// Bytes of the lanes that it can predict; `None` for any.
    pub(super) const fn lane_len(predictor: Predictor) -> Option<usize> {
        match predictor {
            Predictor::None | Predictor::Base => None,
            Predictor::Cast => Some(2),
            Predictor::Linear
            | Predictor::SecondMoment
            | Predictor::Adam
            | Predictor::SparseSecondMoment
            | Predictor::SparseAdam
            | Predictor::SumOfSquares
            | Predictor::RoundedLinear
            | Predictor::RoundedSecondMoment => Some(LANE_LEN),
        }
    }

    /// Predicts every lane of `out` from inputs of the right number and lengths.
    pub fn predict(&self, inputs: &[&[u8]], out: &mut [u8]) {
        match (self, inputs) {
            (Self::Base, [base]) => out.copy_from_slice(base),
            (Self::Cast(half), [wide]) => half.cast(wide, out),
            (Self::Linear(coefficients), inputs) => {
                evaluate::linear::<false>(coefficients, inputs, out);
            }
            (Self::RoundedLinear(coefficients), inputs) => {
                evaluate::linear::<true>(coefficients, inputs, out);
            }
            (Self::SecondMoment(c), [v0, m1, m0]) => {
                evaluate::second_moment::<false>(*c, v0, m1, m0, out);
            }
            (Self::RoundedSecondMoment(c), [v0, m1, m0]) => {
                evaluate::second_moment::<true>(*c, v0, m1, m0, out);
            }
            (Self::Adam(step), [w0, m1, v1]) => evaluate::adam(*step, w0, m1, v1, out),
            (Self::SparseSecondMoment(c), [v0, m1, m0]) => {
                evaluate::second_moment::<false>(*c, v0, m1, m0, out);
                evaluate::keep_untouched(v0, m1, m0, out);
            }
            (Self::SparseAdam(step), [w0, m1, v1, m0]) => {
                evaluate::adam(*step, w0, m1, v1, out);
                evaluate::keep_untouched(w0, m1, m0, out);
            }
            (Self::SumOfSquares(step), [s0, w1, w0]) => {
                evaluate::sum_of_squares(*step, s0, w1, w0, out);
                evaluate::keep_untouched(s0, w1, w0, out);
            }
            _ => {}
        }
    }
}

fn bad_params() -> Error {
    Error::corrupt(
        "predictor-params",
        "a record's predictor has parameters that break its rules",
    )
}

/// A coefficient: zero, or a number that keeps every product among the normal ones.
fn wide(r: &mut Reader<'_>) -> Result<f64> {
    let value = f64::from_bits(r.u64()?);
    if is_coefficient(value) {
        Ok(value)
    } else {
        Err(bad_params())
    }
}

pub(super) fn is_coefficient(value: f64) -> bool {
    let limit = 2f64.powi(EXPONENT_MAX);
    value == 0.0 || (1.0 / limit..=limit).contains(&value.abs())
}

fn wide_all(r: &mut Reader<'_>, params: &[u8]) -> Result<Vec<f64>> {
    (0..params.len() / 8).map(|_| wide(r)).collect()
}

fn write_wide(w: &mut Writer, coefficients: &[f64]) {
    for coefficient in coefficients {
        w.u64(coefficient.to_bits());
    }
}

fn wide_four(r: &mut Reader<'_>) -> Result<[f64; 4]> {
    Ok([wide(r)?, wide(r)?, wide(r)?, wide(r)?])
}

fn adam_step(r: &mut Reader<'_>) -> Result<AdamStep> {
    Ok(AdamStep {
        decay: narrow(r)?,
        step: narrow(r)?,
        scale: narrow(r)?,
        epsilon: narrow(r)?,
    })
}

/// A number of binary32: zero or normal.
fn narrow(r: &mut Reader<'_>) -> Result<f32> {
    let value = f32::from_bits(r.u32()?);
    if value == 0.0 || value.is_normal() {
        Ok(value)
    } else {
        Err(bad_params())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn back(prediction: &Prediction, inputs: usize) -> Result<Option<Prediction>> {
        let params = prediction.to_params();
        let predictor = prediction.predictor();
        assert_eq!(params.len(), Prediction::params_len(predictor, inputs));
        Prediction::from_params(predictor, &params)
    }

    #[test]
    fn parameters_come_back_and_strange_ones_are_refused() {
        let step = AdamStep {
            decay: 0.9999,
            step: -1e-3,
            scale: 1.0,
            epsilon: 1e-8,
        };
        let adagrad = AdagradStep {
            is_backward: true,
            inverse_rate: 100.0,
        };
        let predictions = [
            (Prediction::Cast(Half::Bf16), 1),
            (Prediction::Linear(vec![0.5, -2.0, 0.0]), 3),
            (
                Prediction::SecondMoment([0.95, 1.0, 2f64.powi(-200), 0.0]),
                3,
            ),
            (Prediction::Adam(step), 3),
            (Prediction::SparseSecondMoment([0.0, 1.0, -2.0, 0.5]), 3),
            (Prediction::SparseAdam(step), 4),
            (Prediction::SumOfSquares(adagrad), 3),
            (Prediction::RoundedLinear(vec![0.999, 0.0, 1e-3]), 3),
            (Prediction::RoundedSecondMoment([0.5, 0.0, -2.0, 1.0]), 3),
        ];
        for (prediction, inputs) in predictions {
            assert_eq!(back(&prediction, inputs).unwrap(), Some(prediction));
        }
        for strange in [
            f64::NAN,
            f64::INFINITY,
            2f64.powi(201),
            2f64.powi(-201),
            5e-324,
        ] {
            assert!(back(&Prediction::Linear(vec![1.0, strange]), 2).is_err());
            assert!(back(&Prediction::RoundedLinear(vec![strange, 1.0]), 2).is_err());
            let four = [0.5, 1.0, strange, 1.0];
            assert!(back(&Prediction::RoundedSecondMoment(four), 3).is_err());
        }
        for strange in [f32::NAN, f32::INFINITY, 1e-40] {
            let prediction = Prediction::Adam(AdamStep {
                step: strange,
                ..step
            });
            assert!(back(&prediction, 3).is_err());
        }
        assert!(Prediction::from_params(Predictor::Cast, &[2]).is_err());
        let mut neither_way = Prediction::SumOfSquares(adagrad).to_params();
        neither_way[0] = 2;
        assert!(Prediction::from_params(Predictor::SumOfSquares, &neither_way).is_err());
    }
}
