//! Bounding chains (format-spec.md section 12): what restoring costs, and which base to take.
//!
//! Knows ids and numbers, never a chunk's bytes.

use std::sync::Arc;

use crate::codec::{Encoding, Layout};
use crate::format::pack::IndexEntry;
use crate::format::store_file::StoreSettings;
use crate::id::ChunkId;

/// Weights of the restore cost, in 1/256 of reading one raw byte from a disk of 1 GB/s;
/// measured on two cores, see `docs/decisions/0002-restore-cost.md`.
pub mod weight {
    /// Checking and moving one stored byte that is not coded.
    pub const READ: u64 = 256;
    /// Merging one raw byte from planes and undoing its transform.
    pub const MERGE: u64 = 24;
    /// Putting together one raw byte from leading and low bits and undoing its transform.
    pub const UNPACK: u64 = 48;
    /// Making one byte in a zstd decoder.
    pub const ZSTD: u64 = 64;
}

/// The bounds that a writer keeps, from the store's FORMAT file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Restore budget in thousandths of one raw full checkpoint.
    pub budget_milli: u32,
    /// Deepest record allowed.
    pub depth_max: u8,
}

impl From<&StoreSettings> for Bounds {
    fn from(settings: &StoreSettings) -> Self {
        Self {
            budget_milli: settings.restore_budget_milli,
            depth_max: settings.depth_max,
        }
    }
}

impl Bounds {
    /// How much smaller a delta must be than the chunk on its own, in thousandths: 3 % where
    /// restores must be cheap, down to 1 % where the budget says that space matters more
    /// (`docs/decisions/0005-rows-and-columns.md`).
    #[must_use]
    pub fn gain_min_milli(self) -> usize {
        let budget = (self.budget_milli as usize).max(1);
        (60_000 / budget).clamp(10, 30)
    }

    /// Whether a record of that depth and chain cost may be stored for a chunk of `raw_len`.
    #[must_use]
    pub fn allow(self, depth: u8, cost: u64, raw_len: usize) -> bool {
        let budget = raw_len as u64 * u64::from(self.budget_milli) / 1000;
        depth <= self.depth_max && cost <= budget
    }
}

/// What reading and decoding one record costs, without its inputs, in raw bytes read.
#[must_use]
pub fn record_cost(stored_len: usize, raw_len: usize, encoding: Encoding) -> u64 {
    let pass = match encoding.layout {
        Layout::Whole => 0,
        Layout::Planes | Layout::Grid | Layout::GridDelta => weight::MERGE,
        Layout::Leading => weight::UNPACK,
    };
    let zstd = encoding.zstd_len as u64 * weight::ZSTD;
    (stored_len as u64 * weight::READ + raw_len as u64 * pass + zstd).div_ceil(256)
}

/// One base that a new record may be coded against.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The base's record.
    pub base: Arc<IndexEntry>,
    /// How many records were coded against this base before, in a row.
    pub age: u16,
    /// Bytes of this base's record and of those records.
    pub cycle_len: u32,
    renewable: bool,
}

impl Candidate {
    /// The parent's own record: the start of a new cycle.
    #[must_use]
    pub fn parent(entry: Arc<IndexEntry>) -> Self {
        Self {
            age: 0,
            cycle_len: entry.stored_len,
            base: entry,
            renewable: false,
        }
    }

    /// The base that `entry` was coded against, if it has just one.
    #[must_use]
    pub fn base_of(
        entry: &IndexEntry,
        find: impl Fn(&ChunkId) -> Option<Arc<IndexEntry>>,
    ) -> Option<Self> {
        let [input] = entry.inputs.as_slice() else {
            return None;
        };
        let base = find(input).filter(|b| b.raw_len == entry.raw_len && b.depth < entry.depth)?;
        Some(Self {
            base,
            age: entry.age,
            cycle_len: entry.cycle_len,
            renewable: true,
        })
    }

    /// Whether a record of `stored_len` against this base stays within the bounds.
    #[must_use]
    pub fn fits(&self, bounds: Bounds, own_cost: u64, raw_len: usize) -> bool {
        let depth = self.base.depth.checked_add(1);
        depth.is_some_and(|d| bounds.allow(d, u64::from(self.base.cost) + own_cost, raw_len))
    }

    /// Whether this base has served its time: deltas grow with the distance from their base,
    /// and once the next would be longer than the average record of the cycle, the base's own
    /// included, a fresh base makes the average smaller. (The replacement rule of economics.)
    #[must_use]
    pub fn is_worn_out(&self, stored_len: usize) -> bool {
        let records = u64::from(self.age) + 1;
        self.renewable && stored_len as u64 * records >= u64::from(self.cycle_len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(stored_len: u32, depth: u8, cost: u32, age: u16, cycle_len: u32) -> IndexEntry {
        IndexEntry {
            chunk: ChunkId([depth; 32]),
            offset: 0,
            stored_len,
            raw_len: 1000,
            crc32: 0,
            cost,
            cycle_len,
            age,
            depth,
            inputs: (0..depth.min(1))
                .map(|_| ChunkId([depth - 1; 32]))
                .collect(),
        }
    }

    #[test]
    fn budget_and_depth_both_bound() {
        let bounds = Bounds {
            budget_milli: 2000,
            depth_max: 3,
        };
        let candidate = Candidate::parent(Arc::new(entry(800, 2, 1000, 0, 800)));
        assert!(candidate.fits(bounds, 1000, 1000));
        assert!(!candidate.fits(bounds, 1001, 1000), "budget");
        let deep = Candidate::parent(Arc::new(entry(800, 3, 10, 0, 800)));
        assert!(!deep.fits(bounds, 10, 1000), "depth");
    }

    /// Deltas that grow with the distance: the rule must find the cycle length of least
    /// average, which the loop below finds by trying all.
    #[test]
    fn a_base_is_renewed_when_the_average_would_grow() {
        let full = 840u32;
        let delta = |distance: u32| 600 + distance * 20;
        let average = |n: u32| f64::from(full + (1..n).map(delta).sum::<u32>()) / f64::from(n);
        let best = (1..100)
            .min_by(|a, b| average(*a).total_cmp(&average(*b)))
            .unwrap();
        let base = Arc::new(entry(full, 0, 900, 0, full));
        let (mut age, mut cycle_len, mut records) = (0u16, full, 1);
        while records < 100 {
            let candidate = Candidate {
                base: Arc::clone(&base),
                age,
                cycle_len,
                renewable: true,
            };
            if candidate.is_worn_out(delta(records) as usize) {
                break;
            }
            age += 1;
            cycle_len += delta(records);
            records += 1;
        }
        assert!(
            records.abs_diff(best) <= 1,
            "renewed after {records}, best {best}"
        );
    }

    #[test]
    fn costs_count_reading_and_passes() {
        let planes = Encoding {
            uses_base: true,
            zstd_len: 250,
            layout: Layout::Planes,
        };
        assert_eq!(
            record_cost(1000, 1000, planes),
            1000 + (24_000u64 + 16_000).div_ceil(256)
        );
    }
}
