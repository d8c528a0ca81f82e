//! A chunk's record: against the best base that the bounds allow, or alone.

use std::cell::{LazyCell, RefCell};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::chain::{Bounds, Candidate};
use crate::codec::{self, Estimate, Form, Layout, Prediction, Workspace};
use crate::error::{Error, Result};
use crate::format::pack::IndexEntry;
use crate::format::store_file::Level;
use crate::id::ChunkId;
use crate::restore::decode::Decoder;
use crate::save::base::{Base, Held};
use crate::save::family::FamilyTask;
use crate::save::probe::Probe;
use crate::save::spare::Spare;
use crate::store::base_cache::BaseCache;

/// The records that a new one may be coded against.
pub(crate) trait Bases: Sync {
    /// Whether the chunk has a record that may be relied on, with all its inputs.
    fn is_usable(&self, chunk: &ChunkId) -> Result<bool>;

    /// The record of a chunk, of which it was said that it is usable.
    fn record(&self, chunk: &ChunkId) -> Option<Arc<IndexEntry>>;

    /// The bytes of a chunk.
    fn decode(&self, chunk: &ChunkId, decoder: &mut Decoder) -> Result<Vec<u8>>;
}

/// One chunk and what is known of it beforehand.
pub(crate) struct ChunkTask<'t> {
    pub(crate) raw: &'t [u8],
    pub(crate) form: Form,
    /// The other checkpoint's chunk of the same tensor and range, if it is as long.
    pub(crate) parent: Option<ChunkId>,
    pub(crate) index: u64,
    pub(crate) base_probe: &'t Probe,
    pub(crate) grid_probe: &'t Probe,
    /// What it is coded beside, if its tensor is related to others.
    pub(crate) family: Option<FamilyTask<'t>>,
}

/// A record, its index entry, and how its words are laid out.
type Made = (Vec<u8>, IndexEntry, Layout);

/// Makes records.
pub(crate) struct ChunkEncoder<'e> {
    pub(crate) bases: &'e dyn Bases,
    /// Raw bytes of likely bases.
    pub(crate) cache: &'e Mutex<BaseCache>,
    /// Memory for records, which whoever writes them gives back, and for bases.
    pub(crate) spare: Spare,
    pub(crate) bounds: Bounds,
    pub(crate) level: Level,
    /// Decode every record before it is written.
    pub(crate) verify: bool,
    /// Whether few lanes change, of chunks whose chains are as long as they may be.
    pub(crate) patches: Probe,
}

/// A record, and what was seen on the way.
pub(crate) struct Encoded {
    pub(crate) record: Vec<u8>,
    /// Without what the pack writer fills in.
    pub(crate) entry: IndexEntry,
    /// Lanes that differ from the base that it was compared with; all where there was none.
    pub(crate) changed_lanes: u64,
}

