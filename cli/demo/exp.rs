//! The exponential function from IEEE 754 basic operations alone, so a run
//! gives the same bits with every C library; the standard library leaves the
//! precision of its `exp` open.
//!
//! Cody & Waite range reduction and the minimax polynomial of Cephes `expf`
//! (Moshier 1992).

// The limits keep 2^n a normal number, so it can be built from its exponent.
const LOWEST: f32 = -87.0;
const HIGHEST: f32 = 88.0;

/// Adding 1.5 * 2^23 rounds to a whole number and leaves it in the low bits.
const ROUND: f32 = 12_582_912.0;

/// ln 2 in two parts; the first has few enough bits for `n * LN2_HIGH` to be
/// exact.
const LN2_HIGH: f32 = 0.693_359_4;
const LN2_LOW: f32 = -2.121_944_4e-4;

const POLYNOMIAL: [f32; 6] = [
    1.987_569_1e-4,
    1.398_199_9e-3,
    8.333_452e-3,
    4.166_579_6e-2,
    1.666_666_5e-1,
    0.5,
];

/// e^x, with x clamped to the range where the result is a normal number.
pub(super) fn exp(x: f32) -> f32 {
    let x = x.clamp(LOWEST, HIGHEST);
    let rounded = x * std::f32::consts::LOG2_E + ROUND;
    let n = rounded - ROUND;
    let r = x - n * LN2_HIGH - n * LN2_LOW;
    let series = POLYNOMIAL.iter().fold(0.0, |sum, c| sum * r + c);
    let mantissa = series * r * r + r + 1.0;
    let power = (rounded.to_bits() << 23).wrapping_add(1.0_f32.to_bits());
    mantissa * f32::from_bits(power)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_within_two_units_in_the_last_place() {
        let mut x = -86.9_f32;
        while x < 87.9 {
            let exact = f64::from(x).exp();
            let error = (f64::from(exp(x)) - exact).abs() / exact;
            assert!(error < 2.4e-7, "exp({x}) is off by {error:e}");
            x += 0.013;
        }
        assert_eq!(exp(0.0).to_bits(), 1.0_f32.to_bits());
    }

    #[test]
    fn large_arguments_stay_finite() {
        assert!(exp(f32::INFINITY).is_finite());
        assert!(exp(f32::NEG_INFINITY) > 0.0);
        assert!(exp(f32::NAN).is_nan());
    }
}
