//! The native module of the Python package: conversions, the interpreter's lock and exceptions.
//!
//! Holds no logic: what a state tree is, what is awaited and what is told to people is decided
//! in the Python files beside it. Every call that may take long runs without the interpreter's
//! lock on a thread of its own, while the calling thread looks for signals.

mod checkpoint;
mod command;
mod error;
mod log;
mod memory;
mod part;
mod reports;
mod store;
mod upkeep;
mod watch;

use pyo3::prelude::*;

/// The engine, as `milepost._engine`.
#[pymodule(gil_used = false)]
mod _engine {
    #[pymodule_export]
    use crate::checkpoint::NativeCheckpoint;
    #[pymodule_export]
    use crate::command::run_command;
    #[pymodule_export]
    use crate::error::{dtypes, error_kinds};
    #[pymodule_export]
    use crate::part::NativePart;
    #[pymodule_export]
    use crate::store::NativeStore;
    #[pymodule_export]
    use crate::upkeep::{compact, forget, gc, verify};

    /// The engine's version.
    #[pymodule_export]
    const VERSION: &str = env!("CARGO_PKG_VERSION");
}