impl ChunkEncoder<'_> {
    /// Says that the chunks of another checkpoint follow.
    pub(crate) fn begin(&self) {
        self.lock_cache().begin_save();
    }

    /// The record of a chunk with that id; a base is looked for if `may_use_base`.
    pub(crate) fn encode(
        &self,
        task: &ChunkTask<'_>,
        id: ChunkId,
        may_use_base: bool,
        decoder: &mut Decoder,
    ) -> Result<Encoded> {
        let alone = LazyCell::new(|| codec::estimate_alone(task.raw, task.form));
        let own = RefCell::default();
        let decoded = task.family.as_ref().map_or(&own, |family| family.decoded);
        let mut base = match may_use_base {
            true => self.choose(task, &alone, decoder, &mut decoded.borrow_mut())?,
            false => None,
        };
        let mut made = self.write_against(task, id, base.as_ref(), &alone, decoder)?;
        if made.is_none() && base.as_ref().is_some_and(Base::is_predicted) {
            // An estimate was too hopeful: one base may still do.
            base = self.choose_base(task, &alone, None, decoder, &decoded.borrow())?;
            made = self.write_against(task, id, base.as_ref(), &alone, decoder)?;
        }
        let changed_lanes = changed_lanes(task, base.as_ref());
        let (record, entry, layout) = match made {
            Some(made) => made,
            None => self.write_alone(task, id, &alone, &mut decoder.workspace)?,
        };
        if task.form.rows.is_some() {
            task.grid_probe.tell(layout.is_grid());
        }
        if self.verify {
            decode_again(task, &record, base.as_ref(), &mut decoder.workspace)?;
        }
        self.hold_next_base(task, &entry, base);
        Ok(Encoded {
            record,
            entry,
            changed_lanes,
        })
    }

    /// A chunk's raw bytes, if they are held in memory.
    pub(crate) fn held(&self, chunk: &ChunkId) -> Option<Arc<Vec<u8>>> {
        self.lock_cache().get(chunk)
    }

    fn lock_cache(&self) -> MutexGuard<'_, BaseCache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What restoring may cost with the chunk of a task.
    pub(super) fn budget(&self, task: &ChunkTask<'_>) -> u64 {
        match &task.family {
            Some(family) => family.budget,
            None => self.bounds.budget(task.raw.len()),
        }
    }

    /// A record, also of this save.
    pub(super) fn record(&self, task: &ChunkTask<'_>, chunk: &ChunkId) -> Option<Arc<IndexEntry>> {
        let others = |id: &ChunkId| self.bases.record(id);
        match &task.family {
            Some(family) => family.record(chunk, others),
            None => others(chunk),
        }
    }

    /// The record against a base, if it really keeps the bounds and really is smaller. What the
    /// level makes may be shorter and too slow: then what was judged best is tried.
    fn write_against(
        &self,
        task: &ChunkTask<'_>,
        id: ChunkId,
        base: Option<&Base<'_>>,
        alone: &LazyCell<Estimate, impl FnOnce() -> Estimate>,
        decoder: &mut Decoder,
    ) -> Result<Option<Made>> {
        let Some(base) = base else {
            return Ok(None);
        };
        let made = self.write_at_level(task, id, base, alone, self.level, decoder)?;
        match self.level {
            Level::Fast => Ok(made),
            _ if made.is_some() => Ok(made),
            _ => self.write_at_level(task, id, base, alone, Level::Fast, decoder),
        }
    }

    fn write_at_level(
        &self,
        task: &ChunkTask<'_>,
        id: ChunkId,
        base: &Base<'_>,
        alone: &LazyCell<Estimate, impl FnOnce() -> Estimate>,
        level: Level,
        decoder: &mut Decoder,
    ) -> Result<Option<Made>> {
        let mut record = self.spare.take(codec::max_encoded_len(task.raw.len()));
        let encoding = codec::encode_estimated(
            task.raw,
            Some(codec::Reference {
                bytes: base.bytes(),
                prediction: &base.prediction,
                inputs: base.inputs.len(),
            }),
            task.form,
            &base.estimate,
            level,
            &mut decoder.workspace,
            &mut record,
        )?;
        let cost = codec::cost::of_record(record.len(), task.raw.len(), encoding);
        if !encoding.uses_base {
            return Ok(Some((record, entry(task, id, None, cost), encoding.layout)));
        }
        // An estimate leaves out the head.
        let payload = record.len().saturating_sub(codec::max_encoded_len(0));
        let is_smaller = base.is_clear || payload <= alone.stored_len;
        if is_smaller && base.fits(self.bounds, cost, self.budget(task)) {
            let entry = entry(task, id, Some(base), cost);
            return Ok(Some((record, entry, encoding.layout)));
        }
        self.spare.give(record);
        Ok(None)
    }

    /// The record of a chunk that stands alone.
    fn write_alone(
        &self,
        task: &ChunkTask<'_>,
        id: ChunkId,
        alone: &LazyCell<Estimate, impl FnOnce() -> Estimate>,
        workspace: &mut Workspace,
    ) -> Result<Made> {
        let mut record = self.spare.take(codec::max_encoded_len(task.raw.len()));
        let encoding = codec::encode_estimated(
            task.raw,
            None,
            task.form,
            alone,
            self.level,
            workspace,
            &mut record,
        )?;
        let cost = codec::cost::of_record(record.len(), task.raw.len(), encoding);
        if self.bounds.allow(0, cost, self.budget(task)) {
            return Ok((record, entry(task, id, None, cost), encoding.layout));
        }
        // Nothing costs less to restore than the bytes themselves.
        record.clear();
        let encoding = codec::encode_raw(task.raw, task.form.lane, &mut record)?;
        let cost = codec::cost::of_record(record.len(), task.raw.len(), encoding);
        Ok((record, entry(task, id, None, cost), encoding.layout))
    }

    /// Keeps in memory what the next save will code against: this chunk, unless a delta on top
    /// of it would break the budget, or else its base once more. A family may have some budget
    /// left for the former all the same.
    fn hold_next_base(&self, task: &ChunkTask<'_>, entry: &IndexEntry, mut base: Option<Base<'_>>) {
        if let Some(predicted) = base.as_mut().and_then(|b| b.predicted.take()) {
            self.spare.give(predicted);
        }
        let single = base.filter(|b| b.prediction == Prediction::Base);
        let Some((base_entry, raw)) = single.and_then(Base::into_only_input) else {
            let is_wanted = task.base_probe.is_worth_trying(1) || task.family.is_some();
            self.hold(task, entry.chunk, task.parent, is_wanted);
            return;
        };
        let own_cost = u64::from(entry.cost).saturating_sub(base_entry.cost.into());
        let again = Candidate::parent(Arc::new(entry.clone()));
        let fits = again.fits(self.bounds, own_cost, self.bounds.budget(task.raw.len()));
        if fits {
            // Nobody else may hold its memory, which the chunk then gets.
            drop(raw);
            self.hold(task, entry.chunk, Some(base_entry.chunk), true);
            return;
        }
        self.hold(
            task,
            entry.chunk,
            task.parent.filter(|p| *p != base_entry.chunk),
            task.family.is_some(),
        );
        if let Held::Shared(raw) = raw {
            self.lock_cache().insert(base_entry.chunk, raw);
        }
    }

    /// Keeps a chunk in memory in place of another, if it is wanted and there is room.
    fn hold(&self, task: &ChunkTask<'_>, chunk: ChunkId, old: Option<ChunkId>, is_wanted: bool) {
        let (old, has_room) = {
            let mut bases = self.lock_cache();
            let old = old.and_then(|id| Some((id, bases.remove(&id)?)));
            (old, is_wanted && bases.make_room(task.raw.len() as u64))
        };
        match (old, &task.family) {
            // A sibling may be predicted from it.
            (Some(old), Some(family)) => family.decoded.borrow_mut().push(old),
            (Some((_, old)), None) => self.spare.give_shared(old),
            (None, _) => {}
        }
        if has_room {
            let mut raw = self.spare.take(task.raw.len());
            raw.extend_from_slice(task.raw);
            self.lock_cache().insert(chunk, Arc::new(raw));
        }
    }
}

