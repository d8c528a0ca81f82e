//! Room for a save: the store's quota, and what the recorded keep rules let go when it or the
//! disk is full.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, ErrorKind, Result};
use crate::format::pack::{self, IndexEntry};
use crate::gc::{Collector, GcOptions};
use crate::progress::Observer;
use crate::retain::{Forget, ForgetPlan, KeepRules};
use crate::save::{MadeRoom, SaveReport};
use crate::store::Store;

/// The attribute of a store that holds its quota, in bytes as decimal digits.
pub const QUOTA: &str = "quota";

impl Store {
    /// The most bytes that saves may let the store's files grow to, if there is a limit: that of
    /// the options, else the one that the store records.
    ///
    /// # Errors
    /// `Unsupported` if what the store records is no number.
    pub fn quota(&self) -> Result<Option<u64>> {
        if self.0.options.quota.is_some() {
            return Ok(self.0.options.quota);
        }
        let Some(text) = self.settings().attributes.get(QUOTA) else {
            return Ok(None);
        };
        let parsed = text.parse().ok();
        parsed.map(Some).ok_or_else(|| {
            Error::new(
                ErrorKind::Unsupported,
                "quota",
                "the store has a quota that this version does not know",
            )
            .subject(format!("{QUOTA} = {text:?}"))
            .hint("upgrade milepost, or give a quota with the save")
        })
    }
}

impl Store {
    /// Bytes that the store's files may still grow by, if there is a quota.
    ///
    /// # Errors
    /// As [`Store::quota`], and if the storage refuses.
    pub fn quota_left(&self) -> Result<Option<u64>> {
        let room = Allowance::of(self)?;
        Ok(room.quota.map(|_| room.left.load(Ordering::Relaxed)))
    }

    /// Collects, and forgets what the recorded keep rules do not keep. Saves do so by themselves
    /// where there is no room; writers of parts cannot, while they wait for each other. `None` if
    /// that frees nothing, another process is at it, or a writer is in a transaction: nobody is
    /// waited for.
    ///
    /// # Errors
    /// As [`Store::forget`] and [`Store::gc`].
    pub fn make_room(&self, observer: &dyn Observer) -> Result<Option<MadeRoom>> {
        let wish = Wish {
            needed: None,
            may_be_there: false,
        };
        let made = make_room(self, wish, &GcOptions::at_once(), observer)?;
        Ok(made.ok().filter(|made| *made != MadeRoom::default()))
    }
}

/// Bytes that one save may still add.
#[derive(Debug)]
pub(super) struct Allowance {
    left: AtomicU64,
    quota: Option<u64>,
    /// All that was asked for so far, whether or not there was room.
    asked: AtomicU64,
}

impl Allowance {
    /// What the store's files leave of its quota.
    pub(super) fn of(store: &Store) -> Result<Self> {
        let quota = store.quota()?;
        let left = match quota {
            Some(quota) => quota.saturating_sub(store.disk_usage()?.total()),
            None => u64::MAX,
        };
        Ok(Self {
            left: AtomicU64::new(left),
            quota,
            asked: AtomicU64::new(0),
        })
    }

    /// Takes what a record needs in its pack: its bytes, padding, and its part of the index.
    pub(super) fn take_record(&self, len: usize, entry: &IndexEntry) -> Result<()> {
        self.take(len as u64 + pack::footprint(entry))
    }

    /// All that was asked for so far.
    pub(super) fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    /// Takes some of it.
    pub(super) fn take(&self, bytes: u64) -> Result<()> {
        self.asked.fetch_add(bytes, Ordering::Relaxed);
        let Some(quota) = self.quota else {
            return Ok(());
        };
        let rest = |left: u64| left.checked_sub(bytes);
        let taken = self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, rest);
        taken.map(|_| ()).map_err(|_| {
            Error::new(
                ErrorKind::NoSpace,
                "quota",
                "the save would let the store grow beyond its quota",
            )
            .subject(format!("quota {quota} bytes"))
            .hint(
                "forget checkpoints and collect; with keep rules recorded at `milepost init` \
                 this happens by itself",
            )
        })
    }
}

