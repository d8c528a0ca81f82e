//! `milepost save`: one checkpoint for each safetensors file, in order.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use milepost_engine::{
    Draft, Durability, Error, Full, Like, Relation, SaveOptions, SaveReport, Store,
};
use serde::Serialize;

use crate::command::init::LevelArg;
use crate::exit::{Failure, Outcome, Result};
use crate::files::InputFile;
use crate::relation;
use crate::report;
use crate::safetensors_file::{HEADER_BLOB, Header};
use crate::session::Session;
use crate::size;
use crate::step::{self, Told};
use crate::view::{SaveView, kind_with_depth};

/// Save safetensors files as checkpoints, one for each file, in order.
///
/// The step of each is --step, else `step` of the file's metadata, else the number behind a word
/// such as step, checkpoint or iter in the file's name, else the last number in its name, else
/// such a number in its folder's name, else one more than the newest of the run.
#[derive(Args, Debug)]
pub(crate) struct Save {
    /// Files to save.
    #[arg(required = true, value_name = "FILE.safetensors")]
    files: Vec<PathBuf>,

    /// The run to add to; made if there is none.
    #[arg(long, value_name = "RUN", default_value = "main")]
    run: String,

    /// The training step; only with one file.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    step: Option<u64>,

    /// A tag for it, or for the last of several; may be given several times.
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,

    /// A metric, such as loss=0.25; may be given several times; only with one file.
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_metric)]
    metric: Vec<(String, f64)>,

    /// The checkpoint that it continues, instead of the newest of the run.
    #[arg(long, value_name = "REV")]
    parent: Option<String>,

    /// What to code tensors against that the parent does not have: a checkpoint, or `auto` for the
    /// nearest that some run ends with. Tensors are matched by name, else by shape and content.
    #[arg(long, value_name = "REV|auto", conflicts_with_all = ["full", "self_contained"])]
    like: Option<String>,

    /// Make a full checkpoint; chunks that are stored in full already are shared.
    #[arg(long)]
    full: bool,

    /// Make a full checkpoint that shares nothing with others.
    #[arg(long)]
    self_contained: bool,

    /// What to wait for.
    #[arg(long, value_name = "LEVEL", default_value = "durable")]
    durability: DurabilityArg,

    /// How hard to try to be small, instead of the store's own level.
    #[arg(long, value_name = "LEVEL")]
    level: Option<LevelArg>,

    /// How a tensor came from others: TENSOR=adam:EXP_AVG,EXP_AVG_SQ, TENSOR=momentum:BUFFER,
    /// TENSOR=average:OF or TENSOR=copy:OF; may be given several times. Names tell most.
    #[arg(long, value_name = "RELATION", value_parser = relation::parse)]
    relate: Vec<(String, Relation)>,

    /// Do not guess from names which tensors belong together.
    #[arg(long)]
    no_relations: bool,

    /// Most that the store may take on disk, such as 200GiB, instead of what it records.
    #[arg(long, value_name = "SIZE", value_parser = size::parse_bytes)]
    quota: Option<u64>,
}

/// What a save waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum DurabilityArg {
    /// Nothing: whole or gone after a power cut, never wrong.
    Relaxed,
    /// The disk has everything.
    Durable,
    /// The disk has everything, and it was read back and decoded.
    Verified,
}

impl From<DurabilityArg> for Durability {
    fn from(durability: DurabilityArg) -> Self {
        match durability {
            DurabilityArg::Relaxed => Self::Relaxed,
            DurabilityArg::Durable => Self::Durable,
            DurabilityArg::Verified => Self::Verified,
        }
    }
}

#[derive(Serialize)]
struct SavedView {
    saved: Vec<SaveView>,
    failed: Option<String>,
    not_tried: Vec<String>,
}

pub(crate) fn run(args: &Save, session: &Session) -> Result {
    if args.step.is_some() && args.files.len() > 1 {
        return Err(
            Error::invalid("step-of-several", "--step is for one file, not for several")
                .hint("name the files by their steps, such as step-120.safetensors")
                .into(),
        );
    }
    if !args.metric.is_empty() && args.files.len() > 1 {
        return Err(Error::invalid(
            "metric-of-several",
            "--metric is for one file, not for several",
        )
        .hint("save the files one by one, each with its metrics")
        .into());
    }
    let store = session.store_to_save(args.files.len(), args.quota)?;
    let mut saved = Vec::new();
    let mut failure = None;
    for (number, path) in args.files.iter().enumerate() {
        match save_file(args, &store, number, session) {
            Ok(report) => {
                print_report(session, path, &report)?;
                saved.push(SaveView::new(&report, Some(path.display().to_string())));
            }
            Err(error) => {
                failure = Some((number, error));
                break;
            }
        }
    }
    let left = |from: usize| args.files.iter().skip(from);
    if session.out.json {
        let not_tried = failure.as_ref().map_or(args.files.len(), |(n, _)| n + 1);
        let failed = failure.as_ref().and_then(|(n, _)| left(*n).next());
        session.out.document(&SavedView {
            saved,
            failed: failed.map(|p| p.display().to_string()),
            not_tried: left(not_tried).map(|p| p.display().to_string()).collect(),
        })?;
    }
    let Some((number, error)) = failure else {
        return Ok(Outcome::Done);
    };
    if args.files.len() > 1 && !session.out.json {
        let names: Vec<String> = left(number + 1).map(|p| p.display().to_string()).collect();
        let not_tried = if names.is_empty() {
            String::new()
        } else {
            format!("; not tried: {}", names.join(", "))
        };
        report::warning(&format!(
            "stopped at {}: {} before it stay saved{not_tried}",
            left(number)
                .next()
                .map(|p| p.display().to_string())
                .unwrap_or_default(),
            size::count(number as u64, "file"),
        ));
    }
    Err(if number > 0 {
        Failure::Incomplete(error)
    } else {
        Failure::Error(error)
    })
}

