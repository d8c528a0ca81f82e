//! Raw chunks kept between saves: the bases of the next one.

use std::collections::HashMap;
use std::sync::Arc;

use crate::id::ChunkId;

/// Raw bytes by chunk, up to a number of bytes in all.
#[derive(Debug)]
pub(crate) struct BaseCache {
    held: HashMap<ChunkId, Held>,
    bytes: u64,
    bytes_max: u64,
    /// Saves so far.
    saves: u64,
    /// The save that last dropped what was of no use for long.
    tidied: u64,
}

#[derive(Debug)]
struct Held {
    raw: Arc<Vec<u8>>,
    /// The save that it was last of use for.
    used: u64,
}

impl BaseCache {
    pub(crate) fn new(bytes_max: u64) -> Self {
        Self {
            held: HashMap::new(),
            bytes: 0,
            bytes_max,
            saves: 0,
            tidied: 0,
        }
    }

    /// Says that another save begins.
    pub(crate) fn begin_save(&mut self) {
        self.saves += 1;
    }

    pub(crate) fn get(&mut self, chunk: &ChunkId) -> Option<Arc<Vec<u8>>> {
        let held = self.held.get_mut(chunk)?;
        held.used = self.saves;
        Some(Arc::clone(&held.raw))
    }

    /// Keeps a chunk, if there is room. Saves go through a state in the same order every time,
    /// so what was dropped for room would be missed first: whoever is in stays in, unless neither
    /// this save nor the one before it had any use for it.
    pub(crate) fn insert(&mut self, chunk: ChunkId, raw: Arc<Vec<u8>>) {
        let len = raw.len() as u64;
        if !self.make_room(len) {
            return;
        }
        let held = Held {
            raw,
            used: self.saves,
        };
        if self.held.insert(chunk, held).is_none() {
            self.bytes += len;
        }
    }

    /// Whether there is room for so many bytes, or can be made.
    pub(crate) fn make_room(&mut self, len: u64) -> bool {
        if self.bytes + len > self.bytes_max && self.tidied < self.saves {
            self.tidied = self.saves;
            let oldest = self.saves - 1;
            self.held.retain(|_, held| held.used >= oldest);
            self.bytes = self.held.values().map(|held| held.raw.len() as u64).sum();
        }
        self.bytes + len <= self.bytes_max
    }

    /// Drops a chunk that will not be a base again; its bytes, if it was held.
    pub(crate) fn remove(&mut self, chunk: &ChunkId) -> Option<Arc<Vec<u8>>> {
        let held = self.held.remove(chunk)?;
        self.bytes -= held.raw.len() as u64;
        Some(held.raw)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(tag: u8) -> ChunkId {
        ChunkId([tag; 32])
    }

    #[test]
    fn the_bound_holds_and_room_comes_back() {
        let mut cache = BaseCache::new(10);
        cache.insert(id(1), Arc::new(vec![0; 6]));
        cache.insert(id(2), Arc::new(vec![0; 6]));
        assert!(cache.get(&id(1)).is_some() && cache.get(&id(2)).is_none());
        cache.remove(&id(1));
        cache.insert(id(2), Arc::new(vec![0; 6]));
        assert!(cache.get(&id(2)).is_some());
        assert_eq!(cache.bytes, 6);
    }

    #[test]
    fn what_two_saves_had_no_use_for_makes_room() {
        let mut cache = BaseCache::new(12);
        cache.begin_save();
        cache.insert(id(1), Arc::new(vec![0; 6]));
        cache.insert(id(2), Arc::new(vec![0; 6]));
        cache.begin_save();
        assert!(cache.get(&id(1)).is_some());
        cache.insert(id(3), Arc::new(vec![0; 6]));
        assert!(
            cache.get(&id(3)).is_none(),
            "the save before had use for both"
        );
        cache.begin_save();
        cache.insert(id(3), Arc::new(vec![0; 6]));
        assert!(cache.get(&id(3)).is_some() && cache.get(&id(1)).is_some());
        assert!(cache.get(&id(2)).is_none());
        assert_eq!(cache.bytes, 12);
    }
}