/// The index entry, without what the pack writer fills in; the cycle's length gets the
/// record's own there.
fn entry(task: &ChunkTask<'_>, id: ChunkId, base: Option<&Base<'_>>, cost: u64) -> IndexEntry {
    let saturate = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    IndexEntry {
        chunk: id,
        offset: 0,
        stored_len: 0,
        raw_len: saturate(task.raw.len() as u64),
        crc32: 0,
        cost: saturate(cost + base.map_or(0, |b| b.closure_cost)),
        cycle_len: base.map_or(0, |b| b.cycle_len),
        age: base.map_or(0, |b| b.age.saturating_add(1)),
        depth: base.and_then(Base::depth).unwrap_or_default(),
        inputs: base.map_or_else(Vec::new, |b| b.inputs.iter().map(|e| e.chunk).collect()),
    }
}

/// Lanes that differ from the base that a chunk was compared with; all where there was none.
fn changed_lanes(task: &ChunkTask<'_>, base: Option<&Base<'_>>) -> u64 {
    let lane = task.form.lane;
    let compared = base.and_then(|base| Some((base, base.input_bytes.first()?.bytes())));
    match compared.filter(|(_, held)| held.len() == task.raw.len()) {
        Some((base, held)) => {
            let counted = base
                .estimate
                .changed_lanes()
                .filter(|_| !base.is_predicted());
            counted.unwrap_or_else(|| codec::changed_lanes(task.raw, held, lane))
        }
        None => (task.raw.len() / lane.width) as u64,
    }
}

fn decode_again(
    task: &ChunkTask<'_>,
    record: &[u8],
    base: Option<&Base<'_>>,
    workspace: &mut Workspace,
) -> Result<()> {
    let inputs = base.map_or_else(Vec::new, Base::input_slices);
    let head = crate::format::record::decode_head(record)?;
    let inputs = inputs.get(..usize::from(head.inputs)).unwrap_or_default();
    let mut raw = vec![0; task.raw.len()];
    codec::decode(record, inputs, &mut raw, workspace)?;
    if raw == task.raw {
        return Ok(());
    }
    Err(Error::corrupt(
        "encoder",
        "a record does not decode to what was saved; memory may be bad",
    ))
}
