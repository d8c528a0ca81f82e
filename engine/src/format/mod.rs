//! What lies on disk: bytes to structs and back, one file for each section of format-spec.md.
//!
//! Pure and bounded: no I/O, clock, threads, `unsafe` or codec. Public, so that fuzzers and
//! other tools use the very parsers that the engine uses.

#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

pub mod body;
pub mod cache_file;
pub mod cursor;
pub mod envelope;
pub mod limits;
pub mod manifest;
pub mod name;
pub mod pack;
pub mod part;
pub mod placement;
pub mod record;
pub mod relations;
pub mod section;
pub mod store_file;
pub mod tag;
