//! Saves in the background, in the order in which they were handed over: whose turn it is, memory
//! for their states, and failures that nobody has seen yet.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::error::{Error, Result};
use crate::store::Store;

/// Saves that may hold a copy of a state at once: one is written, one waits.
const UNDER_WAY_MAX: u64 = 2;

/// What the background saves of a store share.
#[derive(Debug, Default)]
pub(crate) struct SaveQueue {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    /// Saves so far, and saves that ended: the number of the one whose turn it is.
    begun: u64,
    ended: u64,
    /// Memory of saves that ended.
    arenas: Vec<Vec<u8>>,
    /// The first failure that no handle took.
    failure: Option<Error>,
}

impl SaveQueue {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_while(&self, wait: impl FnMut(&mut Queue) -> bool) -> MutexGuard<'_, Queue> {
        let waited = self.changed.wait_while(self.lock(), wait);
        waited.unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of another save and memory for its state, once few enough are under way.
    /// Whoever takes it says [`SaveQueue::end`].
    pub(crate) fn begin(&self) -> (u64, Vec<u8>) {
        let mut queue = self.wait_while(|q| q.begun - q.ended >= UNDER_WAY_MAX);
        queue.begun += 1;
        (queue.begun - 1, queue.arenas.pop().unwrap_or_default())
    }

    /// Waits until every save before this one has ended.
    pub(crate) fn wait_for_turn(&self, number: u64) {
        drop(self.wait_while(|q| q.ended < number));
    }

    /// Ends the save whose turn it is, and gives its memory back.
    pub(crate) fn end(&self, arena: Vec<u8>) {
        let mut queue = self.lock();
        queue.arenas.push(arena);
        queue.ended += 1;
        self.changed.notify_all();
    }

    /// Remembers a failure that nobody has seen.
    pub(crate) fn keep_failure(&self, error: Error) {
        self.lock().failure.get_or_insert(error);
    }

    /// The failure of a save whose handle was dropped, once.
    pub(crate) fn take_failure(&self) -> Result<()> {
        self.lock().failure.take().map_or(Ok(()), Err)
    }
}

impl Store {
    /// Waits for every save in the background; to be called before a process ends, which would
    /// end them too.
    ///
    /// # Errors
    /// The failure of a save whose handle was dropped.
    pub fn finish_background(&self) -> Result<()> {
        let queue = &self.0.save_queue;
        drop(queue.wait_while(|q| q.ended < q.begun));
        queue.take_failure()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    #[test]
    fn a_third_save_waits_for_the_first_and_gets_its_memory() {
        let queue = Arc::new(SaveQueue::default());
        let (first, mut arena) = queue.begin();
        arena.extend([1, 2, 3]);
        let (address, (second, other)) = (arena.as_ptr().addr(), queue.begin());
        assert_eq!((first, second), (0, 1));
        let got = Arc::new(AtomicBool::new(false));
        let third = {
            let (queue, got) = (Arc::clone(&queue), Arc::clone(&got));
            std::thread::spawn(move || {
                let (number, arena) = queue.begin();
                got.store(true, Ordering::SeqCst);
                (number, arena.as_ptr().addr())
            })
        };
        std::thread::sleep(Duration::from_millis(20));
        assert!(!got.load(Ordering::SeqCst), "two are under way");
        queue.wait_for_turn(first);
        queue.end(arena);
        assert_eq!(third.join().unwrap(), (2, address));
        queue.wait_for_turn(second);
        queue.end(other);
    }
}
