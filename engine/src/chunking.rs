//! Tensor length to chunk ranges (format-spec.md section 8): pure arithmetic.

use std::ops::Range;

/// Elements in a chunk of about `chunk_bytes` bytes for elements of `bits` bits.
///
/// A multiple of 64, so that a chunk of a sub-byte type ends on a byte and lanes never split.
#[must_use]
pub fn chunk_elements(chunk_bytes: u32, bits: u64) -> u64 {
    (u64::from(chunk_bytes) * 8 / bits / 64).max(1) * 64
}

/// How the bytes of one tensor or blob are cut: fixed ranges, anchored at byte 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cut {
    /// Bytes in all.
    pub total: u64,
    /// Bytes of every chunk but the last.
    pub chunk: u64,
}

impl Cut {
    /// The number of chunks; none for an empty tensor.
    #[must_use]
    pub fn count(self) -> u64 {
        if self.total == 0 {
            0
        } else {
            self.total.div_ceil(self.chunk)
        }
    }

    /// The byte range of chunk `index`.
    #[must_use]
    pub fn range(self, index: u64) -> Range<u64> {
        let start = index.saturating_mul(self.chunk).min(self.total);
        start..start.saturating_add(self.chunk).min(self.total)
    }

    /// The chunks that overlap `bytes`.
    #[must_use]
    pub fn overlapping(self, bytes: &Range<u64>) -> Range<u64> {
        if bytes.is_empty() {
            return 0..0;
        }
        bytes.start / self.chunk..bytes.end.div_ceil(self.chunk).min(self.count())
    }
}

/// The length of a tensor's rows in elements: of all ways to split its dimensions in two, the
/// one with the fewest rows and columns in a chunk of `chunk` elements. `None` if it is no table.
#[must_use]
pub fn row_elements(shape: &[u64], chunk: u64) -> Option<u64> {
    let (_, inner) = shape.split_first()?;
    let total = shape.iter().try_fold(1u64, |n, d| n.checked_mul(*d))?;
    let total = total.min(chunk);
    let lens = inner.iter().rev().scan(1u64, |len, d| {
        *len = len.saturating_mul(*d);
        Some(*len)
    });
    lens.filter(|len| (1..=total / 2).contains(len))
        .min_by_key(|len| len + total / len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_tile_every_length_without_hole_or_overlap() {
        for total in 0..200u64 {
            for chunk in 1..40u64 {
                let cut = Cut { total, chunk };
                let mut at = 0;
                for index in 0..cut.count() {
                    let range = cut.range(index);
                    assert_eq!(range.start, at);
                    assert!(!range.is_empty());
                    at = range.end;
                }
                assert_eq!(at, total);
            }
        }
    }

    #[test]
    fn overlapping_finds_exactly_the_chunks_that_share_a_byte() {
        let cut = Cut {
            total: 23,
            chunk: 5,
        };
        for start in 0..=23 {
            for end in start..=23 {
                let expected: Vec<u64> = (0..cut.count())
                    .filter(|i| {
                        let r = cut.range(*i);
                        r.start.max(start) < r.end.min(end)
                    })
                    .collect();
                let found: Vec<u64> = cut.overlapping(&(start..end)).collect();
                assert_eq!(found, expected, "{start}..{end}");
            }
        }
    }

    #[test]
    fn chunk_elements_end_on_bytes() {
        for bits in [4, 6, 8, 16, 32, 64, 128] {
            assert_eq!(chunk_elements(262_144, bits) * bits % 8, 0);
        }
        assert_eq!(chunk_elements(1, 64), 64);
    }

    #[test]
    fn rows_are_split_where_rows_and_columns_are_fewest() {
        for (shape, rows) in [
            (&[][..], None),
            (&[4096], None),
            (&[1, 4096], None),
            (&[384, 1536], Some(1536)),
            (&[64, 32, 3, 3], Some(288)),
            (&[12, 256, 256], Some(256)),
            (&[0, 7], None),
            (&[u64::MAX, 8], None),
        ] {
            assert_eq!(row_elements(shape, 1 << 16), rows, "{shape:?}");
        }
    }
}
