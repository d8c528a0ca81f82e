//! The base of a stranger: a checkpoint of the store that holds nearly the same, though neither
//! its run nor its names say so.
//!
//! What is near is measured: a sample of a chunk is judged against the same range of what is
//! stored, as the save itself judges bases. Which base is taken can matter more than the codec.

use std::collections::HashMap;
use std::sync::Arc;

use crate::chunking::Cut;
use crate::codec::{self, Form};
use crate::error::{Error, ErrorKind, Result};
use crate::format::body::{Body, TensorEntry};
use crate::format::manifest::Manifest;
use crate::id::{CheckpointId, ChunkId};
use crate::restore::decode::Decoder;
use crate::save::draft::Draft;
use crate::save::encoder::Bases;
use crate::store::Store;
use crate::store::history;

/// Bytes of a chunk that are compared.
const SAMPLE_LEN: usize = 64 << 10;
/// Most checkpoints of which samples are decoded.
const CHECKPOINTS_MAX: usize = 16;
/// Most tensors that speak for a checkpoint.
const PROBES_MAX: usize = 8;
/// Most tensors of other names that one is compared with.
const COUNTERPARTS_MAX: usize = 64;
/// A sample must be at least so much shorter than standing alone, in percent.
const NEAR_PERCENT: usize = 97;

/// What a save is coded against where its parent has nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Like {
    /// The checkpoint that a revision names.
    Revision(String),
    /// The nearest newest checkpoint of any run, if one is near.
    Nearest,
}

/// A checkpoint that a save was coded against where its parent had nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alike {
    /// Its id.
    pub id: CheckpointId,
    /// Its run.
    pub run: String,
    /// Its step.
    pub step: u64,
    /// How many tensors have one of it as their base.
    pub tensors: u64,
}

/// Chunks of other tensors, by the name of the draft's tensor that they are the base of.
#[derive(Default)]
pub(super) struct Likeness {
    chunks: HashMap<String, Vec<ChunkId>>,
    pub(super) alike: Option<Alike>,
}

impl Likeness {
    /// The base of a tensor.
    pub(super) fn of(&self, tensor: &str) -> &[ChunkId] {
        self.chunks.get(tensor).map_or(&[], Vec::as_slice)
    }
}

/// Finds bases for the tensors that the draft's parent does not have, as its options ask for.
pub(super) fn find(draft: &Draft<'_>, body: &Body) -> Result<Likeness> {
    let Some(like) = &draft.options.like else {
        return Ok(Likeness::default());
    };
    let parent = draft.parent().map(|p| &p.manifest().body);
    let is_strange = |t: &&TensorEntry| {
        let same = parent.and_then(|p| p.tensor(&t.name));
        t.byte_len > 0 && !same.is_some_and(|p| is_cut_alike(p, t))
    };
    let mut strangers: Vec<&TensorEntry> = body.tensors.iter().filter(is_strange).collect();
    strangers.sort_by_key(|t| std::cmp::Reverse(t.byte_len));
    let mut comparison = Comparison::of(draft);
    let chosen = match like {
        Like::Revision(revision) => Some(draft.store.checkpoint(revision)?.manifest().clone()),
        Like::Nearest if strangers.is_empty() => None,
        Like::Nearest => comparison.nearest(&strangers)?,
    };
    match chosen {
        Some(manifest) => comparison.map(&strangers, &manifest),
        None => Ok(Likeness::default()),
    }
}

fn is_cut_alike(a: &TensorEntry, b: &TensorEntry) -> bool {
    a.dtype == b.dtype && a.cut() == b.cut()
}

/// The tensors of a body that may be the base of one: that of its name, or else all of its shape.
fn counterparts<'b>(tensor: &TensorEntry, body: &'b Body) -> Vec<&'b TensorEntry> {
    let fits = |other: &&TensorEntry| is_cut_alike(other, tensor);
    if let Some(same) = body.tensor(&tensor.name).filter(fits) {
        return vec![same];
    }
    let of_shape = body.tensors.iter().filter(fits);
    let of_shape = of_shape.filter(|other| other.shape == tensor.shape);
    of_shape.take(COUNTERPARTS_MAX).collect()
}

/// Samples of a draft beside those of what is stored.
struct Comparison<'d> {
    draft: &'d Draft<'d>,
    decoder: Decoder,
    /// The beginnings of chunks that were decoded; `None` of those that cannot be.
    held: HashMap<ChunkId, Option<Arc<Vec<u8>>>>,
    samples: HashMap<String, Sample>,
}

/// The beginning of a tensor's chunk in the middle.
struct Sample {
    raw: Vec<u8>,
    alone_len: usize,
}

impl<'d> Comparison<'d> {
    fn of(draft: &'d Draft<'d>) -> Self {
        Self {
            draft,
            decoder: Decoder::default(),
            held: HashMap::new(),
            samples: HashMap::new(),
        }
    }

    /// The newest checkpoint of a run that is nearest to the tensors, if one is near.
    fn nearest(&mut self, strangers: &[&TensorEntry]) -> Result<Option<Manifest>> {
        let probes = strangers.get(..PROBES_MAX).unwrap_or(strangers);
        let mut alone = 0;
        for tensor in probes {
            alone += self.sample(tensor)?.alone_len;
        }
        let mut best = (alone * NEAR_PERCENT / 100, None);
        for manifest in candidates(&self.draft.store, strangers)? {
            let mut total = 0;
            for tensor in probes {
                let nearest = self.nearest_tensor(tensor, &manifest.body)?;
                total += match nearest {
                    Some((len, _)) => len,
                    None => self.sample(tensor)?.alone_len,
                };
            }
            if total < best.0 {
                best = (total, Some(manifest));
            }
        }
        Ok(best.1)
    }

