//! Identifiers: distinct types for distinct things, printed in full.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; 32]);

        impl $name {
            /// Bytes of an id on disk.
            pub const LEN: usize = 32;

            /// The first eight hex digits, for people; never for lookups.
            #[must_use]
            pub fn short(&self) -> String {
                let mut text = self.to_string();
                text.truncate(8);
                text
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                // Names of files are made of this: a digit at a time would show in listings.
                const DIGITS: [char; 16] = [
                    '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f',
                ];
                let mut text = String::with_capacity(2 * Self::LEN);
                for byte in self.0 {
                    text.push(DIGITS[usize::from(byte >> 4)]);
                    text.push(DIGITS[usize::from(byte & 15)]);
                }
                f.write_str(&text)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = Error;

            /// Reads exactly 64 lower-case hex digits.
            fn from_str(text: &str) -> Result<Self> {
                let bad = || Error::invalid("id-text", "an id is 64 lower-case hex digits");
                let digits = text.as_bytes();
                if digits.len() != 64 {
                    return Err(bad());
                }
                let mut id = [0u8; 32];
                for (byte, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
                    let mut value = 0u8;
                    for digit in pair {
                        let nibble = match digit {
                            b'0'..=b'9' => digit - b'0',
                            b'a'..=b'f' => digit - b'a' + 10,
                            _ => return Err(bad()),
                        };
                        value = value << 4 | nibble;
                    }
                    *byte = value;
                }
                Ok(Self(id))
            }
        }
    };
}

id_type! {
    /// BLAKE3-256 of a chunk's raw bytes.
    ChunkId
}
id_type! {
    /// Hash of a pack's index; the pack's file name.
    PackId
}
id_type! {
    /// Hash of what a checkpoint holds, wherever and however it is stored.
    CheckpointId
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_round_trips_and_refuses_upper_case() {
        let id = ChunkId(std::array::from_fn(|i| u8::try_from(i * 7 % 256).unwrap()));
        assert_eq!(id.to_string().parse::<ChunkId>().unwrap(), id);
        assert!(id.to_string().to_uppercase().parse::<ChunkId>().is_err());
        assert!("ab".parse::<ChunkId>().is_err());
    }
}
