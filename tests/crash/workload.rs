//! The workload: several writers, every kind of save, forks and tags, on a simulated machine.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use milepost_engine::store::disk::Disk;
use milepost_engine::{
    Dtype, Durability, Error, ErrorKind, Full, Result, SaveOptions, SaveReport, Store,
    StoreOptions, StoreSettings,
};

use super::check::Violation;
use super::content::content;
use super::expect::{Event, Key};
use crate::support::broken_disk::{BrokenDisk, Fault};
use crate::support::sim_disk::{Machine, SimDisk};

/// Times that an operation is tried when a planned fault hits it.
const TRIES_MAX: usize = 4;

/// Which process acts; each has its own store handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Writer {
    First,
    Second,
}

/// A save of a run's step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Save {
    pub(crate) writer: Writer,
    pub(crate) run: &'static str,
    pub(crate) step: u64,
    pub(crate) durability: Durability,
    pub(crate) full: Full,
    pub(crate) tags: &'static [&'static str],
}

/// One thing that a writer does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Init,
    /// Must be refused: there is a store.
    InitAgain,
    Save(Save),
    /// A new run at a run's step.
    Fork(&'static str, u64, &'static str),
    /// A tag set on a run's step.
    Tag(&'static str, &'static str, u64),
    /// The first writer's save, in the middle of which the second writer does another.
    Interleaved(Save, Save),
}

/// A durable save of the first writer.
pub(crate) fn save(run: &'static str, step: u64) -> Save {
    Save {
        writer: Writer::First,
        run,
        step,
        durability: Durability::Durable,
        full: Full::Auto,
        tags: &[],
    }
}

pub(crate) fn relaxed(run: &'static str, step: u64) -> Save {
    Save {
        durability: Durability::Relaxed,
        ..save(run, step)
    }
}

fn by_second(run: &'static str, step: u64) -> Save {
    Save {
        writer: Writer::Second,
        ..save(run, step)
    }
}

