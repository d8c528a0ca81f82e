//! Buffers that are used again: memory fresh from the kernel costs a page fault every 4 KiB,
//! which takes longer than filling it.

use std::sync::{Arc, Mutex, PoisonError};

/// Most buffers that are kept; each is about as large as a chunk.
const KEPT_MAX: usize = 64;

/// Buffers that nobody needs at the moment.
#[derive(Default)]
pub(crate) struct Spare(Mutex<Vec<Vec<u8>>>);

impl Spare {
    /// An empty buffer with room for so many bytes.
    pub(crate) fn take(&self, capacity: usize) -> Vec<u8> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut buffer = kept.unwrap_or_default();
        buffer.clear();
        buffer.reserve(capacity);
        buffer
    }

    /// A buffer that is not needed any more.
    pub(crate) fn give(&self, buffer: Vec<u8>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT_MAX {
            kept.push(buffer);
        }
    }

    /// The same, if nobody else holds it.
    pub(crate) fn give_shared(&self, buffer: Arc<Vec<u8>>) {
        if let Ok(buffer) = Arc::try_unwrap(buffer) {
            self.give(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_empty_and_a_held_one_does_not() {
        let spare = Spare::default();
        let mut buffer = spare.take(1000);
        buffer.push(7);
        let address = buffer.as_ptr();
        spare.give(buffer);
        let shared = Arc::new(vec![1; 10]);
        spare.give_shared(Arc::clone(&shared));
        let again = spare.take(10);
        assert_eq!((again.len(), again.as_ptr()), (0, address));
        assert!(again.capacity() >= 1000 && spare.take(10).capacity() >= 10);
        assert_eq!(shared.len(), 10);
    }

    #[test]
    fn no_more_are_kept_than_the_bound() {
        let spare = Spare::default();
        (0..=KEPT_MAX).for_each(|_| spare.give(vec![0; 8]));
        let kept = (0..=KEPT_MAX).filter(|_| spare.take(0).capacity() > 0);
        assert_eq!(kept.count(), KEPT_MAX);
    }
}
