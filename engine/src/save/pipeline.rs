//! Threads that encode chunks, and one that writes their records in order.
//!
//! Workers take chunks in order and may run ahead of the writer by a bounded number, so memory
//! is bounded by threads x chunk, and chunks lie in packs in the same order whatever the threads do.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Condvar, Mutex, PoisonError};

use crate::error::{Error, ErrorKind, Result};
use crate::progress::{self, Observer};
use crate::save::chunk::{SaveChunks, SavedChunk};
use crate::save::column::Column;
use crate::save::draft::Source;
use crate::save::family::Family;

/// Jobs that workers may be ahead of the writer, for each thread.
const AHEAD_PER_THREAD: usize = 8;
/// Small families are handed over together, up to so many bytes: a handover costs as much as
/// coding some of them.
const JOB_LEN: u64 = 64 << 10;

/// One tensor or blob to be cut into chunks.
pub(crate) struct Item<'a> {
    pub(crate) source: Source<'a>,
    pub(crate) column: Column<'a>,
}

/// One chunk of one item.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    pub(crate) item: usize,
    pub(crate) index: u64,
    pub(crate) range: Range<u64>,
}

/// Every chunk of the items, in order.
pub(crate) fn pieces(items: &[Item<'_>]) -> Vec<Piece> {
    let of_item = |(item, it): (usize, &Item<'_>)| {
        let cut = it.column.cut;
        (0..cut.count()).map(move |index| Piece {
            item,
            index,
            range: cut.range(index),
        })
    };
    items.iter().enumerate().flat_map(of_item).collect()
}

/// Families that follow each other, to be saved by one worker in one go.
fn jobs(families: &[Family]) -> Vec<&[Family]> {
    let mut jobs = Vec::new();
    let (mut rest, mut held, mut len) = (families, 0, 0);
    for family in families {
        let pieces = family.pieces.iter();
        held += 1;
        len += pieces.map(|p| p.range.end - p.range.start).sum::<u64>();
        if len >= JOB_LEN {
            let (job, others) = rest.split_at(held);
            jobs.push(job);
            (rest, held, len) = (others, 0, 0);
        }
    }
    jobs.extend(Some(rest).filter(|rest| !rest.is_empty()));
    jobs
}

/// Lets workers run a bounded way ahead of the writer.
struct Window {
    written: Mutex<usize>,
    moved: Condvar,
    ahead: usize,
    stop: AtomicBool,
}

impl Window {
    fn wait_for(&self, number: usize) -> bool {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        while number >= *written + self.ahead && !self.stop.load(Ordering::Relaxed) {
            written = self
                .moved
                .wait(written)
                .unwrap_or_else(PoisonError::into_inner);
        }
        !self.stop.load(Ordering::Relaxed)
    }

    fn advance(&self) {
        *self.written.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.moved.notify_all();
    }

    fn stop(&self) {
        let _held = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        self.stop.store(true, Ordering::Relaxed);
        self.moved.notify_all();
    }
}

/// Encodes every piece and hands the results to `write`, in order, on this thread.
pub(crate) fn run(
    saver: &dyn SaveChunks,
    items: &[Item<'_>],
    families: &[Family],
    observer: &dyn Observer,
    mut write: impl FnMut(&Piece, SavedChunk) -> Result<()>,
) -> Result<()> {
    let jobs = jobs(families);
    let threads = saver.store().threads().min(jobs.len()).max(1);
    let total = items.iter().map(|item| item.column.cut.total).sum();
    let mut done = 0;
    let mut finish = |family: &Family, saved: Vec<SavedChunk>| {
        for (piece, saved) in family.pieces.iter().zip(saved) {
            progress::check(observer)?;
            write(piece, saved)?;
            done += piece.range.end - piece.range.start;
            observer.advance(done, total);
        }
        Ok(())
    };
    if threads == 1 {
        let (mut held, mut buffers) = (saver.store().decoder(), Vec::new());
        return families.iter().try_for_each(|family| {
            let saved = family.save(saver, items, &mut held.decoder, &mut buffers)?;
            finish(family, saved)
        });
    }
    let next = AtomicUsize::new(0);
    let window = Window {
        written: Mutex::new(0),
        moved: Condvar::new(),
        ahead: threads * AHEAD_PER_THREAD,
        stop: AtomicBool::new(false),
    };
    let (sender, receiver) = mpsc::channel();
    saver.store().pool()?.in_place_scope(|scope| {
        for _ in 0..threads {
            let (sender, next, window) = (sender.clone(), &next, &window);
            let jobs = &jobs;
            scope.spawn(move |_| work(saver, items, jobs, next, window, &sender));
        }
        drop(sender);
        let result = write_in_order(&receiver, &jobs, &window, &mut finish);
        window.stop();
        result
    })
}

/// A worker that panics sends nothing any more: without this, the others would wait for it.
struct StopOnPanic<'w>(&'w Window);

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.stop();
        }
    }
}

