//! Restore: manifest, plan, read, decode into the caller's buffers.

mod ahead;
pub(crate) mod decode;
mod everywhere;
mod otherwise;
pub mod plan;
pub mod recipe;
mod salvage;
mod select;
mod shared;
mod work;

pub use salvage::{DamagedPart, LostRange, Salvage};
pub(crate) use select::require_kept;
pub use select::{Output, Selection, TENSOR_DROPPED};

use std::sync::Arc;

use crate::codec;
use crate::error::{Error, ErrorKind, Result};
use crate::format::manifest::Manifest;
use crate::id::{CheckpointId, ChunkId};
use crate::memory;
use crate::progress::{Observer, Unobserved};
use crate::restore::plan::{Plan, PlanStep, Wanted};
use crate::store::Store;
use crate::store::history::{self, Place};
use crate::store::path;

/// One checkpoint of a store, open for reading.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    store: Store,
    manifest: Arc<Manifest>,
}

/// Takes decoded bytes: which output, where in it, the bytes. Called from several threads,
/// never twice for the same byte.
pub type Sink<'f> = dyn Fn(usize, u64, &[u8]) -> Result<()> + Sync + 'f;

impl Store {
    pub(crate) fn checkpoint_at(&self, place: &Place) -> Result<Checkpoint> {
        let manifest = history::read_manifest(&*self.0.disk, place)?;
        Ok(self.checkpoint_of(Arc::new(manifest)))
    }

    pub(crate) fn checkpoint_of(&self, manifest: Arc<Manifest>) -> Checkpoint {
        Checkpoint {
            store: self.clone(),
            manifest,
        }
    }
}

impl Checkpoint {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> CheckpointId {
        self.manifest.id
    }

    /// Where its manifest lies.
    #[must_use]
    pub fn place(&self) -> Place {
        let placement = &self.manifest.placement;
        Place {
            run: placement.run.clone(),
            seq: placement.seq,
            id: self.manifest.id,
        }
    }

    /// Whether its manifest is still in the store.
    pub(crate) fn is_there(&self) -> bool {
        let place = self.place();
        let path = path::manifest(&place.run, place.seq, &place.id);
        path.is_ok_and(|path| self.store.0.disk.open(&path).is_ok())
    }

    /// Everything its manifest says.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The store it belongs to.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// What restoring a selection takes; reads pack indexes but no record.
    ///
    /// # Errors
    /// `NotFound` if the selection names what is not there, `Corrupt` if a chunk is missing.
    pub fn plan(&self, selection: &Selection) -> Result<(Vec<Output>, Plan)> {
        let outputs = selection.outputs(&self.manifest)?;
        let wanted: Vec<Wanted<'_>> = outputs
            .iter()
            .filter_map(|o| o.wanted(&self.manifest.body))
            .collect();
        let plan = self.plan_wanted(&wanted)?;
        Ok((outputs, plan))
    }

