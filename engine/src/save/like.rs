//! The base of a stranger: a checkpoint of the store that holds nearly the same, though neither
//! its run nor its names say so.
//!
//! What is near is measured: a sample of a chunk is judged against the same range of what is
//! stored, as the save itself judges bases. Which base is taken can matter more than the codec.

use std::collections::HashMap;
use std::sync::Arc;

use crate::chunking::Cut;
use crate::codec::{self, Form};
use crate::dtype::Dtype;
use crate::error::{Error, ErrorKind, Result};
use crate::format::body::{Body, TensorEntry};
use crate::format::manifest::Manifest;
use crate::format::placement::Durability;
use crate::id::{CheckpointId, ChunkId};
use crate::progress::{self, Observer};
use crate::restore::decode::Decoder;
use crate::save::draft::Draft;
use crate::save::encoder::Bases;
use crate::store::Store;
use crate::store::history::{self, Place};

/// Bytes of a chunk that are compared.
const SAMPLE_LEN: usize = 64 << 10;
/// Most checkpoints of which samples are decoded.
const CHECKPOINTS_MAX: usize = 16;
/// Most tensors that speak for a checkpoint.
const PROBES_MAX: usize = 8;
/// Most tensors of other names that one is compared with: those of about the same rank among the
/// tensors of its shape come first.
const COUNTERPARTS_MAX: usize = 16;
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

/// `auto` is the nearest, anything else a revision.
impl From<&str> for Like {
    fn from(text: &str) -> Self {
        match text {
            "auto" => Self::Nearest,
            revision => Self::Revision(revision.to_owned()),
        }
    }
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
    /// How many tensors have one of it to be coded against.
    pub tensors: u64,
}

impl Alike {
    /// The revision that names it.
    #[must_use]
    pub fn revision(&self) -> String {
        format!("{}@step:{}", self.run, self.step)
    }
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
pub(super) fn find(draft: &Draft<'_>, body: &Body, observer: &dyn Observer) -> Result<Likeness> {
    let Some(like) = &draft.options.like else {
        return Ok(Likeness::default());
    };
    let parent = draft.parent().map(|p| &p.manifest().body);
    let is_strange = |t: &&TensorEntry| {
        let same = parent.and_then(|p| p.tensor(&t.name));
        t.byte_len > 0 && !same.is_some_and(|p| p.is_cut_like(t))
    };
    let strangers: Vec<&TensorEntry> = body.tensors.iter().filter(is_strange).collect();
    let strangers = Strangers::of(strangers);
    let mut comparison = Comparison::of(draft, observer);
    let chosen = match like {
        Like::Revision(revision) => {
            let manifest = draft.store.checkpoint(revision)?.manifest().clone();
            comparison.load_packs(&manifest)?;
            Some(manifest)
        }
        Like::Nearest if strangers.0.is_empty() => None,
        Like::Nearest => comparison.nearest(&strangers)?,
    };
    match chosen {
        Some(manifest) => comparison.map(&strangers, &manifest),
        None => Ok(Likeness::default()),
    }
}

/// What a base must have in common with a tensor, whatever its name.
type Kind<'t> = (Dtype, Cut, &'t [u64]);

fn kind(tensor: &TensorEntry) -> Kind<'_> {
    (tensor.dtype, tensor.cut(), &tensor.shape)
}

/// Tensors without a base, largest first, each with its rank among those of its kind by name.
struct Strangers<'t>(Vec<(&'t TensorEntry, usize)>);

impl<'t> Strangers<'t> {
    fn of(tensors: Vec<&'t TensorEntry>) -> Self {
        let mut next: HashMap<Kind<'_>, usize> = HashMap::new();
        let ranked = tensors.into_iter().map(|tensor| {
            let next = next.entry(kind(tensor)).or_default();
            *next += 1;
            (tensor, *next - 1)
        });
        let mut ranked: Vec<_> = ranked.collect();
        ranked.sort_by_key(|(tensor, _)| std::cmp::Reverse(tensor.byte_len));
        Self(ranked)
    }
}

/// The tensors of a checkpoint by their kinds, in the order of their names.
struct Counterparts<'b> {
    body: &'b Body,
    of_kind: HashMap<Kind<'b>, Vec<&'b TensorEntry>>,
}

