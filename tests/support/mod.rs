//! What the tests share.

pub(crate) mod broken_disk; // disks that leave out or reorder a step of the protocol
pub(crate) mod command; // the built binary, run as people run it
pub(crate) mod disk_contract; // what every disk must do
pub(crate) mod golden; // stores that are kept for ever
pub(crate) mod hostile; // well-sealed files that lie
pub(crate) mod packs; // packs built record by record
pub(crate) mod redact; // what varies in the command's output
pub(crate) mod restless_disk;
pub(crate) mod rng; // reproducible random numbers
pub(crate) mod safetensors; // files to save
pub(crate) mod sha256; // the hash that every language has, for golden stores
pub(crate) mod sim_disk; // a disk that loses what was not synced
pub(crate) mod state; // states that look like training
pub(crate) mod store; // stores on temporary folders
