//! A store: open, save, look up.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use milepost_engine::save::QUOTA;
use milepost_engine::{
    Draft, Dtype, Durability, Error, Full, KeepRules, Level, Like, ReaderMode, Relation,
    SaveOptions, Store, StoreOptions, StoreSettings,
};
use pyo3::prelude::*;

use crate::checkpoint::NativeCheckpoint;
use crate::error::raise;
use crate::log;
use crate::memory::Lent;
use crate::part::NativePart;
use crate::reports::{DiskView, ListView, SaveView, SummaryView};
use crate::watch::watched;

/// A store that is open in this process.
#[pyclass(frozen, module = "milepost._engine")]
pub(crate) struct NativeStore {
    pub(crate) store: Store,
}

/// How this process uses the store.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct OpenRequest {
    threads: usize,
    cache_bytes: u64,
    reader: String,
    lock_timeout: Option<f64>,
    quota: Option<u64>,
}

/// What is fixed when a store is made.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct SettingsRequest {
    restore_budget_milli: u32,
    depth_max: u8,
    full_every: u32,
    level: String,
    chunk_len: u32,
    quota: Option<u64>,
    keep: crate::upkeep::RulesRequest,
}

/// A tensor to save: name, dtype, shape, bytes.
type TensorRequest<'py> = (String, String, Vec<u64>, Bound<'py, PyAny>);

/// What to save.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct SaveRequest<'py> {
    run: String,
    step: Option<u64>,
    parent: Option<String>,
    like: Option<String>,
    full: String,
    durability: String,
    level: Option<String>,
    tags: Vec<String>,
    tensors: Vec<TensorRequest<'py>>,
    relations: Vec<(String, String, Vec<String>)>,
    blobs: Vec<(String, Bound<'py, PyAny>)>,
    metadata: BTreeMap<String, String>,
    metrics: BTreeMap<String, f64>,
    parts: Vec<Vec<u8>>,
    progress: Option<Bound<'py, PyAny>>,
}

impl SaveRequest<'_> {
    /// How tensors came from others.
    fn relations<'r>(&'r self) -> Result<Vec<(&'r str, Relation)>, Error> {
        let relation = |told: &'r (String, String, Vec<String>)| {
            let (tensor, kind, others) = told;
            let relation = match (kind.as_str(), others.as_slice()) {
                ("adam", [exp_avg, exp_avg_sq]) => Relation::Adam {
                    exp_avg: exp_avg.clone(),
                    exp_avg_sq: exp_avg_sq.clone(),
                },
                ("second-moment", [exp_avg]) => Relation::SecondMoment {
                    exp_avg: exp_avg.clone(),
                },
                ("momentum", [buffer]) => Relation::Momentum {
                    buffer: buffer.clone(),
                },
                ("sum-of-squares", [weight]) => Relation::SumOfSquares {
                    weight: weight.clone(),
                },
                ("average", [of]) => Relation::Average { of: of.clone() },
                ("copy", [of]) => Relation::Copy { of: of.clone() },
                _ => {
                    let known = "adam, second-moment, momentum, sum-of-squares, average and copy";
                    return Err(no_word("relation", kind, known));
                }
            };
            Ok((tensor.as_str(), relation))
        };
        self.relations.iter().map(relation).collect()
    }
}

impl OpenRequest {
    fn options(&self) -> Result<StoreOptions, Error> {
        let timeout = self.lock_timeout.map(Duration::try_from_secs_f64);
        Ok(StoreOptions {
            threads: self.threads,
            cache_bytes: self.cache_bytes,
            reader: match self.reader.as_str() {
                "auto" => ReaderMode::Auto,
                "mmap" => ReaderMode::Mmap,
                "pread" => ReaderMode::Pread,
                other => return Err(no_word("reader", other, "auto, mmap and pread")),
            },
            lock_timeout: timeout
                .transpose()
                .map_err(|e| Error::invalid("lock-timeout", format!("the lock timeout: {e}")))?,
            quota: self.quota,
            ..StoreOptions::default()
        })
    }
}

impl SettingsRequest {
    fn settings(self) -> Result<StoreSettings, Error> {
        let rules: KeepRules = self.keep.rules()?;
        let mut attributes = rules.to_attributes()?;
        if let Some(quota) = self.quota {
            attributes.insert(QUOTA.into(), quota.to_string());
        }
        Ok(StoreSettings {
            restore_budget_milli: self.restore_budget_milli,
            depth_max: self.depth_max,
            full_every: self.full_every,
            level: level(&self.level)?,
            chunk_len: self.chunk_len,
            attributes,
            ..StoreSettings::default()
        })
    }
}