impl<'b> Counterparts<'b> {
    fn of(body: &'b Body) -> Self {
        let mut of_kind: HashMap<Kind<'_>, Vec<&TensorEntry>> = HashMap::new();
        for tensor in &body.tensors {
            of_kind.entry(kind(tensor)).or_default().push(tensor);
        }
        Self { body, of_kind }
    }

    /// Those that may be the base of one: that of its name, or else some of its kind.
    fn of_tensor(&self, tensor: &TensorEntry, rank: usize) -> Vec<&'b TensorEntry> {
        let same = self.body.tensor(&tensor.name);
        if let Some(same) = same.filter(|p| p.is_cut_like(tensor)) {
            return vec![same];
        }
        let Some(all) = self.of_kind.get(&kind(tensor)) else {
            return Vec::new();
        };
        let mut by_rank: Vec<_> = all.iter().enumerate().collect();
        by_rank.sort_by_key(|(at, _)| at.abs_diff(rank));
        let nearest = by_rank.into_iter().take(COUNTERPARTS_MAX);
        nearest.map(|(_, tensor)| *tensor).collect()
    }
}

/// Samples of a draft beside those of what is stored.
struct Comparison<'d> {
    draft: &'d Draft<'d>,
    observer: &'d dyn Observer,
    decoder: Decoder,
    /// The beginnings of chunks that were decoded; `None` of those that cannot be.
    held: HashMap<ChunkId, Option<Arc<[u8]>>>,
    samples: HashMap<String, Arc<Sample>>,
}

/// The beginning of a tensor's chunk in the middle.
struct Sample {
    raw: Vec<u8>,
    alone_len: usize,
}

impl<'d> Comparison<'d> {
    fn of(draft: &'d Draft<'d>, observer: &'d dyn Observer) -> Self {
        Self {
            draft,
            observer,
            decoder: Decoder::default(),
            held: HashMap::new(),
            samples: HashMap::new(),
        }
    }

    /// Makes a checkpoint's records known: another process may have saved them since the store's
    /// were listed.
    fn load_packs(&mut self, manifest: &Manifest) -> Result<()> {
        self.held.clear();
        let inner = &self.draft.store.0;
        // A relaxed one vouches for nothing: its chunks are proved when they are looked at.
        match manifest.placement.durability {
            Durability::Relaxed => inner.catalog.load_hinted(&*inner.disk, &manifest.packs),
            _ => inner.catalog.load_settled(&*inner.disk, &manifest.packs),
        }
    }

    /// The newest checkpoint of a run that is nearest to the tensors, if one is near.
    fn nearest(&mut self, strangers: &Strangers<'_>) -> Result<Option<Manifest>> {
        let probes = strangers.0.get(..PROBES_MAX).unwrap_or(&strangers.0);
        let mut alone = 0;
        for (tensor, _) in probes {
            alone += self.sample(tensor)?.alone_len;
        }
        let mut best = (alone * NEAR_PERCENT / 100, None);
        for place in candidates(&self.draft.store, strangers)? {
            match self.distance(probes, &place) {
                Ok((total, manifest)) if total < best.0 => best = (total, Some(manifest)),
                Ok(_) => {}
                // What ails another run must not stop this save; what is gone is looked for anew.
                Err(e) if matches!(e.kind(), ErrorKind::Interrupted | ErrorKind::NotFound) => {
                    return Err(e);
                }
                Err(error) => tracing::warn!(%error, "a checkpoint is compared with nothing"),
            }
        }
        Ok(best.1)
    }

    /// What the probes would take beside a checkpoint.
    fn distance(
        &mut self,
        probes: &[(&TensorEntry, usize)],
        place: &Place,
    ) -> Result<(usize, Manifest)> {
        let manifest = history::read_manifest(&*self.draft.store.0.disk, place)?;
        self.load_packs(&manifest)?;
        let counterparts = Counterparts::of(&manifest.body);
        let mut total = 0;
        for (tensor, rank) in probes {
            total += match self.nearest_tensor(tensor, *rank, &counterparts)? {
                Some((len, _)) => len,
                None => self.sample(tensor)?.alone_len,
            };
        }
        Ok((total, manifest))
    }

