//! Engine errors as Python exceptions, and the registries that the package checks itself against.

use std::error::Error as _;
use std::io;

use milepost_engine::{Dtype, Error, ErrorKind};
use pyo3::prelude::*;

/// The exception of an engine error, made by the package.
pub(crate) fn raise(py: Python<'_>, error: Error) -> PyErr {
    exception(py, &error).unwrap_or_else(|failure| failure)
}

fn exception(py: Python<'_>, error: &Error) -> PyResult<PyErr> {
    let source = error.source().and_then(|e| e.downcast_ref::<io::Error>());
    let told = (
        error.kind().name(),
        error.code(),
        error.to_string(),
        error.advice(),
        source.and_then(io::Error::raw_os_error),
        error.in_file(),
        error.about(),
    );
    let made = py
        .import("milepost.errors")?
        .getattr("from_engine")?
        .call1(told)?;
    Ok(PyErr::from_value(made))
}

/// The stable names of who must act.
#[pyfunction]
pub(crate) fn error_kinds() -> Vec<&'static str> {
    let kinds = [
        ErrorKind::Corrupt,
        ErrorKind::Unsupported,
        ErrorKind::NotFound,
        ErrorKind::InvalidInput,
        ErrorKind::Limit,
        ErrorKind::Conflict,
        ErrorKind::Locked,
        ErrorKind::NoSpace,
        ErrorKind::Interrupted,
        ErrorKind::Io,
    ];
    kinds.iter().map(|kind| kind.name()).collect()
}

/// The name and the bits of an element of each dtype that a store knows.
#[pyfunction]
pub(crate) fn dtypes() -> Vec<(&'static str, u64)> {
    Dtype::ALL.iter().map(|d| (d.name(), d.bits())).collect()
}
