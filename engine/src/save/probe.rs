//! Whether looking for a base still pays for a tensor: learnt while its chunks are saved.

use std::sync::atomic::{AtomicU32, Ordering};

/// After so many chunks in a row that stood alone, most others are not even compared.
const LOSSES_MAX: u32 = 4;
/// One chunk in this many is compared all the same.
const PROBE_EVERY: u64 = 16;

/// Counts the chunks of one tensor that found no use for a base.
#[derive(Debug, Default)]
pub(crate) struct DeltaProbe {
    losses: AtomicU32,
}

impl DeltaProbe {
    /// Whether chunk `index` should be compared with a base.
    pub(crate) fn is_worth_trying(&self, index: u64) -> bool {
        self.losses.load(Ordering::Relaxed) < LOSSES_MAX || index.is_multiple_of(PROBE_EVERY)
    }

    /// Tells how a comparison ended.
    pub(crate) fn tell(&self, base_was_used: bool) {
        if base_was_used {
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
        let probe = DeltaProbe::default();
        for _ in 0..LOSSES_MAX {
            assert!(probe.is_worth_trying(3));
            probe.tell(false);
        }
        assert!(!probe.is_worth_trying(3) && probe.is_worth_trying(32));
        probe.tell(true);
        assert!(probe.is_worth_trying(3));
    }
}
