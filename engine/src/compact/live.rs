//! The records that checkpoints need, one for each chunk.

use std::collections::{HashMap, HashSet};

use crate::gc::mark::Mark;
use crate::id::{ChunkId, PackId};
use crate::store::catalog::Catalog;
use crate::store::records::Located;

/// Of the records that readers take, the least deep of each chunk. An input is less deep than
/// what needs it and is taken with it, so these are enough for every checkpoint.
pub(super) struct Live {
    /// Those records and no others.
    pub(super) records: Catalog,
    /// Their places, by pack.
    pub(super) by_pack: HashMap<PackId, Vec<Located>>,
    /// Bytes of all of them.
    pub(super) bytes: u64,
    /// Bytes of those whose chunk no checkpoint holds.
    pub(super) base_bytes: u64,
}

impl Live {
    pub(super) fn new(mark: &Mark<'_>) -> Self {
        let mut chosen: HashMap<ChunkId, &Located> = HashMap::new();
        for located in &mark.live {
            let held = chosen.entry(located.entry.chunk).or_insert(located);
            if located.rank() < held.rank() {
                *held = located;
            }
        }
        let mut live = Self {
            records: Catalog::default(),
            by_pack: HashMap::new(),
            bytes: 0,
            base_bytes: 0,
        };
        for located in chosen.into_values() {
            let len = u64::from(located.entry.stored_len);
            live.bytes += len;
            if !mark.held.contains(&located.entry.chunk) {
                live.base_bytes += len;
            }
            let of_pack = live.by_pack.entry(located.pack).or_default();
            of_pack.push(located.clone());
        }
        for (pack, records) in &live.by_pack {
            let entries = records.iter().map(|located| (*located.entry).clone());
            let len = mark.listed.get(pack).copied().unwrap_or_default();
            live.records.add(*pack, len, entries.collect());
        }
        live
    }

    /// Bytes of the records of a pack.
    pub(super) fn bytes_in(&self, pack: &PackId) -> u64 {
        let records = self.by_pack.get(pack).into_iter().flatten();
        records.map(|r| u64::from(r.entry.stored_len)).sum()
    }

    /// The records that restoring these chunks takes, each once, inputs first.
    pub(super) fn in_order<'c>(
        &self,
        chunks: impl Iterator<Item = &'c ChunkId>,
        seen: &mut HashSet<ChunkId>,
    ) -> Vec<Located> {
        let mut found = Vec::new();
        for chunk in chunks {
            let mut stack = vec![*chunk];
            let first = found.len();
            while let Some(next) = stack.pop() {
                if !seen.insert(next) {
                    continue;
                }
                let Some(located) = self.records.find(&next) else {
                    continue;
                };
                stack.extend(&located.entry.inputs);
                found.push(located);
            }
            if let Some(of_chunk) = found.get_mut(first..) {
                of_chunk.reverse();
            }
        }
        found
    }
}
