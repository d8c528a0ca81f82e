//! Records to a chunk's raw bytes: follows a recipe with one thread's scratch memory.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::codec::{self, Workspace};
use crate::error::{Error, ErrorKind, Result};
use crate::hash;
use crate::id::{ChunkId, PackId};
use crate::memory;
use crate::restore::recipe::{RECIPE_BYTES_MAX, Recipe, RecipeStep};
use crate::store::catalog::Catalog;
use crate::store::disk::Disk;
use crate::store::pack_file::PackFile;

/// One thread's memory for decoding: grown once, then reused for every chunk.
#[derive(Default)]
pub(crate) struct Decoder {
    pub(crate) workspace: Workspace,
    record: Vec<u8>,
    free: Vec<Vec<u8>>,
    shared: Shared,
    last_pack: Option<(PackId, Arc<PackFile>)>,
}

/// Chunks that more than one recipe takes, one recipe after the other.
#[derive(Default)]
struct Shared {
    wanted: HashSet<ChunkId>,
    made: HashMap<ChunkId, Vec<u8>>,
}

/// The bytes of a step that was done.
enum Made {
    Owned(Vec<u8>),
    Shared(ChunkId),
    NotNeeded,
}

impl Decoder {
    /// Keeps these chunks once they are made, until it is told of others.
    pub(crate) fn share(&mut self, wanted: HashSet<ChunkId>) {
        self.free
            .extend(self.shared.made.drain().map(|(_, buffer)| buffer));
        self.shared.wanted = wanted;
    }

    /// Makes the recipe's chunk in exactly `out`; `check` hashes it and every input as well.
    pub(crate) fn decode(
        &mut self,
        disk: &dyn Disk,
        catalog: &Catalog,
        recipe: &Recipe,
        check: bool,
        out: &mut [u8],
    ) -> Result<()> {
        let Some((last, inner)) = recipe.steps.split_last() else {
            return Ok(());
        };
        if let Some(bytes) = self
            .shared
            .made
            .get(&last.chunk)
            .filter(|b| b.len() == out.len())
        {
            out.copy_from_slice(bytes);
            return Ok(());
        }
        let needed = self.needed(recipe);
        let mut made: Vec<Made> = Vec::with_capacity(inner.len());
        for (index, (step, needed)) in inner.iter().zip(needed).enumerate() {
            if !needed {
                made.push(Made::NotNeeded);
                continue;
            }
            if self.shared.made.contains_key(&step.chunk) {
                made.push(Made::Shared(step.chunk));
                continue;
            }
            require_room(&made, step.raw_len, &last.chunk)?;
            let mut buffer = self.free.pop().unwrap_or_default();
            memory::resize(&mut buffer, step.raw_len as usize)?;
            self.decode_step(disk, catalog, step, &made, check, &mut buffer)?;
            made.push(if self.shared.wanted.contains(&step.chunk) {
                self.shared.made.insert(step.chunk, buffer);
                Made::Shared(step.chunk)
            } else {
                Made::Owned(buffer)
            });
            self.release(recipe, &mut made, index);
        }
        self.decode_step(disk, catalog, last, &made, check, out)?;
        if self.shared.wanted.contains(&last.chunk) {
            self.keep(last.chunk, out);
        }
        for buffer in made {
            self.take_back(buffer);
        }
        Ok(())
    }

    /// Keeps a shared chunk's bytes for the recipes to come.
    fn keep(&mut self, chunk: ChunkId, bytes: &[u8]) {
        let mut kept = self.free.pop().unwrap_or_default();
        kept.clear();
        kept.extend_from_slice(bytes);
        self.shared.made.insert(chunk, kept);
    }

    /// Which steps the last one takes, by way of chunks that are not made yet.
    fn needed(&self, recipe: &Recipe) -> Vec<bool> {
        let mut needed = vec![self.shared.made.is_empty(); recipe.steps.len()];
        if let Some(last) = needed.last_mut().filter(|_| !self.shared.made.is_empty()) {
            *last = true;
            for (index, step) in recipe.steps.iter().enumerate().rev() {
                let is_made = self.shared.made.contains_key(&step.chunk);
                if needed.get(index) == Some(&true) && !is_made {
                    for input in &step.inputs {
                        if let Some(input) = needed.get_mut(*input) {
                            *input = true;
                        }
                    }
                }
            }
        }
        needed
    }

    fn take_back(&mut self, made: Made) {
        if let Made::Owned(buffer) = made {
            self.free.push(buffer);
        }
    }

    /// Lets go of the pack that is held open: it may be gone.
    pub(crate) fn forget_pack(&mut self) {
        self.last_pack = None;
    }

