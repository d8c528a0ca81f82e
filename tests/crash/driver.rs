//! Does the operations of the workload on a simulated machine, and notes what it was told.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use milepost_engine::store::disk::Disk;
use milepost_engine::{
    CompactOptions, Dtype, Durability, Error, ErrorKind, Forget, GcOptions, KeepRules, Result,
    SaveOptions, SaveReport, Store, StoreOptions, StoreSettings, Unobserved,
};

use super::check::{self, Violation};
use super::content::content;
use super::expect::{Event, Expect, Key, stand_in};
use super::workload::{DROPPED, Op, Recode, Save, Writer};
use crate::support::broken_disk::{BrokenDisk, Fault};
use crate::support::sim_disk::{Machine, SimDisk};

/// Times that an operation is tried when a planned fault hits it.
const TRIES_MAX: usize = 4;

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

/// What an operation said.
#[derive(Clone, Debug)]
pub(crate) enum Done {
    Saved(Box<SaveReport>),
    /// These are gone for good.
    Forgot(Vec<Key>),
    Other,
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
    /// What was there before.
    before: Expect,
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
            before: Expect::default(),
            events: Mutex::default(),
            sessions: Default::default(),
            broken: Mutex::default(),
            interrupt_after,
        })
    }

    /// As [`Driver::new`], on a machine where something was done before.
    pub(crate) fn after(machine: &Arc<Machine>, fault: Fault, before: &Expect) -> Arc<Self> {
        let mut driver = Self::new(machine, fault, before.lossy, 0);
        if let Some(driver) = Arc::get_mut(&mut driver) {
            driver.before = before.clone();
        }
        driver
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
            let (driver, second) = (Arc::clone(self), Op::clone(second));
            let at = self.machine.operations() + self.interrupt_after;
            let run = Box::new(move || {
                let failed = driver.perform(&second).err();
                *driver.broken.lock().unwrap() = failed;
            });
            self.machine.interrupt_at(at, run);
            self.perform(first)?;
            return self.broken.lock().unwrap().take().map_or(Ok(()), Err);
        }
        if let Op::InTurn(ops) = op {
            return ops.iter().try_for_each(|op| self.perform(op));
        }
        let (op, tries_max) = match op {
            Op::Once(op) => (&**op, 1),
            op => (op, TRIES_MAX),
        };
        self.note(Event::Started(op.clone()));
        let mut tries = 0;
        loop {
            // Who was killed in the middle of it may have made the store all the same. Then it
            // is used; that it opens promises nothing.
            if *op == Op::Init && self.store(Writer::First).is_ok() {
                return Ok(());
            }
            let error = match self.attempt(op) {
                Ok(done) => {
                    let packs = Arc::new(self.machine.state().files("packs"));
                    let op = op.clone();
                    self.note(Event::Done { op, done, packs });
                    return Ok(());
                }
                Err(error) => error,
            };
            // Who would have to wait for the operation that it came into the middle of.
            if error.kind() == ErrorKind::Locked {
                return Ok(());
            }
            // What was dropped in the middle of it cannot be forked.
            if error.kind() == ErrorKind::NotFound && self.is_gone(op) {
                return Ok(());
            }
            tries += 1;
            // Nobody can fork a relaxed checkpoint whose bytes the device has refused.
            let is_of_relaxed = matches!(op, Op::Fork("loose", ..));
            if is_of_relaxed && self.lossy && error.kind() == ErrorKind::Corrupt {
                return Ok(());
            }
            if self.machine.has_failed() && tries_max == 1 {
                return Ok(());
            }
            if !self.machine.has_failed() || tries == tries_max {
                return Err(Violation::new("I4", format!("{op:?} fails: {error:?}")));
            }
            self.bury_the_dead(Writer::First);
            self.bury_the_dead(Writer::Second);
        }
    }

    fn attempt(&self, op: &Op) -> Result<Done> {
        match op {
            Op::Init => {
                let made = Store::create_on(self.disk(Writer::First), settings(), options());
                made.map(|_| Done::Other)
            }
            Op::InitAgain => {
                let made = Store::create_on(self.disk(Writer::First), settings(), options());
                let taken =
                    |_| Error::new(ErrorKind::Io, "replaced", "a store was made in a store");
                made.map_or_else(accept_existing, |store| Err(taken(store)))
            }
            Op::Save(save) => self.save(save).map(|report| Done::Saved(Box::new(report))),
            Op::Fork(from, step, run) => {
                let store = self.store(Writer::First)?;
                let forked = store.fork(&format!("{from}@step:{step}"), run);
                forked
                    .map(|report| Done::Saved(Box::new(report)))
                    .or_else(accept_existing)
            }
            Op::Tag(name, run, step) => {
                let store = self.store(Writer::First)?;
                let id = store.checkpoint(&format!("{run}@step:{step}"))?.id();
                store.tag(name, &id).map(|()| Done::Other)
            }
            Op::Forget(writer, run, last) => self.forget(*writer, run, *last, &[]),
            Op::Thin(writer, run, last) => self.forget(*writer, run, *last, &[DROPPED]),
            Op::Gc(writer) => {
                let store = self.store(*writer)?;
                self.clear_damage(&store)?;
                store.gc(&GcOptions::default(), &Unobserved)?;
                Ok(Done::Other)
            }
            Op::Compact(writer, recode) => {
                let store = self.store(*writer)?;
                self.clear_damage(&store)?;
                let options = CompactOptions {
                    idle_min_percent: 0,
                    small_pack_len: if *recode == Recode::CopiesIdle {
                        0
                    } else {
                        1 << 20
                    },
                    reencode: *recode == Recode::CodesAnew,
                    ..CompactOptions::default()
                };
                store.compact(&options, &Unobserved)?;
                Ok(Done::Other)
            }
            Op::Look(writer) => self.look(*writer),
            Op::Interleaved(..) | Op::InTurn(_) | Op::Once(_) => Ok(Done::Other),
        }
    }

    fn forget(&self, writer: Writer, run: &str, last: u64, drop: &[&str]) -> Result<Done> {
        let store = self.store(writer)?;
        self.clear_damage(&store)?;
        let what = Forget {
            runs: vec![run.to_owned()],
            rules: KeepRules {
                last: Some(last),
                ..KeepRules::default()
            },
            drop: drop.iter().map(|glob| (*glob).to_owned()).collect(),
            ..Forget::default()
        };
        let plan = match store.plan_forget(&what, &Unobserved) {
            // A power cut took all that the run had.
            Err(error) if error.code() == "run" => return Ok(Done::Other),
            plan => plan?,
        };
        let key = |j: &milepost_engine::retain::Judged| {
            (j.checkpoint.placement.run.clone(), j.checkpoint.step)
        };
        let going: Vec<Key> = plan.going().map(key).collect();
        let expected = self.expected();
        let newest = expected.newest_durable(run);
        let one_of = match newest.filter(|(newest, _)| going.contains(newest)) {
            Some((key, must)) => Some(stand_in(&store, &(key.clone(), must.clone()), &going)?),
            None => None,
        };
        self.note(Event::Going(going.clone(), one_of));
        store.forget(&plan, &Unobserved)?;
        Ok(Done::Forgot(going))
    }

    /// What a relaxed save left damaged stands in the way of every deletion.
    fn clear_damage(&self, store: &Store) -> Result<()> {
        let what = Forget {
            damaged: true,
            ..Forget::default()
        };
        let listing = store.list(None)?;
        if listing.damaged.is_empty() && listing.lost.is_empty() {
            return Ok(());
        }
        let plan = store.plan_forget(&what, &Unobserved)?;
        store.forget(&plan, &Unobserved).map(|_| ())
    }

    /// Whether what it is to be made of was dropped.
    fn is_gone(&self, op: &Op) -> bool {
        let expected = self.expected();
        op.source().is_some_and(|key| !expected.may.contains(&key))
    }

    /// What the store must hold by now.
    fn expected(&self) -> Expect {
        let first = Expect {
            lossy: self.lossy,
            ..self.before.clone()
        };
        let mut expected = first.after_each(&self.events());
        expected.pop().unwrap_or_default()
    }

    /// Loads everything through a handle that knows an older store.
    fn look(&self, writer: Writer) -> Result<Done> {
        let checked = check::check_store(&self.store(writer)?, &self.expected(), None);
        let broken = |v: Violation| Error::new(ErrorKind::Limit, "look", format!("{v:?}"));
        checked.map(|()| Done::Other).map_err(broken)
    }

    fn save(&self, save: &Save) -> Result<SaveReport> {
        let store = self.store(save.writer)?;
        let mut options = SaveOptions::new(save.run).step(save.step);
        options.durability = save.durability;
        options.full = save.full;
        options.tags = save.tags.iter().map(|tag| (*tag).to_owned()).collect();
        let content = content(save.run, save.step);
        let mut draft = store.draft(options.clone())?;
        let mut theirs = match save.in_parts {
            true => Some(self.store(Writer::Second)?.draft(SaveOptions {
                // Now and then a writer waits for less than the checkpoint is to be.
                durability: match save.step {
                    2 => Durability::Relaxed,
                    _ => save.durability,
                },
                ..options.clone()
            })?),
            false => None,
        };
        for (number, (name, bytes)) in content.tensors.iter().enumerate() {
            let part = theirs.as_mut().filter(|_| number % 2 == 0);
            let draft = part.unwrap_or(&mut draft);
            draft.tensor(name, Dtype::F32, &[bytes.len() as u64 / 4], bytes)?;
        }
        for (name, bytes) in &content.blobs {
            draft.blob(name, bytes)?;
        }
        draft.metric("loss", 0.5)?;
        let Some(theirs) = theirs else {
            return draft.commit();
        };
        let parts = [draft.save_part(0, 2)?, theirs.save_part(1, 2)?];
        let mut whole = store.draft(options)?;
        for part in &parts {
            whole.add_part(part.as_bytes())?;
        }
        whole.commit()
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

fn accept_existing(error: Error) -> Result<Done> {
    match error.kind() {
        ErrorKind::Conflict => Ok(Done::Other),
        _ => Err(error),
    }
}