pub(crate) fn tagged(run: &'static str, step: u64, tags: &'static [&'static str]) -> Save {
    Save {
        tags,
        ..save(run, step)
    }
}

/// The whole workload.
pub(crate) fn script() -> Vec<Op> {
    vec![
        Op::Init,
        Op::Save(save("main", 0)),
        Op::Save(tagged("main", 1, &["best"])),
        Op::Save(by_second("side", 0)),
        Op::Save(save("main", 2)),
        // Without a change: nothing but a manifest.
        Op::Save(save("main", 3)),
        Op::Fork("main", 1, "fork"),
        Op::Tag("best", "main", 2),
        Op::Save(relaxed("main", 4)),
        // The second writer does not know of the relaxed save and stores its head again.
        Op::Save(by_second("side", 1)),
        Op::Save(save("main", 5)),
        // The very pack of the first save, relaxed.
        Op::Save(Save {
            full: Full::SelfContained,
            ..relaxed("copy", 0)
        }),
        Op::Save(save("fork", 5)),
        Op::Save(relaxed("loose", 0)),
        Op::Save(relaxed("loose", 1)),
        Op::Fork("loose", 1, "spare"),
        Op::Save(save("loose", 2)),
        Op::Interleaved(tagged("main", 6, &["last"]), by_second("side", 2)),
        Op::InitAgain,
        Op::Save(Save {
            durability: Durability::Verified,
            ..tagged("main", 7, &["best", "last"])
        }),
    ]
}

impl Op {
    /// The checkpoint that it makes.
    pub(crate) fn checkpoint(&self) -> Option<Key> {
        match self {
            Self::Save(save) => Some((save.run.to_owned(), save.step)),
            Self::Fork(_, step, run) => Some(((*run).to_owned(), *step)),
            _ => None,
        }
    }

    /// The checkpoint that must be there for it.
    pub(crate) fn source(&self) -> Option<Key> {
        match self {
            Self::Fork(run, step, _) | Self::Tag(_, run, step) => Some(((*run).to_owned(), *step)),
            _ => None,
        }
    }

    pub(crate) fn durability(&self) -> Durability {
        match self {
            Self::Save(save) => save.durability,
            _ => Durability::Durable,
        }
    }

    /// The tags that it sets, and on what.
    pub(crate) fn tags(&self) -> Vec<(&'static str, Key)> {
        match self {
            Self::Save(save) => {
                let key = || (save.run.to_owned(), save.step);
                save.tags.iter().map(|tag| (*tag, key())).collect()
            }
            Self::Tag(tag, run, step) => vec![(*tag, ((*run).to_owned(), *step))],
            _ => Vec::new(),
        }
    }

    fn writer(&self) -> Writer {
        match self {
            Self::Save(save) => save.writer,
            _ => Writer::First,
        }
    }
}

/// How the tests use a store: alone on one thread, at a fixed time.
pub(crate) fn options() -> StoreOptions {
    StoreOptions {
        threads: 1,
        cache_bytes: 1 << 20,
        // On one thread, whoever waits at all would wait for ever.
        lock_timeout: Some(Duration::ZERO),
        clock: || 1,
        ..StoreOptions::default()
    }
}

fn settings() -> StoreSettings {
    StoreSettings {
        uuid: [1; 16],
        chunk_len: 4096,
        ..StoreSettings::default()
    }
}

#[derive(Default)]
struct Session {
    process: Option<Arc<SimDisk>>,
    store: Option<Store>,
}

/// Does operations on a machine and notes what it was told.
pub(crate) struct Driver {
    pub(crate) machine: Arc<Machine>,
    fault: Fault,
    /// Whether the device may refuse bytes.
    lossy: bool,
    events: Mutex<Vec<Event>>,
    sessions: [Mutex<Session>; 2],
    /// What went wrong in an interruption.
    broken: Mutex<Option<Violation>>,
    /// Operations between the start of a save and its interruption.
    interrupt_after: u64,
}

impl Driver {
    pub(crate) fn new(
        machine: &Arc<Machine>,
        fault: Fault,
        lossy: bool,
        interrupt_after: u64,
    ) -> Arc<Self> {
        Arc::new(Self {
            machine: Arc::clone(machine),
            fault,
            lossy,
            events: Mutex::default(),
            sessions: Default::default(),
            broken: Mutex::default(),
            interrupt_after,
        })
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        self.events.lock().unwrap().clone()
    }

    fn note(&self, event: Event) {
        let mut events = self.events.lock().unwrap();
        events.push(event);
        self.machine.set_mark(events.len());
    }

    /// Does an operation; tries again, as a user would, if a planned fault hit it.
    pub(crate) fn perform(self: &Arc<Self>, op: &Op) -> std::result::Result<(), Violation> {
        if let Op::Interleaved(first, second) = op {
            let (driver, second) = (Arc::clone(self), Op::Save(second.clone()));
            let at = self.machine.operations() + self.interrupt_after;
            let run = Box::new(move || {
                let failed = driver.perform(&second).err();
                *driver.broken.lock().unwrap() = failed;
            });
            self.machine.interrupt_at(at, run);
            self.perform(&Op::Save(first.clone()))?;
            return self.broken.lock().unwrap().take().map_or(Ok(()), Err);
        }
        self.note(Event::Started(op.clone()));
        let mut tries = 0;
        loop {
            // Who was killed in the middle of it may have made the store all the same. Then it
            // is used; that it opens promises nothing.
            if *op == Op::Init && self.store(Writer::First).is_ok() {
                return Ok(());
            }
            let error = match self.attempt(op) {
                Ok(report) => {
                    let packs = Arc::new(self.machine.state().files("packs"));
                    let op = op.clone();
                    self.note(Event::Done { op, report, packs });
                    return Ok(());
                }
                Err(error) => error,
            };
            tries += 1;
            // Nobody can fork a relaxed checkpoint whose bytes the device has refused.
            let is_of_relaxed = matches!(op, Op::Fork("loose", ..));
            if is_of_relaxed && self.lossy && error.kind() == ErrorKind::Corrupt {
                return Ok(());
            }
            if !self.machine.has_failed() || tries == TRIES_MAX {
                return Err(Violation::new("I4", format!("{op:?} fails: {error:?}")));
            }
            self.bury_the_dead(op.writer());
        }
    }

    fn attempt(&self, op: &Op) -> Result<Option<SaveReport>> {
        match op {
            Op::Init => {
                let made = Store::create_on(self.disk(Writer::First), settings(), options());
                made.map(|_| None)
            }
            Op::InitAgain => {
                let made = Store::create_on(self.disk(Writer::First), settings(), options());
                let taken =
                    |_| Error::new(ErrorKind::Io, "replaced", "a store was made in a store");
                made.map_or_else(accept_existing, |store| Err(taken(store)))
            }
            Op::Save(save) => self.save(save).map(Some),
            Op::Fork(from, step, run) => {
                let store = self.store(Writer::First)?;
                let forked = store.fork(&format!("{from}@step:{step}"), run);
                forked.map(Some).or_else(accept_existing)
            }
            Op::Tag(name, run, step) => {
                let store = self.store(Writer::First)?;
                let id = store.checkpoint(&format!("{run}@step:{step}"))?.id();
                store.tag(name, &id).map(|()| None)
            }
            Op::Interleaved(..) => Ok(None),
        }
    }

    fn save(&self, save: &Save) -> Result<SaveReport> {
        let store = self.store(save.writer)?;
        let mut options = SaveOptions::new(save.run).step(save.step);
        options.durability = save.durability;
        options.full = save.full;
        options.tags = save.tags.iter().map(|tag| (*tag).to_owned()).collect();
        let content = content(save.run, save.step);
        let mut draft = store.draft(options)?;
        for (name, bytes) in &content.tensors {
            draft.tensor(name, Dtype::F32, &[bytes.len() as u64 / 4], bytes)?;
        }
        for (name, bytes) in &content.blobs {
            draft.blob(name, bytes)?;
        }
        draft.metric("loss", 0.5)?;
        draft.commit()
    }

    fn session(&self, writer: Writer) -> &Mutex<Session> {
        match writer {
            Writer::First => &self.sessions[0],
            Writer::Second => &self.sessions[1],
        }
    }

    fn disk(&self, writer: Writer) -> Arc<dyn Disk> {
        let mut session = self.session(writer).lock().unwrap();
        let process = session
            .process
            .get_or_insert_with(|| self.machine.process());
        BrokenDisk::over(Arc::clone(process), self.fault)
    }

    /// The first writer's handle.
    pub(crate) fn first_store(&self) -> Result<Store> {
        self.store(Writer::First)
    }

    fn store(&self, writer: Writer) -> Result<Store> {
        let held = self.session(writer).lock().unwrap().store.clone();
        if let Some(store) = held {
            return Ok(store);
        }
        let store = Store::open_on(self.disk(writer), options())?;
        self.session(writer).lock().unwrap().store = Some(store.clone());
        Ok(store)
    }

    /// A dead process is followed by a new one.
    fn bury_the_dead(&self, writer: Writer) {
        let mut session = self.session(writer).lock().unwrap();
        if session.process.as_ref().is_some_and(|p| p.is_dead()) {
            *session = Session::default();
        }
    }
}

fn accept_existing(error: Error) -> Result<Option<SaveReport>> {
    match error.kind() {
        ErrorKind::Conflict => Ok(None),
        _ => Err(error),
    }
}
