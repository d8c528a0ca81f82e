//! The records of known packs by the chunk they hold.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::Arc;

use hashbrown::hash_table::Entry;
use hashbrown::{DefaultHashBuilder, HashTable};

use crate::format::pack::IndexEntry;
use crate::id::{ChunkId, PackId};

/// A chunk's record: its pack and its index entry.
#[derive(Clone, Debug)]
pub(crate) struct Located {
    pub(crate) pack: PackId,
    pub(crate) entry: Arc<IndexEntry>,
}

/// Of several records of a chunk the one of least rank counts: the least deep, so that no choice
/// makes a cycle, for a record's inputs are less deep than it is.
type Rank = (u8, PackId, u64);

fn rank(pack: &PackId, entry: &IndexEntry) -> Rank {
    (entry.depth, *pack, entry.offset)
}

impl Located {
    pub(crate) fn rank(&self) -> Rank {
        rank(&self.pack, &self.entry)
    }
}

/// Where an entry lies: which pack in order of arrival, and which of its entries. A restore of
/// one small tensor reads the index of every pack of its checkpoint, so that what is kept for
/// each entry is small, and made in no memory of its own.
#[derive(Clone, Copy, Debug)]
struct Slot {
    pack: u32,
    entry: u32,
}

#[derive(Debug)]
struct Pack {
    id: PackId,
    len: u64,
    entries: Vec<IndexEntry>,
}

#[derive(Debug, Default)]
pub(crate) struct Records {
    packs: Vec<Pack>,
    numbers: HashMap<PackId, u32>,
    /// The record of least rank of each chunk, found by the chunk that its entry names.
    first: HashTable<Slot>,
    /// Keyed by chance: a hostile store's ids are chosen, and are not to meet in one place.
    hasher: DefaultHashBuilder,
    /// The other records of chunks that have several.
    others: HashMap<ChunkId, Vec<Slot>>,
}

fn at(packs: &[Pack], slot: Slot) -> Option<(&PackId, &IndexEntry)> {
    let pack = packs.get(slot.pack as usize)?;
    Some((&pack.id, pack.entries.get(slot.entry as usize)?))
}

fn holds(packs: &[Pack], slot: Slot, chunk: &ChunkId) -> bool {
    at(packs, slot).is_some_and(|(_, entry)| entry.chunk == *chunk)
}

impl Records {
    /// The length of a pack, if it is known.
    pub(crate) fn pack_len(&self, pack: &PackId) -> Option<u64> {
        let number = *self.numbers.get(pack)?;
        Some(self.packs.get(number as usize)?.len)
    }

    /// Adds a pack's records, unless it is known already.
    pub(crate) fn add(&mut self, id: PackId, len: u64, entries: Vec<IndexEntry>) {
        if self.numbers.contains_key(&id) {
            return;
        }
        let (Ok(pack), Ok(count)) = (
            u32::try_from(self.packs.len()),
            u32::try_from(entries.len()),
        ) else {
            tracing::warn!(pack = %id, "a pack is left out: there are more than can be counted");
            return;
        };
        self.numbers.insert(id, pack);
        self.packs.push(Pack { id, len, entries });
        let (packs, hasher) = (&self.packs, &self.hasher);
        let hash_of = |slot: &Slot| at(packs, *slot).map_or(0, |(_, e)| hasher.hash_one(e.chunk));
        self.first.reserve(count as usize, hash_of);
        for slot in (0..count).map(|entry| Slot { pack, entry }) {
            let Some((_, entry)) = at(packs, slot) else {
                continue;
            };
            let is_same = |held: &Slot| holds(packs, *held, &entry.chunk);
            match self.first.entry(hash_of(&slot), is_same, hash_of) {
                Entry::Vacant(place) => {
                    place.insert(slot);
                }
                Entry::Occupied(mut held) => {
                    let rank_of = |slot| at(packs, slot).map(|(pack, entry)| rank(pack, entry));
                    let other = match rank_of(slot) < rank_of(*held.get()) {
                        true => std::mem::replace(held.get_mut(), slot),
                        false => slot,
                    };
                    self.others.entry(entry.chunk).or_default().push(other);
                }
            }
        }
    }

    /// The record of a chunk that counts.
    pub(crate) fn find(&self, chunk: &ChunkId) -> Option<Located> {
        self.located(self.first_of(chunk)?)
    }

    /// The record of a chunk that counts among those in the packs that are allowed.
    pub(crate) fn find_in(
        &self,
        chunk: &ChunkId,
        allowed: impl Fn(&PackId) -> bool,
    ) -> Option<Located> {
        let slots = self.slots_of(chunk);
        let allowed =
            slots.filter(|slot| at(&self.packs, *slot).is_some_and(|(pack, _)| allowed(pack)));
        self.located(allowed.min_by_key(|slot| self.rank(*slot))?)
    }

