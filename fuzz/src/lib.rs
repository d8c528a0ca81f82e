//! What the fuzz targets share: files sealed anew, storage in memory, small stores.

pub mod memory_disk;
pub mod model;
pub mod mutation;
pub mod parts;
pub mod seal;
pub mod small_store;
