//! One lane's bits as an unsigned integer, and the maps on it (format-spec.md section 10.3).

#![expect(
    clippy::cast_possible_truncation,
    reason = "bytes and low bits are taken on purpose"
)]

/// An unsigned integer of a lane's width. Every map here is a bijection on its bits, so NaN
/// payloads, -0.0 and subnormals are just bits.
pub(crate) trait Word: bytemuck::Pod + Eq {
    /// Bytes of the word.
    const BYTES: usize;
    /// All bits zero.
    const ZERO: Self;

    fn load(bytes: &[u8]) -> Self;
    fn store(self, bytes: &mut [u8]);
    /// Byte `index`, counted from the least significant.
    fn byte(self, index: usize) -> u8;
    /// `self` with `byte` at `index`, where it was zero.
    fn with_byte(self, index: usize, byte: u8) -> Self;
    fn rotate_left(self, bits: u32) -> Self;
    fn rotate_right(self, bits: u32) -> Self;
    fn shift_left(self, bits: u32) -> Self;
    /// `self` with its lowest bit zero.
    fn clear_lowest(self) -> Self;
    fn xor(self, other: Self) -> Self;
    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    /// Sign-magnitude bits to an integer of the same order as the floats.
    fn to_order(self) -> Self;
    fn order_to_bits(self) -> Self;
    /// Small differences of either sign to small integers.
    fn zigzag(self) -> Self;
    fn unzigzag(self) -> Self;
    /// The top eight bits below the sign: an f32's or bf16's exponent.
    fn key(self) -> u8;
    /// Bits up to the highest that is set.
    fn bit_length(self) -> u32;
    fn to_u64(self) -> u64;
    /// The low bits of a 64-bit word.
    fn from_u64(word: u64) -> Self;
    /// A signed byte, its sign extended.
    fn from_i8(byte: i8) -> Self;
    /// `self * weight / 2^15`, rounded down, of all bits of the product.
    fn scale(self, weight: u16) -> Self;
    /// The top 24 bits, zeros below a shorter word: what an f32 holds exactly.
    fn top_24(self) -> i32;
}

/// Calls `$body` with the word of so many bytes as a type.
macro_rules! with_word {
    ($width:expr, $word:ident => $body:expr) => {
        match $width {
            1 => {
                type $word = u8;
                $body
            }
            2 => {
                type $word = u16;
                $body
            }
            4 => {
                type $word = u32;
                $body
            }
            _ => {
                type $word = u64;
                $body
            }
        }
    };
}
pub(in crate::codec) use with_word;

macro_rules! word {
    ($unsigned:ty, $signed:ty, $wide:ty) => {
        impl Word for $unsigned {
            const BYTES: usize = size_of::<$unsigned>();
            const ZERO: Self = 0;

            #[inline(always)]
            fn load(bytes: &[u8]) -> Self {
                let mut array = [0; size_of::<$unsigned>()];
                array.copy_from_slice(bytes);
                Self::from_le_bytes(array)
            }
            #[inline(always)]
            fn store(self, bytes: &mut [u8]) {
                bytes.copy_from_slice(&self.to_le_bytes());
            }
            #[inline(always)]
            fn byte(self, index: usize) -> u8 {
                (self >> (8 * index)) as u8
            }
            #[inline(always)]
            fn with_byte(self, index: usize, byte: u8) -> Self {
                self | Self::from(byte) << (8 * index)
            }
            #[inline(always)]
            fn rotate_left(self, bits: u32) -> Self {
                self.rotate_left(bits)
            }
            #[inline(always)]
            fn rotate_right(self, bits: u32) -> Self {
                self.rotate_right(bits)
            }
            #[inline(always)]
            fn shift_left(self, bits: u32) -> Self {
                self << bits
            }
            #[inline(always)]
            fn clear_lowest(self) -> Self {
                self & !1
            }
            #[inline(always)]
            fn xor(self, other: Self) -> Self {
                self ^ other
            }
            #[inline(always)]
            fn add(self, other: Self) -> Self {
                self.wrapping_add(other)
            }
            #[inline(always)]
            fn sub(self, other: Self) -> Self {
                self.wrapping_sub(other)
            }
            #[inline(always)]
            fn to_order(self) -> Self {
                let negative = (self.cast_signed() >> (Self::BITS - 1)).cast_unsigned();
                self ^ (negative | 1 << (Self::BITS - 1))
            }
            #[inline(always)]
            fn order_to_bits(self) -> Self {
                let negative = !(self.cast_signed() >> (Self::BITS - 1)).cast_unsigned();
                self ^ (negative | 1 << (Self::BITS - 1))
            }
            #[inline(always)]
            fn zigzag(self) -> Self {
                self << 1 ^ (self.cast_signed() >> (Self::BITS - 1)).cast_unsigned()
            }
            #[inline(always)]
            fn unzigzag(self) -> Self {
                self >> 1 ^ (self & 1).wrapping_neg()
            }
            #[inline(always)]
            fn key(self) -> u8 {
                Word::rotate_left(self, 1).byte(Self::BYTES - 1)
            }
            #[inline(always)]
            fn bit_length(self) -> u32 {
                Self::BITS - self.leading_zeros()
            }
            #[inline(always)]
            fn to_u64(self) -> u64 {
                u64::from(self)
            }
            #[inline(always)]
            fn from_u64(word: u64) -> Self {
                word as Self
            }
            #[inline(always)]
            fn from_i8(byte: i8) -> Self {
                <$signed>::from(byte).cast_unsigned()
            }
            #[inline(always)]
            fn scale(self, weight: u16) -> Self {
                (<$wide>::from(self) * <$wide>::from(weight) >> 15) as Self
            }
            #[inline(always)]
            fn top_24(self) -> i32 {
                if Self::BITS >= 24 {
                    (self >> (Self::BITS.saturating_sub(24))) as i32
                } else {
                    (self as i32) << 24u32.saturating_sub(Self::BITS)
                }
            }
        }
    };
}

word!(u8, i8, u32);
word!(u16, i16, u32);
word!(u32, i32, u64);
word!(u64, i64, u128);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_bijections_on_all_16_bit_words() {
        let mut seen = vec![false; 1 << 16];
        for bits in 0..=u16::MAX {
            assert_eq!(bits.to_order().order_to_bits(), bits);
            assert_eq!(bits.zigzag().unzigzag(), bits);
            assert_eq!(bits.rotate_left(1).rotate_right(1), bits);
            assert!(!std::mem::replace(
                &mut seen[usize::from(bits.to_order())],
                true
            ));
        }
    }

    #[test]
    fn order_follows_the_floats() {
        let ascending = [
            f32::NEG_INFINITY,
            -1.5,
            -f32::MIN_POSITIVE,
            -0.0,
            0.0,
            1e-40,
            2.0,
            f32::INFINITY,
        ];
        for pair in ascending.windows(2) {
            assert!(
                pair[0].to_bits().to_order() < pair[1].to_bits().to_order(),
                "{pair:?}"
            );
        }
    }

    #[test]
    fn zigzag_makes_small_differences_small() {
        for (d, z) in [
            (0i32, 0u32),
            (-1, 1),
            (1, 2),
            (-2, 3),
            (i32::MAX, u32::MAX - 1),
        ] {
            assert_eq!(d.cast_unsigned().zigzag(), z);
        }
    }
}
