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
pub(crate) mod store;
