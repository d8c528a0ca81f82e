//! Bounding chains (format-spec.md section 12): what restoring costs, and which base to take.
//!
//! Knows ids and numbers, never a chunk's bytes.

use std::collections::HashMap;
use std::sync::Arc;

use crate::codec::{Estimate, cost};
use crate::format::pack::IndexEntry;
use crate::format::store_file::StoreSettings;
use crate::id::ChunkId;

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

    /// What restoring that many raw bytes may cost.
    #[must_use]
    pub fn budget(self, raw_len: usize) -> u64 {
        raw_len as u64 * u64::from(self.budget_milli) / 1000
    }

    /// Whether a record of that depth and chain cost may be stored, within a budget.
    #[must_use]
    pub fn allow(self, depth: u8, cost: u64, budget: u64) -> bool {
        depth <= self.depth_max && cost <= budget
    }
}

/// What the records that make some chunks cost together, each counted once.
pub struct Costs<F> {
    find: F,
    own: HashMap<ChunkId, u64>,
}

impl<F: Fn(&ChunkId) -> Option<Arc<IndexEntry>>> Costs<F> {
    /// Costs of the records that `find` knows.
    pub fn new(find: F) -> Self {
        Self {
            find,
            own: HashMap::new(),
        }
    }

    /// Every record that the chunks take, with what it costs by itself; those with inputs after
    /// their inputs.
    pub fn closure(&mut self, chunks: &[ChunkId]) -> Vec<(ChunkId, u64)> {
        let mut found: HashMap<ChunkId, Arc<IndexEntry>> = HashMap::new();
        let mut stack = chunks.to_vec();
        while let Some(next) = stack.pop() {
            if let Some(entry) = (self.find)(&next).filter(|_| !found.contains_key(&next)) {
                stack.extend(&entry.inputs);
                found.insert(next, entry);
            }
        }
        let mut entries: Vec<_> = found.into_values().collect();
        entries.sort_by_key(|e| (e.depth, e.chunk));
        entries.iter().map(|e| (e.chunk, self.own(e))).collect()
    }

    /// What one record costs by itself: its cost, less that of the others in its closure.
    fn own(&mut self, entry: &IndexEntry) -> u64 {
        if let Some(known) = self.own.get(&entry.chunk) {
            return *known;
        }
        let inputs = match entry.inputs.as_slice() {
            [] => 0,
            [input] => (self.find)(input).map_or(0, |e| u64::from(e.cost)),
            inputs => self.closure(inputs).iter().map(|(_, own)| own).sum(),
        };
        let own = u64::from(entry.cost).saturating_sub(inputs);
        self.own.insert(entry.chunk, own);
        own
    }
}

/// What a record costs that is judged by an estimate, without what zstd takes.
#[must_use]
pub fn estimated_cost(estimate: &Estimate, raw_len: usize) -> u64 {
    let pass = cost::passes(estimate.method.layout, estimate.is_patch(), raw_len);
    estimate.stored_len as u64 + pass
}

/// What one record takes more than another that it is a patch of: few lanes change, and as many
/// are likely to change again.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// Bytes of the patch.
    pub len: usize,
    /// What it costs in a restore.
    pub cost: u64,
}

impl Step {
    /// Bytes of a record and of the patches that may follow it, on average: as many as the `room`
    /// that is left of the budget and `depth` allow.
    #[must_use]
    pub fn average(self, stored_len: usize, room: u64, depth: u8) -> u64 {
        let followers = (room / self.cost.max(1)).min(depth.into());
        (stored_len as u64 + followers * self.len as u64) / (followers + 1)
    }
}

/// One base that a new record may be coded against.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The base's record.
    pub base: Arc<IndexEntry>,
    /// Records of the cycle so far: the last that stood alone, and all since then.
    pub age: u16,
    /// Their bytes.
    pub cycle_len: u32,
    /// How many records the parent's is away, and what that one costs.
    behind: u16,
    parent_cost: u32,
}

impl Candidate {
    /// The parent's own record.
    #[must_use]
    pub fn parent(entry: Arc<IndexEntry>) -> Self {
        Self {
            age: entry.age,
            cycle_len: entry.cycle_len,
            behind: 0,
            parent_cost: entry.cost,
            base: entry,
        }
    }

    /// The base that this one was coded against. Of several inputs the first is the same range of
    /// an earlier checkpoint, if it is as long.
    #[must_use]
    pub fn older(&self, find: impl Fn(&ChunkId) -> Option<Arc<IndexEntry>>) -> Option<Self> {
        let entry = &self.base;
        let input = entry.inputs.first()?;
        let base = find(input).filter(|b| b.raw_len == entry.raw_len && b.depth < entry.depth)?;
        Some(Self {
            base,
            behind: self.behind.saturating_add(1),
            ..*self
        })
    }

