//! A draft: what the caller wants saved, borrowed and checked.

use std::collections::BTreeMap;

use crate::dtype::{self, Dtype};
use crate::error::{Error, ErrorKind, Result};
use crate::format::cursor::is_key;
use crate::progress::{Observer, Unobserved};
use crate::restore::Checkpoint;
use crate::save::infer::infer;
use crate::save::parts::Parts;
use crate::save::{Parent, Relation, SaveOptions, SaveReport, commit};
use crate::store::Store;

/// Bytes that are read when they are needed, such as a file's; read from several threads.
pub trait ByteSource: Sync {
    /// Fills `out` from `offset` on.
    ///
    /// # Errors
    /// If the bytes cannot be had; the save then fails as a whole.
    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<()>;
}

/// Where the bytes of a tensor or blob come from.
#[derive(Clone, Copy)]
pub(crate) enum Source<'a> {
    Bytes(&'a [u8]),
    Reader(&'a dyn ByteSource, u64),
}

/// A tensor of a draft.
pub(crate) struct DraftTensor<'a> {
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<u64>,
    pub(crate) source: Source<'a>,
}

/// A checkpoint that is being put together. Dropped without [`Draft::commit`], it leaves nothing.
pub struct Draft<'a> {
    pub(crate) store: Store,
    pub(crate) options: SaveOptions,
    pub(crate) parent: Parent,
    pub(crate) tensors: BTreeMap<String, DraftTensor<'a>>,
    pub(crate) blobs: BTreeMap<String, (Source<'a>, u64)>,
    pub(crate) metadata: BTreeMap<String, String>,
    pub(crate) metrics: BTreeMap<String, f64>,
    pub(crate) relations: BTreeMap<String, Relation>,
    /// What other writers have saved of it.
    pub(crate) parts: Parts,
}

impl<'a> Draft<'a> {
    pub(crate) fn new(store: Store, options: SaveOptions, parent: Parent) -> Self {
        Self {
            store,
            options,
            parent,
            tensors: BTreeMap::new(),
            blobs: BTreeMap::new(),
            metadata: BTreeMap::new(),
            metrics: BTreeMap::new(),
            relations: BTreeMap::new(),
            parts: Parts::default(),
        }
    }

    /// The checkpoint that it continues, if any.
    #[must_use]
    pub fn parent(&self) -> Option<&Checkpoint> {
        self.parent.as_deref()
    }

    /// Adds a tensor: `bytes` are its elements in row-major order, little-endian.
    ///
    /// # Errors
    /// `InvalidInput` if the name is taken or not allowed, or the length does not fit the shape.
    pub fn tensor(
        &mut self,
        name: &str,
        dtype: Dtype,
        shape: &[u64],
        bytes: &'a [u8],
    ) -> Result<&mut Self> {
        require_len(name, dtype, shape, bytes.len() as u64)?;
        self.add_tensor(name, dtype, shape, Source::Bytes(bytes))
    }

    /// As [`Draft::tensor`], with bytes that start at `offset` of a source.
    ///
    /// # Errors
    /// As [`Draft::tensor`].
    pub fn tensor_from(
        &mut self,
        name: &str,
        dtype: Dtype,
        shape: &[u64],
        source: &'a dyn ByteSource,
        offset: u64,
    ) -> Result<&mut Self> {
        self.add_tensor(name, dtype, shape, Source::Reader(source, offset))
    }

    fn add_tensor(
        &mut self,
        name: &str,
        dtype: Dtype,
        shape: &[u64],
        source: Source<'a>,
    ) -> Result<&mut Self> {
        require_key(name, "tensor", self.tensors.contains_key(name))?;
        dtype
            .byte_len(dtype::elements(shape)?)
            .map_err(|e| e.subject(format!("tensor {name:?}")))?;
        self.tensors.insert(
            name.to_owned(),
            DraftTensor {
                dtype,
                shape: shape.to_vec(),
                source,
            },
        );
        Ok(self)
    }

    /// Says how a tensor came from others of this draft, so that it can be stored as what the
    /// others do not foretell. Another relation of the same tensor takes the place of the first.
    /// The checkpoint keeps it for whoever codes it anew, and its id does not depend on it: a step
    /// that is there already keeps what was said of it first.
    ///
    /// [`Draft::commit`] refuses names that are no tensors of the draft. A relation that does
    /// not hold costs time and a few bytes, never correctness.
    pub fn relate(&mut self, tensor: &str, relation: Relation) -> &mut Self {
        self.relations.insert(tensor.to_owned(), relation);
        self
    }

