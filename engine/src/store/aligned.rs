//! A buffer whose memory is aligned as direct I/O wants it, in safe code.

/// Alignment of address, length and offset of a direct write.
pub(crate) const ALIGN: usize = 4096;

/// Collects appended bytes; hands them out in aligned blocks.
#[derive(Debug)]
pub(crate) struct AlignedBuffer {
    memory: Vec<u8>,
    start: usize,
    len: usize,
    capacity: usize,
}

impl AlignedBuffer {
    /// A buffer of `capacity` bytes, a multiple of [`ALIGN`].
    pub(crate) fn new(capacity: usize) -> Self {
        let memory = vec![0; capacity + ALIGN];
        let start = memory.as_ptr().align_offset(ALIGN).min(ALIGN);
        Self {
            memory,
            start,
            len: 0,
            capacity,
        }
    }

    /// Takes as many of `bytes` as there is room for and returns the others.
    pub(crate) fn fill<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        let (taken, rest) = bytes.split_at(bytes.len().min(self.capacity - self.len));
        let at = self.start + self.len;
        if let Some(room) = self.memory.get_mut(at..at + taken.len()) {
            room.copy_from_slice(taken);
        }
        self.len += taken.len();
        rest
    }

    /// Lets `read` put bytes into it, in place of those held; it says how many.
    pub(crate) fn fill_from<E>(
        &mut self,
        read: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<(), E> {
        self.len = 0;
        let room = self.start..self.start + self.capacity;
        let count = read(self.memory.get_mut(room).unwrap_or_default())?;
        self.len = count.min(self.capacity);
        Ok(())
    }

    pub(crate) fn is_full(&self) -> bool {
        self.len == self.capacity
    }

    /// The bytes held.
    pub(crate) fn held(&self) -> &[u8] {
        self.memory
            .get(self.start..self.start + self.len)
            .unwrap_or_default()
    }

    pub(crate) fn clear(&mut self) {
        self.len = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn held_bytes_are_aligned_and_in_order() {
        let mut buffer = AlignedBuffer::new(ALIGN);
        let bytes: Vec<u8> = (0..5000u16).map(|i| i.to_le_bytes()[0]).collect();
        let rest = buffer.fill(&bytes);
        assert!(buffer.is_full());
        assert_eq!(buffer.held().as_ptr().align_offset(ALIGN), 0);
        assert_eq!([buffer.held(), rest].concat(), bytes);
        buffer.clear();
        assert!(buffer.held().is_empty());
    }
}