    /// Whether a record of `stored_len` against this base stays within the bounds.
    #[must_use]
    pub fn fits(&self, bounds: Bounds, own_cost: u64, budget: u64) -> bool {
        let depth = self.base.depth.checked_add(1);
        depth.is_some_and(|d| bounds.allow(d, u64::from(self.base.cost) + own_cost, budget))
    }

    /// Whether this base has served its time: deltas grow with the distance from their base,
    /// and once the next would be longer than the average record of the cycle, that which stood
    /// alone included, a new cycle makes the average smaller. (The replacement rule of
    /// economics.) The parent is always as near as it was.
    ///
    /// What is stored against this base gets followers, as many as the `room` that is left of the
    /// budget allows: short records against their parents, as those of the cycle. The average
    /// is taken over all of them. `alone_len` is what a new cycle begins with.
    #[must_use]
    pub fn is_worn_out(&self, stored_len: usize, alone_len: usize, room: u64) -> bool {
        if self.behind == 0 {
            return false;
        }
        let (age, cycle_len) = (u64::from(self.age), u64::from(self.cycle_len));
        let between = self.parent_cost.saturating_sub(self.base.cost);
        let step_cost = u64::from(between) / u64::from(self.behind);
        let followers = room.checked_div(step_cost).unwrap_or_default().min(age);
        let step_len = cycle_len.saturating_sub(alone_len as u64) / age.max(1);
        let len = stored_len as u64 + followers * step_len;
        len.saturating_mul(age + 1) >= cycle_len.saturating_mul(followers + 1)
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
        let budget = bounds.budget(1000);
        assert!(candidate.fits(bounds, 1000, budget));
        assert!(!candidate.fits(bounds, 1001, budget), "budget");
        let deep = Candidate::parent(Arc::new(entry(800, 3, 10, 0, 800)));
        assert!(!deep.fits(bounds, 10, budget), "depth");
    }

    /// A second moment needs the first moment before and after, which the weight needs as well.
    #[test]
    fn what_several_records_need_is_counted_once() {
        let made = |tag: u8, depth: u8, cost: u32, inputs: &[u8]| IndexEntry {
            chunk: ChunkId([tag; 32]),
            inputs: inputs.iter().map(|t| ChunkId([*t; 32])).collect(),
            ..entry(10, depth, cost, 0, 10)
        };
        let (w0, m0, v0, m1) = (
            made(1, 0, 100, &[]),
            made(2, 0, 90, &[]),
            made(3, 0, 80, &[]),
            made(4, 0, 91, &[]),
        );
        let v1 = made(5, 1, 7 + 80 + 90 + 91, &[3, 4, 2]);
        let w1 = made(6, 2, 5 + 100 + 91 + 7 + 80 + 90, &[1, 4, 5]);
        let all = [w0, m0, v0, m1, v1, w1].map(Arc::new);
        let find = |id: &ChunkId| all.iter().find(|e| e.chunk == *id).cloned();
        let mut costs = Costs::new(find);
        let mut sum = |tags: &[u8]| -> u64 {
            let ids: Vec<ChunkId> = tags.iter().map(|t| ChunkId([*t; 32])).collect();
            costs.closure(&ids).iter().map(|(_, own)| own).sum()
        };
        assert_eq!(sum(&[6]), 5 + 100 + 91 + 7 + 80 + 90);
        assert_eq!(sum(&[4, 5, 6]), sum(&[6]));
        assert_eq!(sum(&[1, 4]), 191);
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
                behind: 1,
                parent_cost: 1700,
            };
            if candidate.is_worn_out(delta(records) as usize, full as usize, 0) {
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
    fn followers_are_as_many_as_budget_and_depth_allow() {
        let step = Step { len: 10, cost: 60 };
        assert_eq!(step.average(800, 0, 9), 800, "no room");
        assert_eq!(step.average(800, 59, 9), 800);
        assert_eq!(step.average(800, 60, 9), 810 / 2);
        assert_eq!(step.average(800, 6000, 9), 890 / 10, "as deep as it may be");
        assert_eq!(Step { len: 0, cost: 0 }.average(7, 0, 0), 7);
    }

    /// Few values change: ten deltas of 60 fit on one full record, and then the budget is used
    /// up. One of 300 against that, with some short ones on top, is better than the full one.
    #[test]
    fn a_base_whose_deltas_get_short_followers_serves_longer() {
        let full = Arc::new(entry(840, 0, 900, 0, 840));
        let parent = Arc::new(entry(60, 10, 1900, 10, 840 + 10 * 60));
        let find = |_: &ChunkId| Some(Arc::clone(&full));
        let older = Candidate::parent(parent).older(find).unwrap();
        assert!(older.is_worn_out(300, 840, 0), "one record alone");
        let older = Candidate {
            behind: 10,
            ..older
        };
        assert!(!older.is_worn_out(300, 840, 700), "with seven on top");
        assert!(
            older.is_worn_out(900, 840, 700),
            "longer than to begin anew"
        );
    }
}
