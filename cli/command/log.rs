//! `milepost log`: the checkpoints, newest first.

use std::collections::BTreeMap;
use std::sync::Arc;

use clap::Args;
use milepost_engine::{Damaged, Error, ErrorKind, Listing, Store, Summary};
use serde::Serialize;

use crate::exit::{Outcome, Result};
use crate::report;
use crate::session::Session;
use crate::size;
use crate::table::{Align, Table};
use crate::view::{CheckpointView, Tags, added_bytes, kind_with_depth};

/// List checkpoints, newest first.
///
/// LOGICAL is what a checkpoint holds, ADDED what saving it added to the store, UNIQUE what
/// removing only it would free.
#[derive(Args, Debug)]
pub(crate) struct Log {
    /// Only the newest N.
    #[arg(
        short = 'n',
        long = "number",
        value_name = "N",
        allow_negative_numbers = true
    )]
    number: Option<usize>,

    /// Only one run.
    #[arg(long, value_name = "RUN")]
    run: Option<String>,

    /// Also tell what removing each checkpoint would free; reads every manifest.
    #[arg(long)]
    unique: bool,
}

#[derive(Serialize)]
struct LogView {
    checkpoints: Vec<CheckpointView>,
    totals: Totals,
    damaged: Vec<DamagedView>,
}

#[derive(Serialize)]
struct Totals {
    checkpoints: usize,
    logical_bytes: u64,
    added_bytes: u64,
}

/// A manifest that cannot be read.
#[derive(Serialize)]
pub(crate) struct DamagedView {
    run: String,
    seq: u64,
    id: String,
    message: String,
}

impl DamagedView {
    pub(crate) fn new(damaged: &Damaged) -> Self {
        Self {
            run: damaged.place.run.clone(),
            seq: damaged.place.seq,
            id: damaged.place.id.to_string(),
            message: damaged.error.to_string(),
        }
    }
}

pub(crate) fn run(args: &Log, session: &Session) -> Result {
    let store = session.store()?;
    let listing = list(&store, args.run.as_deref())?;
    warn_of_damage(&listing);
    let mut newest: Vec<Arc<Summary>> = listing.checkpoints.clone();
    newest.sort_by_key(|s| {
        let p = &s.placement;
        std::cmp::Reverse((p.time_ms, p.run.clone(), p.seq))
    });
    let totals = totals(&newest);
    newest.truncate(args.number.unwrap_or(usize::MAX));
    let tags = Tags::new(&store.tags()?);
    let mut unique = BTreeMap::new();
    if args.unique {
        let progress = session.progress("read manifests");
        unique = store.unique_bytes(&progress)?;
        progress.finish();
    }
    let views: Vec<CheckpointView> = newest
        .iter()
        .map(|summary| CheckpointView {
            unique_bytes: unique.get(&summary.place()).copied(),
            ..CheckpointView::new(summary, &tags)
        })
        .collect();
    let out = session.out;
    if out.json {
        out.document(&LogView {
            checkpoints: views,
            totals,
            damaged: listing.damaged.iter().map(DamagedView::new).collect(),
        })?;
    } else if out.quiet {
        for view in &views {
            out.line(&view.id)?;
        }
    } else {
        print(args, session, &newest, &views, &totals)?;
    }
    Ok(Outcome::Done)
}

/// The checkpoints of a run, which must exist, or of all.
fn list(store: &Store, run: Option<&str>) -> std::result::Result<Listing, Error> {
    if let Some(run) = run {
        let runs = store.runs()?;
        if !runs.iter().any(|r| r == run) {
            let hint = if runs.is_empty() {
                "the store has no run yet".to_owned()
            } else {
                format!("runs here: {}", runs.join(", "))
            };
            return Err(Error::new(
                ErrorKind::NotFound,
                "run",
                format!("there is no run {run:?}"),
            )
            .hint(hint));
        }
    }
    store.list(run)
}

/// Damage is told at once, and does not hide what is whole.
pub(crate) fn warn_of_damage(listing: &Listing) {
    if !listing.lost.is_empty() {
        report::warning(&format!(
            "{} lost to a power cut: `milepost forget --damaged` clears away what is left",
            size::count(listing.lost.len() as u64, "relaxed save")
        ));
    }
    for damaged in &listing.damaged {
        let Damaged { place, error } = damaged;
        report::warning(&format!(
            "checkpoint {} ({} of run {}) cannot be read: {error}",
            place.id.short(),
            place.seq,
            place.run
        ));
    }
}

/// From the listing alone: a log of ten thousand checkpoints opens no pack.
fn totals(checkpoints: &[Arc<Summary>]) -> Totals {
    let sum = |of: fn(&Summary) -> u64| {
        let each = checkpoints.iter().map(|s| of(s));
        each.fold(0, u64::saturating_add)
    };
    Totals {
        checkpoints: checkpoints.len(),
        logical_bytes: sum(|s| s.placement.logical_bytes),
        added_bytes: sum(added_bytes),
    }
}

fn print(
    args: &Log,
    session: &Session,
    newest: &[Arc<Summary>],
    views: &[CheckpointView],
    totals: &Totals,
) -> Result<()> {
    let out = session.out;
    if totals.checkpoints == 0 {
        return Ok(out.line("no checkpoints yet; save one with `milepost save FILE`")?);
    }
    let several_runs = newest.iter().any(|s| {
        let first = newest.first().map(|f| &f.placement.run);
        first != Some(&s.placement.run)
    });
    let mut heads = vec![("ID", Align::Left), ("STEP", Align::Right)];
    if several_runs {
        heads.push(("RUN", Align::Left));
    }
    heads.extend([
        ("AGE", Align::Left),
        ("KIND", Align::Left),
        ("LOGICAL", Align::Right),
        ("ADDED", Align::Right),
    ]);
    if args.unique {
        heads.push(("UNIQUE", Align::Right));
    }
    heads.extend([("TAGS", Align::Left), ("METRICS", Align::Left)]);
    let mut table = Table::new(heads);
    for (summary, view) in newest.iter().zip(views) {
        let placement = &summary.placement;
        let mut row = vec![summary.id.short(), summary.step.to_string()];
        if several_runs {
            row.push(placement.run.clone());
        }
        row.extend([
            size::age(placement.time_ms),
            kind_with_depth(placement.full, placement.depth),
            size::bytes(view.logical_bytes),
            size::bytes(view.added_bytes),
        ]);
        if args.unique {
            row.push(view.unique_bytes.map(size::bytes).unwrap_or_default());
        }
        let metrics = view
            .metrics
            .iter()
            .map(|(name, value)| format!("{name}={value}"));
        row.extend([view.tags.join(","), metrics.collect::<Vec<_>>().join(" ")]);
        table.row(row);
    }
    out.text(&table.render())?;
    Ok(out.line(format!(
        "{}, {} logical, {} added",
        size::count(totals.checkpoints as u64, "checkpoint"),
        size::bytes(totals.logical_bytes),
        size::bytes(totals.added_bytes),
    ))?)
}
