//! How one chunk is made: its record and all that it needs, in order.

use std::collections::HashMap;
use std::sync::Arc;

use crate::codec;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{ChunkId, PackId};
use crate::store::catalog::Catalog;
use crate::store::pack_file::RecordExtent;
use crate::store::packs::missing_chunk;
use crate::store::records::Located;

/// Records of one recipe: beyond any chain a writer makes, a bound on hostile ones.
pub const RECIPE_RECORDS_MAX: usize = 4096;
/// Bytes of inputs that are held at once for one chunk: 64 of the largest chunks there are.
pub const RECIPE_BYTES_MAX: u64 = 1 << 32;

/// One record to decode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecipeStep {
    /// The chunk it makes.
    pub chunk: ChunkId,
    /// The pack it lies in.
    pub pack: PackId,
    /// Where it lies there.
    pub extent: RecordExtent,
    /// Bytes it makes.
    pub raw_len: u32,
    /// The earlier steps that make its inputs, in the order the record takes them.
    pub inputs: Vec<usize>,
}

/// The records that make one chunk, inputs first; the last makes the chunk itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recipe {
    /// Never empty.
    pub steps: Vec<RecipeStep>,
}

impl Recipe {
    /// Finds the records of `chunk` and of all its inputs.
    ///
    /// # Errors
    /// `Corrupt` if one is in no loaded pack or an input is not less deep than what needs it.
    pub(crate) fn find(catalog: &Catalog, chunk: &ChunkId) -> Result<Self> {
        let mut recipe = Self::default();
        let mut made: HashMap<ChunkId, usize> = HashMap::new();
        let mut stack = vec![(catalog.find_below(chunk, None)?, false)];
        while let Some((located, inputs_done)) = stack.pop() {
            if made.contains_key(&located.entry.chunk) {
                continue;
            }
            if inputs_done {
                let step = recipe_step(&located, &made)?;
                made.insert(located.entry.chunk, recipe.steps.len());
                recipe.steps.push(step);
                continue;
            }
            let inputs = located.entry.inputs.clone();
            let depth = located.entry.depth;
            require_inputs(inputs.len(), &located.entry.chunk)?;
            stack.push((located, true));
            for input in inputs.iter().filter(|i| !made.contains_key(*i)) {
                stack.push((catalog.find_below(input, Some(depth))?, false));
            }
            if stack.len() + recipe.steps.len() > RECIPE_RECORDS_MAX {
                return Err(Error::new(
                    ErrorKind::Limit,
                    "recipe",
                    "a chunk needs too many records",
                )
                .subject(format!("chunk {chunk}")));
            }
        }
        Ok(recipe)
    }

    /// The chunk it makes.
    #[must_use]
    pub fn chunk(&self) -> ChunkId {
        self.steps
            .last()
            .map_or(ChunkId([0; 32]), |step| step.chunk)
    }

    /// Bytes of the chunk it makes.
    #[must_use]
    pub fn raw_len(&self) -> usize {
        self.steps.last().map_or(0, |step| step.raw_len as usize)
    }

    /// The record of the chunk itself: where its bytes lie on disk.
    #[must_use]
    pub fn position(&self) -> (PackId, u64) {
        self.steps
            .last()
            .map_or((PackId([0; 32]), 0), |step| (step.pack, step.extent.offset))
    }
}

/// Refuses more inputs than any predictor takes, before memory is spent on making them.
fn require_inputs(count: usize, chunk: &ChunkId) -> Result<()> {
    let known = codec::INPUTS_MAX;
    if count <= known {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Unsupported,
        "inputs",
        "a record has more inputs than any known predictor takes",
    )
    .subject(format!("chunk {chunk}"))
    .differs(format!("at most {known}"), count)
    .hint("upgrade milepost"))
}

fn recipe_step(located: &Located, made: &HashMap<ChunkId, usize>) -> Result<RecipeStep> {
    let entry: &Arc<_> = &located.entry;
    let inputs = entry
        .inputs
        .iter()
        .map(|i| made.get(i).copied().ok_or_else(|| missing_chunk(i)));
    Ok(RecipeStep {
        chunk: entry.chunk,
        pack: located.pack,
        extent: RecordExtent::from(&**entry),
        raw_len: entry.raw_len,
        inputs: inputs.collect::<Result<_>>()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::pack::IndexEntry;

    fn entry(tag: u8, depth: u8, inputs: &[u8]) -> IndexEntry {
        IndexEntry {
            chunk: ChunkId([tag; 32]),
            offset: 0,
            stored_len: 16,
            raw_len: 8,
            crc32: 0,
            cost: 0,
            cycle_len: 0,
            age: 0,
            depth,
            inputs: inputs.iter().map(|t| ChunkId([*t; 32])).collect(),
        }
    }

    fn catalog(packs: &[&[IndexEntry]]) -> Catalog {
        let catalog = Catalog::default();
        for (number, entries) in (0u8..).zip(packs) {
            catalog.add(PackId([number; 32]), 100, entries.to_vec());
        }
        catalog
    }

    #[test]
    fn inputs_come_before_what_needs_them_and_only_once() {
        let catalog = catalog(&[&[entry(1, 0, &[]), entry(2, 1, &[1]), entry(3, 2, &[2])]]);
        let recipe = Recipe::find(&catalog, &ChunkId([3; 32])).unwrap();
        let chunks: Vec<u8> = recipe.steps.iter().map(|s| s.chunk.0[0]).collect();
        assert_eq!(chunks, [1, 2, 3]);
        assert_eq!(recipe.steps[2].inputs, [1]);
    }

    #[test]
    fn a_cycle_is_an_error_and_not_a_hang() {
        let catalog = catalog(&[&[entry(1, 1, &[2]), entry(2, 1, &[1])]]);
        assert_eq!(
            Recipe::find(&catalog, &ChunkId([1; 32]))
                .unwrap_err()
                .code(),
            "input-depth"
        );
    }

    #[test]
    fn the_least_deep_record_is_taken() {
        let catalog = catalog(&[&[entry(1, 0, &[]), entry(2, 1, &[1])], &[entry(2, 0, &[])]]);
        assert_eq!(
            Recipe::find(&catalog, &ChunkId([2; 32]))
                .unwrap()
                .steps
                .len(),
            1
        );
    }

    #[test]
    fn a_missing_input_is_named() {
        let catalog = catalog(&[&[entry(2, 1, &[9])]]);
        let error = Recipe::find(&catalog, &ChunkId([2; 32])).unwrap_err();
        assert!(
            error.to_string().contains(&ChunkId([9; 32]).to_string()),
            "{error}"
        );
    }
}
