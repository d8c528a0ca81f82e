//! The part of `restore` that is for damaged checkpoints: what is intact, and what is not.

use milepost_engine::restore::DamagedPart;
use milepost_engine::{Checkpoint, Error, Salvage, Selection};
use serde::Serialize;

use crate::exit::{Outcome, Result};
use crate::output::one_line;
use crate::report;
use crate::session::Session;
use crate::size;

/// What is missing, as JSON.
#[derive(Serialize)]
pub(crate) struct SalvageView {
    whole: bool,
    tensors: Vec<PartView>,
    blobs: Vec<PartView>,
    dropped: Vec<String>,
}

#[derive(Serialize)]
struct PartView {
    name: String,
    bytes: u64,
    lost_bytes: u64,
    /// First byte and the byte after the last of what is lost.
    lost: Vec<(u64, u64)>,
    why: Vec<String>,
}

impl SalvageView {
    pub(crate) fn new(salvage: &Salvage) -> Self {
        let parts = |parts: &[DamagedPart]| parts.iter().map(PartView::new).collect();
        Self {
            whole: salvage.is_whole(),
            tensors: parts(&salvage.tensors),
            blobs: parts(&salvage.blobs),
            dropped: salvage.dropped.clone(),
        }
    }
}

impl PartView {
    fn new(part: &DamagedPart) -> Self {
        let ranges = part.lost.iter().map(|l| (l.bytes.start, l.bytes.end));
        Self {
            name: part.name.clone(),
            bytes: part.byte_len,
            lost_bytes: part.lost_bytes(),
            lost: ranges.collect(),
            why: part.lost.iter().map(|l| l.error.to_string()).collect(),
        }
    }
}

/// Finds out what comes back.
///
/// # Errors
/// `Corrupt` if no tensor does.
pub(crate) fn examine(
    checkpoint: &Checkpoint,
    selection: &Selection,
    session: &Session,
) -> milepost_engine::Result<Salvage> {
    let progress = session.progress("examine");
    let salvage = checkpoint.salvage(selection, &progress)?;
    progress.finish();
    if salvage.whole.is_empty() && !salvage.tensors.is_empty() {
        list(&salvage, session);
        return Err(Error::corrupt("nothing-intact", "no tensor is intact")
            .hint("`milepost log` shows other checkpoints"));
    }
    Ok(salvage)
}

/// Lists what is missing; the code says whether anything is.
pub(crate) fn tell(salvage: Option<&Salvage>, session: &Session) -> Result {
    let Some(salvage) = salvage.filter(|s| !s.is_whole()) else {
        return Ok(Outcome::Done);
    };
    list(salvage, session);
    Ok(Outcome::Partial)
}

fn list(salvage: &Salvage, session: &Session) {
    if !session.out.json {
        for (kind, parts) in [("tensor", &salvage.tensors), ("blob", &salvage.blobs)] {
            for part in parts {
                report::warning(&missing(kind, part));
            }
        }
        if !salvage.dropped.is_empty() {
            report::warning(&format!(
                "{} dropped from this checkpoint on purpose",
                match salvage.dropped.len() {
                    1 => "1 tensor was".to_owned(),
                    count => format!("{count} tensors were"),
                }
            ));
        }
    }
}

fn missing(kind: &str, part: &DamagedPart) -> String {
    let ranges: Vec<String> = part
        .lost
        .iter()
        .take(3)
        .map(|l| format!("{}..{}", l.bytes.start, l.bytes.end))
        .collect();
    let more = match part.lost.len().saturating_sub(3) {
        0 => String::new(),
        count => format!(" and {count} more"),
    };
    let why = part.lost.first().map(|l| l.error.to_string());
    format!(
        "{kind} {} is not intact: {} of {} lost, bytes {}{more}: {}",
        one_line(&part.name),
        size::bytes(part.lost_bytes()),
        size::bytes(part.byte_len),
        ranges.join(", "),
        one_line(&why.unwrap_or_default()),
    )
}