    /// Relates tensors by their names: weights, their moments, averages and copies, as PyTorch,
    /// DeepSpeed, JAX and Keras call them. What [`Draft::relate`] said stays. Returns how many
    /// tensors have a relation now.
    pub fn infer_relations(&mut self) -> usize {
        let tensors = self.tensors.iter();
        let inferred = infer(tensors.map(|(n, t)| (n.as_str(), t.dtype, t.shape.as_slice())));
        for (tensor, relation) in inferred {
            self.relations.entry(tensor).or_insert(relation);
        }
        self.relations.len()
    }

    /// Adds named bytes that are no tensor.
    ///
    /// # Errors
    /// `InvalidInput` if the name is taken or not allowed.
    pub fn blob(&mut self, name: &str, bytes: &'a [u8]) -> Result<&mut Self> {
        require_key(name, "blob", self.blobs.contains_key(name))?;
        self.blobs
            .insert(name.to_owned(), (Source::Bytes(bytes), bytes.len() as u64));
        Ok(self)
    }

    /// Adds a metadata entry.
    ///
    /// # Errors
    /// `InvalidInput` if the key is taken or not allowed.
    pub fn metadata(&mut self, key: &str, value: &str) -> Result<&mut Self> {
        require_key(key, "metadata entry", self.metadata.contains_key(key))?;
        self.metadata.insert(key.to_owned(), value.to_owned());
        Ok(self)
    }

    /// Adds a metric.
    ///
    /// # Errors
    /// `InvalidInput` if the name is taken or not allowed.
    pub fn metric(&mut self, name: &str, value: f64) -> Result<&mut Self> {
        require_key(name, "metric", self.metrics.contains_key(name))?;
        self.metrics.insert(name.to_owned(), value);
        Ok(self)
    }

    /// Saves it. When this returns, the checkpoint is as durable as the options ask for; if it
    /// fails, the store is as before.
    ///
    /// # Errors
    /// `Conflict` if the run has another checkpoint of this step, or a part is gone; `NoSpace` if
    /// the disk is full; `InvalidInput` if a part is missing, or two writers disagree; and
    /// whatever the storage or a source returns.
    pub fn commit(self) -> Result<SaveReport> {
        self.commit_observed(&Unobserved)
    }

    /// As [`Draft::commit`], watched.
    ///
    /// # Errors
    /// As [`Draft::commit`], and `Interrupted` if the observer cancels.
    pub fn commit_observed(self, observer: &dyn Observer) -> Result<SaveReport> {
        commit::commit(&self, observer)
    }

    /// The step it will have.
    #[must_use]
    pub fn step(&self) -> u64 {
        let next = || {
            self.parent()
                .map_or(0, |p| p.manifest().body.step.saturating_add(1))
        };
        self.options.step.unwrap_or_else(next)
    }
}

impl Source<'_> {
    /// The bytes of a range: borrowed, or read into `buffer`.
    pub(crate) fn get<'b>(
        &'b self,
        range: std::ops::Range<u64>,
        buffer: &'b mut Vec<u8>,
    ) -> Result<&'b [u8]> {
        let too_large = || {
            Error::new(
                ErrorKind::Limit,
                "memory",
                "a chunk does not fit into memory",
            )
        };
        let len = usize::try_from(range.end - range.start).map_err(|_| too_large())?;
        match self {
            Source::Bytes(bytes) => {
                let start = usize::try_from(range.start).map_err(|_| too_large())?;
                Ok(bytes.get(start..start + len).unwrap_or_default())
            }
            Source::Reader(source, offset) => {
                buffer.resize(len, 0);
                source.read_at(offset + range.start, buffer)?;
                Ok(buffer)
            }
        }
    }
}

fn require_key(name: &str, what: &str, taken: bool) -> Result<()> {
    if taken {
        return Err(Error::invalid(
            "duplicate-name",
            format!("the checkpoint has a {what} {name:?} already"),
        ));
    }
    if !is_key(name) {
        return Err(
            Error::invalid("key", format!("{name:?} cannot name a {what}"))
                .hint("use 1 to 4096 bytes of UTF-8 without control characters"),
        );
    }
    Ok(())
}

fn require_len(name: &str, dtype: Dtype, shape: &[u64], found: u64) -> Result<()> {
    let expected = dtype
        .byte_len(dtype::elements(shape)?)
        .map_err(|e| e.subject(format!("tensor {name:?}")))?;
    if expected == found {
        return Ok(());
    }
    Err(
        Error::invalid("tensor-length", "a tensor's bytes do not fit its shape")
            .subject(format!("tensor {name:?}, {} {shape:?}", dtype.name()))
            .differs(format!("{expected} bytes"), found),
    )
}
