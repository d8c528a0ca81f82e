//! Which chunk is decoded from which: what is missing, and what damage spreads to.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::error::Error;
use crate::id::ChunkId;
use crate::store::catalog::Catalog;
use crate::store::packs::missing_chunk;

/// The chunks that checkpoints need, directly or as inputs.
#[derive(Debug, Default)]
pub(super) struct Graph {
    /// Every chunk that is needed.
    pub(super) closure: HashSet<ChunkId>,
    /// Those that no pack holds.
    pub(super) missing: BTreeSet<ChunkId>,
    /// Those whose input is not less deep than they are.
    twisted: BTreeSet<ChunkId>,
    /// For each input, the chunks that are decoded from it.
    dependants: HashMap<ChunkId, Vec<ChunkId>>,
}

impl Graph {
    pub(super) fn new<'c>(catalog: &Catalog, needed: impl Iterator<Item = &'c ChunkId>) -> Self {
        let mut graph = Self::default();
        let mut stack: Vec<ChunkId> = needed.copied().collect();
        while let Some(chunk) = stack.pop() {
            if !graph.closure.insert(chunk) {
                continue;
            }
            let Some(located) = catalog.find(&chunk) else {
                graph.missing.insert(chunk);
                continue;
            };
            for input in &located.entry.inputs {
                graph.dependants.entry(*input).or_default().push(chunk);
                let depth = catalog.find(input).map(|found| found.entry.depth);
                if depth.is_some_and(|depth| depth >= located.entry.depth) {
                    graph.twisted.insert(chunk);
                }
                stack.push(*input);
            }
        }
        graph
    }

    /// Whether every chunk has a record and every input is less deep than what needs it.
    pub(super) fn is_whole(&self) -> bool {
        self.missing.is_empty() && self.twisted.is_empty()
    }

    /// What is wrong with the graph itself.
    pub(super) fn errors(&self) -> impl Iterator<Item = (ChunkId, Error)> {
        let missing = self.missing.iter().map(|c| (*c, missing_chunk(c)));
        let twisted = self.twisted.iter().map(|c| {
            let error = Error::corrupt(
                "input-depth",
                "a record's input is not less deep than the record",
            );
            (*c, error.subject(format!("chunk {c}")))
        });
        missing.chain(twisted)
    }

    /// These chunks and all that are decoded from them.
    pub(super) fn spread(&self, chunks: impl IntoIterator<Item = ChunkId>) -> HashSet<ChunkId> {
        let mut seen = HashSet::new();
        let mut stack: Vec<ChunkId> = chunks.into_iter().collect();
        while let Some(chunk) = stack.pop() {
            if seen.insert(chunk) {
                stack.extend(self.dependants.get(&chunk).into_iter().flatten());
            }
        }
        seen
    }
}
