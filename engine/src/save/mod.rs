//! Save: draft, then cut and encode in parallel, write packs, publish.

mod background;
mod base;
mod base_choice;
pub(crate) mod chunk;
pub(crate) mod closure;
pub(crate) mod column;
mod commit;
pub(crate) mod draft;
pub(crate) mod durable;
pub(crate) mod encoder;
pub(crate) mod family;
mod infer;
mod items;
mod like;
mod new_packs;
mod part;
mod parts;
mod patch;
pub(crate) mod pipeline;
pub(crate) mod probe;
mod publish;
pub(crate) mod relation;
mod room;
pub(crate) mod spare;
mod stored_relations;
mod survivors;
mod taken;

pub use background::SaveHandle;
pub use draft::{ByteSource, Draft};
pub use like::{Alike, Like};
pub use part::Part;
pub use relation::Relation;
pub use room::QUOTA;

use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::format::placement::Durability;
use crate::format::store_file::Level;
use crate::id::CheckpointId;
use crate::restore::Checkpoint;
use crate::revision::is_passed_over;
use crate::store::Store;

/// Whether a save makes a full checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Full {
    /// Where the bounds or the store's settings call for it.
    #[default]
    Auto,
    /// Every chunk at depth 0; identical depth-0 chunks of other checkpoints are shared.
    Shared,
    /// Every chunk at depth 0 and stored anew, shared with no other checkpoint.
    SelfContained,
}

/// What a save is told beside the state itself.
#[derive(Clone, Debug)]
pub struct SaveOptions {
    /// The run to add to; made if there is none.
    pub run: String,
    /// The training step; by default one more than the parent's, 0 for the first.
    pub step: Option<u64>,
    /// A revision to continue; by default the run's newest checkpoint.
    pub parent: Option<String>,
    /// What tensors that the parent does not have are coded against.
    pub like: Option<Like>,
    /// Whether to make a full checkpoint.
    pub full: Full,
    /// What to wait for.
    pub durability: Durability,
    /// How hard to try; by default the store's level.
    pub level: Option<Level>,
    /// Tags to set once it is committed.
    pub tags: Vec<String>,
}

impl SaveOptions {
    /// A durable save to a run.
    pub fn new(run: impl Into<String>) -> Self {
        Self {
            run: run.into(),
            step: None,
            parent: None,
            like: None,
            full: Full::Auto,
            durability: Durability::Durable,
            level: None,
            tags: Vec::new(),
        }
    }

    /// Sets the training step.
    #[must_use]
    pub fn step(mut self, step: u64) -> Self {
        self.step = Some(step);
        self
    }

    /// Sets the durability.
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }
}

/// What a save did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SaveReport {
    /// The checkpoint's id.
    pub id: CheckpointId,
    /// Its run.
    pub run: String,
    /// Its place in the run.
    pub seq: u64,
    /// Its step.
    pub step: u64,
    /// Whether the run held this very checkpoint at this step already; nothing was added then.
    pub existed: bool,
    /// Whether every chunk is at depth 0.
    pub full: bool,
    /// Depth of its deepest record.
    pub depth: u8,
    /// Bytes of its tensors and blobs.
    pub logical_bytes: u64,
    /// Bytes that its packs and manifest added to the store.
    pub added_bytes: u64,
    /// Restore cost in raw bytes read.
    pub restore_cost: u64,
    /// Its chunks.
    pub chunks: u64,
    /// Its chunks that were stored.
    pub new_chunks: u64,
    /// What tensors that the parent did not have were coded against.
    pub like: Option<Alike>,
    /// What was let go first because there was no room.
    pub made_room: Option<MadeRoom>,
}

/// What a save let go because the store's quota or its disk was full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MadeRoom {
    /// Checkpoints that the store's keep rules did not keep.
    pub checkpoints: u64,
    /// Bytes of packs that nothing needed any more.
    pub freed_bytes: u64,
}

impl Store {
    /// Starts a checkpoint. Nothing is written before [`Draft::commit`].
    ///
    /// # Errors
    /// `InvalidInput` if the run's name is not allowed, `NotFound` if the parent is none; first of
    /// all, the failure of a save in the background whose handle was dropped.
    pub fn draft<'a>(&self, options: SaveOptions) -> Result<Draft<'a>> {
        self.0.save_queue.take_failure()?;
        self.draft_now(options)
    }

    pub(crate) fn draft_now<'a>(&self, options: SaveOptions) -> Result<Draft<'a>> {
        crate::format::name::check(&options.run, "run")?;
        for tag in &options.tags {
            self.require_tag_name(tag)?;
            if *tag == options.run {
                return Err(
                    Error::invalid("name-taken", "a tag and its run need two names")
                        .hint("choose another name"),
                );
            }
        }
        let parent = match &options.parent {
            Some(revision) => Some(self.checkpoint(revision)?),
            None => self.newest_whole(&options.run)?,
        };
        if parent.as_ref().is_none_or(|p| p.place().run != options.run) {
            self.require_run_name(&options.run)?;
        }
        Ok(Draft::new(self.clone(), options, parent.map(Arc::new)))
    }

    /// The run's newest checkpoint, if it has one. What this process remembers of it may be out of
    /// date: it may be damaged by now, or forgotten.
    fn newest_whole(&self, run: &str) -> Result<Option<Checkpoint>> {
        while let Some((newest, manifest)) = self.newest_read(run)? {
            if let Some(manifest) = manifest {
                return Ok(Some(self.checkpoint_of(Arc::new(manifest))));
            }
            match self.checkpoint_at(&newest.place()) {
                Err(error) if is_passed_over(error.kind()) => {
                    self.0.history.forget(&newest.place());
                }
                opened => return opened.map(Some),
            }
        }
        Ok(None)
    }

    /// Starts a new run at a checkpoint: its first checkpoint holds what `revision` holds.
    ///
    /// # Errors
    /// `Conflict` if there is such a run, `NotFound` if the revision names no checkpoint.
    pub fn fork(&self, revision: &str, run: &str) -> Result<SaveReport> {
        self.fork_of(&self.checkpoint(revision)?, run)
    }

    /// As [`Store::fork`], of a checkpoint that was opened: its id alone may name several, of
    /// which some were thinned.
    ///
    /// # Errors
    /// `Conflict` if there is such a run, `NotFound` if the checkpoint was forgotten since.
    pub fn fork_of(&self, source: &Checkpoint, run: &str) -> Result<SaveReport> {
        self.require_run_name(run)?;
        if self.newest(run)?.is_some() {
            return Err(run_exists(run));
        }
        commit::fork(self, source, run)
    }
}

pub(crate) fn run_exists(run: &str) -> Error {
    let why = format!("there is a run {run:?} already");
    Error::new(ErrorKind::Conflict, "run-exists", why).hint("choose another name")
}

/// The parent that a save codes against.
pub(crate) type Parent = Option<Arc<Checkpoint>>;