    /// Maps each tensor to its nearest counterpart, if that is near.
    fn map(&mut self, strangers: &Strangers<'_>, manifest: &Manifest) -> Result<Likeness> {
        let mut likeness = Likeness::default();
        let counterparts = Counterparts::of(&manifest.body);
        for (tensor, rank) in &strangers.0 {
            let found = self.nearest_tensor(tensor, *rank, &counterparts)?;
            let alone_len = self.sample(tensor)?.alone_len;
            if let Some((len, found)) = found
                && len * 100 <= alone_len * NEAR_PERCENT
            {
                let chunks = found.chunks.clone();
                likeness.chunks.insert(tensor.name.clone(), chunks);
            }
            self.samples.remove(&tensor.name);
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
        rank: usize,
        counterparts: &Counterparts<'b>,
    ) -> Result<Option<(usize, &'b TensorEntry)>> {
        let sample = self.sample(tensor)?;
        let mut best: Option<(usize, &TensorEntry)> = None;
        for other in counterparts.of_tensor(tensor, rank) {
            progress::check(self.observer)?;
            let Some(chunk) = other.chunks.get(middle(tensor.cut())) else {
                continue;
            };
            let base = self.stored(chunk)?;
            let Some(base) = base.as_ref().and_then(|b| b.get(..sample.raw.len())) else {
                continue;
            };
            let form = Form::from(tensor.dtype.lane());
            let len = codec::estimate(&sample.raw, base, form).stored_len;
            if best.is_none_or(|(least, _)| len < least) {
                best = Some((len, other));
            }
        }
        Ok(best)
    }

    /// The beginning of a stored chunk; `None` if it cannot be had.
    fn stored(&mut self, chunk: &ChunkId) -> Result<Option<Arc<[u8]>>> {
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
        let found = found.map(|raw| Arc::from(raw.get(..SAMPLE_LEN).unwrap_or(&raw)));
        self.held.insert(*chunk, found.clone());
        Ok(found)
    }

    /// The sample of one of the draft's tensors.
    fn sample(&mut self, tensor: &TensorEntry) -> Result<Arc<Sample>> {
        if let Some(sample) = self.samples.get(&tensor.name) {
            return Ok(Arc::clone(sample));
        }
        let (cut, mut buffer) = (tensor.cut(), Vec::new());
        let range = cut.range(middle(cut) as u64);
        let source = self.draft.tensors.get(&tensor.name).map(|t| t.source);
        let lost = || Error::invalid("tensor-missing", "a tensor is not in its draft");
        let source = source.ok_or_else(lost)?;
        let end = range.end.min(range.start + SAMPLE_LEN as u64);
        let raw = source.get(range.start..end, &mut buffer)?.to_vec();
        let alone = codec::estimate_alone(&raw, Form::from(tensor.dtype.lane()));
        let alone_len = alone.stored_len;
        let sample = Arc::new(Sample { raw, alone_len });
        self.samples
            .insert(tensor.name.clone(), Arc::clone(&sample));
        Ok(sample)
    }
}

/// The chunk in the middle.
fn middle(cut: Cut) -> usize {
    usize::try_from(cut.count() / 2).unwrap_or(usize::MAX)
}

/// Newest checkpoints of runs that have tensors which may be a base, those with most bytes of the
/// same names first, then those with most of the same kinds, then the newest.
fn candidates(store: &Store, strangers: &Strangers<'_>) -> Result<Vec<Place>> {
    let mut found = Vec::new();
    for run in store.runs()? {
        let Some(newest) = store.newest(&run)? else {
            continue;
        };
        let Ok(manifest) = history::read_manifest(&*store.0.disk, &newest.place()) else {
            continue;
        };
        let counterparts = Counterparts::of(&manifest.body);
        let (mut by_name, mut by_kind) = (0, 0);
        for (tensor, rank) in &strangers.0 {
            match counterparts.of_tensor(tensor, *rank).as_slice() {
                [] => {}
                [same] if same.name == tensor.name => by_name += tensor.byte_len,
                _ => by_kind += tensor.byte_len,
            }
        }
        if by_name + by_kind > 0 {
            found.push((
                (by_name, by_kind, manifest.placement.time_ms),
                newest.place(),
            ));
        }
    }
    found.sort_by_key(|(rank, _)| std::cmp::Reverse(*rank));
    let best = found.into_iter().take(CHECKPOINTS_MAX);
    Ok(best.map(|(_, place)| place).collect())
}
