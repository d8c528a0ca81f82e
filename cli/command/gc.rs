//! `milepost gc`: gives back the space of packs that no checkpoint needs.

use clap::Args;
use milepost_engine::{GcOptions, GcReport};
use serde::Serialize;

use crate::exit::{Outcome, Result};
use crate::report;
use crate::session::Session;
use crate::size;

/// Remove packs that no checkpoint needs.
///
/// They are left by saves that failed or were killed, and by `milepost forget`. Saves that run
/// meanwhile are waited for; readers are not disturbed.
#[derive(Args, Debug)]
pub(crate) struct Gc {
    /// Leave the packs in the store's trash; the next collection unlinks them.
    #[arg(long)]
    keep_trash: bool,

    /// Only say what would be removed.
    #[arg(short = 'n', long)]
    dry_run: bool,
}

/// What a collection did.
#[derive(Serialize)]
pub(crate) struct GcView {
    checkpoints: u64,
    packs: u64,
    removed_packs: u64,
    removed_bytes: u64,
    trashed_packs: u64,
    trashed_bytes: u64,
    rescued_packs: u64,
    idle_bytes: u64,
    unresolved_checkpoints: u64,
}

impl GcView {
    pub(crate) fn new(report: &GcReport) -> Self {
        Self {
            checkpoints: report.checkpoints,
            packs: report.packs,
            removed_packs: report.removed_packs,
            removed_bytes: report.removed_bytes,
            trashed_packs: report.trashed_packs,
            trashed_bytes: report.trashed_bytes,
            rescued_packs: report.rescued_packs,
            idle_bytes: report.idle_bytes,
            unresolved_checkpoints: report.unresolved,
        }
    }
}

#[derive(Serialize)]
struct DoneView {
    done: bool,
    #[serde(flatten)]
    gc: GcView,
}

pub(crate) fn run(args: &Gc, session: &Session) -> Result {
    let store = session.store()?;
    let options = GcOptions {
        dry_run: args.dry_run,
        keep_trash: args.keep_trash,
        ..GcOptions::default()
    };
    let progress = session.progress("collect");
    let report = store.gc(&options, &progress)?;
    progress.finish();
    let out = session.out;
    if out.json {
        out.document(&DoneView {
            done: !args.dry_run,
            gc: GcView::new(&report),
        })?;
    } else if !out.quiet {
        out.line(summary(&report, args.dry_run))?;
    }
    if report.unresolved > 0 {
        report::warning(&format!(
            "{} cannot be restored in full; everything that might be of use to it was kept \
             (`milepost verify` names what is missing)",
            size::count(report.unresolved, "checkpoint")
        ));
    }
    Ok(Outcome::Done)
}

/// One line for people.
pub(crate) fn summary(report: &GcReport, dry_run: bool) -> String {
    let verb = if dry_run { "would remove" } else { "removed" };
    let mut line = format!(
        "{verb} {} ({}), {} kept",
        size::count(report.removed_packs, "pack"),
        size::bytes(report.removed_bytes),
        report.packs,
    );
    let more = [
        (
            report.trashed_bytes,
            "in the trash until the next collection",
        ),
        (report.idle_bytes, "in kept packs that no checkpoint needs"),
    ];
    for (bytes, what) in more.iter().filter(|(bytes, _)| *bytes > 0) {
        line.push_str(&format!(", {} {what}", size::bytes(*bytes)));
    }
    if report.rescued_packs > 0 {
        let back = size::count(report.rescued_packs, "pack");
        line.push_str(&format!(", {back} brought back from the trash"));
    }
    line
}
