//! Casts from binary32 to its half-width copies, in integers.

use crate::codec::simd;

/// The formats that a copy may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    /// bfloat16: the upper half of binary32.
    Bf16,
    /// binary16.
    F16,
}

impl Half {
    pub(in crate::codec) const ALL: [Self; 2] = [Self::Bf16, Self::F16];

    pub(super) const fn code(self) -> u8 {
        match self {
            Self::Bf16 => 0,
            Self::F16 => 1,
        }
    }

    pub(super) fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|half| half.code() == code)
    }

    /// Casts every four bytes to two.
    pub(super) fn cast(self, wide: &[u8], out: &mut [u8]) {
        simd::widest(
            #[inline(always)]
            || self.cast_inline(wide, out),
        );
    }

    #[inline(always)]
    fn cast_inline(self, wide: &[u8], out: &mut [u8]) {
        let lanes = out.as_chunks_mut().0.iter_mut().zip(wide.as_chunks().0);
        match self {
            Self::Bf16 => lanes.for_each(|(h, x)| *h = bf16(u32::from_le_bytes(*x)).to_le_bytes()),
            Self::F16 => lanes.for_each(|(h, x)| *h = f16(u32::from_le_bytes(*x)).to_le_bytes()),
        }
    }
}

const EXPONENT: u32 = 0x7f80_0000;

/// Ties to even; a NaN keeps its upper bits and becomes quiet.
#[inline(always)]
fn bf16(x: u32) -> u16 {
    let is_nan = x & !(1 << 31) > EXPONENT;
    let rounded = x.wrapping_add(0x7fff + (x >> 16 & 1));
    let half = if is_nan { x | 0x0040_0000 } else { rounded };
    (half >> 16) as u16
}

/// Ties to even, subnormals as IEEE 754 has them; a NaN keeps its upper bits and becomes quiet.
#[inline(always)]
fn f16(x: u32) -> u16 {
    let (sign, magnitude) = (x >> 16 & 0x8000, x & !(1 << 31));
    let half = if magnitude > EXPONENT {
        0x7e00 | magnitude >> 13 & 0x3ff
    } else if magnitude >= 0x4780_0000 {
        0x7c00
    } else if magnitude >= 0x3880_0000 {
        // Normal: from a bias of 127 to one of 15.
        (magnitude - 0x3800_0000 + 0xfff + (magnitude >> 13 & 1)) >> 13
    } else {
        subnormal_f16(magnitude)
    };
    ((sign | half) & 0xffff) as u16
}

/// Of a magnitude below the least normal number of binary16.
#[inline(always)]
fn subnormal_f16(magnitude: u32) -> u32 {
    let shift = (126 - (magnitude >> 23)).min(25);
    let mantissa = magnitude & 0x007f_ffff | 0x0080_0000;
    let half = mantissa >> shift;
    let (rest, tie) = (mantissa & ((1 << shift) - 1), 1 << (shift - 1));
    half + u32::from(rest > tie || (rest == tie && half & 1 == 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The value of binary16 bits, exact in binary64.
    fn value(half: u16) -> f64 {
        let (exponent, mantissa) = (i32::from(half >> 10 & 31), f64::from(half & 0x3ff));
        let magnitude = match exponent {
            0 => mantissa * 2f64.powi(-24),
            31 => f64::INFINITY,
            _ => (1024.0 + mantissa) * 2f64.powi(exponent - 25),
        };
        if half >> 15 == 1 {
            -magnitude
        } else {
            magnitude
        }
    }

    #[test]
    fn every_binary16_and_the_middles_between_them_round_as_they_must() {
        for half in 0..0x7c00u16 {
            let (low, high) = (value(half), value(half + 1));
            let high = if high.is_infinite() { 65_536.0 } else { high };
            let middle = (low + high) / 2.0;
            let even = if half & 1 == 0 { half } else { half + 1 };
            #[expect(clippy::cast_possible_truncation, reason = "all three are exact")]
            let bits = |x: f64| (x as f32).to_bits();
            assert_eq!(f16(bits(low)), half);
            assert_eq!(f16(bits(middle)), even, "tie above {half:#06x}");
            assert_eq!(
                f16(bits(middle) - 1),
                half,
                "below the tie above {half:#06x}"
            );
            assert_eq!(
                f16(bits(middle) + 1),
                half + 1,
                "above the tie above {half:#06x}"
            );
            assert_eq!(f16(bits(-low) | 1 << 31), half | 0x8000);
        }
        assert_eq!(f16(f32::INFINITY.to_bits()), 0x7c00);
        assert_eq!(f16(0x7f80_0001), 0x7e00, "a NaN stays one");
        assert_eq!(f16(1), 0);
    }

    #[test]
    fn bf16_rounds_to_the_nearest_and_to_even() {
        for half in 0..0x7f80u16 {
            let low = u32::from(half) << 16;
            assert_eq!(bf16(low), half);
            assert_eq!(bf16(low | 0x8000), half + (half & 1));
            assert_eq!(bf16(low | 0x7fff), half);
            assert_eq!(bf16(low | 0x8001 | 1 << 31), (half + 1) | 0x8000);
        }
        assert_eq!(bf16(0x7f80_0001), 0x7fc0, "a NaN stays one");
        assert_eq!(bf16(0xff80_0000), 0xff80);
    }
}
