//! Whether looking for a base, a grid or a prediction still pays: learnt while chunks are saved.

use std::sync::atomic::{AtomicU32, Ordering};

/// After so many chunks in a row without gain, most others do not even try.
const LOSSES_MAX: u32 = 4;
/// One chunk in this many tries all the same.
const PROBE_EVERY: u64 = 16;

/// Counts the chunks, in a row, for which something costly did not pay.
#[derive(Debug, Default)]
pub(crate) struct Probe {
    losses: AtomicU32,
    /// Chunks that asked since it does not pay any more.
    asked: AtomicU32,
}

impl Probe {
    /// Whether chunk `index` should try it.
    pub(crate) fn is_worth_trying(&self, index: u64) -> bool {
        self.losses.load(Ordering::Relaxed) < LOSSES_MAX || index.is_multiple_of(PROBE_EVERY)
    }

    /// The same for chunks of several tensors, of which many may have few.
    pub(crate) fn is_worth_another_try(&self) -> bool {
        let asked = || u64::from(self.asked.fetch_add(1, Ordering::Relaxed)) + 1;
        self.losses.load(Ordering::Relaxed) < LOSSES_MAX || asked().is_multiple_of(PROBE_EVERY)
    }

    /// Tells whether it paid.
    pub(crate) fn tell(&self, paid: bool) {
        if paid {
            self.losses.store(0, Ordering::Relaxed);
        } else {
            self.losses.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tensor_that_never_gains_is_probed_rarely_and_can_come_back() {
        let probe = Probe::default();
        for _ in 0..LOSSES_MAX {
            assert!(probe.is_worth_trying(3));
            probe.tell(false);
        }
        assert!(!probe.is_worth_trying(3) && probe.is_worth_trying(32));
        probe.tell(true);
        assert!(probe.is_worth_trying(3));
    }

    #[test]
    fn chunks_of_many_tensors_take_turns_in_trying_again() {
        let probe = Probe::default();
        (0..LOSSES_MAX).for_each(|_| probe.tell(false));
        let tries = (0..32).filter(|_| probe.is_worth_another_try());
        assert_eq!(tries.count(), 2);
        probe.tell(true);
        assert!(probe.is_worth_another_try());
    }
}