/// A job's number, and what became of the chunks of each family.
type Numbered = (usize, Result<Vec<Vec<SavedChunk>>>);

fn work(
    saver: &dyn SaveChunks,
    items: &[Item<'_>],
    jobs: &[&[Family]],
    next: &AtomicUsize,
    window: &Window,
    sender: &mpsc::Sender<Numbered>,
) {
    let _watched = StopOnPanic(window);
    let (mut held, mut buffers) = (saver.store().decoder(), Vec::new());
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let Some(job) = jobs.get(number) else {
            return;
        };
        if !window.wait_for(number) {
            return;
        }
        let families = job.iter();
        let saved =
            families.map(|family| family.save(saver, items, &mut held.decoder, &mut buffers));
        let saved = saved.collect();
        // The receiver is gone only when the save has failed already.
        if sender.send((number, saved)).is_err() {
            return;
        }
    }
}

fn write_in_order(
    receiver: &mpsc::Receiver<Numbered>,
    jobs: &[&[Family]],
    window: &Window,
    finish: &mut impl FnMut(&Family, Vec<SavedChunk>) -> Result<()>,
) -> Result<()> {
    let mut early: BTreeMap<usize, Vec<Vec<SavedChunk>>> = BTreeMap::new();
    for (number, job) in jobs.iter().enumerate() {
        let saved = loop {
            if let Some(saved) = early.remove(&number) {
                break saved;
            }
            match receiver.recv() {
                Ok((found, saved)) => early.insert(found, saved?),
                Err(_) => {
                    return Err(Error::new(
                        ErrorKind::Io,
                        "worker",
                        "an encoding thread ended early",
                    ));
                }
            };
        };
        for (family, saved) in job.iter().zip(saved) {
            finish(family, saved)?;
        }
        window.advance();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn family(lens: &[u64]) -> Family {
        let piece = |len: &u64| Piece {
            item: 0,
            index: 0,
            range: 0..*len,
        };
        Family {
            pieces: lens.iter().map(piece).collect(),
        }
    }

    #[test]
    fn jobs_hold_every_family_once_and_many_small_ones_together() {
        let large = JOB_LEN * 4;
        let half = JOB_LEN / 2;
        let families = [
            family(&[large]),
            family(&[1]),
            family(&[half, 1]),
            family(&[half]),
            family(&[]),
            family(&[1, large]),
            family(&[3]),
        ];
        let jobs = jobs(&families);
        let counts: Vec<usize> = jobs.iter().map(|job| job.len()).collect();
        assert_eq!(counts, [1, 3, 2, 1]);
        let all = jobs.iter().flat_map(|job| job.iter());
        assert!(
            all.zip(&families)
                .all(|(found, family)| std::ptr::eq(found, family))
        );
        assert!(super::jobs(&[]).is_empty());
    }
}