    /// Maps each tensor to its nearest counterpart, if that is near.
    fn map(&mut self, strangers: &[&TensorEntry], manifest: &Manifest) -> Result<Likeness> {
        let mut likeness = Likeness::default();
        for tensor in strangers {
            let Some((len, found)) = self.nearest_tensor(tensor, &manifest.body)? else {
                continue;
            };
            if len * 100 <= self.sample(tensor)?.alone_len * NEAR_PERCENT {
                let chunks = found.chunks.clone();
                likeness.chunks.insert(tensor.name.clone(), chunks);
            }
        }
        let tensors = likeness.chunks.len() as u64;
        likeness.alike = (tensors > 0).then(|| Alike {
            id: manifest.id,
            run: manifest.placement.run.clone(),
            step: manifest.body.step,
            tensors,
        });
        Ok(likeness)
    }

    /// The counterpart against which a tensor's sample is shortest, and that length.
    fn nearest_tensor<'b>(
        &mut self,
        tensor: &TensorEntry,
        body: &'b Body,
    ) -> Result<Option<(usize, &'b TensorEntry)>> {
        let mut best: Option<(usize, &TensorEntry)> = None;
        for other in counterparts(tensor, body) {
            let Some(chunk) = other.chunks.get(middle(tensor.cut())) else {
                continue;
            };
            let Some(base) = self.stored(chunk)? else {
                continue;
            };
            let form = Form::from(tensor.dtype.lane());
            let raw = &self.sample(tensor)?.raw;
            let Some(base) = base.get(..raw.len()) else {
                continue;
            };
            let len = codec::estimate(raw, base, form).stored_len;
            if best.is_none_or(|(least, _)| len < least) {
                best = Some((len, other));
            }
        }
        Ok(best)
    }

    /// The beginning of a stored chunk; `None` if it cannot be had.
    fn stored(&mut self, chunk: &ChunkId) -> Result<Option<Arc<Vec<u8>>>> {
        if let Some(held) = self.held.get(chunk) {
            return Ok(held.clone());
        }
        let store = &self.draft.store;
        let decoded = match store.is_usable(chunk)? {
            true => store.decode(chunk, &mut self.decoder).map(Some),
            false => Ok(None),
        };
        let found = match decoded {
            Err(error) if error.kind() == ErrorKind::Corrupt => None,
            found => found?,
        };
        let found = found.map(|mut raw| {
            raw.truncate(SAMPLE_LEN);
            Arc::new(raw)
        });
        self.held.insert(*chunk, found.clone());
        Ok(found)
    }

    /// The sample of one of the draft's tensors.
    fn sample(&mut self, tensor: &TensorEntry) -> Result<&Sample> {
        if !self.samples.contains_key(&tensor.name) {
            let (cut, mut buffer) = (tensor.cut(), Vec::new());
            let range = cut.range(middle(cut) as u64);
            let source = self.draft.tensors.get(&tensor.name).map(|t| t.source);
            let lost = || Error::invalid("tensor-missing", "a tensor is not in its draft");
            let source = source.ok_or_else(lost)?;
            let end = range.end.min(range.start + SAMPLE_LEN as u64);
            let raw = source.get(range.start..end, &mut buffer)?.to_vec();
            let alone = codec::estimate_alone(&raw, Form::from(tensor.dtype.lane()));
            let alone_len = alone.stored_len;
            let sample = Sample { raw, alone_len };
            self.samples.insert(tensor.name.clone(), sample);
        }
        let lost = || Error::invalid("tensor-missing", "a tensor has no sample");
        self.samples.get(&tensor.name).ok_or_else(lost)
    }
}

/// The chunk in the middle.
fn middle(cut: Cut) -> usize {
    usize::try_from(cut.count() / 2).unwrap_or(usize::MAX)
}

/// Newest checkpoints of runs that have tensors which may be a base, those with most bytes of the
/// same names first, then those with most of the same shapes, then the newest.
fn candidates(store: &Store, strangers: &[&TensorEntry]) -> Result<Vec<Manifest>> {
    let mut found = Vec::new();
    for run in store.runs()? {
        let Some(newest) = store.newest(&run)? else {
            continue;
        };
        let manifest = match history::read_manifest(&*store.0.disk, &newest.place()) {
            Err(error) if matches!(error.kind(), ErrorKind::Io | ErrorKind::NoSpace) => {
                return Err(error);
            }
            Err(_) => continue,
            Ok(manifest) => manifest,
        };
        let (mut by_name, mut by_shape) = (0, 0);
        for tensor in strangers {
            match counterparts(tensor, &manifest.body).as_slice() {
                [] => {}
                [same] if same.name == tensor.name => by_name += tensor.byte_len,
                _ => by_shape += tensor.byte_len,
            }
        }
        if by_name + by_shape > 0 {
            let rank = (by_name, by_shape, manifest.placement.time_ms);
            found.push((rank, manifest));
        }
    }
    found.sort_by_key(|(rank, _)| std::cmp::Reverse(*rank));
    let best = found.into_iter().take(CHECKPOINTS_MAX);
    Ok(best.map(|(_, manifest)| manifest).collect())
}