    fn plan_wanted(&self, wanted: &[Wanted<'_>]) -> Result<Plan> {
        let chunks = wanted.iter().flat_map(|w| w.chunks);
        self.with_packs(chunks, || {
            Plan::new(wanted, |chunk| self.store.recipe(chunk))
        })
    }

    /// Decodes a plan into buffers, one for each output, each exactly as long as it.
    ///
    /// # Errors
    /// `InvalidInput` if a buffer has another length, `Corrupt` if a record is damaged; the
    /// buffers are then of no meaning.
    pub fn restore_into(
        &self,
        plan: &Plan,
        buffers: &mut [&mut [u8]],
        observer: &dyn Observer,
    ) -> Result<()> {
        let lengths_match = plan.outputs.len() == buffers.len()
            && plan
                .outputs
                .iter()
                .zip(buffers.iter())
                .all(|(len, buffer)| *len == buffer.len() as u64);
        if !lengths_match {
            return Err(Error::invalid(
                "buffers",
                "the buffers do not have the outputs' lengths",
            ));
        }
        let mut targets = targets(plan, buffers);
        let jobs: Vec<(&PlanStep, &mut [u8])> = plan
            .disk_order()
            .into_iter()
            .filter_map(|i| Some((plan.steps.get(i)?, targets.get_mut(i)?.take()?)))
            .collect();
        work::run(
            &self.store,
            plan,
            jobs,
            observer,
            |decoder, (step, target), scratch| {
                if step.within == (0..step.recipe.raw_len()) {
                    return self.decode(decoder, &step.recipe, false, target);
                }
                scratch.resize(step.recipe.raw_len(), 0);
                self.decode(decoder, &step.recipe, false, scratch)?;
                target.copy_from_slice(scratch.get(step.within.clone()).unwrap_or_default());
                Ok(())
            },
        )
    }

    /// Decodes a plan chunk by chunk into a sink, in memory of a few chunks for each thread.
    ///
    /// # Errors
    /// `Corrupt` if a record is damaged, and whatever the sink returns.
    pub fn restore_to(
        &self,
        plan: &Plan,
        sink: &Sink<'_>,
        check: bool,
        observer: &dyn Observer,
    ) -> Result<()> {
        let jobs: Vec<&PlanStep> = plan
            .disk_order()
            .into_iter()
            .filter_map(|i| plan.steps.get(i))
            .collect();
        work::run(
            &self.store,
            plan,
            jobs,
            observer,
            |decoder, step, scratch| {
                scratch.resize(step.recipe.raw_len(), 0);
                self.decode(decoder, &step.recipe, check, scratch)?;
                sink(
                    step.output,
                    step.target.start,
                    scratch.get(step.within.clone()).unwrap_or_default(),
                )
            },
        )
    }

    /// The bytes of one tensor.
    ///
    /// # Errors
    /// `NotFound` if there is no such tensor, `Corrupt` if a record is damaged.
    pub fn tensor(&self, name: &str) -> Result<Vec<u8>> {
        self.single(&Selection::tensor(name))
    }

    /// The bytes of rows `rows` of one tensor (ranges of its first dimension).
    ///
    /// # Errors
    /// `NotFound` if there is no such tensor, `InvalidInput` if it has no such rows.
    pub fn rows(&self, name: &str, rows: std::ops::Range<u64>) -> Result<Vec<u8>> {
        self.single(&Selection::rows(name, rows))
    }

    fn single(&self, selection: &Selection) -> Result<Vec<u8>> {
        let (_, plan) = self.plan(selection)?;
        let mut bytes = memory::zeros(plan.output_bytes())?;
        self.restore_into(&plan, &mut [&mut bytes], &Unobserved)?;
        Ok(bytes)
    }

    /// The bytes of one blob.
    ///
    /// # Errors
    /// `NotFound` if there is no such blob, `Corrupt` if a record is damaged.
    pub fn blob(&self, name: &str) -> Result<Vec<u8>> {
        let blob = self.manifest.body.blob(name).ok_or_else(|| {
            Error::new(
                ErrorKind::NotFound,
                "blob",
                format!("the checkpoint has no blob {name:?}"),
            )
        })?;
        let wanted = Wanted {
            cut: blob.cut(),
            chunks: &blob.chunks,
            bytes: 0..blob.byte_len,
        };
        let mut bytes = memory::zeros(blob.byte_len)?;
        let plan = self.plan_wanted(&[wanted])?;
        self.restore_into(&plan, &mut [&mut bytes], &Unobserved)?;
        Ok(bytes)
    }

    /// Calls `with` with a chunk's bytes where they lie in a mapped pack, if the chunk is
    /// stored as raw bytes and the store is read by mapping; they are checked first.
    ///
    /// # Errors
    /// `Corrupt` if the chunk is missing or its record is damaged.
    pub fn with_raw_chunk<R>(
        &self,
        chunk: &ChunkId,
        with: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>> {
        let store = &self.store.0;
        let recipe = self.with_packs(std::iter::once(chunk), || self.store.recipe(chunk))?;
        let [step] = recipe.steps.as_slice() else {
            return Ok(None);
        };
        let pack = store.reading.open_pack(&*store.disk, &step.pack)?;
        if pack.mapped().is_none() {
            return Ok(None);
        }
        let mut unused = Vec::new();
        let record = pack.record(step.extent, &mut unused)?;
        Ok(codec::borrow_raw(record)?.map(with))
    }
}

/// The buffers cut into the plan's target ranges, in the order of its steps. The ranges are
/// disjoint and ascending, so each can be handed to another thread.
fn targets<'b>(plan: &Plan, buffers: &'b mut [&mut [u8]]) -> Vec<Option<&'b mut [u8]>> {
    let mut targets = Vec::with_capacity(plan.steps.len());
    let mut rest: Vec<&'b mut [u8]> = buffers.iter_mut().map(|b| &mut **b).collect();
    for step in &plan.steps {
        let len = usize::try_from(step.target.end - step.target.start).unwrap_or(usize::MAX);
        let target = rest.get_mut(step.output).and_then(|buffer| {
            let (head, tail) = std::mem::take(buffer).split_at_mut_checked(len)?;
            *buffer = tail;
            Some(head)
        });
        targets.push(target);
    }
    targets
}
