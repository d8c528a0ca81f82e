//! The work of a restore: groups of jobs, taken in the order of the disk by the store's threads.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::vec::IntoIter;

use crate::error::{Error, Result};
use crate::progress::{self, Observer};
use crate::restore::ahead::{self, Ending, OnStep, Pace};
use crate::restore::decode::Decoder;
use crate::restore::plan::Plan;
use crate::restore::shared::{self, Group};
use crate::store::Store;

/// Below this many bytes one thread is faster than several.
const PARALLEL_BYTES_MIN: u64 = 1 << 20;

/// Stored bytes after which workers are free for others who wait for the store's threads.
const ROUND_LEN: u64 = 64 << 20;

/// Groups that nobody has taken, in order, and what went wrong first.
struct Queue<J> {
    /// With the stored bytes that may be taken in this round.
    groups: Mutex<(IntoIter<Group<J>>, u64)>,
    failed: Mutex<Option<Error>>,
}

impl<J: OnStep> Queue<J> {
    fn new(groups: Vec<Group<J>>) -> Self {
        Self {
            groups: Mutex::new((groups.into_iter(), 0)),
            failed: Mutex::new(None),
        }
    }

    /// Lets a round begin; false if nothing is left for it.
    fn begin_round(&self) -> bool {
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        groups.1 = ROUND_LEN;
        !groups.0.as_slice().is_empty()
    }

    /// A group and its stored bytes, or none until the next round.
    fn take(&self) -> Option<(Group<J>, u64)> {
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        if groups.1 == 0 {
            return None;
        }
        let group = groups.0.next()?;
        let stored_len = ahead::stored_len(&group);
        groups.1 = groups.1.saturating_sub(stored_len);
        Some((group, stored_len))
    }

    /// Keeps the first error; nothing is taken any more.
    fn fail(&self, error: Error) {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.get_or_insert(error);
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        groups.0 = Vec::new().into_iter();
    }

    fn end(self) -> Result<()> {
        let failed = self.failed.into_inner();
        match failed.unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}

/// Does jobs of a plan on the store's threads, or on this one if there is little to do, while
/// one more thread fetches what comes next.
pub(super) fn run<J: Send + Sync + OnStep>(
    store: &Store,
    plan: &Plan,
    jobs: Vec<J>,
    observer: &dyn Observer,
    work: impl Fn(&mut Decoder, J, &mut Vec<u8>) -> Result<()> + Sync,
) -> Result<()> {
    let (total, done) = (plan.output_bytes(), AtomicU64::new(0));
    let one = |decoder: &mut Decoder, job: J, scratch: &mut Vec<u8>| -> Result<()> {
        progress::check(observer)?;
        let target = &job.step().target;
        let len = target.end - target.start;
        work(decoder, job, scratch)?;
        observer.advance(done.fetch_add(len, Ordering::Relaxed) + len, total);
        Ok(())
    };
    let (groups, pace) = (shared::groups(jobs), Pace::default());
    std::thread::scope(|scope| {
        let _ending = Ending(&pace);
        ahead::start(scope, store, &groups, &pace);
        let queue = Queue::new(groups);
        let take_all = || {
            let (mut held, mut scratch) = (store.decoder(), Vec::new());
            let decoder = &mut held.decoder;
            while let Some((group, stored_len)) = queue.take() {
                decoder.share(group.shared);
                let mut jobs = group.jobs.into_iter();
                let made = jobs.try_for_each(|job| one(decoder, job, &mut scratch));
                decoder.share(HashSet::new());
                match made {
                    Ok(()) => pace.advance(stored_len),
                    Err(error) => queue.fail(error),
                }
            }
        };
        let alone = total < PARALLEL_BYTES_MIN || store.threads() == 1;
        while queue.begin_round() {
            if alone {
                take_all();
                continue;
            }
            let pool = store.pool()?;
            pool.in_place_scope(|scope| {
                for _ in 0..pool.current_num_threads() {
                    scope.spawn(|_| take_all());
                }
            });
        }
        queue.end()
    })
}
