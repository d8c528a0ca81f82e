//! A writer's transaction: the gate shared, an intent locked while it lives
//! (format-spec.md section 15.2).

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, Result};
use crate::progress::{self, Observer};
use crate::store::disk::{Disk, EntryKind, Lock, LockMode};
use crate::store::path::{self, Folder, TxnFile};

/// How often a fresh intent is made again when another writer's clean-up took it for dead.
const ATTEMPTS: usize = 16;

/// Whether a writer stands behind a collector that waits for the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    Taken,
    /// Of writers that wait for each other, the collector waits for all.
    Ignored,
}

/// Held from before the first lookup until the commit is durable.
#[derive(Debug)]
pub(crate) struct Transaction {
    disk: Arc<dyn Disk>,
    pub(crate) id: u128,
    /// The process that it belongs to, and to none that is forked from that.
    owner: u32,
    intent: Option<Box<dyn Lock>>,
    _gate: Box<dyn Lock>,
}

impl Transaction {
    /// Takes the gate, clears away what dead writers left, and locks an intent.
    pub(crate) fn begin(disk: &Arc<dyn Disk>, patience: Patience<'_>, turn: Turn) -> Result<Self> {
        make_missing_folders(&**disk)?;
        let gate = match turn {
            Turn::Taken => share_gate(&**disk, patience)?,
            Turn::Ignored => wait_for(&**disk, &path::gate(), LockMode::Shared, patience)?,
        };
        remove_leftovers(&**disk)?;
        for _ in 0..ATTEMPTS {
            let id = random_id()?;
            let intent = wait_for(&**disk, &path::intent(id), LockMode::Exclusive, patience)?;
            // A clean-up may have removed the file between its making and its locking.
            let name = path::intent(id);
            if disk
                .list(&path::folder(Folder::Txn))?
                .iter()
                .any(|e| e.name == name.file_name())
            {
                return Ok(Self {
                    disk: Arc::clone(disk),
                    id,
                    owner: std::process::id(),
                    intent: Some(intent),
                    _gate: gate,
                });
            }
        }
        Err(Error::new(
            ErrorKind::Locked,
            "intent",
            "other writers keep removing this writer's intent",
        ))
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        if self.owner != std::process::id() {
            return;
        }
        // Best effort: an intent that stays is unlocked, and the next writer removes it.
        let removed = self.disk.remove(&path::intent(self.id));
        if let Err(error) = removed {
            tracing::warn!(%error, "an intent was left behind");
        }
        self.intent = None;
    }
}

/// Takes the gate as a writer does: behind a collector that waits for it, so that writers who
/// overlap without end cannot keep it waiting for ever.
fn share_gate(disk: &dyn Disk, patience: Patience<'_>) -> Result<Box<dyn Lock>> {
    let _turn = wait_for(disk, &path::turn(), LockMode::Shared, patience)?;
    wait_for(disk, &path::gate(), LockMode::Shared, patience)
}

/// Takes the gate alone: when it returns, no writer is in a transaction.
pub(crate) fn close_gate(disk: &dyn Disk, patience: Patience<'_>) -> Result<Box<dyn Lock>> {
    let _turn = wait_for(disk, &path::turn(), LockMode::Exclusive, patience)?;
    wait_for(disk, &path::gate(), LockMode::Exclusive, patience)
}

/// Removes what dead writers left, outside of a transaction.
pub(crate) fn clean(disk: &dyn Disk, patience: Patience<'_>) -> Result<()> {
    make_missing_folders(disk)?;
    let _gate = share_gate(disk, patience)?;
    remove_leftovers(disk)
}

/// Makes the store's folders that are not there: a copy by an archive or version control
/// program may lack the empty ones.
fn make_missing_folders(disk: &dyn Disk) -> Result<()> {
    let there = disk.list(&path::root())?;
    let mut made = false;
    for folder in Folder::ALL.map(path::folder) {
        if !there.iter().any(|e| e.name == folder.file_name()) {
            disk.make_folder(&folder)?;
            made = true;
        }
    }
    if made {
        disk.sync(&path::root())
    } else {
        Ok(())
    }
}

/// How long to wait for a lock, and whom to tell and ask meanwhile.
#[derive(Clone, Copy)]
pub(crate) struct Patience<'o> {
    pub(crate) observer: &'o dyn Observer,
    /// Without one, until the observer cancels.
    pub(crate) limit: Option<Duration>,
}

/// How long a wait may be before the observer is told of it.
const TELL_AFTER: Duration = Duration::from_secs(1);
/// Pauses between two tries: short at first, as most locks are free soon.
const PAUSES: [Duration; 2] = [Duration::from_micros(200), Duration::from_millis(20)];

/// Waits for a lock; the kernel frees it when its holder ends, however it ends.
pub(crate) fn wait_for(
    disk: &dyn Disk,
    path: &path::StorePath,
    mode: LockMode,
    patience: Patience<'_>,
) -> Result<Box<dyn Lock>> {
    let started = Instant::now();
    let ([mut pause, longest], mut told) = (PAUSES, false);
    loop {
        if let Some(lock) = disk.lock(path, mode)? {
            return Ok(lock);
        }
        progress::check(patience.observer)?;
        let waited = started.elapsed();
        if patience.limit.is_some_and(|limit| waited >= limit) {
            return Err(
                Error::new(ErrorKind::Locked, "lock", "another process holds a lock")
                    .file(path)
                    .hint("wait for it to end, or wait longer for it"),
            );
        }
        if !told && waited >= TELL_AFTER {
            patience.observer.waiting(path.as_str());
            told = true;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(longest);
    }
}

/// Removes intents that nobody holds and the temporary files of their writers.
fn remove_leftovers(disk: &dyn Disk) -> Result<()> {
    // A writer makes its intent before any temporary file. Intents are listed later than
    // temporaries, so one that is missing here is of a writer that has ended.
    let earlier = listed(disk)?;
    let later = listed(disk)?;
    let mut live = Vec::new();
    for file in &later {
        let TxnFile::Intent(id, path) = file else {
            continue;
        };
        match disk.lock(path, LockMode::Exclusive)? {
            Some(_held_while_removed) => disk.remove(path)?,
            None => live.push(*id),
        }
    }
    for file in &earlier {
        match file {
            TxnFile::Temporary(id, path) if !live.contains(id) => disk.remove(path)?,
            _ => {}
        }
    }
    Ok(())
}

fn listed(disk: &dyn Disk) -> Result<Vec<TxnFile>> {
    let listed = disk.list(&path::folder(Folder::Txn))?;
    let files = listed.iter().filter(|e| e.kind == EntryKind::File);
    Ok(files.filter_map(|e| path::parse_txn(&e.name)).collect())
}

fn random_id() -> Result<u128> {
    Ok(u128::from_le_bytes(random_bytes()?))
}

/// Bytes from the kernel's generator.
pub(crate) fn random_bytes() -> Result<[u8; 16]> {
    let mut bytes = [0; 16];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .map_err(|e| Error::io("get random bytes", e.into()))?;
    Ok(bytes)
}
