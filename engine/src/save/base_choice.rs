//! What a chunk is coded against: the best prediction or base that the bounds allow.

use std::cell::LazyCell;
use std::sync::Arc;

use crate::chain::{self, Candidate, Costs, Step};
use crate::codec::{self, Estimate, Prediction, Unfit};
use crate::error::{ErrorKind, Result};
use crate::format::pack::IndexEntry;
use crate::id::ChunkId;
use crate::restore::decode::Decoder;
use crate::save::base::{Base, Held};
use crate::save::encoder::{ChunkEncoder, ChunkTask};
use crate::save::family::{Input, LikelyWay};
use crate::save::probe::Probe;

/// What was decoded for one chunk: several ways to predict it take the same inputs.
pub(super) type Decoded = Vec<(ChunkId, Arc<Vec<u8>>)>;

/// What is so many times shorter than standing alone is taken without a look at other ways, of
/// which none can save much more.
const CLEARLY_LESS: usize = 16;

impl ChunkEncoder<'_> {
    /// What the chunk is best coded against: a prediction from several inputs, or one base.
    pub(super) fn choose<'t>(
        &self,
        task: &ChunkTask<'t>,
        alone: &LazyCell<Estimate, impl FnOnce() -> Estimate>,
        decoder: &mut Decoder,
        decoded: &mut Decoded,
    ) -> Result<Option<Base<'t>>> {
        let len = |base: &Base<'_>| base.estimate.stored_len;
        let found = self.patch_of_parent(task, decoder, decoded)?;
        let step = found.as_ref().filter(|patch| !patch.fits);
        let step = step.map(|patch| patch.step);
        let patch = found.filter(|patch| patch.fits).map(|patch| patch.base);
        let gains = |estimate: &Estimate| match &patch {
            Some(patch) => is_worth_more(estimate.stored_len, len(patch)),
            None => self.gains(estimate, alone),
        };
        let mut foreseen = self.foresee_all(task, gains, decoder, decoded)?;
        foreseen.sort_by_key(|(_, base)| len(base));
        let is_clear = |(_, base): &(_, Base<'_>)| len(base) * CLEARLY_LESS <= alone.stored_len;
        let base = match patch {
            Some(patch) => Some(patch),
            None if foreseen.first().is_some_and(is_clear) => None,
            None => self.choose_base(task, alone, step, decoder, decoded)?,
        };
        let to_beat = base.as_ref().map_or_else(|| alone.stored_len, len);
        let beats_alone = |found: &Base<'_>| match &base {
            Some(base) if base.is_clear => true,
            _ => self.gains(&found.estimate, alone),
        };
        let mut taken: Option<Base<'t>> = None;
        for (probe, prediction) in foreseen {
            // The sample may have been unlucky.
            let may_win = taken.is_none() && len(&prediction) * 100 <= to_beat * 101;
            let predicted = may_win.then(|| self.predict(task, prediction));
            let predicted = predicted.filter(|found| {
                is_worth_more(len(found), to_beat) && beats_alone(found) && self.fits(task, found)
            });
            probe.tell(predicted.is_some());
            taken = taken.or(predicted);
        }
        Ok(taken.or(base))
    }

    /// Whether an estimate saves enough against standing alone for a dependency.
    fn gains(&self, estimate: &Estimate, alone: &Estimate) -> bool {
        estimate.stored_len * 1000 <= alone.stored_len * (1000 - self.bounds.gain_min_milli())
    }

    /// What the task's ways are likely to make, judged from samples, of those that may pay.
    fn foresee_all<'t, 'f>(
        &self,
        task: &'f ChunkTask<'t>,
        gains: impl Fn(&Estimate) -> bool,
        decoder: &mut Decoder,
        decoded: &mut Decoded,
    ) -> Result<Vec<(&'f Probe, Base<'t>)>> {
        let mut foreseen = Vec::new();
        for likely in task.family.iter().flat_map(|family| &family.ways) {
            let Some(found) = self.foresee(task, likely, decoder, decoded)? else {
                continue;
            };
            if gains(&found.estimate) && self.fits(task, &found) {
                foreseen.push((likely.probe, found));
            } else {
                likely.probe.tell(false);
            }
        }
        Ok(foreseen)
    }

    /// Whether the bounds allow it, as far as the estimate tells.
    fn fits(&self, task: &ChunkTask<'_>, base: &Base<'_>) -> bool {
        let own_cost = chain::estimated_cost(&base.estimate, task.raw.len());
        base.fits(self.bounds, own_cost, self.budget(task))
    }

    /// What one way predicts, as far as a sample tells; `None` if an input is missing or damaged,
    /// or the bounds forbid it.
    fn foresee<'t>(
        &self,
        task: &ChunkTask<'t>,
        likely: &LikelyWay<'t>,
        decoder: &mut Decoder,
        decoded: &mut Decoded,
    ) -> Result<Option<Base<'t>>> {
        let Some(family) = &task.family else {
            return Ok(None);
        };
        let mut inputs = Vec::new();
        for input in &likely.inputs {
            inputs.push(match input {
                Input::Sibling(entry, _) => Arc::clone(entry),
                Input::Other(chunk) => {
                    let usable = self.bases.is_usable(chunk)?;
                    let Some(entry) = self.bases.record(chunk).filter(|_| usable) else {
                        return Ok(None);
                    };
                    entry
                }
            });
        }
        let ids: Vec<ChunkId> = inputs.iter().map(|e| e.chunk).collect();
        let known = |id: &ChunkId| self.bases.record(id);
        let closure = Costs::new(|id: &ChunkId| family.record(id, known)).closure(&ids);
        let before = task.parent.and_then(|id| self.bases.record(&id));
        let mut found = Base {
            closure_cost: closure.iter().map(|(_, own)| own).sum(),
            extra_cost: family.extra_cost(&ids, known),
            inputs,
            input_bytes: Vec::new(),
            prediction: Prediction::Base,
            predicted: None,
            estimate: Estimate::NOTHING,
            is_clear: false,
            age: before.as_ref().map_or(0, |e| e.age),
            cycle_len: before.as_ref().map_or(0, |e| e.cycle_len),
        };
        if !found.fits(self.bounds, least_cost(task.raw.len()), self.budget(task)) {
            return Ok(None);
        }
        for (input, entry) in likely.inputs.iter().zip(&found.inputs) {
            found.input_bytes.push(match input {
                Input::Sibling(_, raw) => Held::Borrowed(raw),
                Input::Other(_) => match self.base_bytes(entry, decoder, decoded) {
                    Ok(raw) => {
                        keep(decoded, entry.chunk, &raw);
                        Held::Shared(raw)
                    }
                    Err(error) if error.kind() == ErrorKind::Corrupt => {
                        tracing::warn!(%error, "a damaged base is passed over");
                        return Ok(None);
                    }
                    Err(error) => return Err(error),
                },
            });
        }
        let slices = found.input_slices();
        let prediction = match codec::fit(likely.way.predictor, task.raw, &slices) {
            Ok(prediction) => prediction,
            Err(Unfit::Untold) => return Ok(None),
            Err(Unfit::Misfit) => {
                likely.probe.tell(false);
                return Ok(None);
            }
        };
        found.estimate = codec::estimate_predicted(task.raw, &slices, &prediction, task.form);
        found.prediction = prediction;
        Ok(Some(found))
    }

    /// The same with every lane worked out.
    fn predict<'t>(&self, task: &ChunkTask<'_>, foreseen: Base<'t>) -> Base<'t> {
        let mut predicted = self.spare.take(task.raw.len());
        predicted.resize(task.raw.len(), 0);
        let slices = foreseen.input_slices();
        foreseen.prediction.predict(&slices, &mut predicted);
        Base {
            estimate: codec::estimate(task.raw, &predicted, task.form),
            predicted: Some(predicted),
            ..foreseen
        }
    }

    /// The record of the parent's chunk, if it may be relied on and is as long.
    pub(super) fn parent(&self, task: &ChunkTask<'_>) -> Result<Option<Arc<IndexEntry>>> {
        let usable = match &task.parent {
            Some(parent) => self.bases.is_usable(parent)?,
            None => false,
        };
        let entry = task.parent.filter(|_| usable);
        let entry = entry.and_then(|id| self.record(task, &id));
        Ok(entry.filter(|e| e.raw_len as usize == task.raw.len()))
    }

    /// Whether the bounds allow a record against one base.
    ///
    /// What siblings leave of the family's budget is for predictions, which need more than one
    /// chain: a longer chain of its own would only be cut when the siblings grow theirs.
    pub(super) fn fits_beside(
        &self,
        task: &ChunkTask<'_>,
        base: &IndexEntry,
        extra_cost: u64,
        own_cost: u64,
    ) -> bool {
        let cost = extra_cost.saturating_add(own_cost);
        let depth = base.depth.checked_add(1);
        depth.is_some_and(|d| self.bounds.allow(d, cost, self.budget_of_one(task)))
    }

    /// What restoring may cost with the chunk coded against one base.
    fn budget_of_one(&self, task: &ChunkTask<'_>) -> u64 {
        self.budget(task).min(self.bounds.budget(task.raw.len()))
    }

    /// The nearest base that the bounds allow and that saves enough.
    pub(super) fn choose_base<'t>(
        &self,
        task: &ChunkTask<'t>,
        alone: &LazyCell<Estimate, impl FnOnce() -> Estimate>,
        step: Option<Step>,
        decoder: &mut Decoder,
        decoded: &Decoded,
    ) -> Result<Option<Base<'t>>> {
        if !task.base_probe.is_worth_trying(task.index) {
            return Ok(None);
        }
        let find = |id: &ChunkId| self.record(task, id);
        let parent = self.parent(task)?;
        let mut candidate = parent.map(Candidate::parent);
        while let Some(tried) = candidate {
            // The lower bound of a record's cost rules most bases out before they are decoded.
            let extra_cost = self.extra_cost(task, &tried.base);
            let fits = |own_cost: u64| self.fits_beside(task, &tried.base, extra_cost, own_cost);
            if !fits(least_cost(task.raw.len())) {
                candidate = tried.older(find);
                continue;
            }
            let raw = match self.base_bytes(&tried.base, decoder, decoded) {
                Ok(raw) => raw,
                Err(error) if error.kind() == ErrorKind::Corrupt => {
                    // Old damage must not keep what is new from being saved.
                    tracing::warn!(%error, "a damaged base is passed over");
                    task.base_probe.tell(false);
                    return Ok(None);
                }
                Err(error) => return Err(error),
            };
            let estimate = codec::estimate(task.raw, &raw, task.form);
            if !self.gains(&estimate, alone) {
                task.base_probe.tell(false);
                return Ok(None);
            }
            let own_cost = chain::estimated_cost(&estimate, task.raw.len());
            let cost = extra_cost.saturating_add(own_cost);
            let room = self.budget_of_one(task).saturating_sub(cost);
            let is_worn_out = || match step {
                None => tried.is_worn_out(estimate.stored_len, alone.stored_len, room),
                Some(step) => {
                    let depth = self.bounds.depth_max.saturating_sub(tried.base.depth);
                    let followed = step.average(estimate.stored_len, room, depth.saturating_sub(1));
                    followed >= self.average_anew(task, alone, step)
                }
            };
            if fits(own_cost) && !is_worn_out() {
                task.base_probe.tell(true);
                return Ok(Some(Base::of_one(&tried, raw, estimate, extra_cost)));
            }
            candidate = tried.older(find);
        }
        Ok(None)
    }

    /// Bytes of a record on average, if a chain begins anew with the chunk alone.
    fn average_anew(&self, task: &ChunkTask<'_>, alone: &Estimate, step: Step) -> u64 {
        let cost = chain::estimated_cost(alone, task.raw.len());
        let room = self.budget_of_one(task).saturating_sub(cost);
        step.average(alone.stored_len, room, self.bounds.depth_max)
    }

    /// What restoring costs more with a base.
    pub(super) fn extra_cost(&self, task: &ChunkTask<'_>, base: &IndexEntry) -> u64 {
        match &task.family {
            Some(family) => family.extra_cost(&[base.chunk], |id| self.bases.record(id)),
            None => u64::from(base.cost),
        }
    }

    /// A base's raw bytes: held from before, or decoded.
    pub(super) fn base_bytes(
        &self,
        base: &IndexEntry,
        decoder: &mut Decoder,
        decoded: &Decoded,
    ) -> Result<Arc<Vec<u8>>> {
        if let Some(raw) = self.held(&base.chunk) {
            return Ok(raw);
        }
        match decoded.iter().find(|(id, _)| *id == base.chunk) {
            Some((_, raw)) => Ok(Arc::clone(raw)),
            None => Ok(Arc::new(self.bases.decode(&base.chunk, decoder)?)),
        }
    }
}

/// Keeps an input for the other ways; what is tried down a chain is not kept.
pub(super) fn keep(decoded: &mut Decoded, chunk: ChunkId, raw: &Arc<Vec<u8>>) {
    if !decoded.iter().any(|(id, _)| *id == chunk) {
        decoded.push((chunk, Arc::clone(raw)));
    }
}

/// Whether a prediction is enough shorter than a difference from one base: it takes more records
/// to decode, and later ones take those in turn.
const fn is_worth_more(predicted: usize, base: usize) -> bool {
    predicted * 100 <= base * 99
}

/// What putting lanes together costs at least, whatever the record.
pub(super) fn least_cost(raw_len: usize) -> u64 {
    raw_len as u64 * codec::cost::weight::PATCH / 256
}
