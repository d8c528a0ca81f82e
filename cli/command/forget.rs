//! `milepost forget`: drops checkpoints, or tensors of them, by name or by keep rules.

use clap::Args;
use milepost_engine::{
    Error, ErrorKind, Fate, Forget, ForgetPlan, ForgetReport, GcOptions, GcReport, KeepRules, Store,
};
use serde::Serialize;

use crate::command::gc::GcView;
use crate::exit::{Outcome, Result};
use crate::keep::KeepArgs;
use crate::progress::Progress;
use crate::report;
use crate::session::Session;
use crate::size;
use crate::table::{Align, Table};

/// Drop checkpoints that are named, or that no keep rule keeps.
///
/// Without names and rules, those rules hold that `milepost init` recorded. Rules hold run by
/// run and only ever keep: the newest durable checkpoint of a run always stays, and tagged ones
/// do unless --keep-tag says which tags count. With --drop, checkpoints lose tensors instead of
/// being dropped. The space is collected at once.
#[derive(Args, Debug)]
pub(crate) struct ForgetArgs {
    /// Checkpoints to drop, whatever the rules say.
    #[arg(value_name = "REV")]
    revisions: Vec<String>,

    /// Only apply the rules to this run; may be given several times.
    #[arg(long, value_name = "RUN")]
    run: Vec<String>,

    #[command(flatten)]
    keep: KeepArgs,

    /// Drop tensors whose names match, such as 'optim.*', instead of whole checkpoints; may be
    /// given several times.
    #[arg(long, value_name = "GLOB", help_heading = "What to drop")]
    drop: Vec<String>,

    /// Drop checkpoints whose manifest cannot be read.
    #[arg(long, help_heading = "What to drop")]
    damaged: bool,

    /// Leave the space to a later `milepost gc`.
    #[arg(long)]
    no_gc: bool,

    /// Only show what would be dropped and freed.
    #[arg(short = 'n', long)]
    dry_run: bool,
}

#[derive(Serialize)]
struct ForgetView {
    done: bool,
    checkpoints: Vec<FateView>,
    damaged: Vec<String>,
    tags: Vec<String>,
    freed: FreedView,
    /// Checkpoints that stayed because the run changed meanwhile.
    spared: u64,
    gc: Option<GcView>,
}

#[derive(Serialize)]
struct FateView {
    id: String,
    run: String,
    step: u64,
    action: &'static str,
    reasons: Vec<String>,
    dropped_tensors: usize,
}

#[derive(Serialize)]
struct FreedView {
    total_bytes: u64,
    manifest_bytes: u64,
    packs: u64,
    pack_bytes: u64,
    /// Bytes that only rewriting packs would free.
    idle_bytes: u64,
}

pub(crate) fn run(args: &ForgetArgs, session: &Session) -> Result {
    let store = session.store()?;
    let forget = what(args, &store)?;
    let progress = session.progress("read manifests");
    let plan = store.plan_forget(&forget, &progress)?;
    progress.finish();
    let out = session.out;
    if !out.json && !out.quiet {
        out.text(&table(&plan))?;
        out.line(summary(&plan, args.dry_run))?;
    }
    if !args.drop.is_empty() && plan.thinned().next().is_none() {
        report::warning(
            "--drop takes nothing away: no tensor matches where some may go, or they are gone already",
        );
    }
    let (mut done, mut gc) = (ForgetReport::default(), None);
    if !args.dry_run {
        done = store.forget(&plan, &session.progress("forget"))?;
        if !args.no_gc && !plan.is_empty() {
            let progress = session.progress("collect");
            gc = collect(&store, &progress)?;
            progress.finish();
        }
    }
    if out.json {
        let gc = gc.as_ref().map(GcView::new);
        return Ok(out
            .document(&view(&plan, &done, gc, !args.dry_run))
            .map(|()| Outcome::Done)?);
    }
    if out.quiet {
        for judged in plan.going() {
            out.line(judged.checkpoint.id.to_string())?;
        }
        return Ok(Outcome::Done);
    }
    if done.spared > 0 {
        report::warning(&format!(
            "{} stayed: the run changed meanwhile",
            size::count(done.spared, "checkpoint")
        ));
    }
    if let Some(gc) = &gc {
        out.line(crate::command::gc::summary(gc, false))?;
    } else if !args.dry_run && !plan.is_empty() {
        out.line("run `milepost gc` to free the space")?;
    }
    Ok(Outcome::Done)
}

/// Frees the space of what is forgotten by now, whoever else collects: then that is said.
fn collect(store: &Store, progress: &Progress) -> milepost_engine::Result<Option<GcReport>> {
    match store.gc(&GcOptions::default(), progress) {
        Err(error) if error.kind() == ErrorKind::Locked => {
            report::warning(&format!("the space is not freed yet: {error}"));
            Ok(None)
        }
        done => done.map(Some),
    }
}

/// Rules on the command line replace those that the store records; so do names.
fn what(args: &ForgetArgs, store: &Store) -> milepost_engine::Result<Forget> {
    let given = args.keep.rules();
    require_known(&given, store)?;
    let recorded = || KeepRules::from_attributes(&store.settings().attributes);
    let rules = match given.is_empty() && args.revisions.is_empty() && !args.damaged {
        true => recorded()?,
        false => given,
    };
    Ok(Forget {
        revisions: args.revisions.clone(),
        rules,
        spare_verified: false,
        runs: args.run.clone(),
        damaged: args.damaged,
        drop: args.drop.clone(),
    })
}

