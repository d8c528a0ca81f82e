//! Memory that Python lends: the only `unsafe` of this crate.
//!
//! The buffer protocol pins the memory for as long as the view is held, so a slice of it stays
//! valid while the interpreter's lock is released. What the protocol cannot promise is that no
//! other thread of the program writes to that memory meanwhile; the package's documentation
//! asks that of the caller of a save that waits, and copies what a save in the background needs.
//! A byte that changes under a save may be saved with either value; it is hashed after it was
//! read, so it cannot make a checkpoint that does not restore.

#![expect(
    unsafe_code,
    reason = "slices of lent memory outlive the interpreter's lock, which no safe view does"
)]

use std::slice;

use milepost_engine::Error;
use pyo3::buffer::PyBuffer;
use pyo3::prelude::*;

use crate::error::raise;

/// Contiguous bytes lent for reading.
pub(crate) struct Lent(PyBuffer<u8>);

impl Lent {
    /// Borrows from any object with the buffer protocol, of bytes.
    pub(crate) fn new(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        let buffer = PyBuffer::get(object)?;
        match buffer.is_c_contiguous() {
            true => Ok(Self(buffer)),
            false => Err(raise(object.py(), not_contiguous())),
        }
    }

    /// The bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        let (pointer, len) = (self.0.buf_ptr().cast::<u8>(), self.0.len_bytes());
        if len == 0 || pointer.is_null() {
            return &[];
        }
        // SAFETY: the view is C-contiguous, so `len` initialized bytes lie behind `pointer`; the
        // exporter keeps them in place until the view is released, which is when `self` is
        // dropped. See the module for writers in other threads.
        unsafe { slice::from_raw_parts(pointer, len) }
    }
}

/// Contiguous buffers lent for writing, no two of which overlap.
pub(crate) struct LentToFill(Vec<PyBuffer<u8>>);

impl LentToFill {
    /// Borrows each; two that share a byte are refused.
    pub(crate) fn new(objects: &[Bound<'_, PyAny>]) -> PyResult<Self> {
        let mut buffers = Vec::with_capacity(objects.len());
        for object in objects {
            let buffer = PyBuffer::<u8>::get(object)?;
            let error = if !buffer.is_c_contiguous() {
                not_contiguous()
            } else if buffer.readonly() {
                Error::invalid("buffer-read-only", "the memory to read into is read-only")
            } else {
                buffers.push(buffer);
                continue;
            };
            return Err(raise(object.py(), error));
        }
        let mut extents: Vec<(usize, usize)> = buffers
            .iter()
            .filter(|b| b.len_bytes() > 0)
            .map(|b| (b.buf_ptr().addr(), b.len_bytes()))
            .collect();
        extents.sort_unstable();
        let overlap = extents
            .iter()
            .zip(extents.iter().skip(1))
            .any(|((start, len), (next, _))| start.saturating_add(*len) > *next);
        if let (true, Some(object)) = (overlap, objects.first()) {
            let error = Error::invalid("buffers-overlap", "two buffers to read into share memory");
            return Err(raise(object.py(), error));
        }
        Ok(Self(buffers))
    }

    /// The buffers' bytes, in the order they were given.
    pub(crate) fn bytes(&mut self) -> Vec<&mut [u8]> {
        let slices = self.0.iter_mut().map(|buffer| {
            let (pointer, len) = (buffer.buf_ptr().cast::<u8>(), buffer.len_bytes());
            if len == 0 || pointer.is_null() {
                return &mut [][..];
            }
            // SAFETY: as in `Lent::bytes`; the view is writable, and no two of them overlap, so
            // each slice is the only one of its bytes that this call makes.
            unsafe { slice::from_raw_parts_mut(pointer, len) }
        });
        slices.collect()
    }
}

fn not_contiguous() -> Error {
    Error::invalid("buffer-layout", "the memory is not contiguous")
}