impl SaveRequest<'_> {
    fn options(&self) -> Result<SaveOptions, Error> {
        let found = Durability::ALL.iter().find(|d| d.name() == self.durability);
        let durability = found.ok_or_else(|| {
            no_word(
                "durability",
                &self.durability,
                "relaxed, durable and verified",
            )
        })?;
        Ok(SaveOptions {
            step: self.step,
            parent: self.parent.clone(),
            like: self.like.as_deref().map(Like::from),
            full: match self.full.as_str() {
                "auto" => Full::Auto,
                "shared" => Full::Shared,
                "self-contained" => Full::SelfContained,
                other => return Err(no_word("full", other, "auto, shared and self-contained")),
            },
            durability: *durability,
            level: self.level.as_deref().map(level).transpose()?,
            tags: self.tags.clone(),
            ..SaveOptions::new(&self.run)
        })
    }
}

/// A request's tensors and blobs, lent for one save.
struct LentState<'r> {
    options: SaveOptions,
    tensors: Vec<(&'r str, Dtype, &'r [u64], Lent)>,
    blobs: Vec<(&'r str, Lent)>,
    relations: Vec<(&'r str, Relation)>,
    metadata: &'r BTreeMap<String, String>,
    metrics: &'r BTreeMap<String, f64>,
    parts: &'r [Vec<u8>],
}

impl<'r> LentState<'r> {
    fn new(py: Python<'_>, request: &'r SaveRequest<'_>) -> PyResult<Self> {
        let mut tensors = Vec::with_capacity(request.tensors.len());
        for (name, dtype, shape, bytes) in &request.tensors {
            let dtype = Dtype::from_name(dtype)
                .ok_or_else(|| raise(py, no_word("dtype", dtype, "those of safetensors")))?;
            tensors.push((name.as_str(), dtype, shape.as_slice(), Lent::new(bytes)?));
        }
        let mut blobs = Vec::with_capacity(request.blobs.len());
        for (name, bytes) in &request.blobs {
            blobs.push((name.as_str(), Lent::new(bytes)?));
        }
        Ok(Self {
            options: request.options().map_err(|e| raise(py, e))?,
            tensors,
            blobs,
            relations: request.relations().map_err(|e| raise(py, e))?,
            metadata: &request.metadata,
            metrics: &request.metrics,
            parts: &request.parts,
        })
    }

    fn draft(&self, store: &Store) -> Result<Draft<'_>, Error> {
        let mut draft = store.draft(self.options.clone())?;
        for (name, dtype, shape, bytes) in &self.tensors {
            draft.tensor(name, *dtype, shape, bytes.bytes())?;
        }
        for (name, bytes) in &self.blobs {
            draft.blob(name, bytes.bytes())?;
        }
        for (key, value) in self.metadata {
            draft.metadata(key, value)?;
        }
        for (name, value) in self.metrics {
            draft.metric(name, *value)?;
        }
        for (tensor, relation) in &self.relations {
            draft.relate(tensor, relation.clone());
        }
        draft.infer_relations();
        for part in self.parts {
            draft.add_part(part)?;
        }
        Ok(draft)
    }
}

#[pymethods]
impl NativeStore {
    /// Opens a store.
    #[staticmethod]
    fn open(py: Python<'_>, path: PathBuf, options: OpenRequest) -> PyResult<Self> {
        log::install();
        let options = options.options().map_err(|e| raise(py, e))?;
        let opened = watched(py, None, |_| Store::open(&path, options));
        opened.map(|store| Self { store })
    }

    /// Makes a store.
    #[staticmethod]
    fn create(
        py: Python<'_>,
        path: PathBuf,
        settings: SettingsRequest,
        options: OpenRequest,
    ) -> PyResult<Self> {
        log::install();
        let checked = options
            .options()
            .and_then(|o| Ok((o, settings.settings()?)));
        let (options, settings) = checked.map_err(|e| raise(py, e))?;
        // Checked before the folder is made.
        settings.encode().map_err(|e| raise(py, e))?;
        let made = watched(py, None, |_| Store::create(&path, settings, options));
        made.map(|store| Self { store })
    }