/// A tag or metric that is nowhere is a slip: by what is left of the rules too much would go.
fn require_known(rules: &KeepRules, store: &Store) -> milepost_engine::Result<()> {
    let unknown = |what: &str, name: &str| {
        let why = format!("no checkpoint has the {what} {name:?}, which a keep rule names");
        Error::new(ErrorKind::NotFound, "keep-rule", why).hint("nothing was dropped")
    };
    let tags = store.tags()?;
    if let Some(tag) = rules.tags.iter().find(|tag| !tags.contains_key(*tag)) {
        return Err(unknown("tag", tag));
    }
    if rules.best.is_empty() {
        return Ok(());
    }
    let listing = store.list(None)?;
    let is_measured = |metric: &str| {
        let mut all = listing.checkpoints.iter();
        all.any(|checkpoint| checkpoint.metrics.contains_key(metric))
    };
    match rules.best.iter().find(|best| !is_measured(&best.metric)) {
        Some(best) => Err(unknown("metric", &best.metric)),
        None => Ok(()),
    }
}

/// What becomes of a checkpoint, as a word and why.
fn fate(fate: &Fate) -> (&'static str, Vec<String>) {
    match fate {
        Fate::Stays(reasons) => ("keep", reasons.iter().map(ToString::to_string).collect()),
        Fate::Goes => ("forget", Vec::new()),
        Fate::Thinned(_) => ("thin", Vec::new()),
    }
}

fn table(plan: &ForgetPlan) -> String {
    let mut table = Table::new([
        ("RUN", Align::Left),
        ("STEP", Align::Right),
        ("ID", Align::Left),
        ("LOGICAL", Align::Right),
        ("ACTION", Align::Left),
        ("REASONS", Align::Left),
    ]);
    for judged in &plan.judged {
        let summary = &judged.checkpoint;
        let (action, mut reasons) = fate(&judged.fate);
        if let Fate::Thinned(tensors) = &judged.fate {
            let all = size::count(summary.tensors, "tensor");
            reasons.push(format!("drops {} of {all}", tensors.len()));
        }
        table.row([
            summary.placement.run.clone(),
            summary.step.to_string(),
            summary.id.short(),
            size::bytes(summary.placement.logical_bytes),
            action.to_owned(),
            reasons.join(", "),
        ]);
    }
    for place in &plan.damaged {
        table.row([
            place.run.clone(),
            String::new(),
            place.id.short(),
            String::new(),
            "forget".to_owned(),
            "damaged".to_owned(),
        ]);
    }
    table.render()
}

fn summary(plan: &ForgetPlan, dry_run: bool) -> String {
    if plan.is_empty() {
        return "nothing to drop".to_owned();
    }
    let would = if dry_run { "would drop" } else { "drops" };
    let mut parts = Vec::new();
    let going = plan.going().count() + plan.damaged.len();
    if going > 0 {
        let all = plan.judged.len() + plan.damaged.len();
        parts.push(format!(
            "{going} of {}",
            size::count(all as u64, "checkpoint")
        ));
    }
    let thinned = plan.thinned().count() as u64;
    if thinned > 0 {
        parts.push(format!("tensors of {}", size::count(thinned, "checkpoint")));
    }
    if !plan.tags.is_empty() {
        let tags: Vec<&str> = plan.tags.keys().map(String::as_str).collect();
        parts.push(format!("tags {}", tags.join(", ")));
    }
    let freed = &plan.freed;
    let mut line = format!(
        "{would} {}: a collection frees {}",
        parts.join(" and "),
        size::exact_bytes(freed.manifest_bytes + freed.pack_bytes),
    );
    if freed.idle_bytes > 0 {
        let idle = size::bytes(freed.idle_bytes);
        line.push_str(&format!(
            ", {idle} more in packs that are still needed (`milepost compact` frees it)"
        ));
    }
    line
}

fn view(plan: &ForgetPlan, done: &ForgetReport, gc: Option<GcView>, is_done: bool) -> ForgetView {
    let checkpoints = plan.judged.iter().map(|judged| {
        let (action, reasons) = fate(&judged.fate);
        FateView {
            id: judged.checkpoint.id.to_string(),
            run: judged.checkpoint.placement.run.clone(),
            step: judged.checkpoint.step,
            action,
            reasons,
            dropped_tensors: match &judged.fate {
                Fate::Thinned(tensors) => tensors.len(),
                _ => 0,
            },
        }
    });
    let freed = &plan.freed;
    ForgetView {
        done: is_done,
        checkpoints: checkpoints.collect(),
        damaged: plan.damaged.iter().map(|p| p.id.to_string()).collect(),
        tags: plan.tags.keys().cloned().collect(),
        freed: FreedView {
            total_bytes: freed.manifest_bytes + freed.pack_bytes,
            manifest_bytes: freed.manifest_bytes,
            packs: freed.packs,
            pack_bytes: freed.pack_bytes,
            idle_bytes: freed.idle_bytes,
        },
        spared: done.spared,
        gc,
    }
}
