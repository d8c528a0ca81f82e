//! What the tests share.

pub(crate) mod broken_disk; // disks that leave out or reorder a step of the protocol
pub(crate) mod disk_contract; // what every disk must do
pub(crate) mod rng; // reproducible random numbers
pub(crate) mod sim_disk; // a disk that loses what was not synced
pub(crate) mod store;
