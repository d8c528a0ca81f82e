//! How long work is watched and stopped.

use crate::error::{Error, ErrorKind, Result};

/// Watches long work; called from several threads.
pub trait Observer: Sync {
    /// `done` of `total` bytes are through.
    fn advance(&self, done: u64, total: u64) {
        let _ = (done, total);
    }

    /// The work waits for another process, which holds a lock.
    fn waiting(&self, lock: &str) {
        let _ = lock;
    }

    /// Whether the work should stop as soon as nothing is half-done.
    fn is_cancelled(&self) -> bool {
        false
    }
}

/// Watches nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unobserved;

impl Observer for Unobserved {}

/// The error of cancelled work, if the observer asks for it.
pub(crate) fn check(observer: &dyn Observer) -> Result<()> {
    if observer.is_cancelled() {
        return Err(Error::new(
            ErrorKind::Interrupted,
            "interrupted",
            "interrupted",
        ));
    }
    Ok(())
}
