//! `milepost restore`: writes a checkpoint, or a part of it, as a safetensors file.

use std::io::{IsTerminal, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use clap::Args;
use milepost_engine::{Checkpoint, Error, ErrorKind, Output, Salvage, Selection};
use serde::Serialize;

use crate::command::salvage::{self, SalvageView};
use crate::exit::Result;
use crate::files::OutputFile;
use crate::progress::Progress;
use crate::report;
use crate::safetensors_file::{HEADER_BLOB, Header};
use crate::session::Session;
use crate::size;

type EngineResult<T> = milepost_engine::Result<T>;

/// Write a checkpoint, or a part of it, as a safetensors file.
///
/// Without a selection, the file is the very file that was saved, byte for byte.
#[derive(Args, Debug)]
pub(crate) struct Restore {
    /// The checkpoint.
    #[arg(value_name = "REV")]
    revision: String,

    /// The file to write; `-` for standard output.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,

    /// Only tensors whose names match, such as 'model.*'; may be given several times.
    #[arg(long, value_name = "GLOB")]
    include: Vec<String>,

    /// Only these rows (ranges of the first dimension) of one tensor.
    #[arg(long, value_name = "NAME=START..END", value_parser = parse_rows)]
    #[arg(conflicts_with = "include")]
    rows: Option<(String, Range<u64>)>,

    /// Only the tensors that a thinned checkpoint still has.
    #[arg(long, conflicts_with_all = ["include", "rows"])]
    kept: bool,

    /// Write what is intact of a damaged checkpoint, and list what is not.
    ///
    /// Every chunk is decoded and hashed. The file holds the tensors that come back whole; the
    /// store is not changed. Exit code 3 if something is missing.
    #[arg(long, conflicts_with_all = ["rows", "kept"])]
    salvage: bool,

    /// Replace the file if there is one.
    #[arg(short, long)]
    force: bool,

    /// Hash every chunk as well, beside its checksum.
    #[arg(long)]
    check: bool,
}

#[derive(Serialize)]
struct RestoreView {
    id: String,
    run: String,
    step: u64,
    file: String,
    bytes: u64,
    tensors: usize,
    /// Whether the file is the very file that was saved.
    identical: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    salvage: Option<SalvageView>,
}

/// What is to be written: the header, and where in the file each output starts.
struct Target {
    header: Header,
    offsets: Vec<u64>,
    identical: bool,
}

pub(crate) fn run(args: &Restore, session: &Session) -> Result {
    let to_stdout = args.output == Path::new("-");
    if to_stdout {
        require_pipe(session)?;
    }
    let store = session.store()?;
    let checkpoint = store.checkpoint(&args.revision)?;
    let mut selection = selection(args)?;
    let mut whole = args.include.is_empty() && args.rows.is_none() && !args.kept;
    let salvaged = match args.salvage {
        true => Some(salvage::examine(&checkpoint, &selection, session)?),
        false => None,
    };
    if let Some(salvaged) = &salvaged {
        if !salvaged.tensors.is_empty() || !salvaged.dropped.is_empty() {
            selection = Selection::tensors(salvaged.whole.iter().cloned());
            whole = false;
        }
        whole = whole && !salvaged.blobs.iter().any(|b| b.name == HEADER_BLOB);
    }
    let (outputs, plan) = checkpoint.plan(&selection).map_err(tell_of_salvage)?;
    let target = Target::new(&checkpoint, &outputs, whole)?;
    tell_of_blobs(&checkpoint, session);
    let step = checkpoint.manifest().body.step;
    if to_stdout {
        let progress = session.progress(&format!("restore step {step}"));
        write_stream(args, &checkpoint, &outputs, &target, &progress)?;
        progress.finish();
        return salvage::tell(salvaged.as_ref(), session);
    }
    let file = OutputFile::create(&args.output, args.force)?;
    file.set_len(target.header.file_len())?;
    file.write_at(0, &target.header.bytes)?;
    let progress = session.progress(&format!("restore step {step}"));
    let sink = |output: usize, offset: u64, bytes: &[u8]| -> EngineResult<()> {
        let start = target.offsets.get(output).copied().unwrap_or_default();
        file.write_at(start + offset, bytes)
    };
    let restored = checkpoint.restore_to(&plan, &sink, checks(args), &progress);
    restored.map_err(tell_of_salvage)?;
    file.publish()?;
    progress.finish();
    print(
        args,
        session,
        &checkpoint,
        &outputs,
        &target,
        salvaged.as_ref(),
    )?;
    salvage::tell(salvaged.as_ref(), session)
}

/// A damaged checkpoint is seldom damaged in all of its parts.
fn tell_of_salvage(error: Error) -> Error {
    match error.kind() {
        ErrorKind::Corrupt => error.hint(
            "`milepost verify` names what is hit; `milepost restore --salvage` writes what is intact",
        ),
        _ => error,
    }
}

/// Whether every chunk is hashed: what salvage found to be intact is written as that alone.
fn checks(args: &Restore) -> bool {
    args.check || args.salvage
}

/// Binary data belongs neither on a terminal nor among JSON.
fn require_pipe(session: &Session) -> Result<()> {
    let why = if session.out.json {
        "--json and `-o -` both want standard output"
    } else if std::io::stdout().is_terminal() {
        "binary data is not written to a terminal"
    } else {
        return Ok(());
    };
    Err(Error::invalid("stdout", why)
        .hint("name a file with -o")
        .into())
}

fn selection(args: &Restore) -> EngineResult<Selection> {
    if let Some((name, rows)) = &args.rows {
        return Ok(Selection::rows(name, rows.clone()));
    }
    if args.kept {
        return Ok(Selection::kept());
    }
    if args.include.is_empty() {
        return Ok(Selection::all());
    }
    Selection::globs(&args.include)
}

impl Target {
    fn new(checkpoint: &Checkpoint, outputs: &[Output], whole: bool) -> EngineResult<Self> {
        let body = &checkpoint.manifest().body;
        if whole && body.blob(HEADER_BLOB).is_some() {
            let header = Header::parse(checkpoint.blob(HEADER_BLOB)?)
                .ok()
                .filter(|h| describes(h, outputs));
            if let Some(header) = header {
                return Self::with(header, outputs, true);
            }
            report::warning(
                "the saved header does not fit the tensors; a new one is written instead",
            );
        }
        // The header of the saved file may hold entries that the metadata could not.
        Self::with(Header::canonical(outputs, &body.metadata)?, outputs, false)
    }

    fn with(header: Header, outputs: &[Output], identical: bool) -> EngineResult<Self> {
        let data_at = header.bytes.len() as u64;
        let offset = |output: &Output| {
            let info = header.metadata.info(&output.name)?;
            Some(data_at + info.data_offsets.0 as u64)
        };
        let offsets = outputs
            .iter()
            .map(|o| offset(o).unwrap_or(data_at))
            .collect();
        Ok(Self {
            header,
            offsets,
            identical,
        })
    }
}

/// Whether a header is of exactly these tensors.
fn describes(header: &Header, outputs: &[Output]) -> bool {
    let Ok(mut tensors) = header.tensors() else {
        return false;
    };
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    let same = |(t, o): (&crate::safetensors_file::FileTensor, &Output)| {
        t.name == o.name
            && t.dtype == o.dtype
            && t.shape == o.shape
            && t.byte_len == o.bytes.end - o.bytes.start
    };
    tensors.len() == outputs.len() && tensors.iter().zip(outputs).all(same)
}

/// Header, then tensor by tensor in the order of the file.
fn write_stream(
    args: &Restore,
    checkpoint: &Checkpoint,
    outputs: &[Output],
    target: &Target,
    progress: &Progress,
) -> Result<()> {
    let failed = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::BrokenPipe => Error::new(
            ErrorKind::Io,
            "output-closed",
            "whoever read the output stopped before its end",
        ),
        _ => Error::io("write to standard output", e),
    };
    let mut out = std::io::stdout().lock();
    out.write_all(&target.header.bytes).map_err(failed)?;
    let mut order: Vec<(&u64, &Output)> = target.offsets.iter().zip(outputs).collect();
    order.sort_by_key(|(offset, output)| (**offset, output.bytes.end));
    let total: u64 = outputs.iter().map(|o| o.bytes.end - o.bytes.start).sum();
    let mut done = 0;
    for (_, output) in order {
        let selection = match &args.rows {
            Some((name, rows)) => Selection::rows(name, rows.clone()),
            None => Selection::tensor(&output.name),
        };
        let (_, plan) = checkpoint.plan(&selection)?;
        let len = usize::try_from(plan.output_bytes()).unwrap_or(usize::MAX);
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(len).map_err(|_| {
            Error::new(
                ErrorKind::Limit,
                "memory",
                "a tensor does not fit into memory",
            )
            .hint("restore to a file: that takes little memory")
        })?;
        bytes.resize(len, 0);
        let watch = Offset {
            progress,
            done,
            total,
        };
        if checks(args) {
            let buffer = std::sync::Mutex::new(&mut bytes);
            let sink = |_: usize, offset: u64, part: &[u8]| -> EngineResult<()> {
                let at = usize::try_from(offset).unwrap_or(usize::MAX);
                let mut held = buffer
                    .lock()
                    .unwrap_or_else(std::sync::PoisonError::into_inner);
                if let Some(to) = held
                    .get_mut(at..)
                    .and_then(|rest| rest.get_mut(..part.len()))
                {
                    to.copy_from_slice(part);
                }
                Ok(())
            };
            checkpoint.restore_to(&plan, &sink, true, &watch)?;
        } else {
            checkpoint.restore_into(&plan, &mut [&mut bytes], &watch)?;
        }
        done += bytes.len() as u64;
        out.write_all(&bytes).map_err(failed)?;
    }
    out.flush().map_err(failed)?;
    Ok(())
}

