//! A chunk's record: against the best base that the bounds allow, or alone.

use std::cell::LazyCell;
use std::sync::{Arc, Mutex, PoisonError};

use crate::chain::{self, Bounds, Candidate};
use crate::codec::{self, Estimate, Form, Layout, Workspace};
use crate::error::{Error, ErrorKind, Result};
use crate::format::pack::IndexEntry;
use crate::format::store_file::Level;
use crate::id::ChunkId;
use crate::restore::decode::Decoder;
use crate::save::probe::Probe;
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
    /// The parent's chunk of the same tensor and range, if it is as long.
    pub(crate) parent: Option<ChunkId>,
    pub(crate) index: u64,
    pub(crate) base_probe: &'t Probe,
    pub(crate) grid_probe: &'t Probe,
}

/// Makes records.
pub(crate) struct ChunkEncoder<'e> {
    pub(crate) bases: &'e dyn Bases,
    /// Raw bytes of likely bases.
    pub(crate) cache: &'e Mutex<BaseCache>,
    pub(crate) bounds: Bounds,
    pub(crate) level: Level,
    /// Decode every record before it is written.
    pub(crate) verify: bool,
}

/// A record, and what was seen on the way.
pub(crate) struct Encoded {
    pub(crate) record: Vec<u8>,
    /// Without what the pack writer fills in.
    pub(crate) entry: IndexEntry,
    /// Lanes that differ from the base that it was compared with; all where there was none.
    pub(crate) changed_lanes: u64,
}

/// A base that was chosen, with its bytes.
struct Base {
    candidate: Candidate,
    raw: Arc<Vec<u8>>,
    estimate: Estimate,
}

