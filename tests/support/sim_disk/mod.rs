//! A simulated disk: the engine's second implementation of `Disk`, which can lose its power.
//!
//! A machine holds files, folders and locks in memory. Processes reach it through `SimDisk`.
//! Nothing is durable before it was synced: at a crash every unsynced sector may be kept,
//! dropped or garbled, a file may have any length it had since its last sync, and any prefix or
//! any subset of the unsynced names survives. Files without a surviving name are gone, locks
//! are free, and the boot id is another. Everything random comes from a seed.

mod disk;
mod inode;
mod lock;
mod open_file;
mod state;

use std::fmt::{self, Debug, Formatter};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use milepost_engine::store::path::StorePath;
use milepost_engine::{Error, Result};

use crate::support::rng::Rng;
use lock::Locks;
use state::Node;
pub(crate) use state::{Crashed, Question, State};

/// What is to go wrong, and when; operations and syncs are counted from 0 over all processes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    /// The process that does this operation dies before it.
    pub(crate) kill_at: Option<u64>,
    /// This sync fails, and marks the file's pages clean.
    pub(crate) fail_sync_at: Option<u64>,
    /// From `fail_sync_at` on, every so many syncs fail.
    pub(crate) fail_every: Option<u64>,
}

/// A moment of a machine's life.
#[derive(Clone, Debug)]
pub(crate) struct Moment {
    pub(crate) state: State,
    /// How much the test knew to be done.
    pub(crate) mark: usize,
}

type Interruption = Box<dyn FnOnce() + Send>;

struct Inner {
    state: State,
    locks: Locks,
    operations: u64,
    looks: u64,
    syncs: u64,
    faults: Faults,
    failed: bool,
    rng: Rng,
    mark: usize,
    moments: Option<Vec<Moment>>,
    interruption: Option<(u64, Interruption)>,
}

/// One computer with one disk.
pub(crate) struct Machine {
    inner: Mutex<Inner>,
}

impl Debug for Machine {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machine").finish_non_exhaustive()
    }
}

impl Machine {
    /// A machine with an empty disk.
    pub(crate) fn new(seed: u64) -> Arc<Self> {
        Self::boot(State::new(), seed)
    }

    /// A machine whose disk is in this state and on which nothing runs.
    pub(crate) fn boot(state: State, seed: u64) -> Arc<Self> {
        Arc::new(Self {
            inner: Mutex::new(Inner {
                state,
                locks: Locks::default(),
                operations: 0,
                looks: 0,
                syncs: 0,
                faults: Faults::default(),
                failed: false,
                rng: Rng::new(seed),
                mark: 0,
                moments: None,
                interruption: None,
            }),
        })
    }

    /// A new process.
    pub(crate) fn process(self: &Arc<Self>) -> Arc<SimDisk> {
        Arc::new(SimDisk {
            machine: Arc::clone(self),
            dead: Arc::default(),
            maps: true,
        })
    }