    /// Lets go of the pack that is held open if a collection has removed it.
    pub(crate) fn close_removed(&mut self) {
        self.last_pack.take_if(|(_, pack)| pack.is_removed());
    }

    /// Takes back the buffers that no later step needs.
    fn release(&mut self, recipe: &Recipe, made: &mut [Made], done: usize) {
        let later = recipe.steps.get(done + 1..).unwrap_or_default();
        for (index, slot) in made.iter_mut().enumerate() {
            let is_owned = matches!(slot, Made::Owned(_));
            if is_owned && !later.iter().any(|step| step.inputs.contains(&index)) {
                self.take_back(std::mem::replace(slot, Made::NotNeeded));
            }
        }
    }

    fn decode_step(
        &mut self,
        disk: &dyn Disk,
        catalog: &Catalog,
        step: &RecipeStep,
        made: &[Made],
        check: bool,
        out: &mut [u8],
    ) -> Result<()> {
        let pack = self.pack(disk, catalog, &step.pack)?;
        let record = pack.record(step.extent, &mut self.record)?;
        let shared = &self.shared.made;
        let input = |index: &usize| match made.get(*index) {
            Some(Made::Owned(buffer)) => buffer.as_slice(),
            Some(Made::Shared(chunk)) => shared.get(chunk).map(Vec::as_slice).unwrap_or_default(),
            _ => &[],
        };
        let inputs: Vec<&[u8]> = step.inputs.iter().map(input).collect();
        let located = |e: Error| {
            e.file(crate::store::path::pack(&step.pack))
                .offset(step.extent.offset)
                .subject(format!("chunk {}", step.chunk))
        };
        codec::decode(record, &inputs, out, &mut self.workspace).map_err(located)?;
        if check {
            check_chunk(&step.chunk, out).map_err(located)?;
        }
        Ok(())
    }

    fn pack(&mut self, disk: &dyn Disk, catalog: &Catalog, id: &PackId) -> Result<Arc<PackFile>> {
        if let Some((held, pack)) = &self.last_pack
            && held == id
        {
            return Ok(Arc::clone(pack));
        }
        let pack = catalog.open_pack(disk, id)?;
        self.last_pack = Some((*id, Arc::clone(&pack)));
        Ok(pack)
    }
}

/// Refuses a chunk for which more is to be held at once than any chain of a writer calls for,
/// before that memory is filled: a small file may ask for it all.
fn require_room(made: &[Made], next: u32, chunk: &ChunkId) -> Result<()> {
    let held = made.iter().map(|made| match made {
        Made::Owned(buffer) => buffer.len() as u64,
        Made::Shared(_) | Made::NotNeeded => 0,
    });
    let held = held.sum::<u64>() + u64::from(next);
    if held <= RECIPE_BYTES_MAX {
        return Ok(());
    }
    let why = "a chunk needs too many bytes of other chunks at once";
    Err(Error::new(ErrorKind::Limit, "recipe", why).subject(format!("chunk {chunk}")))
}

/// Holds raw bytes against the chunk's id.
pub(crate) fn check_chunk(chunk: &ChunkId, raw: &[u8]) -> Result<()> {
    let found = hash::chunk_id(raw);
    if found == *chunk {
        return Ok(());
    }
    Err(Error::corrupt("chunk-hash", "a chunk's bytes do not hash to its id").differs(chunk, found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_at_once_is_bounded() {
        let chunk = ChunkId([1; 32]);
        // Memory that nobody fills is not taken.
        let half = || Made::Owned(vec![0; usize::try_from(RECIPE_BYTES_MAX / 2).unwrap()]);
        let given_back = [half(), Made::NotNeeded, Made::Shared(chunk)];
        require_room(&given_back, 1 << 31, &chunk).unwrap();
        let error = require_room(&[half(), half()], 1, &chunk).unwrap_err();
        assert_eq!((error.kind(), error.code()), (ErrorKind::Limit, "recipe"));
    }

    /// A state of related tensors took as much memory again as it has bytes, and the time of as
    /// many page faults, for each kept chunk was given a buffer of its own that none took back.
    #[test]
    fn buffers_of_shared_chunks_are_taken_again() {
        let mut decoder = Decoder::default();
        for number in 0..100 {
            let chunk = ChunkId([number; 32]);
            decoder.share(HashSet::from([chunk]));
            decoder.keep(chunk, &[number; 16]);
            assert_eq!(decoder.shared.made[&chunk], [number; 16]);
            decoder.share(HashSet::new());
        }
        assert_eq!(decoder.free.len(), 1);
    }
}
