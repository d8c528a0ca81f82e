//! `milepost diff`: what differs between two checkpoints, tensor by tensor.

use clap::Args;
use milepost_engine::format::body::TensorEntry;
use milepost_engine::{Checkpoint, Error, ErrorKind, Observer, dtype};
use serde::Serialize;

use crate::exit::{Outcome, Result};
use crate::progress::Progress;
use crate::session::Session;
use crate::size;
use crate::table::{Align, Table, bar};

/// Compare two checkpoints, tensor by tensor.
///
/// Elements are compared by their bits. Tensors whose chunks are the same are not read.
#[derive(Args, Debug)]
pub(crate) struct Diff {
    /// The first checkpoint.
    #[arg(value_name = "A")]
    a: String,

    /// The second checkpoint.
    #[arg(value_name = "B")]
    b: String,

    /// Exit with 1 if they differ.
    #[arg(long)]
    exit_code: bool,
}

#[derive(Serialize)]
struct DiffView {
    a: String,
    b: String,
    tensors: Vec<TensorDiff>,
    changed: usize,
    identical: usize,
    added: usize,
    removed: usize,
    /// Blobs of other bytes, or in only one of them.
    blobs: Vec<BlobDiff>,
}

#[derive(Serialize)]
struct TensorDiff {
    name: String,
    status: Status,
    dtype: &'static str,
    shape: Vec<u64>,
    elements: u64,
    changed_elements: u64,
}

#[derive(Serialize)]
struct BlobDiff {
    name: String,
    status: Status,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Identical,
    Changed,
    /// Another dtype or shape: elements cannot be matched.
    Reshaped,
    Added,
    Removed,
}

impl DiffView {
    fn differs(&self) -> bool {
        !self.blobs.is_empty() || self.tensors.iter().any(|t| t.status != Status::Identical)
    }
}

pub(crate) fn run(args: &Diff, session: &Session) -> Result {
    let store = session.store()?;
    let (a, b) = (store.checkpoint(&args.a)?, store.checkpoint(&args.b)?);
    let progress = session.progress("diff");
    let tensors = diff_tensors(&a, &b, &progress)?;
    progress.finish();
    let count = |status| tensors.iter().filter(|t| t.status == status).count();
    let view = DiffView {
        a: a.id().to_string(),
        b: b.id().to_string(),
        changed: count(Status::Changed) + count(Status::Reshaped),
        identical: count(Status::Identical),
        added: count(Status::Added),
        removed: count(Status::Removed),
        blobs: diff_blobs(&a, &b),
        tensors,
    };
    let out = session.out;
    if out.json {
        out.document(&view)?;
    } else if out.quiet {
        for t in view
            .tensors
            .iter()
            .filter(|t| t.status != Status::Identical)
        {
            out.line(crate::output::one_line(&t.name))?;
        }
    } else {
        out.text(&text(&view))?;
    }
    if args.exit_code && view.differs() {
        return Ok(Outcome::Different);
    }
    Ok(Outcome::Done)
}

/// Names of both, sorted, each with what it is in either.
fn pairs<'b, T>(
    a: &'b [T],
    b: &'b [T],
    name: fn(&T) -> &str,
) -> Vec<(Option<&'b T>, Option<&'b T>)> {
    let mut names: Vec<&str> = a.iter().chain(b).map(name).collect();
    names.sort_unstable();
    names.dedup();
    let find = |list: &'b [T], wanted: &str| {
        let at = list.binary_search_by(|t| name(t).cmp(wanted)).ok()?;
        list.get(at)
    };
    let both = names.into_iter().map(|n| (find(a, n), find(b, n)));
    both.collect()
}

fn diff_tensors(
    a: &Checkpoint,
    b: &Checkpoint,
    progress: &Progress,
) -> std::result::Result<Vec<TensorDiff>, Error> {
    let (ours, theirs) = (&a.manifest().body.tensors, &b.manifest().body.tensors);
    let pairs = pairs(ours, theirs, |t: &TensorEntry| &t.name);
    let total = theirs.iter().map(|t| t.byte_len).sum();
    let mut done = 0;
    let mut diffs = Vec::new();
    for pair in pairs {
        let (Some(shown), status) = (match pair {
            (Some(x), Some(y)) if x.dtype != y.dtype || x.shape != y.shape => {
                (Some(y), Status::Reshaped)
            }
            (Some(x), Some(y)) if x.chunks == y.chunks && x.cut() == y.cut() => {
                (Some(y), Status::Identical)
            }
            (Some(_), Some(y)) => (Some(y), Status::Changed),
            (None, y) => (y, Status::Added),
            (x, None) => (x, Status::Removed),
        }) else {
            continue;
        };
        let elements = dtype::elements(&shown.shape)?;
        let changed_elements = match status {
            Status::Identical => 0,
            Status::Changed => changed_elements(a, b, shown)?,
            Status::Reshaped | Status::Added | Status::Removed => elements,
        };
        // Other chunk sizes give other ids to equal bytes.
        let status = if status == Status::Changed && changed_elements == 0 {
            Status::Identical
        } else {
            status
        };
        diffs.push(TensorDiff {
            name: shown.name.clone(),
            status,
            dtype: shown.dtype.name(),
            shape: shown.shape.clone(),
            elements,
            changed_elements,
        });
        done += shown.byte_len;
        progress.advance(done, total);
        if progress.is_cancelled() {
            return Err(Error::new(
                ErrorKind::Interrupted,
                "interrupted",
                "interrupted; nothing was changed",
            ));
        }
    }
    Ok(diffs)
}

