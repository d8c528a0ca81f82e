//! A step that a run has already: the very same state again is fine, another is a conflict.

use rayon::iter::{IntoParallelRefIterator, ParallelIterator};

use crate::error::{Error, ErrorKind, Result};
use crate::format::body::Body;
use crate::format::manifest::Manifest;
use crate::hash;
use crate::progress::{self, Observer};
use crate::save::draft::Draft;
use crate::save::pipeline::{self, Item, Piece};
use crate::store::Store;
use crate::store::history::{self, Listing};

/// The run's checkpoint of a step. One whose manifest is damaged is as good as not there.
pub(super) fn at_step(store: &Store, listing: &Listing, step: u64) -> Result<Option<Manifest>> {
    let disk = &*store.0.disk;
    let Some(found) = listing.checkpoints.iter().find(|s| s.step == step) else {
        return Ok(None);
    };
    match history::read_manifest(disk, &found.place()) {
        Err(error) if error.kind() == ErrorKind::Corrupt => {
            store.0.history.forget(&found.place());
            Ok(None)
        }
        read => read.map(Some),
    }
}

/// Refuses a draft whose step the run has with another content, before anything is written.
/// Another writer may still take the step later; then the last hop finds out.
pub(super) fn refuse(
    draft: &Draft<'_>,
    body: &Body,
    items: &[Item<'_>],
    observer: &dyn Observer,
) -> Result<()> {
    let (store, run) = (&draft.store, &draft.options.run);
    let newest = draft.parent().map(|p| p.manifest());
    if newest.is_some_and(|m| m.placement.run == *run && m.body.step < draft.step()) {
        // Steps ascend, as they nearly always do: the last hop's look is enough.
        return Ok(());
    }
    let Some(existing) = at_step(store, &store.list(Some(run))?, draft.step())? else {
        return Ok(());
    };
    if let Some(difference) = form_differs(&existing.body, body) {
        return Err(conflict(&existing, &difference));
    }
    let pieces = pipeline::pieces(items);
    let differs = |piece: &Piece| chunk_differs(&existing.body, items, piece, observer);
    let found = store
        .pool()?
        .install(|| pieces.par_iter().find_map_first(|p| differs(p).transpose()));
    match found.transpose()? {
        Some(name) => Err(conflict(&existing, &format!("{name} has other values"))),
        None => Ok(()),
    }
}

/// Holds that a checkpoint is the very one that is to be saved, but for its parent.
pub(super) fn require_same(existing: &Manifest, body: &Body) -> Result<()> {
    if let Some(difference) = form_differs(&existing.body, body) {
        return Err(conflict(existing, &difference));
    }
    let same = existing.body.chunks().eq(body.chunks());
    match same {
        true => Ok(()),
        false => Err(conflict(existing, "its values are others")),
    }
}

/// What differs beside the bytes themselves, in words.
fn form_differs(existing: &Body, body: &Body) -> Option<String> {
    let tensors = |b: &Body| -> Vec<_> {
        let form =
            |t: &crate::format::body::TensorEntry| (t.name.clone(), t.dtype, t.shape.clone());
        b.tensors.iter().map(form).collect()
    };
    let blobs = |b: &Body| -> Vec<_> {
        b.blobs
            .iter()
            .map(|blob| (blob.name.clone(), blob.byte_len))
            .collect()
    };
    let cuts = |b: &Body| -> Vec<_> {
        let blobs = b.blobs.iter().map(|blob| blob.chunk_len);
        b.tensors
            .iter()
            .map(|t| t.chunk_elements)
            .chain(blobs)
            .collect()
    };
    let bits = |b: &Body| -> Vec<_> {
        b.metrics
            .iter()
            .map(|(name, value)| (name.clone(), value.to_bits()))
            .collect()
    };
    if tensors(existing) != tensors(body) {
        return Some("its tensors have other names, types or shapes".into());
    }
    if blobs(existing) != blobs(body) || cuts(existing) != cuts(body) {
        return Some("its blobs are others".into());
    }
    if existing.metadata != body.metadata {
        return Some("its tensors are alike, its metadata is other".into());
    }
    (bits(existing) != bits(body)).then(|| "its tensors are alike, its metrics are others".into())
}

/// The tensor or blob that a piece is of, if the checkpoint has another chunk in its place.
fn chunk_differs(
    existing: &Body,
    items: &[Item<'_>],
    piece: &Piece,
    observer: &dyn Observer,
) -> Result<Option<String>> {
    progress::check(observer)?;
    let Some(item) = items.get(piece.item) else {
        return Ok(None);
    };
    let (what, name, chunks) = match piece.item.checked_sub(existing.tensors.len()) {
        None => {
            let tensor = existing.tensors.get(piece.item);
            ("tensor", tensor.map(|t| &t.name), tensor.map(|t| &t.chunks))
        }
        Some(blob) => {
            let blob = existing.blobs.get(blob);
            ("blob", blob.map(|b| &b.name), blob.map(|b| &b.chunks))
        }
    };
    let index = usize::try_from(piece.index).unwrap_or(usize::MAX);
    let held = chunks.and_then(|chunks| chunks.get(index));
    let mut buffer = Vec::new();
    let id = hash::chunk_id(item.source.get(piece.range.clone(), &mut buffer)?);
    let named = || format!("{what} {:?}", name.map_or("", |n| n.as_str()));
    Ok((held != Some(&id)).then(named))
}

fn conflict(existing: &Manifest, difference: &str) -> Error {
    Error::new(
        ErrorKind::Conflict,
        "step-exists",
        format!(
            "run {:?} has another checkpoint of step {}: {difference}",
            existing.placement.run, existing.body.step
        ),
    )
    .subject(format!("checkpoint {}", existing.id.short()))
    .hint("fork a new run at the checkpoint that was resumed from, or save another step")
}
