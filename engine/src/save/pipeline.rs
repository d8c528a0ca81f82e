//! Threads that encode chunks, and one that writes their records in order.
//!
//! Workers take chunks in order and may run ahead of the writer by a bounded number, so memory
//! is bounded by threads x chunk, and packs come out in the same order whatever the threads do.

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

/// Chunks that workers may be ahead of the writer, for each thread.
const AHEAD_PER_THREAD: usize = 8;

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
    let threads = saver.store().threads().min(families.len()).max(1);
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
            scope.spawn(move |_| work(saver, items, families, next, window, &sender));
        }
        drop(sender);
        let result = write_in_order(&receiver, families, &window, &mut finish);
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

type Numbered = (usize, Result<Vec<SavedChunk>>);

fn work(
    saver: &dyn SaveChunks,
    items: &[Item<'_>],
    families: &[Family],
    next: &AtomicUsize,
    window: &Window,
    sender: &mpsc::Sender<Numbered>,
) {
    let _watched = StopOnPanic(window);
    let (mut held, mut buffers) = (saver.store().decoder(), Vec::new());
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let Some(family) = families.get(number) else {
            return;
        };
        if !window.wait_for(number) {
            return;
        }
        let saved = family.save(saver, items, &mut held.decoder, &mut buffers);
        // The receiver is gone only when the save has failed already.
        if sender.send((number, saved)).is_err() {
            return;
        }
    }
}

fn write_in_order(
    receiver: &mpsc::Receiver<Numbered>,
    families: &[Family],
    window: &Window,
    finish: &mut impl FnMut(&Family, Vec<SavedChunk>) -> Result<()>,
) -> Result<()> {
    let mut early: BTreeMap<usize, Vec<SavedChunk>> = BTreeMap::new();
    for (number, family) in families.iter().enumerate() {
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
        finish(family, saved)?;
        window.advance();
    }
    Ok(())
}
