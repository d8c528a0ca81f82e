//! Checked little-endian reading and writing of byte slices (format-spec.md section 2).

use crate::error::{Error, Result};
use crate::format::limits;

/// Reads forward through a slice; every read is checked against what is left.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
    at: u64,
}

impl<'a> Reader<'a> {
    /// Starts at the slice's first byte; `at` is that byte's offset in its file, for errors.
    #[must_use]
    pub fn new(bytes: &'a [u8], at: u64) -> Self {
        Self { rest: bytes, at }
    }

    /// The offset of the next byte.
    #[must_use]
    pub fn at(&self) -> u64 {
        self.at
    }

    /// Bytes not read yet.
    #[must_use]
    pub fn left(&self) -> usize {
        self.rest.len()
    }

    /// The next `len` bytes.
    ///
    /// # Errors
    /// `Corrupt` if fewer are left.
    pub fn bytes(&mut self, len: usize) -> Result<&'a [u8]> {
        let Some((head, rest)) = self.rest.split_at_checked(len) else {
            return Err(Error::corrupt("truncated", "a structure ends early")
                .offset(self.at)
                .differs(format!("{len} more bytes"), self.rest.len()));
        };
        self.rest = rest;
        // Only errors show it, and a hostile cache may start it anywhere.
        self.at = self.at.saturating_add(len as u64);
        Ok(head)
    }

    /// The next `N` bytes.
    ///
    /// # Errors
    /// `Corrupt` if fewer are left.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut out = [0u8; N];
        out.copy_from_slice(self.bytes(N)?);
        Ok(out)
    }

    /// The next byte. Errors as [`Reader::bytes`].
    #[expect(
        clippy::missing_errors_doc,
        reason = "one line for the family of readers"
    )]
    pub fn u8(&mut self) -> Result<u8> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    /// The next 16-bit integer. Errors as [`Reader::bytes`].
    #[expect(
        clippy::missing_errors_doc,
        reason = "one line for the family of readers"
    )]
    pub fn u16(&mut self) -> Result<u16> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    /// The next 32-bit integer. Errors as [`Reader::bytes`].
    #[expect(
        clippy::missing_errors_doc,
        reason = "one line for the family of readers"
    )]
    pub fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// The next 64-bit integer. Errors as [`Reader::bytes`].
    #[expect(
        clippy::missing_errors_doc,
        reason = "one line for the family of readers"
    )]
    pub fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// A `u32` count of items that take at least `item_len` bytes each, checked against `max`
    /// and against the bytes that are really left, so that it is safe to reserve for.
    ///
    /// # Errors
    /// `Limit` above `max`, `Corrupt` if so many cannot follow.
    pub fn count(&mut self, max: u32, item_len: usize) -> Result<usize> {
        let at = self.at;
        let count = self.u32()?;
        if count > max {
            return Err(Error::new(
                crate::ErrorKind::Limit,
                "count",
                "a count is above its limit",
            )
            .offset(at)
            .differs(format!("at most {max}"), count));
        }
        let count = count as usize;
        if count
            .checked_mul(item_len)
            .is_none_or(|needed| needed > self.left())
        {
            return Err(
                Error::corrupt("count", "a count is larger than what follows")
                    .offset(at)
                    .differs(format!("{count} items"), format!("{} bytes", self.left())),
            );
        }
        Ok(count)
    }

    /// A `u16` length and that many bytes of UTF-8 without control characters, not empty.
    ///
    /// # Errors
    /// `Corrupt` if it is no such text.
    pub fn key(&mut self) -> Result<&'a str> {
        let at = self.at;
        let len = usize::from(self.u16()?);
        let text = std::str::from_utf8(self.bytes(len)?).ok();
        text.filter(|t| is_key(t)).ok_or_else(|| {
            Error::corrupt(
                "key",
                "a name is not 1 to 4096 bytes of UTF-8 without control characters",
            )
            .offset(at)
        })
    }

    /// Says that nothing may be left.
    ///
    /// # Errors
    /// `Corrupt` if something is.
    pub fn finish(self) -> Result<()> {
        if self.rest.is_empty() {
            return Ok(());
        }
        Err(
            Error::corrupt("trailing-bytes", "bytes follow the end of a structure")
                .offset(self.at)
                .differs("the end", format!("{} bytes", self.rest.len())),
        )
    }
}

/// Whether a tensor, blob, metadata or metric name may be stored.
#[must_use]
pub fn is_key(text: &str) -> bool {
    !text.is_empty() && text.len() <= limits::KEY_LEN_MAX && !text.chars().any(char::is_control)
}

/// Appends little-endian values to a vector.
#[derive(Clone, Debug, Default)]
pub struct Writer {
    out: Vec<u8>,
}

impl Writer {
    /// An empty writer.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends bytes as they are.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.out.extend_from_slice(bytes);
        self
    }

    /// Appends a byte.
    pub fn u8(&mut self, value: u8) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    /// Appends a 16-bit integer.
    pub fn u16(&mut self, value: u16) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    /// Appends a 32-bit integer.
    pub fn u32(&mut self, value: u32) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    /// Appends a 64-bit integer.
    pub fn u64(&mut self, value: u64) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    /// Appends a count that was checked against a `u32` limit.
    ///
    /// # Errors
    /// `Limit` if it is above `max`.
    pub fn count(&mut self, count: usize, max: u32) -> Result<&mut Self> {
        match u32::try_from(count) {
            Ok(count) if count <= max => Ok(self.u32(count)),
            _ => Err(Error::new(
                crate::ErrorKind::Limit,
                "count",
                "too many entries to store",
            )
            .differs(format!("at most {max}"), count)),
        }
    }

    /// Appends a name with its `u16` length.
    ///
    /// # Errors
    /// `InvalidInput` if the format cannot hold it.
    pub fn key(&mut self, text: &str) -> Result<&mut Self> {
        if !is_key(text) {
            return Err(Error::invalid(
                "key",
                "a name must be 1 to 4096 bytes of UTF-8 without control characters",
            )
            .subject(format!("{text:?}")));
        }
        let len =
            u16::try_from(text.len()).map_err(|_| Error::invalid("key", "a name is too long"))?;
        Ok(self.u16(len).bytes(text.as_bytes()))
    }

    /// Bytes so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// Whether nothing was written yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// What was written so far.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.out
    }

    /// What was written.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        self.out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_refused_before_it_can_be_reserved_for() {
        let mut w = Writer::new();
        w.u32(1000).u64(0);
        let bytes = w.finish();
        assert_eq!(
            Reader::new(&bytes, 0).count(2000, 32).unwrap_err().code(),
            "count"
        );
        assert_eq!(
            Reader::new(&bytes, 0).count(10, 1).unwrap_err().kind(),
            crate::ErrorKind::Limit
        );
    }

    #[test]
    fn keys_refuse_empty_control_and_bad_utf8() {
        for bad in [&[0u8, 0][..], &[1, 0, 7], &[1, 0, 0xff], &[2, 0, b'a']] {
            assert!(Reader::new(bad, 0).key().is_err(), "{bad:?}");
        }
        let mut w = Writer::new();
        assert!(w.key("").is_err());
        assert!(w.key("a\nb").is_err());
        w.key("model.h.0").unwrap();
        assert_eq!(Reader::new(w.as_slice(), 0).key().unwrap(), "model.h.0");
    }
}