    /// A process that reads files and does not map them.
    pub(crate) fn process_that_reads(self: &Arc<Self>) -> Arc<SimDisk> {
        Arc::new(SimDisk {
            machine: Arc::clone(self),
            dead: Arc::default(),
            maps: false,
        })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    pub(crate) fn set_faults(&self, faults: Faults) {
        self.inner().faults = faults;
    }

    /// Whether a planned fault has happened.
    pub(crate) fn has_failed(&self) -> bool {
        self.inner().failed
    }

    /// Runs something between two operations, as another process would.
    pub(crate) fn interrupt_at(&self, operation: u64, run: Interruption) {
        self.inner().interruption = Some((operation, run));
    }

    /// Begins to remember every state that a crash could meet.
    pub(crate) fn record(&self) {
        self.inner().moments = Some(Vec::new());
        self.set_mark(0);
    }

    /// Says how much is done by now.
    pub(crate) fn set_mark(&self, mark: usize) {
        let mut inner = self.inner();
        inner.mark = mark;
        inner.remember();
    }

    /// How many moments are remembered.
    pub(crate) fn moments(&self) -> usize {
        self.inner().moments.as_ref().map_or(0, Vec::len)
    }

    /// Whether no planned interruption is still to come.
    pub(crate) fn was_interrupted(&self) -> bool {
        self.inner().interruption.is_none()
    }

    pub(crate) fn take_moments(&self) -> Vec<Moment> {
        self.inner().moments.take().unwrap_or_default()
    }

    pub(crate) fn state(&self) -> State {
        self.inner().state.clone()
    }

    pub(crate) fn operations(&self) -> u64 {
        self.inner().operations
    }

    /// How often something was looked at, such as a folder listed or a file opened, by whatever
    /// process.
    pub(crate) fn looks(&self) -> u64 {
        self.inner().looks
    }

    pub(crate) fn syncs(&self) -> u64 {
        self.inner().syncs
    }

    /// Puts something at a path that is neither a file nor a folder.
    pub(crate) fn plant_oddity(&self, path: &StorePath) {
        let mut inner = self.inner();
        inner.state.set_name(path.as_str(), Some(Node::Other));
    }

    /// Appends to a file that has a name: what no store may do, for broken stores to do.
    pub(crate) fn append_in_place(&self, path: &StorePath, bytes: &[u8]) {
        let mut inner = self.inner();
        if let Some(Node::File(id)) = inner.state.find(path.as_str()) {
            inner.state.inode_mut(id).append(bytes);
            inner.remember();
        }
    }
}

impl Inner {
    fn remember(&mut self) {
        if let Some(moments) = &mut self.moments {
            moments.push(Moment {
                state: self.state.clone(),
                mark: self.mark,
            });
        }
    }

    /// Whether the sync that happens now is to fail.
    fn sync_fails(&mut self) -> bool {
        let number = self.syncs;
        self.syncs += 1;
        let fails = self.faults.fail_sync_at.is_some_and(|first| {
            number == first
                || self
                    .faults
                    .fail_every
                    .is_some_and(|every| number > first && (number - first).is_multiple_of(every))
        });
        self.failed |= fails;
        fails
    }

    fn sync_inode(&mut self, id: usize) -> Result<()> {
        if self.sync_fails() {
            let mut rng = self.rng.clone();
            self.state.inode_mut(id).fail_sync(&mut rng);
            self.rng = rng;
            return Err(system_error("sync", 5));
        }
        if !self.state.inode(id).is_clean() {
            self.state.inode_mut(id).sync();
        }
        Ok(())
    }
}

/// An error as the operating system gives it.
fn system_error(action: &'static str, code: i32) -> Error {
    Error::io(action, io::Error::from_raw_os_error(code))
}

fn not_found(action: &'static str, path: &StorePath) -> Error {
    system_error(action, 2).file(path)
}

/// A process's access to a machine's disk.
#[derive(Clone, Debug)]
pub(crate) struct SimDisk {
    machine: Arc<Machine>,
    dead: Arc<AtomicBool>,
    maps: bool,
}

impl SimDisk {
    pub(crate) fn machine(&self) -> &Arc<Machine> {
        &self.machine
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Relaxed)
    }

    /// Looks without changing anything.
    fn look<R>(&self, with: impl FnOnce(&Inner) -> Result<R>) -> Result<R> {
        if self.is_dead() {
            return Err(system_error("do anything: the process is dead", 3));
        }
        let mut inner = self.machine.inner();
        inner.looks += 1;
        with(&inner)
    }

    /// One operation that changes something: a crash may come before and after it.
    fn act<R>(&self, with: impl FnOnce(&mut Inner) -> Result<R>) -> Result<R> {
        let interruption = {
            let mut inner = self.machine.inner();
            if inner.faults.kill_at == Some(inner.operations) && !inner.failed {
                inner.failed = true;
                self.dead.store(true, Ordering::Relaxed);
            }
            let now = inner.operations;
            inner.interruption.take_if(|(at, _)| *at <= now)
        };
        if let Some((_, run)) = interruption {
            run();
        }
        if self.is_dead() {
            return Err(system_error("do anything: the process is dead", 3));
        }
        let mut inner = self.machine.inner();
        inner.operations += 1;
        let result = with(&mut inner);
        inner.remember();
        result
    }
}