/// Saves the file of that number; if it fails, the store is as before.
fn save_file(
    args: &Save,
    store: &Store,
    number: usize,
    session: &Session,
) -> std::result::Result<SaveReport, Error> {
    let Some(path) = args.files.get(number) else {
        return Err(Error::invalid("input-missing", "there is no such file"));
    };
    let file = InputFile::open(path)?;
    let header = Header::read(&file)?;
    let tensors = header.tensors()?;
    let entries = header.entries();
    let step = match args.step {
        Some(step) => Some(step),
        None => told_step(entries.get("step").copied(), path)?,
    };
    let is_last = number + 1 == args.files.len();
    let options = SaveOptions {
        step,
        // Later files continue the earlier ones.
        parent: args.parent.clone().filter(|_| number == 0),
        like: args.like.as_deref().map(Like::from),
        full: full(args),
        durability: args.durability.into(),
        level: args.level.map(Into::into),
        tags: if is_last {
            args.tag.clone()
        } else {
            Vec::new()
        },
        ..SaveOptions::new(&args.run)
    };
    let mut draft = store.draft(options)?;
    warn_of_order(&draft, args);
    for t in &tensors {
        draft
            .tensor_from(&t.name, t.dtype, &t.shape, &file, t.offset)
            .map_err(|e| e.subject(path.display()))?;
    }
    draft.blob(HEADER_BLOB, &header.bytes)?;
    for (key, value) in storable(&entries) {
        draft.metadata(key, value)?;
    }
    for (name, value) in &args.metric {
        draft.metric(name, *value)?;
    }
    for (tensor, relation) in &args.relate {
        draft.relate(tensor, relation.clone());
    }
    if !args.no_relations {
        draft.infer_relations();
    }
    let progress = session.progress(&format!("save {}", path.display()));
    let report = draft.commit_observed(&progress)?;
    progress.finish();
    Ok(report)
}

/// The step that a file tells, if it does.
fn told_step(metadata: Option<&str>, path: &Path) -> std::result::Result<Option<u64>, Error> {
    if let Some(text) = metadata {
        match text.trim().parse() {
            Ok(step) => return Ok(Some(step)),
            Err(_) => report::warning(&format!(
                "{}: the step of its metadata, {text:?}, is no number and does not count",
                path.display()
            )),
        }
    }
    match step::of_path(path) {
        Told::Step(step) => Ok(Some(step)),
        Told::Nothing => Ok(None),
        Told::Part => Err(Error::invalid(
            "input-part",
            "by its name, this is one of several files of one checkpoint",
        )
        .subject(path.display())
        .hint("join the files first; if it is a whole checkpoint, give its step with --step")),
    }
}

/// A step that goes back is more often a slip of the shell's order than meant.
fn warn_of_order(draft: &Draft<'_>, args: &Save) {
    let before = draft.parent().map(|p| p.manifest());
    let before = before.filter(|m| m.placement.run == args.run && args.parent.is_none());
    if let Some(last) = before.map(|m| m.body.step).filter(|s| *s > draft.step()) {
        let (step, run) = (draft.step(), &args.run);
        report::warning(&format!("step {step} comes after step {last} in run {run}"));
    }
}

/// The entries that can be a checkpoint's metadata; the header's bytes hold all of them anyhow.
fn storable<'e>(entries: &BTreeMap<&'e str, &'e str>) -> Vec<(&'e str, &'e str)> {
    use milepost_engine::format::{cursor::is_key, limits::VALUE_LEN_MAX};
    let fits = |key: &str, value: &str| is_key(key) && value.len() <= VALUE_LEN_MAX;
    entries
        .iter()
        .filter(|(key, value)| fits(key, value))
        .map(|(key, value)| (*key, *value))
        .collect()
}

fn full(args: &Save) -> Full {
    match (args.self_contained, args.full) {
        (true, _) => Full::SelfContained,
        (false, true) => Full::Shared,
        (false, false) => Full::Auto,
    }
}

fn print_report(session: &Session, path: &Path, report: &SaveReport) -> Result<()> {
    let out = session.out;
    if out.json {
        return Ok(());
    }
    if out.quiet {
        return Ok(out.line(report.id.to_string())?);
    }
    let (file, id) = (path.display(), report.id.short());
    if let Some(made) = report.made_room {
        out.line(format!(
            "{file}: there was no room: dropped {} that no keep rule kept, freed {}",
            size::count(made.checkpoints, "checkpoint"),
            size::bytes(made.freed_bytes),
        ))?;
    }
    let place = format!("step {} of run {} as {id}", report.step, report.run);
    if report.existed {
        return Ok(out.line(format!("{file}: {place} was saved before; nothing added"))?);
    }
    let like = match &report.like {
        Some(like) => format!(", like {}", like.revision()),
        None => String::new(),
    };
    Ok(out.line(format!(
        "{file}: saved {place}: {}, {} logical, {} added{like}",
        kind_with_depth(report.full, report.depth),
        size::bytes(report.logical_bytes),
        size::bytes(report.added_bytes),
    ))?)
}

fn parse_metric(text: &str) -> std::result::Result<(String, f64), String> {
    let bad = || "write NAME=NUMBER, such as loss=0.25".to_owned();
    let (name, value) = text.rsplit_once('=').ok_or_else(bad)?;
    if name.is_empty() {
        return Err(bad());
    }
    Ok((name.to_owned(), value.parse().map_err(|_| bad())?))
}
