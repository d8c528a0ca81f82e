//! `milepost fork`: a new run that starts at a checkpoint.

use clap::Args;
use milepost_engine::{Error, ErrorKind};
use serde::Serialize;

use crate::exit::{Outcome, Result};
use crate::session::Session;
use crate::size;
use crate::view::SaveView;

/// Start a new run at a checkpoint of any run; what it holds is shared, not copied.
#[derive(Args, Debug)]
pub(crate) struct Fork {
    /// The checkpoint to start at.
    #[arg(value_name = "REV")]
    revision: String,

    /// The new run.
    #[arg(value_name = "RUN")]
    run: String,

    /// Only say what would be done.
    #[arg(short = 'n', long)]
    dry_run: bool,
}

#[derive(Serialize)]
struct ForkView {
    from: String,
    run: String,
    step: u64,
    done: bool,
    checkpoint: Option<SaveView>,
}

pub(crate) fn run(args: &Fork, session: &Session) -> Result {
    let store = session.store()?;
    milepost_engine::format::name::check(&args.run, "run")?;
    let source = store.checkpoint(&args.revision)?;
    let manifest = source.manifest();
    let step = manifest.body.step;
    let report = if args.dry_run {
        if store.runs()?.contains(&args.run) {
            let taken = format!("there is a run {:?} already", args.run);
            return Err(Error::new(ErrorKind::Conflict, "run-exists", taken)
                .hint("choose another name")
                .into());
        }
        None
    } else {
        Some(store.fork_of(&source, &args.run)?)
    };
    let out = session.out;
    if out.json {
        out.document(&ForkView {
            from: source.id().to_string(),
            run: args.run.clone(),
            step,
            done: report.is_some(),
            checkpoint: report.as_ref().map(|r| SaveView::new(r, None)),
        })?;
    } else if let (true, Some(report)) = (out.quiet, &report) {
        out.line(report.id.to_string())?;
    } else if !out.quiet {
        let from = format!(
            "run {} at step {step} of run {} ({})",
            args.run,
            manifest.placement.run,
            source.id().short()
        );
        match &report {
            None => out.line(format!("would start {from}"))?,
            Some(report) => out.line(format!(
                "started {from} as {}: {} added",
                report.id.short(),
                size::bytes(report.added_bytes)
            ))?,
        }
    }
    Ok(Outcome::Done)
}
