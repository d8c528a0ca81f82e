//! `milepost compact`: rewrites packs so that they hold what checkpoints need and little else.

use clap::Args;
use milepost_engine::{CompactOptions, CompactReport, Level};
use serde::Serialize;

use crate::command::gc::{self, GcView};
use crate::command::init::LevelArg;
use crate::exit::{Outcome, Result};
use crate::report;
use crate::session::Session;
use crate::size;

/// Rewrite packs that are small or hold much that no checkpoint needs.
///
/// No checkpoint changes: ids stay, and each restores as before. Saves and readers go on
/// meanwhile. The disk must have room for the new packs beside the old ones, which are removed
/// at the end. Relaxed checkpoints that move become durable.
#[derive(Args, Debug)]
pub(crate) struct Compact {
    /// Code every checkpoint anew, each against the next newer one of its run.
    ///
    /// The newest checkpoint of a run then stands alone, the fastest to restore, and bases that
    /// no checkpoint holds any more go. Reads and writes the whole store; kept only if it takes
    /// less space.
    #[arg(long)]
    reencode: bool,

    /// How hard to try when coding anew.
    #[arg(long, value_enum, requires = "reencode")]
    level: Option<LevelArg>,

    /// Rewrite packs of which at least this part is not needed.
    #[arg(long, value_name = "PERCENT", default_value_t = 25,
          value_parser = clap::value_parser!(u8).range(0..=100))]
    idle_min: u8,

    /// Merge packs smaller than this, in MiB.
    #[arg(long, value_name = "MIB", default_value_t = 32,
          value_parser = clap::value_parser!(u64).range(0..=1024))]
    small: u64,

    /// Leave the old packs in the store's trash; the next collection unlinks them.
    #[arg(long)]
    keep_trash: bool,

    /// Only say what would be rewritten.
    #[arg(short = 'n', long)]
    dry_run: bool,
}

#[derive(Serialize)]
struct CompactView {
    done: bool,
    checkpoints: u64,
    rewritten_packs: u64,
    rewritten_bytes: u64,
    new_packs: u64,
    new_bytes: u64,
    moved_checkpoints: u64,
    damaged_packs: Vec<String>,
    base_bytes: u64,
    reencoded: bool,
    gc: Option<GcView>,
}

pub(crate) fn run(args: &Compact, session: &Session) -> Result {
    let store = session.store()?;
    let options = CompactOptions {
        dry_run: args.dry_run,
        idle_min_percent: args.idle_min,
        small_pack_len: args.small << 20,
        reencode: args.reencode,
        level: args.level.map(Level::from),
        keep_trash: args.keep_trash,
    };
    let progress = session.progress("compact");
    let report = store.compact(&options, &progress)?;
    progress.finish();
    let out = session.out;
    if out.json {
        out.document(&view(&report, args.dry_run))?;
    } else if !out.quiet {
        out.line(summary(&report, args.dry_run))?;
        if !args.dry_run {
            out.line(gc::summary(&report.collected, false))?;
        }
        if let Some(hint) = hint(&report, args) {
            out.line(hint)?;
        }
    }
    if !report.damaged_packs.is_empty() {
        report::warning(&format!(
            "{} left as found: a record in it is damaged (`milepost verify` names what is hit)",
            size::count(report.damaged_packs.len() as u64, "pack")
        ));
    }
    Ok(Outcome::Done)
}

fn summary(report: &CompactReport, dry_run: bool) -> String {
    if report.rewritten_packs == 0 {
        return "nothing to rewrite".to_owned();
    }
    let old = format!(
        "{} ({})",
        size::count(report.rewritten_packs, "pack"),
        size::bytes(report.rewritten_bytes)
    );
    if dry_run {
        let copied = size::bytes(report.new_bytes);
        return format!("would rewrite {old} and keep {copied} of it");
    }
    let verb = match report.reencoded {
        true => "coded anew",
        false => "rewrote",
    };
    format!(
        "{verb} {old} as {} ({}) for {}",
        size::count(report.new_packs, "pack"),
        size::bytes(report.new_bytes),
        size::count(report.moved_checkpoints, "checkpoint"),
    )
}

/// What else could be done, or why what was asked for was not.
fn hint(report: &CompactReport, args: &Compact) -> Option<String> {
    if args.reencode && args.dry_run {
        return Some("what coding anew gains is known only when it is done".to_owned());
    }
    if args.reencode {
        let in_vain = "coding anew would not have taken less space: records stay as they are";
        return (!report.reencoded).then(|| in_vain.to_owned());
    }
    let bytes = size::bytes(report.base_bytes);
    (report.base_bytes > 0).then(|| {
        format!(
            "{bytes} are bases that no checkpoint holds any more; `milepost compact --reencode` \
             may free them"
        )
    })
}

fn view(report: &CompactReport, dry_run: bool) -> CompactView {
    CompactView {
        done: !dry_run,
        checkpoints: report.checkpoints,
        rewritten_packs: report.rewritten_packs,
        rewritten_bytes: report.rewritten_bytes,
        new_packs: report.new_packs,
        new_bytes: report.new_bytes,
        moved_checkpoints: report.moved_checkpoints,
        damaged_packs: report
            .damaged_packs
            .iter()
            .map(ToString::to_string)
            .collect(),
        base_bytes: report.base_bytes,
        reencoded: report.reencoded,
        gc: (!dry_run).then(|| GcView::new(&report.collected)),
    }
}