impl ChunkEncoder<'_> {
    /// The record of a chunk with that id; a base is looked for if `may_use_base`.
    pub(crate) fn encode(
        &self,
        task: &ChunkTask<'_>,
        id: ChunkId,
        may_use_base: bool,
        decoder: &mut Decoder,
    ) -> Result<Encoded> {
        let alone = LazyCell::new(|| codec::estimate_alone(task.raw, task.form));
        let base = match may_use_base {
            true => self.choose_base(task, &alone, decoder)?,
            false => None,
        };
        let lane = task.form.lane;
        let changed_lanes = match &base {
            Some(base) => codec::changed_lanes(task.raw, &base.raw, lane),
            None => (task.raw.len() / lane.width) as u64,
        };
        let (record, entry, layout) =
            self.write(task, id, base.as_ref(), &alone, &mut decoder.workspace)?;
        if task.form.rows.is_some() {
            task.grid_probe.tell(layout.is_grid());
        }
        if self.verify {
            decode_again(task, &record, base.as_ref(), &mut decoder.workspace)?;
        }
        self.hold_next_base(task, &entry, base.as_ref());
        Ok(Encoded {
            record,
            entry,
            changed_lanes,
        })
    }

    /// A chunk's raw bytes, if they are held in memory.
    pub(crate) fn held(&self, chunk: &ChunkId) -> Option<Arc<Vec<u8>>> {
        let cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        cache.get(chunk)
    }

    /// The nearest base that the bounds allow and that saves enough.
    fn choose_base(
        &self,
        task: &ChunkTask<'_>,
        alone: &LazyCell<Estimate, impl FnOnce() -> Estimate>,
        decoder: &mut Decoder,
    ) -> Result<Option<Base>> {
        if !task.base_probe.is_worth_trying(task.index) {
            return Ok(None);
        }
        let find = |id: &ChunkId| self.bases.record(id);
        let usable = match &task.parent {
            Some(parent) => self.bases.is_usable(parent)?,
            None => false,
        };
        let parent = task
            .parent
            .filter(|_| usable)
            .and_then(|id| find(&id))
            .filter(|e| e.raw_len as usize == task.raw.len());
        let mut candidate = parent.map(Candidate::parent);
        while let Some(tried) = candidate {
            // The lower bound of a record's cost rules most bases out before they are decoded.
            if !tried.fits(self.bounds, merge_cost(task.raw.len()), task.raw.len()) {
                candidate = Candidate::base_of(&tried.base, find);
                continue;
            }
            let raw = match self.base_bytes(&tried.base, decoder) {
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
            if estimate.stored_len * 1000 > alone.stored_len * (1000 - self.bounds.gain_min_milli())
            {
                task.base_probe.tell(false);
                return Ok(None);
            }
            let own_cost = estimate.stored_len as u64 + merge_cost(task.raw.len());
            if tried.fits(self.bounds, own_cost, task.raw.len())
                && !tried.is_worn_out(estimate.stored_len)
            {
                task.base_probe.tell(true);
                return Ok(Some(Base {
                    candidate: tried,
                    raw,
                    estimate,
                }));
            }
            candidate = Candidate::base_of(&tried.base, find);
        }
        Ok(None)
    }

    /// A base's raw bytes: held from before, or decoded.
    fn base_bytes(&self, base: &IndexEntry, decoder: &mut Decoder) -> Result<Arc<Vec<u8>>> {
        match self.held(&base.chunk) {
            Some(raw) => Ok(raw),
            None => Ok(Arc::new(self.bases.decode(&base.chunk, decoder)?)),
        }
    }

    /// The record: against the base if it really keeps the bounds and really is smaller.
    fn write(
        &self,
        task: &ChunkTask<'_>,
        id: ChunkId,
        base: Option<&Base>,
        alone: &LazyCell<Estimate, impl FnOnce() -> Estimate>,
        workspace: &mut Workspace,
    ) -> Result<(Vec<u8>, IndexEntry, Layout)> {
        let mut record = Vec::with_capacity(codec::max_encoded_len(task.raw.len()));
        if let Some(base) = base {
            let encoding = codec::encode_estimated(
                task.raw,
                Some(&base.raw),
                task.form,
                &base.estimate,
                self.level,
                workspace,
                &mut record,
            )?;
            let cost = chain::record_cost(record.len(), task.raw.len(), encoding);
            if !encoding.uses_base {
                return Ok((record, entry(task, id, None, cost), encoding.layout));
            }
            // An estimate leaves out the head.
            let payload = record.len().saturating_sub(codec::max_encoded_len(0));
            let is_smaller = payload <= alone.stored_len;
            if is_smaller && base.candidate.fits(self.bounds, cost, task.raw.len()) {
                return Ok((record, entry(task, id, Some(base), cost), encoding.layout));
            }
            record.clear();
        }
        let encoding = codec::encode_estimated(
            task.raw,
            None,
            task.form,
            alone,
            self.level,
            workspace,
            &mut record,
        )?;
        let cost = chain::record_cost(record.len(), task.raw.len(), encoding);
        if self.bounds.allow(0, cost, task.raw.len()) {
            return Ok((record, entry(task, id, None, cost), encoding.layout));
        }
        // Nothing costs less to restore than the bytes themselves.
        record.clear();
        let encoding = codec::encode_raw(task.raw, task.form.lane, &mut record)?;
        let cost = chain::record_cost(record.len(), task.raw.len(), encoding);
        Ok((record, entry(task, id, None, cost), encoding.layout))
    }

    /// Keeps in memory what the next save will code against: this chunk, unless a delta on top
    /// of it would break the budget, or else its base once more.
    fn hold_next_base(&self, task: &ChunkTask<'_>, entry: &IndexEntry, base: Option<&Base>) {
        let mut bases = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(base) = base else {
            if let Some(parent) = &task.parent {
                bases.remove(parent);
            }
            if task.base_probe.is_worth_trying(1) {
                bases.insert(entry.chunk, Arc::new(task.raw.to_vec()));
            }
            return;
        };
        let base_id = base.candidate.base.chunk;
        let own_cost = u64::from(entry.cost).saturating_sub(u64::from(base.candidate.base.cost));
        let again = Candidate::parent(Arc::new(entry.clone()));
        if again.fits(self.bounds, own_cost, task.raw.len()) {
            bases.remove(&base_id);
            bases.insert(entry.chunk, Arc::new(task.raw.to_vec()));
        } else {
            bases.insert(base_id, Arc::clone(&base.raw));
        }
    }
}

/// The index entry, without what the pack writer fills in; the cycle's length gets the
/// record's own there.
fn entry(task: &ChunkTask<'_>, id: ChunkId, base: Option<&Base>, cost: u64) -> IndexEntry {
    let saturate = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    let on = base.map(|b| &b.candidate);
    IndexEntry {
        chunk: id,
        offset: 0,
        stored_len: 0,
        raw_len: saturate(task.raw.len() as u64),
        crc32: 0,
        cost: saturate(cost + on.map_or(0, |c| u64::from(c.base.cost))),
        cycle_len: on.map_or(0, |c| c.cycle_len),
        age: on.map_or(0, |c| c.age.saturating_add(1)),
        depth: on.map_or(0, |c| c.base.depth.saturating_add(1)),
        inputs: on.map(|c| c.base.chunk).into_iter().collect(),
    }
}

fn decode_again(
    task: &ChunkTask<'_>,
    record: &[u8],
    base: Option<&Base>,
    workspace: &mut Workspace,
) -> Result<()> {
    let inputs: Vec<&[u8]> = base.map(|b| b.raw.as_slice()).into_iter().collect();
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

/// What merging alone costs: less than any record against a base.
fn merge_cost(raw_len: usize) -> u64 {
    raw_len as u64 * chain::weight::MERGE / 256
}