/// Saves; where there is no room, collects and saves again; if that is not enough, lets go what
/// the recorded keep rules do not keep, if that is. `save` says how many bytes it needs when it
/// fails for want of them.
pub(super) fn with_room(
    store: &Store,
    observer: &dyn Observer,
    save: impl Fn(&AtomicU64) -> Result<SaveReport>,
) -> Result<SaveReport> {
    let needed = AtomicU64::new(0);
    let mut made = MadeRoom::default();
    for may_forget in [false, true] {
        let error = match save(&needed) {
            Err(error) if error.kind() == ErrorKind::NoSpace => error,
            done => return done.map(|report| report.after(made)),
        };
        let bytes = needed.load(Ordering::Relaxed);
        let wish = Wish {
            needed: Some(bytes),
            may_be_there: !may_forget,
        };
        match make_room(store, wish, &GcOptions::default(), observer)? {
            Ok(more) => made.add(more),
            Err(why) => return Err(error.hint_instead(why.tell(bytes))),
        }
        tracing::info!(?made, "room was made for a save");
        if made.checkpoints > 0 {
            break;
        }
    }
    let failed = match save(&needed) {
        Err(error) if error.kind() == ErrorKind::NoSpace => error,
        done => return done.map(|report| report.after(made)),
    };
    if let Err(error) = store.gc(&GcOptions::default(), observer) {
        tracing::warn!(%error, "what the save left was not collected");
    }
    Err(match made.checkpoints {
        0 => failed,
        1 => failed
            .hint_instead("1 checkpoint that no keep rule kept was dropped, and it is not enough"),
        gone => failed.hint_instead(format!(
            "{gone} checkpoints that no keep rule kept were dropped, and it is not enough"
        )),
    })
}

impl SaveReport {
    fn after(mut self, made: MadeRoom) -> Self {
        self.made_room = (made != MadeRoom::default()).then_some(made);
        self
    }
}

impl MadeRoom {
    fn add(&mut self, more: Self) {
        self.checkpoints += more.checkpoints;
        self.freed_bytes += more.freed_bytes;
    }
}

/// What room is wanted.
#[derive(Clone, Copy)]
struct Wish {
    /// So many bytes; nobody may know yet.
    needed: Option<u64>,
    /// Whether to stop as soon as there seems to be so much, before anything is dropped.
    may_be_there: bool,
}

/// Why no room was made. Nothing was dropped.
enum NoRoom {
    /// Another process is at it.
    Busy,
    /// There are `free` bytes, and without what no rule keeps `would_free` more: not enough.
    Short { free: u64, would_free: u64 },
}

impl NoRoom {
    /// What to do about it, who needs so many bytes.
    fn tell(&self, needed: u64) -> String {
        match self {
            Self::Busy => "another process collects or compacts the store, so nothing was \
                           dropped: try again"
                .into(),
            Self::Short {
                free,
                would_free: 0,
            } => format!(
                "the save takes {needed} bytes and there is room for {free}: forget checkpoints \
                 and collect, or compact; with keep rules recorded at `milepost init` this \
                 happens by itself"
            ),
            Self::Short { free, would_free } => format!(
                "the save takes {needed} bytes and there is room for {free}; what no keep rule \
                 keeps would free {would_free}, which is not enough, so nothing was dropped: \
                 forget other checkpoints, compact, or give the store more room"
            ),
        }
    }
}

/// Collects, and if that is not enough forgets by the recorded rules and collects again. What is
/// not enough is not dropped; if nobody knows what would be, all is that no rule keeps.
fn make_room(
    store: &Store,
    wish: Wish,
    options: &GcOptions,
    observer: &dyn Observer,
) -> Result<std::result::Result<MadeRoom, NoRoom>> {
    let mut made = MadeRoom::default();
    // Held from here on: what is forgotten can be collected.
    let begun = Collector::begin(store, options.patience_of(store, observer)).and_then(|c| {
        made.freed_bytes = c.collect(options, observer)?.removed_bytes;
        Ok(c)
    });
    let collector = match begun {
        Err(error) if error.kind() == ErrorKind::Locked => return Ok(Err(NoRoom::Busy)),
        begun => begun?,
    };
    let free = free_bytes(store)?;
    let is_enough = |bytes: u64| wish.needed.is_none_or(|needed| needed <= bytes);
    if wish.may_be_there && is_enough(free) {
        return Ok(Ok(made));
    }
    let rules = KeepRules::from_attributes(&store.settings().attributes)?;
    let plan = match rules.is_empty() {
        true => ForgetPlan::default(),
        false => store.plan_forget(&by_rules(rules), observer)?,
    };
    let would_free = plan.freed.pack_bytes + plan.freed.manifest_bytes;
    let helps = !plan.is_empty() && is_enough(free.saturating_add(would_free));
    if wish.needed.is_some() && !helps {
        return Ok(Err(NoRoom::Short { free, would_free }));
    }
    made.checkpoints = store.forget(&plan, observer)?.checkpoints;
    if made.checkpoints > 0 {
        made.freed_bytes += collector.collect(options, observer)?.removed_bytes;
    }
    Ok(Ok(made))
}

fn by_rules(rules: KeepRules) -> Forget {
    Forget {
        rules,
        spare_verified: true,
        ..Forget::default()
    }
}

/// Bytes that quota and disk leave.
fn free_bytes(store: &Store) -> Result<u64> {
    let of_disk = store.0.disk.free_bytes().unwrap_or(u64::MAX);
    Ok(store
        .quota_left()?
        .map_or(of_disk, |left| left.min(of_disk)))
}
