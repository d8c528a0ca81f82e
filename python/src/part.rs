//! A part of a checkpoint that several processes save, kept until it is closed.

use std::sync::{Mutex, PoisonError};

use milepost_engine::Part;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// A saved part. Its packs stay in the store until it is closed or collected as garbage.
#[pyclass(frozen, module = "milepost._engine")]
pub(crate) struct NativePart {
    told: Vec<u8>,
    added_bytes: u64,
    held: Mutex<Option<Part>>,
}

impl From<Part> for NativePart {
    fn from(part: Part) -> Self {
        Self {
            told: part.as_bytes().to_vec(),
            added_bytes: part.added_bytes(),
            held: Mutex::new(Some(part)),
        }
    }
}

#[pymethods]
impl NativePart {
    /// What the coordinator's save is to be given.
    fn told<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.told)
    }

    /// Bytes that it added to the store.
    fn added_bytes(&self) -> u64 {
        self.added_bytes
    }

    /// Lets it go: committed by now, or of no use to anybody.
    fn close(&self) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        drop(held.take());
    }
}
