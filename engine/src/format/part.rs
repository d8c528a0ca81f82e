//! What the writer of a part tells the coordinator of a save (format-spec.md section 15.3.1).
//!
//! It passes from process to process and is never part of a store.

use crate::error::{Error, ErrorKind, Result};
use crate::format::cursor::{Reader, Writer};
use crate::format::limits;
use crate::format::manifest::{Compress, Decompress, Manifest};
use crate::hash;

/// The first bytes; the digit is the version.
const MAGIC: [u8; 16] = *b"milepost part 1\n";
/// Of these bytes the last but one is the version.
const NAME_LEN: usize = 14;
const HASH_LEN: usize = 32;

/// One writer's part of a checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// The store that its packs are in.
    pub store: [u8; 16],
    /// Which part it is, from 0.
    pub index: u32,
    /// How many there are.
    pub count: u32,
    /// Its tensors and blobs, the packs that hold them, and how durable they are.
    pub manifest: Manifest,
}

impl Part {
    /// The bytes to hand over.
    ///
    /// # Errors
    /// `InvalidInput` or `Limit` if something does not fit the format.
    pub fn encode(&self, compress: &Compress<'_>) -> Result<Vec<u8>> {
        let manifest = self.manifest.encode(compress)?;
        let mut w = Writer::new();
        w.bytes(&MAGIC).bytes(&self.store);
        w.u32(self.index).u32(self.count).bytes(&manifest);
        let hash = hash::part_hash(w.as_slice());
        w.bytes(&hash);
        Ok(w.finish())
    }

    /// Reads what was handed over.
    ///
    /// # Errors
    /// `Corrupt` if it is not what a writer sent, `Unsupported` if a newer one did, `Limit` if
    /// it is longer than a manifest may be.
    pub fn decode(bytes: &[u8], decompress: &Decompress<'_>) -> Result<Self> {
        let corrupt = |why| Error::corrupt("part", why);
        if bytes.len() as u64 > limits::MANIFEST_LEN_MAX {
            return Err(Error::new(ErrorKind::Limit, "part", "a part is too long"));
        }
        let mut head = Reader::new(bytes, 0);
        let magic = head.array::<16>()?;
        if magic.get(..NAME_LEN) != MAGIC.get(..NAME_LEN) {
            return Err(corrupt("this is no part of a checkpoint"));
        }
        if magic != MAGIC {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "part-version",
                "a part was written by another version of milepost",
            )
            .hint("use one version in all processes of a training"));
        }
        let (told, hash) = bytes.split_at(bytes.len().saturating_sub(HASH_LEN));
        if hash::part_hash(told) != hash {
            return Err(corrupt("a part is not what its writer sent"));
        }
        let mut r = Reader::new(told, 0);
        r.bytes(MAGIC.len())?;
        let (store, index, count) = (r.array()?, r.u32()?, r.u32()?);
        if index >= count {
            return Err(corrupt("a part has a number that there is not").differs(count, index));
        }
        let at = usize::try_from(r.at()).unwrap_or(usize::MAX);
        let manifest = Manifest::decode(told.get(at..).unwrap_or_default(), decompress)?;
        Ok(Self {
            store,
            index,
            count,
            manifest,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::body::Body;
    use crate::format::placement::Placement;

    fn raw(_: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn none(_: &[u8], _: u32) -> Result<Vec<u8>> {
        Err(Error::corrupt("part", "nothing here is compressed"))
    }

    fn part() -> Part {
        let body = Body {
            parent: None,
            step: 7,
            metadata: [("a".to_owned(), "b".to_owned())].into(),
            metrics: [].into(),
            tensors: Vec::new(),
            blobs: Vec::new(),
        };
        let placement = Placement {
            run: "main".to_owned(),
            ..Placement::default()
        };
        Part {
            store: [9; 16],
            index: 2,
            count: 3,
            manifest: Manifest::new(body, placement, Vec::new(), Vec::new()).unwrap(),
        }
    }

    #[test]
    fn round_trips_and_refuses_every_flip_and_prefix() {
        let good = part().encode(&raw).unwrap();
        assert_eq!(Part::decode(&good, &none).unwrap(), part());
        for len in 0..good.len() {
            assert!(Part::decode(&good[..len], &none).is_err(), "{len} bytes");
        }
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Part::decode(&bad, &none).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn another_version_is_unsupported_and_not_corrupt() {
        let mut newer = part().encode(&raw).unwrap();
        newer[NAME_LEN] = b'2';
        let error = Part::decode(&newer, &none).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
    }

    #[test]
    fn a_number_behind_the_last_is_refused() {
        let beyond = Part { index: 3, ..part() };
        let error = Part::decode(&beyond.encode(&raw).unwrap(), &none).unwrap_err();
        assert_eq!((error.kind(), error.code()), (ErrorKind::Corrupt, "part"));
    }
}
