//! Room for a save: the store's quota, and what the recorded keep rules let go when it or the
//! disk is full.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, ErrorKind, Result};
use crate::format::pack::{self, IndexEntry};
use crate::gc::GcOptions;
use crate::progress::Observer;
use crate::retain::{Forget, KeepRules};
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

    /// Forgets what the recorded keep rules do not keep, and collects. Saves do so by themselves
    /// where there is no room; writers of parts cannot, while they wait for each other. `None` if
    /// that frees nothing, another process is at it, or a writer is in a transaction: nobody is
    /// waited for.
    ///
    /// # Errors
    /// As [`Store::forget`] and [`Store::gc`].
    pub fn make_room(&self, observer: &dyn Observer) -> Result<Option<MadeRoom>> {
        make_room(self, &GcOptions::at_once(), observer)
    }
}

/// Bytes that one save may still add.
#[derive(Debug)]
pub(super) struct Allowance {
    left: AtomicU64,
    quota: Option<u64>,
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
        })
    }

    /// Takes what a record needs in its pack: its bytes, padding, and its part of the index.
    pub(super) fn take_record(&self, len: usize, entry: &IndexEntry) -> Result<()> {
        self.take(len as u64 + pack::footprint(entry))
    }

    /// Takes some of it.
    pub(super) fn take(&self, bytes: u64) -> Result<()> {
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

/// Saves; if there is no room, lets go what the recorded keep rules do not keep, and saves again.
pub(super) fn with_room(
    store: &Store,
    observer: &dyn Observer,
    save: impl Fn() -> Result<SaveReport>,
) -> Result<SaveReport> {
    match save() {
        Err(error) if error.kind() == ErrorKind::NoSpace => {
            let Some(made) = make_room(store, &GcOptions::default(), observer)? else {
                return Err(error);
            };
            tracing::info!(?made, "room was made for a save");
            match save() {
                Ok(mut report) => {
                    report.made_room = Some(made);
                    Ok(report)
                }
                Err(error) => {
                    if let Err(error) = store.gc(&GcOptions::default(), observer) {
                        tracing::warn!(%error, "what the save left was not collected");
                    }
                    Err(not_enough(error, made))
                }
            }
        }
        done => done,
    }
}

fn not_enough(error: Error, made: MadeRoom) -> Error {
    match made.checkpoints {
        0 => error,
        dropped => error.hint(format!(
            "{dropped} checkpoints that no keep rule kept were dropped, and it is not enough"
        )),
    }
}

/// Forgets by the recorded rules and collects; `None` if that frees nothing, or another process
/// is at it.
fn make_room(
    store: &Store,
    options: &GcOptions,
    observer: &dyn Observer,
) -> Result<Option<MadeRoom>> {
    let mut made = MadeRoom::default();
    let rules = KeepRules::from_attributes(&store.settings().attributes)?;
    if !rules.is_empty() {
        let forget = Forget {
            rules,
            spare_verified: true,
            ..Forget::default()
        };
        let plan = store.plan_forget(&forget, observer)?;
        made.checkpoints = store.forget(&plan, observer)?.checkpoints;
    }
    match store.gc(options, observer) {
        Ok(report) => made.freed_bytes = report.removed_bytes,
        Err(error) if error.kind() == ErrorKind::Locked => return Ok(None),
        Err(error) => return Err(error),
    }
    Ok((made != MadeRoom::default()).then_some(made))
}
