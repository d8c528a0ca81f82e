//! Records to a chunk's raw bytes: follows a recipe with one thread's scratch memory.

use std::sync::Arc;

use crate::codec::{self, Workspace};
use crate::error::{Error, Result};
use crate::hash;
use crate::id::{ChunkId, PackId};
use crate::restore::recipe::{Recipe, RecipeStep};
use crate::store::catalog::Catalog;
use crate::store::disk::Disk;
use crate::store::pack_file::PackFile;

/// One thread's memory for decoding: grown once, then reused for every chunk.
#[derive(Default)]
pub(crate) struct Decoder {
    pub(crate) workspace: Workspace,
    record: Vec<u8>,
    free: Vec<Vec<u8>>,
    last_pack: Option<(PackId, Arc<PackFile>)>,
}

impl Decoder {
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
        let mut made: Vec<Option<Vec<u8>>> = Vec::with_capacity(inner.len());
        for (index, step) in inner.iter().enumerate() {
            let mut buffer = self.free.pop().unwrap_or_default();
            buffer.resize(step.raw_len as usize, 0);
            self.decode_step(disk, catalog, step, &made, check, &mut buffer)?;
            made.push(Some(buffer));
            self.release(recipe, &mut made, index);
        }
        self.decode_step(disk, catalog, last, &made, check, out)?;
        self.free.extend(made.into_iter().flatten());
        Ok(())
    }

    /// Lets go of the pack that is held open: it may be gone.
    pub(crate) fn forget_pack(&mut self) {
        self.last_pack = None;
    }

    /// Takes back the buffers that no later step needs.
    fn release(&mut self, recipe: &Recipe, made: &mut [Option<Vec<u8>>], done: usize) {
        let later = recipe.steps.get(done + 1..).unwrap_or_default();
        for (index, buffer) in made.iter_mut().enumerate() {
            if !later.iter().any(|step| step.inputs.contains(&index)) {
                self.free.extend(buffer.take());
            }
        }
    }

    fn decode_step(
        &mut self,
        disk: &dyn Disk,
        catalog: &Catalog,
        step: &RecipeStep,
        made: &[Option<Vec<u8>>],
        check: bool,
        out: &mut [u8],
    ) -> Result<()> {
        let pack = self.pack(disk, catalog, &step.pack)?;
        let record = pack.record(step.extent, &mut self.record)?;
        let input = |index: &usize| {
            made.get(*index)
                .and_then(Option::as_deref)
                .unwrap_or_default()
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

/// Holds raw bytes against the chunk's id.
pub(crate) fn check_chunk(chunk: &ChunkId, raw: &[u8]) -> Result<()> {
    let found = hash::chunk_id(raw);
    if found == *chunk {
        return Ok(());
    }
    Err(Error::corrupt("chunk-hash", "a chunk's bytes do not hash to its id").differs(chunk, found))
}
