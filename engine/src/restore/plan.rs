//! What a restore will do, as a plain value: printable, countable, testable without I/O.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use crate::chunking::Cut;
use crate::error::Result;
use crate::id::ChunkId;
use crate::restore::recipe::Recipe;

/// A range of bytes that somebody wants, of one tensor or blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted<'a> {
    /// How the whole is cut.
    pub(crate) cut: Cut,
    /// Its chunks.
    pub(crate) chunks: &'a [ChunkId],
    /// The wanted bytes of it.
    pub(crate) bytes: Range<u64>,
}

/// One destination range and the records that make it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanStep {
    /// Which output it belongs to.
    pub output: usize,
    /// Where in that output its bytes go.
    pub target: Range<u64>,
    /// Which bytes of the decoded chunk go there.
    pub within: Range<usize>,
    /// How the chunk is made.
    pub recipe: Arc<Recipe>,
}

/// Every destination range of a restore. Ranges are disjoint and cover each output.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// In the order of outputs and ranges.
    pub steps: Vec<PlanStep>,
    /// Bytes of each output.
    pub outputs: Vec<u64>,
}

impl Plan {
    /// Plans the wanted ranges; output `i` is `wanted[i]`.
    pub(crate) fn new(
        wanted: &[Wanted<'_>],
        recipe: impl Fn(&ChunkId) -> Result<Recipe>,
    ) -> Result<Self> {
        let mut plan = Self::default();
        // A small manifest may refer to one chunk very often.
        let mut recipes: HashMap<&ChunkId, Arc<Recipe>> = HashMap::new();
        for (output, want) in wanted.iter().enumerate() {
            plan.outputs.push(want.bytes.end - want.bytes.start);
            for index in want.cut.overlapping(&want.bytes) {
                let chunk_range = want.cut.range(index);
                let from = chunk_range.start.max(want.bytes.start);
                let to = chunk_range.end.min(want.bytes.end);
                let Some(chunk) = usize::try_from(index).ok().and_then(|i| want.chunks.get(i))
                else {
                    continue;
                };
                let recipe = match recipes.get(chunk) {
                    Some(found) => Arc::clone(found),
                    None => Arc::clone(recipes.entry(chunk).or_insert(Arc::new(recipe(chunk)?))),
                };
                require_len(&recipe, chunk, chunk_range.end - chunk_range.start)?;
                let within =
                    |at: u64| usize::try_from(at - chunk_range.start).unwrap_or(usize::MAX);
                plan.steps.push(PlanStep {
                    output,
                    target: from - want.bytes.start..to - want.bytes.start,
                    within: within(from)..within(to),
                    recipe,
                });
            }
        }
        Ok(plan)
    }

    /// Bytes that come out.
    #[must_use]
    pub fn output_bytes(&self) -> u64 {
        self.outputs.iter().sum()
    }

    /// Bytes of records that are read.
    #[must_use]
    pub fn read_bytes(&self) -> u64 {
        let records = self.steps.iter().flat_map(|step| &step.recipe.steps);
        records
            .map(|record| u64::from(record.extent.stored_len))
            .sum()
    }

    /// Records that are decoded.
    #[must_use]
    pub fn records(&self) -> usize {
        self.steps.iter().map(|step| step.recipe.steps.len()).sum()
    }

    /// The order in which to read: by place on disk.
    #[must_use]
    pub fn disk_order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.steps.len()).collect();
        order.sort_by_key(|i| self.steps.get(*i).map(|step| step.recipe.position()));
        order
    }
}

fn require_len(recipe: &Recipe, chunk: &ChunkId, len: u64) -> Result<()> {
    if recipe.raw_len() as u64 == len {
        return Ok(());
    }
    Err(crate::Error::corrupt(
        "chunk-length",
        "a chunk is of another length than its tensor calls for",
    )
    .subject(format!("chunk {chunk}"))
    .differs(len, recipe.raw_len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::PackId;
    use crate::restore::recipe::RecipeStep;
    use crate::store::pack_file::RecordExtent;

    fn recipe_of(raw_len: u32, offset: u64) -> Recipe {
        let extent = RecordExtent {
            offset,
            stored_len: 10,
            crc32: 0,
        };
        let step = RecipeStep {
            chunk: ChunkId([0; 32]),
            pack: PackId([0; 32]),
            extent,
            raw_len,
            inputs: vec![],
        };
        Recipe { steps: vec![step] }
    }

    #[test]
    fn every_wanted_byte_is_planned_once() {
        let cut = Cut {
            total: 23,
            chunk: 5,
        };
        let chunks: Vec<ChunkId> = (0..5).map(|i| ChunkId([i; 32])).collect();
        let len = |c: &ChunkId| u32::try_from(cut.range(u64::from(c.0[0])).count()).unwrap();
        for start in 0..=23 {
            for end in start..=23 {
                let wanted = [Wanted {
                    cut,
                    chunks: &chunks,
                    bytes: start..end,
                }];
                let plan = Plan::new(&wanted, |c| Ok(recipe_of(len(c), 0))).unwrap();
                let mut at = 0;
                for step in &plan.steps {
                    assert_eq!(step.target.start, at);
                    assert_eq!(
                        step.within.len() as u64,
                        step.target.end - step.target.start
                    );
                    at = step.target.end;
                }
                assert_eq!(at, end - start);
                assert_eq!(plan.output_bytes(), end - start);
            }
        }
    }

    #[test]
    fn reading_goes_forward_on_disk_and_lengths_are_held() {
        let cut = Cut {
            total: 10,
            chunk: 5,
        };
        let chunks = [ChunkId([7; 32]), ChunkId([3; 32])];
        let wanted = [Wanted {
            cut,
            chunks: &chunks,
            bytes: 0..10,
        }];
        let plan = Plan::new(&wanted, |c| Ok(recipe_of(5, u64::from(c.0[0])))).unwrap();
        assert_eq!(plan.disk_order(), [1, 0]);
        assert_eq!((plan.records(), plan.read_bytes()), (2, 20));
        let error = Plan::new(&wanted, |_| Ok(recipe_of(4, 0))).unwrap_err();
        assert_eq!(error.code(), "chunk-length");
    }
}
