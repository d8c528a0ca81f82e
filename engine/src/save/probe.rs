//! Whether looking for a base, or for a grid, still pays for a tensor: learnt while its chunks
//! are saved.

use std::sync::atomic::{AtomicU32, Ordering};

/// After so many chunks in a row without gain, most others do not even try.
const LOSSES_MAX: u32 = 4;
/// One chunk in this many tries all the same.
const PROBE_EVERY: u64 = 16;

/// Counts the chunks of one tensor, in a row, for which something costly did not pay.
#[derive(Debug, Default)]
pub(crate) struct Probe {
    losses: AtomicU32,
}

impl Probe {
    /// Whether chunk `index` should try it.
    pub(crate) fn is_worth_trying(&self, index: u64) -> bool {
        self.losses.load(Ordering::Relaxed) < LOSSES_MAX || index.is_multiple_of(PROBE_EVERY)
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
}
