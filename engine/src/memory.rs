//! Memory whose size is taken from a file: where there is not so much, that is an error.

use crate::error::{Error, ErrorKind, Result};

/// So many bytes of zeros.
///
/// # Errors
/// `Limit` if there is not so much memory.
pub(crate) fn zeros(len: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let wanted = usize::try_from(len).map_err(|_| too_little(len))?;
    resize(&mut bytes, wanted)?;
    Ok(bytes)
}

/// Makes a buffer so long; what is new of it is zero.
///
/// # Errors
/// `Limit` if there is not so much memory.
pub(crate) fn resize(buffer: &mut Vec<u8>, len: usize) -> Result<()> {
    let more = len.saturating_sub(buffer.len());
    buffer
        .try_reserve_exact(more)
        .map_err(|_| too_little(len as u64))?;
    buffer.resize(len, 0);
    Ok(())
}

fn too_little(len: u64) -> Error {
    Error::new(
        ErrorKind::Limit,
        "memory",
        "what a file calls for does not fit into memory",
    )
    .differs("less", format!("{len} bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A length that a file made up once ended the process.
    #[test]
    fn what_nobody_has_is_an_error() {
        for len in [u64::MAX, 1 << 62, isize::MAX as u64] {
            assert_eq!(zeros(len).unwrap_err().code(), "memory");
        }
        assert_eq!(zeros(3).unwrap(), [0; 3]);
    }
}
