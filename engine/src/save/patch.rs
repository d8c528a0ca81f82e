//! A chunk of which few lanes differ from its parent's: found by comparing, without a look at the
//! other ways to code it, which take most of a save's time.

use std::sync::Arc;

use crate::chain::{self, Candidate, Step};
use crate::codec;
use crate::error::{ErrorKind, Result};
use crate::format::pack::IndexEntry;
use crate::id::ChunkId;
use crate::restore::decode::Decoder;
use crate::save::base::Base;
use crate::save::base_choice::{Decoded, keep, least_cost};
use crate::save::encoder::{ChunkEncoder, ChunkTask};

/// A patch that is so many times shorter than standing alone is taken before any other base.
const CLEARLY_LESS: usize = 8;

/// A patch of the parent's chunk.
pub(super) struct Patch<'t> {
    pub(super) base: Base<'t>,
    pub(super) step: Step,
    /// Whether the bounds allow it.
    pub(super) fits: bool,
}

impl ChunkEncoder<'_> {
    /// The chunk as a patch of the parent's, if few lanes differ and that is clearly less than the
    /// chunk alone.
    pub(super) fn patch_of_parent<'t>(
        &self,
        task: &ChunkTask<'_>,
        decoder: &mut Decoder,
        decoded: &mut Decoded,
    ) -> Result<Option<Patch<'t>>> {
        let Some(parent) = self.parent(task)? else {
            return Ok(None);
        };
        let extra_cost = self.extra_cost(task, &parent);
        let fits = |own_cost: u64| self.fits_beside(task, &parent, extra_cost, own_cost);
        let held = self.held(&parent.chunk);
        let is_held = held.is_some();
        // What does not fit is decoded for a look at how much changes.
        let may_pay = || match fits(least_cost(task.raw.len())) {
            true => task.base_probe.is_worth_trying(task.index),
            false => self.patches.is_worth_another_try(),
        };
        if !is_held && !may_pay() {
            return Ok(None);
        }
        let raw = match held.map_or_else(|| self.base_bytes(&parent, decoder, decoded), Ok) {
            Ok(raw) => raw,
            // Whoever looks for a base says so.
            Err(error) if error.kind() == ErrorKind::Corrupt => return Ok(None),
            Err(error) => return Err(error),
        };
        if !is_held {
            keep(decoded, parent.chunk, &raw);
        }
        let estimate = codec::estimate_patch(task.raw, &raw, task.form);
        let is_clear = |len: usize| len * CLEARLY_LESS <= self.first_len(task, &parent);
        let estimate = estimate.filter(|found| is_clear(found.stored_len));
        self.patches.tell(estimate.is_some());
        let Some(estimate) = estimate else {
            return Ok(None);
        };
        let step = Step {
            len: estimate.stored_len,
            cost: chain::estimated_cost(&estimate, task.raw.len()),
        };
        let fits = fits(step.cost);
        if fits {
            task.base_probe.tell(true);
        }
        let mut base = Base::of_one(&Candidate::parent(parent), raw, estimate, extra_cost);
        base.is_clear = true;
        Ok(Some(Patch { base, step, fits }))
    }

    /// Bytes of the record that a chain begins with: about what a chunk takes alone that differs
    /// little from those of the chain.
    fn first_len(&self, task: &ChunkTask<'_>, entry: &Arc<IndexEntry>) -> usize {
        let find = |id: &ChunkId| self.record(task, id);
        let mut first = Candidate::parent(Arc::clone(entry));
        while let Some(older) = first.older(find) {
            first = older;
        }
        first.base.stored_len as usize
    }
}
