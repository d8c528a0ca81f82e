//! Raw chunks kept between saves: the bases of the next one.

use std::collections::HashMap;
use std::sync::Arc;

use crate::id::ChunkId;

/// Raw bytes by chunk, up to a number of bytes in all.
#[derive(Debug)]
pub(crate) struct BaseCache {
    held: HashMap<ChunkId, Arc<Vec<u8>>>,
    bytes: u64,
    bytes_max: u64,
}

impl BaseCache {
    pub(crate) fn new(bytes_max: u64) -> Self {
        Self {
            held: HashMap::new(),
            bytes: 0,
            bytes_max,
        }
    }

    pub(crate) fn get(&self, chunk: &ChunkId) -> Option<Arc<Vec<u8>>> {
        self.held.get(chunk).cloned()
    }

    /// Keeps a chunk, if there is room. Saves go through a state in the same order every time,
    /// so what was dropped for room would be missed first: whoever is in stays in.
    pub(crate) fn insert(&mut self, chunk: ChunkId, raw: Arc<Vec<u8>>) {
        let len = raw.len() as u64;
        if !self.has_room(len) {
            return;
        }
        if self.held.insert(chunk, raw).is_none() {
            self.bytes += len;
        }
    }

    /// Whether a chunk of so many bytes would be kept.
    pub(crate) fn has_room(&self, len: u64) -> bool {
        self.bytes + len <= self.bytes_max
    }

    /// Drops a chunk that will not be a base again; its bytes, if it was held.
    pub(crate) fn remove(&mut self, chunk: &ChunkId) -> Option<Arc<Vec<u8>>> {
        let raw = self.held.remove(chunk)?;
        self.bytes -= raw.len() as u64;
        Some(raw)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_holds_and_room_comes_back() {
        let id = |tag| ChunkId([tag; 32]);
        let mut cache = BaseCache::new(10);
        cache.insert(id(1), Arc::new(vec![0; 6]));
        cache.insert(id(2), Arc::new(vec![0; 6]));
        assert!(cache.get(&id(1)).is_some() && cache.get(&id(2)).is_none());
        cache.remove(&id(1));
        cache.insert(id(2), Arc::new(vec![0; 6]));
        assert!(cache.get(&id(2)).is_some());
        assert_eq!(cache.bytes, 6);
    }
}
