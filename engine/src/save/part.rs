//! Saving one part of a checkpoint that several writers save together.

use crate::codec;
use crate::error::{Error, Result};
use crate::format::part::Part as PartFile;
use crate::format::placement::Durability;
use crate::progress::{Observer, Unobserved};
use crate::save::commit;
use crate::save::draft::Draft;
use crate::save::parts::DraftFacts;
use crate::store::txn::Transaction;

/// A part of a checkpoint: in the store, as durable as was asked for, and not yet of any use.
/// It stays there as long as this is held, and is anybody's to collect once it is dropped
/// without having been committed.
#[derive(Debug)]
pub struct Part {
    bytes: Vec<u8>,
    index: u32,
    count: u32,
    added_bytes: u64,
    /// Keeps collectors from its packs.
    _txn: Transaction,
}

impl Part {
    /// What [`Draft::add_part`] takes: names, shapes and chunk ids, some 40 bytes a chunk.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Which part it is, from 0.
    #[must_use]
    pub fn index(&self) -> u32 {
        self.index
    }

    /// How many parts there are.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Bytes that its packs added to the store.
    #[must_use]
    pub fn added_bytes(&self) -> u64 {
        self.added_bytes
    }
}

impl Draft<'_> {
    /// Saves it as part `index` of `count` of a checkpoint that other writers, of this process or
    /// others, save the other parts of. Every writer drafts the same run and step. Whoever
    /// coordinates them takes [`Part::as_bytes`] of each into a draft of its own by
    /// [`Draft::add_part`] and commits that: all of them, or nothing.
    ///
    /// Hold the part until that is done. Tags are the coordinator's. No room is made for a part
    /// where there is none: [`Store::make_room`](crate::Store::make_room) does that between saves.
    ///
    /// # Errors
    /// As [`Draft::commit`]; `InvalidInput` if there is no such part or the draft holds parts.
    pub fn save_part(self, index: u32, count: u32) -> Result<Part> {
        self.save_part_observed(index, count, &Unobserved)
    }

    /// As [`Draft::save_part`], watched.
    ///
    /// # Errors
    /// As [`Draft::save_part`], and `Interrupted` if the observer cancels.
    pub fn save_part_observed(
        self,
        index: u32,
        count: u32,
        observer: &dyn Observer,
    ) -> Result<Part> {
        if index >= count {
            return Err(
                Error::invalid("part-number", "there is no part of that number")
                    .differs(format!("less than {count}"), index),
            );
        }
        if !self.parts.is_empty() {
            return Err(Error::invalid("part-of-parts", "a part cannot hold parts"));
        }
        let store = &self.store;
        let txn = store.begin_beside_others(observer)?;
        let mut manifest = store.with_packs_there(|| commit::write_part(&self, &txn, observer))?;
        manifest.placement.run.clone_from(&self.options.run);
        manifest.placement.durability = self.options.durability;
        if self.options.durability == Durability::Relaxed {
            manifest.placement.boot = store.0.disk.boot_id();
        }
        let added_bytes = manifest.placement.added_bytes;
        let part = PartFile {
            store: store.settings().uuid,
            index,
            count,
            manifest,
        };
        Ok(Part {
            bytes: part.encode(&codec::compress_section)?,
            index,
            count,
            added_bytes,
            _txn: txn,
        })
    }

    /// Takes in a part that another writer saved: its tensors and blobs, and what it says in
    /// metadata and metrics. What several hold must be alike in all.
    ///
    /// # Errors
    /// `Corrupt` if these are not the bytes that the writer sent, `InvalidInput` if the part is of
    /// another store, run, step or number of parts, or is there already.
    pub fn add_part(&mut self, bytes: &[u8]) -> Result<&mut Self> {
        let mut parts = std::mem::take(&mut self.parts);
        let added = parts.add(DraftFacts::of(self), bytes);
        self.parts = parts;
        added.map(|()| self)
    }
}
