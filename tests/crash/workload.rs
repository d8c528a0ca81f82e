//! The workload: several writers, every kind of save, forks, tags and deletion.

use milepost_engine::{Durability, Full};

use super::expect::Key;

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
    /// Whether both writers save a part of it, and this one commits.
    pub(crate) in_parts: bool,
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
    /// The first writer's operation, in the middle of which the second writer does another.
    Interleaved(Box<Op>, Box<Op>),
    /// Drops a run's checkpoints but for the last so many, tagged ones and the newest durable.
    Forget(Writer, &'static str, u64),
    /// Drops a tensor of those checkpoints.
    Thin(Writer, &'static str, u64),
    /// Collects what nothing needs.
    Gc(Writer),
    /// Rewrites every pack that can be, or codes everything anew.
    Compact(Writer, Recode),
    /// One after the other: what comes into the middle of an operation may be more than one.
    InTurn(Vec<Op>),
    /// Not tried again if a planned fault hits it.
    Once(Box<Op>),
    /// Loads everything through a handle that has been open all along.
    Look(Writer),
}

/// What a compaction does to records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Recode {
    Copies,
    /// Of packs that hold what is not needed.
    CopiesIdle,
    CodesAnew,
}

/// The tensor that is dropped where tensors are.
pub(crate) const DROPPED: &str = "head";

/// A durable save of the first writer.
pub(crate) fn save(run: &'static str, step: u64) -> Save {
    Save {
        writer: Writer::First,
        run,
        step,
        durability: Durability::Durable,
        full: Full::Auto,
        tags: &[],
        in_parts: false,
    }
}

/// Both writers save a part of it.
pub(crate) fn in_parts(save: Save) -> Save {
    Save {
        in_parts: true,
        ..save
    }
}

pub(crate) fn relaxed(run: &'static str, step: u64) -> Save {
    Save {
        durability: Durability::Relaxed,
        ..save(run, step)
    }
}

pub(crate) fn by_second(run: &'static str, step: u64) -> Save {
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
        Op::Look(Writer::Second),
        Op::interleaved(
            Op::Save(tagged("main", 6, &["last"])),
            Op::Save(by_second("side", 2)),
        ),
        Op::Save(in_parts(save("wide", 0))),
        Op::Save(in_parts(relaxed("wide", 1))),
        Op::interleaved(
            Op::Save(in_parts(tagged("wide", 2, &["broad"]))),
            Op::Gc(Writer::Second),
        ),
        Op::Thin(Writer::Second, "main", 3),
        Op::Forget(Writer::First, "loose", 1),
        Op::Gc(Writer::First),
        Op::Compact(Writer::Second, Recode::Copies),
        Op::Look(Writer::Second),
        Op::interleaved(
            Op::Compact(Writer::First, Recode::CodesAnew),
            Op::Save(by_second("side", 9)),
        ),
        Op::Look(Writer::First),
        // A collector and writers in each other's way.
        Op::Forget(Writer::Second, "main", 3),
        Op::interleaved(Op::Save(save("main", 8)), Op::Gc(Writer::Second)),
        Op::interleaved(Op::Gc(Writer::First), Op::Save(by_second("side", 3))),
        // What was just dropped is found by another writer while it is collected.
        Op::Save(Save {
            full: Full::SelfContained,
            ..by_second("solo", 0)
        }),
        Op::Save(Save {
            full: Full::SelfContained,
            ..save("solo", 1)
        }),
        Op::Forget(Writer::First, "solo", 1),
        Op::interleaved(Op::Gc(Writer::First), Op::Save(by_second("again", 0))),
        Op::Save(by_second("loose", 7)),
        Op::Forget(Writer::First, "main", 1),
        Op::interleaved(
            Op::Save(save("side", 4)),
            Op::Forget(Writer::Second, "side", 1),
        ),
        Op::Gc(Writer::Second),
        Op::Look(Writer::First),
        Op::InitAgain,
        Op::Save(Save {
            durability: Durability::Verified,
            ..tagged("main", 7, &["best", "last"])
        }),
    ]
}

impl Op {
    fn interleaved(first: Self, second: Self) -> Self {
        Self::Interleaved(Box::new(first), Box::new(second))
    }

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

    /// The run that it drops tensors of.
    pub(crate) fn thins(&self) -> Option<&'static str> {
        match self {
            Self::Thin(_, run, _) => Some(run),
            _ => None,
        }
    }
}
