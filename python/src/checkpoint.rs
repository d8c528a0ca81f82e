//! A checkpoint: what it holds, and reading it into lent memory.

use std::collections::BTreeMap;

use milepost_engine::{Checkpoint, Error, Selection};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::error::raise;
use crate::memory::LentToFill;
use crate::reports::{CheckpointView, TensorView};
use crate::watch::watched;

/// A checkpoint, open for reading.
#[pyclass(frozen, module = "milepost._engine")]
pub(crate) struct NativeCheckpoint {
    pub(crate) checkpoint: Checkpoint,
}

#[pymethods]
impl NativeCheckpoint {
    /// What the manifest says, but for the tensors.
    fn describe(&self) -> CheckpointView {
        CheckpointView::from(self.checkpoint.manifest())
    }

    /// The tensors, sorted by name.
    fn tensors(&self) -> Vec<TensorView> {
        TensorView::all(self.checkpoint.manifest())
    }

    /// The bytes of a blob.
    fn blob<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyBytes>> {
        let bytes = watched(py, None, |_| self.checkpoint.blob(name))?;
        Ok(PyBytes::new(py, &bytes))
    }

    /// Decodes whole tensors, each into a writable buffer of exactly its length.
    #[pyo3(signature = (requests, progress=None))]
    fn read(
        &self,
        py: Python<'_>,
        requests: BTreeMap<String, Bound<'_, PyAny>>,
        progress: Option<Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let (names, objects): (Vec<String>, Vec<_>) = requests.into_iter().unzip();
        let mut lent = LentToFill::new(&objects)?;
        watched(py, progress.as_ref(), |observer| {
            let wanted = names.len();
            let (outputs, plan) = self.checkpoint.plan(&Selection::tensors(names))?;
            if outputs.len() != wanted {
                return Err(Error::invalid(
                    "tensors",
                    "not all of these tensors are there",
                ));
            }
            self.checkpoint
                .restore_into(&plan, &mut lent.bytes(), observer)
        })
    }

    /// Decodes rows `start` to `stop` of one tensor into a writable buffer of their length.
    fn read_rows(
        &self,
        py: Python<'_>,
        name: &str,
        start: u64,
        stop: u64,
        buffer: Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let mut lent = LentToFill::new(&[buffer])?;
        if start > stop {
            return Err(raise(
                py,
                Error::invalid("rows", "the rows end before they begin"),
            ));
        }
        watched(py, None, |observer| {
            let rows = Selection::rows(name, start..stop);
            let (_, plan) = self.checkpoint.plan(&rows)?;
            self.checkpoint
                .restore_into(&plan, &mut lent.bytes(), observer)
        })
    }
}
