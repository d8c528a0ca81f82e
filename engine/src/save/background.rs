//! Saves in the background: the state is copied into memory that is used again, and the caller
//! goes on. Saves of one store are done in the order in which they were handed over, because
//! each continues the one before it.

use std::any::Any;
use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::dtype::Dtype;
use crate::error::{Error, ErrorKind, Result};
use crate::progress::{self, Observer};
use crate::save::draft::{Draft, Source};
use crate::save::parts::Parts;
use crate::save::{Relation, SaveOptions, SaveReport};
use crate::store::Store;
use crate::store::save_queue::SaveQueue;

/// A draft with its bytes in memory of its own.
struct Staged {
    store: Store,
    options: SaveOptions,
    tensors: BTreeMap<String, (Dtype, Vec<u64>, Range<usize>)>,
    blobs: BTreeMap<String, Range<usize>>,
    metadata: BTreeMap<String, String>,
    metrics: BTreeMap<String, f64>,
    relations: BTreeMap<String, Relation>,
    parts: Parts,
}

impl Staged {
    /// Copies what a draft borrows behind each other into `arena`.
    fn new(draft: Draft<'_>, arena: &mut Vec<u8>) -> Result<Self> {
        arena.clear();
        let tensor_len = |t: &crate::save::draft::DraftTensor<'_>| {
            t.dtype.byte_len(crate::dtype::elements(&t.shape)?)
        };
        let mut total = draft.blobs.values().map(|(_, len)| *len).sum::<u64>();
        for tensor in draft.tensors.values() {
            total = total.saturating_add(tensor_len(tensor)?);
        }
        let total = usize::try_from(total).map_err(|_| no_memory())?;
        arena.try_reserve_exact(total).map_err(|_| no_memory())?;
        let (mut tensors, mut blobs) = (BTreeMap::new(), BTreeMap::new());
        for (name, tensor) in draft.tensors {
            let len = tensor_len(&tensor)?;
            let range = append(&tensor.source, len, arena)?;
            tensors.insert(name, (tensor.dtype, tensor.shape, range));
        }
        for (name, (source, len)) in draft.blobs {
            blobs.insert(name, append(&source, len, arena)?);
        }
        Ok(Self {
            store: draft.store,
            options: draft.options,
            tensors,
            blobs,
            metadata: draft.metadata,
            metrics: draft.metrics,
            relations: draft.relations,
            parts: draft.parts,
        })
    }

    /// The draft once more, of the copy; it continues what is newest by now.
    fn save(&self, arena: &[u8], observer: &dyn Observer) -> Result<SaveReport> {
        let bytes = |range: &Range<usize>| arena.get(range.clone()).unwrap_or_default();
        let mut draft = self.store.draft_now(self.options.clone())?;
        for (name, (dtype, shape, range)) in &self.tensors {
            draft.tensor(name, *dtype, shape, bytes(range))?;
        }
        for (name, range) in &self.blobs {
            draft.blob(name, bytes(range))?;
        }
        draft.metadata.clone_from(&self.metadata);
        draft.metrics.clone_from(&self.metrics);
        draft.relations.clone_from(&self.relations);
        draft.parts.clone_from(&self.parts);
        draft.commit_observed(observer)
    }
}

/// Appends the bytes of a source to the arena; says where they lie.
fn append(source: &Source<'_>, len: u64, arena: &mut Vec<u8>) -> Result<Range<usize>> {
    let start = arena.len();
    let end = start + usize::try_from(len).map_err(|_| no_memory())?;
    match source {
        Source::Bytes(bytes) => arena.extend_from_slice(bytes),
        Source::Reader(source, offset) => {
            arena.resize(end, 0);
            source.read_at(*offset, arena.get_mut(start..).unwrap_or_default())?;
        }
    }
    Ok(start..end)
}

fn no_memory() -> Error {
    Error::new(
        ErrorKind::Limit,
        "memory",
        "a copy of the state does not fit into memory",
    )
    .hint("save in the foreground, which copies nothing")
}

/// A save under way: how far it is, and what became of it.
#[derive(Debug)]
struct Saving {
    done: AtomicU64,
    total: AtomicU64,
    cancelled: AtomicBool,
    outcome: Mutex<Outcome>,
    ended: Condvar,
}

#[derive(Debug)]
enum Outcome {
    /// Not there yet; whether its handle was dropped.
    Open {
        dropped: bool,
    },
    Ended(Box<Result<SaveReport>>),
    Taken,
}

impl Saving {
    fn lock(&self) -> MutexGuard<'_, Outcome> {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Saving {
    fn advance(&self, done: u64, total: u64) {
        self.total.store(total, Ordering::Relaxed);
        self.done.fetch_max(done, Ordering::Relaxed);
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }
}

/// A save in the background. Dropped, the save goes on, and its failure is returned by the next
/// [`Store::draft`] or by [`Store::finish_background`], whichever comes first.
#[derive(Debug)]
#[must_use = "wait for it, or the next draft returns its failure"]
pub struct SaveHandle {
    saving: Arc<Saving>,
    queue: Arc<SaveQueue>,
}

