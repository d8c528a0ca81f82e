//! What the tests share.

pub(crate) mod golden;
pub(crate) mod hostile;
pub(crate) mod packs;
pub(crate) mod sha256;
pub(crate) mod state;
pub(crate) mod store;