    /// Saves a checkpoint; returns what the save did.
    fn save(&self, py: Python<'_>, request: SaveRequest<'_>) -> PyResult<SaveView> {
        let lent = LentState::new(py, &request)?;
        let report = watched(py, request.progress.as_ref(), |observer| {
            lent.draft(&self.store)?.commit_observed(observer)
        })?;
        Ok(SaveView::from(report))
    }

    /// Saves part `index` of `count` of a checkpoint; a save that has the parts commits it.
    fn save_part(
        &self,
        py: Python<'_>,
        request: SaveRequest<'_>,
        index: u32,
        count: u32,
    ) -> PyResult<NativePart> {
        let lent = LentState::new(py, &request)?;
        let part = watched(py, request.progress.as_ref(), |observer| {
            let draft = lent.draft(&self.store)?;
            draft.save_part_observed(index, count, observer)
        })?;
        Ok(NativePart::from(part))
    }

    /// Bytes that the store may still grow by, if it has a quota.
    fn quota_left(&self, py: Python<'_>) -> PyResult<Option<u64>> {
        watched(py, None, |_| self.store.quota_left())
    }

    /// Lets go what the recorded keep rules do not keep; how many checkpoints these were.
    fn make_room(&self, py: Python<'_>) -> PyResult<u64> {
        let made = watched(py, None, |observer| self.store.make_room(observer))?;
        Ok(made.map_or(0, |made| made.checkpoints))
    }

    /// The checkpoint that a revision names.
    fn checkpoint(&self, py: Python<'_>, revision: &str) -> PyResult<NativeCheckpoint> {
        let found = watched(py, None, |_| self.store.checkpoint(revision));
        found.map(|checkpoint| NativeCheckpoint { checkpoint })
    }

    /// What a listing shows of the newest whole checkpoint of a run, if it has one.
    fn newest(&self, py: Python<'_>, run: &str) -> PyResult<Option<SummaryView>> {
        let newest = watched(py, None, |_| self.store.newest(run))?;
        Ok(newest.map(|summary| SummaryView::from(&*summary)))
    }

    /// Every checkpoint of a run, or of all.
    fn list(&self, py: Python<'_>, run: Option<&str>) -> PyResult<ListView> {
        let listing = watched(py, None, |_| self.store.list(run))?;
        Ok(ListView::from(listing))
    }

    /// The runs that have a checkpoint.
    fn runs(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        watched(py, None, |_| self.store.runs())
    }

    /// Every tag and the id of the checkpoint it names.
    fn tags(&self, py: Python<'_>) -> PyResult<BTreeMap<String, String>> {
        let tags = watched(py, None, |_| self.store.tags())?;
        Ok(tags
            .into_iter()
            .map(|(t, id)| (t, id.to_string()))
            .collect())
    }

    /// Names a checkpoint.
    fn tag(&self, py: Python<'_>, name: &str, revision: &str) -> PyResult<String> {
        watched(py, None, |_| {
            let id = self.store.checkpoint(revision)?.id();
            self.store.tag(name, &id)?;
            Ok(id.to_string())
        })
    }

    /// Removes a tag.
    fn untag(&self, py: Python<'_>, name: &str) -> PyResult<()> {
        watched(py, None, |_| self.store.untag(name))
    }

    /// Starts a run at a checkpoint.
    fn fork(&self, py: Python<'_>, revision: &str, run: &str) -> PyResult<SaveView> {
        let report = watched(py, None, |_| self.store.fork(revision, run))?;
        Ok(SaveView::from(report))
    }

    /// What the store's files take.
    fn disk_usage(&self, py: Python<'_>) -> PyResult<DiskView> {
        let usage = watched(py, None, |_| self.store.disk_usage())?;
        Ok(DiskView::from(usage))
    }

    /// The keep rules and other settings that the store records, as text.
    fn attributes(&self) -> BTreeMap<String, String> {
        self.store.settings().attributes.clone()
    }
}

pub(crate) fn level(word: &str) -> Result<Level, Error> {
    let found = Level::ALL.iter().find(|l| l.name() == word);
    found
        .copied()
        .ok_or_else(|| no_word("level", word, "fast, balanced and archive"))
}

fn no_word(what: &str, word: &str, known: &str) -> Error {
    Error::invalid("word", format!("{word:?} is no {what}")).hint(format!("there are {known}"))
}
