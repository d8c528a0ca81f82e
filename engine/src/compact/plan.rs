//! Which packs to rewrite.

use std::collections::BTreeSet;

use crate::compact::live::Live;
use crate::compact::{CompactOptions, CompactReport};
use crate::gc::mark::Mark;
use crate::id::PackId;

/// The packs whose live records go to new packs.
#[derive(Clone, Debug, Default)]
pub(super) struct Plan {
    pub(super) packs: BTreeSet<PackId>,
}

impl Plan {
    /// Packs that hold too much that is not needed, and small ones if there are several.
    pub(super) fn new(
        mark: &Mark<'_>,
        live: &Live,
        options: &CompactOptions,
        damaged: &BTreeSet<PackId>,
    ) -> Self {
        let (mut idle, mut small) = (BTreeSet::new(), BTreeSet::new());
        for (pack, len) in mark.rewritable().filter(|(p, _)| !damaged.contains(p)) {
            let all = mark.record_bytes(pack);
            let unneeded = all.saturating_sub(live.bytes_in(pack));
            if unneeded > 0 && unneeded * 100 >= all * u64::from(options.idle_min_percent) {
                idle.insert(*pack);
            }
            if len < options.small_pack_len {
                small.insert(*pack);
            }
        }
        if small.len() > 1 {
            idle.append(&mut small);
        }
        Self { packs: idle }
    }

    /// All of them.
    pub(super) fn of_all(mark: &Mark<'_>) -> Self {
        Self {
            packs: mark.rewritable().map(|(pack, _)| *pack).collect(),
        }
    }

    /// What is known beforehand.
    pub(super) fn report(&self, mark: &Mark<'_>, live: &Live) -> CompactReport {
        let lens = self.packs.iter().filter_map(|pack| mark.listed.get(pack));
        CompactReport {
            checkpoints: mark.checkpoints(),
            rewritten_packs: self.packs.len() as u64,
            rewritten_bytes: lens.sum(),
            new_bytes: self.packs.iter().map(|pack| live.bytes_in(pack)).sum(),
            base_bytes: live.base_bytes,
            ..CompactReport::default()
        }
    }
}
