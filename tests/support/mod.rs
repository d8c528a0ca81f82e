//! What the tests share.

pub(crate) mod hostile;
pub(crate) mod packs;
pub(crate) mod state;
pub(crate) mod store;