/// Bytes of a tensor that are compared at once, so that any tensor fits into memory.
const PART_BYTES: u64 = 64 << 20;

/// Decodes both, in parts of rows, and counts elements of other bits.
fn changed_elements(
    a: &Checkpoint,
    b: &Checkpoint,
    tensor: &TensorEntry,
) -> std::result::Result<u64, Error> {
    let bits = tensor.dtype.bits();
    let rows = tensor.shape.first().copied().unwrap_or(1).max(1);
    let row_bytes = tensor.byte_len / rows;
    let in_rows = !tensor.shape.is_empty() && (tensor.byte_len * 8 / rows).is_multiple_of(8);
    if !in_rows || tensor.byte_len <= PART_BYTES {
        let (x, y) = (a.tensor(&tensor.name)?, b.tensor(&tensor.name)?);
        return Ok(changed_in(&x, &y, bits));
    }
    let step = (PART_BYTES / row_bytes.max(1)).max(1);
    let mut changed = 0;
    let mut start = 0;
    while start < rows {
        let end = (start + step).min(rows);
        let part = |checkpoint: &Checkpoint| checkpoint.rows(&tensor.name, start..end);
        changed += changed_in(&part(a)?, &part(b)?, bits);
        start = end;
    }
    Ok(changed)
}

/// Elements of `bits` bits that differ; elements of less than a byte are compared bit by bit.
fn changed_in(x: &[u8], y: &[u8], bits: u64) -> u64 {
    if bits.is_multiple_of(8) {
        let width = usize::try_from(bits / 8).unwrap_or(1);
        let pairs = x.chunks(width).zip(y.chunks(width));
        return pairs.filter(|(p, q)| p != q).count() as u64;
    }
    let mut last = None;
    let mut changed = 0;
    for (at, (p, q)) in x.iter().zip(y).enumerate() {
        let differing = p ^ q;
        for bit in (0..8u64).filter(|bit| differing >> bit & 1 == 1) {
            let element = (at as u64 * 8 + bit) / bits;
            if last.replace(element) != Some(element) {
                changed += 1;
            }
        }
    }
    changed
}

fn diff_blobs(a: &Checkpoint, b: &Checkpoint) -> Vec<BlobDiff> {
    let (ours, theirs) = (&a.manifest().body.blobs, &b.manifest().body.blobs);
    let pairs = pairs(ours, theirs, |blob| &blob.name);
    let differing = pairs.into_iter().filter_map(|pair| match pair {
        (Some(x), Some(y)) if x.chunks == y.chunks && x.byte_len == y.byte_len => None,
        (Some(_), Some(y)) => Some((y, Status::Changed)),
        (None, Some(y)) => Some((y, Status::Added)),
        (Some(x), None) => Some((x, Status::Removed)),
        (None, None) => None,
    });
    differing
        .map(|(blob, status)| BlobDiff {
            name: blob.name.clone(),
            status,
        })
        .collect()
}

fn text(view: &DiffView) -> String {
    let mut table = Table::new([
        ("NAME", Align::Left),
        ("DTYPE", Align::Left),
        ("ELEMENTS", Align::Right),
        ("CHANGED", Align::Right),
        ("", Align::Left),
    ]);
    let differing: Vec<&TensorDiff> = view
        .tensors
        .iter()
        .filter(|t| t.status != Status::Identical)
        .collect();
    for t in &differing {
        let percent = size::percent(t.changed_elements, t.elements);
        let (changed, note) = match t.status {
            Status::Added => ("added".to_owned(), String::new()),
            Status::Removed => ("removed".to_owned(), String::new()),
            Status::Reshaped => ("other shape or type".to_owned(), String::new()),
            Status::Changed | Status::Identical => (
                size::share(t.changed_elements, t.elements),
                bar(percent / 100.0),
            ),
        };
        table.row([
            t.name.clone(),
            t.dtype.to_owned(),
            t.elements.to_string(),
            changed,
            note,
        ]);
    }
    let mut text = if differing.is_empty() {
        String::new()
    } else {
        table.render()
    };
    for blob in &view.blobs {
        let status = match blob.status {
            Status::Added => "added",
            Status::Removed => "removed",
            _ => "changed",
        };
        let name = crate::output::one_line(&blob.name);
        text.push_str(&format!("blob {name}: {status}\n"));
    }
    text.push_str(&format!(
        "{}: {} changed, {} identical, {} added, {} removed\n",
        size::count(view.tensors.len() as u64, "tensor"),
        view.changed,
        view.identical,
        view.added,
        view.removed,
    ));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_of_any_width_are_counted_once() {
        assert_eq!(changed_in(&[0, 0, 1, 0], &[0, 0, 0, 0], 16), 1);
        assert_eq!(changed_in(&[0x11], &[0x00], 4), 2);
        assert_eq!(changed_in(&[0x03], &[0x00], 4), 1);
        // Element 1 of six bits spans bytes 0 and 1.
        assert_eq!(changed_in(&[0xc0, 0x0f, 0], &[0, 0, 0], 6), 1);
    }
}
