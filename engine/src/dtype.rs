//! The element types (format-spec.md section 11.4).

use crate::error::{Error, Result};

/// How the delta codecs see an element: as `width`-byte lanes that are integers or floats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lane {
    /// Bytes per lane: 1, 2, 4 or 8.
    pub width: usize,
    /// Whether a lane is sign-magnitude ordered, as every IEEE 754 format is.
    pub float: bool,
}

macro_rules! dtypes {
    ($($variant:ident = $code:literal, $name:literal, $bits:literal bits, $width:literal x $float:literal;)*) => {
        /// An element type that PyTorch or safetensors knows.
        #[non_exhaustive]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Dtype {
            $(#[doc = concat!("`", $name, "`, ", stringify!($bits), " bits an element.")] $variant,)*
        }

        impl Dtype {
            /// Every dtype, in the order of the registry.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The code on disk.
            #[must_use]
            pub const fn code(self) -> u8 {
                match self { $(Self::$variant => $code,)* }
            }

            /// The name, as in a safetensors header.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// Bits an element takes.
            #[must_use]
            pub const fn bits(self) -> u64 {
                match self { $(Self::$variant => $bits,)* }
            }

            /// How the codecs see it.
            #[must_use]
            pub const fn lane(self) -> Lane {
                match self { $(Self::$variant => Lane { width: $width, float: $float },)* }
            }
        }
    };
}

dtypes! {
    Bool = 1, "BOOL", 8 bits, 1 x false;
    U8 = 2, "U8", 8 bits, 1 x false;
    I8 = 3, "I8", 8 bits, 1 x false;
    U16 = 4, "U16", 16 bits, 2 x false;
    I16 = 5, "I16", 16 bits, 2 x false;
    U32 = 6, "U32", 32 bits, 4 x false;
    I32 = 7, "I32", 32 bits, 4 x false;
    U64 = 8, "U64", 64 bits, 8 x false;
    I64 = 9, "I64", 64 bits, 8 x false;
    F16 = 16, "F16", 16 bits, 2 x true;
    BF16 = 17, "BF16", 16 bits, 2 x true;
    F32 = 18, "F32", 32 bits, 4 x true;
    F64 = 19, "F64", 64 bits, 8 x true;
    C32 = 24, "C32", 32 bits, 2 x true;
    C64 = 25, "C64", 64 bits, 4 x true;
    C128 = 26, "C128", 128 bits, 8 x true;
    F8E4M3 = 32, "F8_E4M3", 8 bits, 1 x true;
    F8E5M2 = 33, "F8_E5M2", 8 bits, 1 x true;
    F8E4M3Fnuz = 34, "F8_E4M3FNUZ", 8 bits, 1 x true;
    F8E5M2Fnuz = 35, "F8_E5M2FNUZ", 8 bits, 1 x true;
    F8E8M0 = 36, "F8_E8M0", 8 bits, 1 x false;
    F6E2M3 = 40, "F6_E2M3", 6 bits, 1 x false;
    F6E3M2 = 41, "F6_E3M2", 6 bits, 1 x false;
    F4 = 42, "F4", 4 bits, 1 x false;
}

impl Dtype {
    /// The dtype of a code on disk.
    ///
    /// # Errors
    /// `Unsupported` if no dtype of this version has that code.
    pub fn from_code(code: u8) -> Result<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|d| d.code() == code)
            .ok_or_else(|| {
                Error::new(
                    crate::ErrorKind::Unsupported,
                    "dtype-code",
                    format!("dtype code {code} is not known to this version"),
                )
            })
    }

    /// The dtype of a safetensors name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|d| d.name() == name)
    }

    /// Bytes that `elements` of this type take, packed.
    ///
    /// # Errors
    /// `InvalidInput` if the bits overflow or do not fill whole bytes.
    pub fn byte_len(self, elements: u64) -> Result<u64> {
        let bits = elements
            .checked_mul(self.bits())
            .ok_or_else(|| Error::invalid("tensor-size", "the tensor's size overflows 64 bits"))?;
        if bits % 8 != 0 {
            return Err(Error::invalid(
                "tensor-size",
                format!(
                    "{elements} elements of {} do not fill whole bytes",
                    self.name()
                ),
            ));
        }
        Ok(bits / 8)
    }
}

/// The number of elements of a shape; 1 for a scalar.
///
/// # Errors
/// `InvalidInput` if it overflows 64 bits.
pub fn elements(shape: &[u64]) -> Result<u64> {
    // A zero anywhere makes the product zero, whatever the other dimensions overflow to.
    if shape.contains(&0) {
        return Ok(0);
    }
    shape
        .iter()
        .try_fold(1u64, |product, dim| product.checked_mul(*dim))
        .ok_or_else(|| Error::invalid("tensor-size", "the tensor's size overflows 64 bits"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_names_are_unique_and_found_again() {
        for dtype in Dtype::ALL {
            assert_eq!(Dtype::from_code(dtype.code()).unwrap(), *dtype);
            assert_eq!(Dtype::from_name(dtype.name()), Some(*dtype));
        }
        assert_eq!(
            Dtype::from_code(0).unwrap_err().kind(),
            crate::ErrorKind::Unsupported
        );
    }

    #[test]
    fn sub_byte_elements_must_fill_bytes() {
        assert_eq!(Dtype::F4.byte_len(6).unwrap(), 3);
        assert!(Dtype::F4.byte_len(5).is_err());
        assert_eq!(elements(&[]).unwrap(), 1);
        assert_eq!(elements(&[u64::MAX, 0, u64::MAX]).unwrap(), 0);
        assert!(elements(&[u64::MAX, 2]).is_err());
    }
}