/// Progress of one tensor as progress of all.
struct Offset<'p> {
    progress: &'p Progress,
    done: u64,
    total: u64,
}

impl milepost_engine::Observer for Offset<'_> {
    fn advance(&self, done: u64, _: u64) {
        self.progress.advance(self.done + done, self.total);
    }

    fn is_cancelled(&self) -> bool {
        self.progress.is_cancelled()
    }
}

/// A safetensors file has no place for blobs: the user should know that there are some.
fn tell_of_blobs(checkpoint: &Checkpoint, session: &Session) {
    let blobs = checkpoint.manifest().body.blobs.iter();
    let others: Vec<String> = blobs
        .filter(|blob| blob.name != HEADER_BLOB)
        .map(|blob| format!("{} ({})", blob.name, size::bytes(blob.byte_len)))
        .collect();
    if !others.is_empty() && !session.out.quiet {
        report::warning(&format!(
            "a safetensors file cannot hold the checkpoint's other data: {}",
            others.join(", ")
        ));
    }
}

fn print(
    args: &Restore,
    session: &Session,
    checkpoint: &Checkpoint,
    outputs: &[Output],
    target: &Target,
    salvaged: Option<&Salvage>,
) -> Result<()> {
    let manifest = checkpoint.manifest();
    let out = session.out;
    if out.json {
        out.document(&RestoreView {
            id: manifest.id.to_string(),
            run: manifest.placement.run.clone(),
            step: manifest.body.step,
            file: args.output.display().to_string(),
            bytes: target.header.file_len(),
            tensors: outputs.len(),
            identical: target.identical,
            salvage: salvaged.map(SalvageView::new),
        })?;
    } else if !out.quiet {
        let how = if target.identical {
            "byte for byte as it was saved".to_owned()
        } else {
            size::count(outputs.len() as u64, "tensor")
        };
        out.line(format!(
            "restored {} (step {} of run {}) to {}: {}, {how}",
            manifest.id.short(),
            manifest.body.step,
            manifest.placement.run,
            args.output.display(),
            size::bytes(target.header.file_len()),
        ))?;
    }
    Ok(())
}

/// Reads "NAME=START..END"; the name may hold any of these characters itself.
fn parse_rows(text: &str) -> std::result::Result<(String, Range<u64>), String> {
    let bad = || "write NAME=START..END, such as wte.weight=0..1000".to_owned();
    let (name, rows) = text.rsplit_once('=').ok_or_else(bad)?;
    let (start, end) = rows.split_once("..").ok_or_else(bad)?;
    let start = start.trim().parse().map_err(|_| bad())?;
    let end = end.trim().parse().map_err(|_| bad())?;
    if name.is_empty() || start > end {
        return Err(bad());
    }
    Ok((name.to_owned(), start..end))
}