impl SaveHandle {
    /// Waits until the checkpoint is as durable as was asked for.
    ///
    /// # Errors
    /// Whatever [`Draft::commit`] returns; `Interrupted` if it was cancelled.
    pub fn wait(self) -> Result<SaveReport> {
        let is_open = |outcome: &mut Outcome| matches!(outcome, Outcome::Open { .. });
        let ended = self.saving.ended.wait_while(self.saving.lock(), is_open);
        let mut outcome = ended.unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *outcome, Outcome::Taken) {
            Outcome::Ended(result) => *result,
            // Only this call takes it, and it takes the handle.
            Outcome::Open { .. } | Outcome::Taken => Err(worker_ended(None)),
        }
    }

    /// Whether [`SaveHandle::wait`] returns at once.
    #[must_use]
    pub fn is_done(&self) -> bool {
        !matches!(*self.saving.lock(), Outcome::Open { .. })
    }

    /// Bytes that are through, and bytes in all; both 0 before its turn.
    #[must_use]
    pub fn progress(&self) -> (u64, u64) {
        let total = self.saving.total.load(Ordering::Relaxed);
        (self.saving.done.load(Ordering::Relaxed), total)
    }

    /// Asks it to stop; what is committed by then stays.
    pub fn cancel(&self) {
        self.saving.cancelled.store(true, Ordering::Relaxed);
    }
}

impl Drop for SaveHandle {
    fn drop(&mut self) {
        let mut outcome = self.saving.lock();
        let left = match &*outcome {
            Outcome::Open { .. } => Outcome::Open { dropped: true },
            Outcome::Ended(_) | Outcome::Taken => Outcome::Taken,
        };
        if let Outcome::Ended(result) = std::mem::replace(&mut *outcome, left)
            && let Err(error) = *result
        {
            self.queue.keep_failure(error);
        }
    }
}

impl Draft<'_> {
    /// Saves a copy of it in the background. The caller is blocked while its bytes are copied,
    /// and may change them as soon as this returns. Where two such saves are under way, it waits
    /// for the first. The store keeps the memory of up to two copies for the saves to come.
    ///
    /// The parent is the run's newest checkpoint when its turn comes, unless the options name
    /// one.
    ///
    /// # Errors
    /// `Limit` if there is no memory for the copy, and whatever a source returns; what happens
    /// later is told by the handle.
    pub fn commit_in_background(self) -> Result<SaveHandle> {
        let queue = Arc::clone(&self.store.0.save_queue);
        let (number, mut arena) = queue.begin();
        let give_up = |queue: &SaveQueue, arena: Vec<u8>, error: Error| {
            queue.wait_for_turn(number);
            queue.end(arena);
            Err(error)
        };
        let staged = match Staged::new(self, &mut arena) {
            Ok(staged) => staged,
            Err(error) => return give_up(&queue, arena, error),
        };
        let saving = Arc::new(Saving {
            done: AtomicU64::new(0),
            total: AtomicU64::new(0),
            cancelled: AtomicBool::new(false),
            outcome: Mutex::new(Outcome::Open { dropped: false }),
            ended: Condvar::new(),
        });
        let (for_worker, to_end) = (Arc::clone(&saving), Arc::clone(&queue));
        let work = move || run(&staged, arena, number, &for_worker, &to_end);
        let thread = std::thread::Builder::new().name("milepost-save".to_owned());
        match thread.spawn(work) {
            Ok(_) => Ok(SaveHandle { saving, queue }),
            Err(error) => give_up(&queue, Vec::new(), Error::io("start a thread", error)),
        }
    }
}

/// One save, when its turn comes.
fn run(staged: &Staged, arena: Vec<u8>, number: u64, saving: &Saving, queue: &SaveQueue) {
    queue.wait_for_turn(number);
    let saved = catch_unwind(AssertUnwindSafe(|| {
        progress::check(saving)?;
        staged.save(&arena, saving)
    }));
    let result = saved.unwrap_or_else(|panic| Err(worker_ended(Some(&*panic))));
    let mut outcome = saving.lock();
    match (&*outcome, result) {
        (Outcome::Open { dropped: true }, Err(error)) => queue.keep_failure(error),
        (_, result) => *outcome = Outcome::Ended(Box::new(result)),
    }
    drop(outcome);
    // First its end: who waited for it may have another save begin at once.
    queue.end(arena);
    saving.ended.notify_all();
}

fn worker_ended(panic: Option<&(dyn Any + Send)>) -> Error {
    let text = panic.and_then(|p| p.downcast_ref::<String>().map(String::as_str));
    let why = text.map_or_else(String::new, |text| format!(": {text}"));
    let message = format!("the thread that saved ended early{why}");
    Error::new(ErrorKind::Io, "worker", message)
}
