//! The milepost storage engine: an incremental, lossless store of training checkpoints.
//!
//! Tensors are cut into content-addressed chunks; a checkpoint stores only the chunks that the
//! store does not hold yet, each coded against the same range of its parent where that pays;
//! the cost of restoring any checkpoint is bounded. The bytes on disk are described in
//! `format-spec.md`, the map of this crate in `ARCHITECTURE.md`.

pub mod chain;
pub mod chunking;
pub mod codec;
pub mod compact;
mod disjoint;
pub mod dtype;
mod error;
pub mod format;
pub mod gc;
pub mod hash;
mod id;
pub mod inspect;
mod memory;
mod progress;
pub mod restore;
pub mod retain;
mod revision;
pub mod save;
pub mod store;
pub mod verify;

pub use compact::{CompactOptions, CompactReport};
pub use dtype::Dtype;
pub use error::{Error, ErrorKind, Result};
pub use format::placement::Durability;
pub use format::store_file::{Level, StoreSettings};
pub use gc::{GcOptions, GcReport};
pub use id::{CheckpointId, ChunkId, PackId};
pub use inspect::{ChunkReport, PackReport};
pub use progress::{Observer, Unobserved};
pub use restore::{Checkpoint, Output, Salvage, Selection};
pub use retain::{Fate, Forget, ForgetPlan, ForgetReport, Freed, KeepRules};
pub use save::{
    Alike, ByteSource, Draft, Full, Like, MadeRoom, Part, Relation, SaveHandle, SaveOptions,
    SaveReport,
};
pub use store::history::{Damaged, Listing, Place, Summary};
pub use store::real_disk::{ReaderMode, RealDisk};
pub use store::{DiskUsage, Store, StoreOptions};
pub use verify::{Hit, Problem, ReadData, VerifyOptions, VerifyReport};
