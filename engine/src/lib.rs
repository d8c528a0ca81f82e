//! The milepost storage engine: an incremental, lossless store of training checkpoints.
//!
//! Tensors are cut into content-addressed chunks; a checkpoint stores only the chunks that the
//! store does not hold yet, each coded against the same range of its parent where that pays;
//! the cost of restoring any checkpoint is bounded. The bytes on disk are described in
//! `format-spec.md`, the map of this crate in `ARCHITECTURE.md`.

pub mod chunking;
pub mod codec;
pub mod dtype;
mod error;
pub mod format;
pub mod hash;
mod id;

pub use dtype::Dtype;
pub use error::{Error, ErrorKind, Result};
pub use id::{CheckpointId, ChunkId, PackId};
