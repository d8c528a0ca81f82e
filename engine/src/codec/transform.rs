//! Transforms: lanes to residual words and back (format-spec.md section 10.3).

use crate::codec::word::Word;

/// What is done to each lane before its bytes are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transform {
    /// `u = x`.
    Identity,
    /// `u = rotl(x, 1)`: a float's exponent fills its top byte.
    Rotate,
    /// `u = zigzag(order(x) - order(b))`.
    FloatSubtract,
    /// `u = zigzag(x - b)`.
    IntSubtract,
    /// `u = x ^ b`.
    Xor,
    /// `u = rotl(x ^ b, 1)`.
    RotatedXor,
}

impl Transform {
    /// Every transform, in the order of the registry.
    pub const ALL: [Self; 6] = [
        Self::Identity,
        Self::Rotate,
        Self::FloatSubtract,
        Self::IntSubtract,
        Self::Xor,
        Self::RotatedXor,
    ];

    /// The code on disk.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Identity => 0,
            Self::Rotate => 1,
            Self::FloatSubtract => 2,
            Self::IntSubtract => 3,
            Self::Xor => 4,
            Self::RotatedXor => 5,
        }
    }

    /// The name in the registry.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Rotate => "rotate",
            Self::FloatSubtract => "float-subtract",
            Self::IntSubtract => "int-subtract",
            Self::Xor => "xor",
            Self::RotatedXor => "rotated-xor",
        }
    }

    /// Whether it needs a predicted value for every lane.
    #[must_use]
    pub const fn needs_base(self) -> bool {
        !matches!(self, Self::Identity | Self::Rotate)
    }

    /// One lane's residual.
    #[inline(always)]
    pub(crate) fn forward<W: Word>(self, x: W, b: W) -> W {
        match self {
            Self::Identity => x,
            Self::Rotate => x.rotate_left(1),
            Self::FloatSubtract => x.to_order().sub(b.to_order()).zigzag(),
            Self::IntSubtract => x.sub(b).zigzag(),
            Self::Xor => x.xor(b),
            Self::RotatedXor => x.xor(b).rotate_left(1),
        }
    }

    /// The lane of a residual.
    #[inline(always)]
    pub(crate) fn inverse<W: Word>(self, u: W, b: W) -> W {
        match self {
            Self::Identity => u,
            Self::Rotate => u.rotate_right(1),
            Self::FloatSubtract => u.unzigzag().add(b.to_order()).order_to_bits(),
            Self::IntSubtract => u.unzigzag().add(b),
            Self::Xor => u.xor(b),
            Self::RotatedXor => u.rotate_right(1).xor(b),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inverse_undoes_forward_for_every_pair_of_bytes() {
        for transform in Transform::ALL {
            for x in 0..=u8::MAX {
                for b in 0..=u8::MAX {
                    assert_eq!(
                        transform.inverse(transform.forward(x, b), b),
                        x,
                        "{transform:?}"
                    );
                }
            }
        }
    }
}
