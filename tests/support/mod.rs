//! What the tests share.

pub(crate) mod hostile;
pub(crate) mod packs;
pub(crate) mod state;
#![expect(
    clippy::unwrap_used,
    reason = "a helper of tests fails where it stands, as a test does"
)]

pub(crate) mod command;
pub(crate) mod redact;
pub(crate) mod safetensors;
pub(crate) mod broken_disk; // disks that leave out or reorder a step of the protocol
pub(crate) mod disk_contract; // what every disk must do
pub(crate) mod rng; // reproducible random numbers
pub(crate) mod sim_disk; // a disk that loses what was not synced
pub(crate) mod store;