    /// Every record of a chunk, the one that counts first.
    pub(crate) fn all_of(&self, chunk: &ChunkId) -> Vec<Located> {
        self.slots_of(chunk)
            .filter_map(|slot| self.located(slot))
            .collect()
    }

    /// Forgets the record of a chunk that counts; the next takes its place.
    pub(crate) fn drop_first(&mut self, chunk: &ChunkId) {
        let mut others = self.others.remove(chunk).unwrap_or_default();
        others.sort_unstable_by_key(|slot| std::cmp::Reverse(self.rank(*slot)));
        let (packs, hash) = (&self.packs, self.hasher.hash_one(chunk));
        let found = self
            .first
            .find_entry(hash, |held| holds(packs, *held, chunk));
        if let Ok(mut first) = found {
            match others.pop() {
                Some(next) => *first.get_mut() = next,
                None => drop(first.remove()),
            }
        }
        if !others.is_empty() {
            self.others.insert(*chunk, others);
        }
    }

    fn first_of(&self, chunk: &ChunkId) -> Option<Slot> {
        let hash = self.hasher.hash_one(chunk);
        let found = self
            .first
            .find(hash, |held| holds(&self.packs, *held, chunk));
        found.copied()
    }

    fn slots_of(&self, chunk: &ChunkId) -> impl Iterator<Item = Slot> {
        let others = self.others.get(chunk).into_iter().flatten();
        self.first_of(chunk).into_iter().chain(others.copied())
    }

    fn rank(&self, slot: Slot) -> Option<Rank> {
        at(&self.packs, slot).map(|(pack, entry)| rank(pack, entry))
    }

    fn located(&self, slot: Slot) -> Option<Located> {
        let (pack, entry) = at(&self.packs, slot)?;
        Some(Located {
            pack: *pack,
            entry: Arc::new(entry.clone()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(chunk: u8, depth: u8, offset: u64) -> IndexEntry {
        IndexEntry {
            chunk: ChunkId([chunk; 32]),
            offset,
            stored_len: 20,
            raw_len: 64,
            crc32: 0,
            cost: 0,
            cycle_len: 0,
            age: 0,
            depth,
            inputs: Vec::new(),
        }
    }

    /// What counts, by looking at every record that there is.
    fn least(records: &[(PackId, IndexEntry)], chunk: ChunkId) -> Option<Rank> {
        let of_chunk = records.iter().filter(|(_, entry)| entry.chunk == chunk);
        of_chunk.map(|(pack, entry)| rank(pack, entry)).min()
    }

    /// Packs in every order, with chunks in several of them, and records dropped in between.
    #[test]
    fn the_record_of_least_rank_counts_whatever_came_first() {
        let mut state = 1u64;
        let mut random = move |below: u8| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let [.., top] = state.to_le_bytes();
            top % below
        };
        for _ in 0..300 {
            let mut records = Records::default();
            let mut naive: Vec<(PackId, IndexEntry)> = Vec::new();
            for _ in 0..12 {
                let pack = PackId([random(8); 32]);
                let held = |chunk| match random(2) {
                    0 => Some(entry(chunk, random(3), random(2).into())),
                    _ => None,
                };
                let entries: Vec<_> = (0..5).filter_map(held).collect();
                if records.pack_len(&pack).is_none() {
                    naive.extend(entries.iter().map(|e| (pack, e.clone())));
                }
                records.add(pack, u64::from(pack.0[0]), entries);
                assert_eq!(records.pack_len(&pack), Some(u64::from(pack.0[0])));
                let dropped = ChunkId([random(5); 32]);
                if random(3) == 0 {
                    let gone = least(&naive, dropped);
                    naive.retain(|(p, e)| e.chunk != dropped || Some(rank(p, e)) != gone);
                    records.drop_first(&dropped);
                }
                for chunk in (0..5).map(|c| ChunkId([c; 32])) {
                    let found = records.find(&chunk).map(|l| l.rank());
                    assert_eq!(found, least(&naive, chunk));
                    let mut all: Vec<_> =
                        records.all_of(&chunk).iter().map(Located::rank).collect();
                    assert_eq!(all.first().copied(), found);
                    let mut expected: Vec<_> =
                        naive.iter().filter(|(_, e)| e.chunk == chunk).collect();
                    expected.sort_by_key(|(p, e)| rank(p, e));
                    all.sort_unstable();
                    assert_eq!(
                        all,
                        expected.iter().map(|(p, e)| rank(p, e)).collect::<Vec<_>>()
                    );
                    let odd = |pack: &PackId| pack.0[0] % 2 == 1;
                    let mut of_odd = naive.clone();
                    of_odd.retain(|(pack, _)| odd(pack));
                    let found = records.find_in(&chunk, odd).map(|l| l.rank());
                    assert_eq!(found, least(&of_odd, chunk));
                }
            }
        }
    }
}
