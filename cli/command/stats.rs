//! `milepost stats`: the store as a whole.

use clap::Args;
use serde::Serialize;

use crate::command::init::SettingsView;
use crate::command::log::{DamagedView, warn_of_damage};
use crate::exit::{Outcome, Result};
use crate::session::Session;
use crate::size;
use crate::view::added_bytes;

/// Show what the store holds and what it takes on disk.
#[derive(Args, Debug)]
pub(crate) struct Stats {
    /// Also tell how much only one checkpoint needs; reads every manifest.
    #[arg(long)]
    unique: bool,
}

#[derive(Serialize)]
struct StatsView {
    store: String,
    checkpoints: u64,
    runs: Vec<RunView>,
    tags: usize,
    logical_bytes: u64,
    disk_bytes: u64,
    ratio: f64,
    packs: u64,
    pack_bytes: u64,
    manifest_bytes: u64,
    other_bytes: u64,
    trash_bytes: u64,
    unique_bytes: Option<u64>,
    settings: SettingsView,
    damaged: Vec<DamagedView>,
}

#[derive(Serialize)]
struct RunView {
    name: String,
    checkpoints: u64,
    newest_step: Option<u64>,
    logical_bytes: u64,
    added_bytes: u64,
}

pub(crate) fn run(args: &Stats, session: &Session) -> Result {
    let store = session.store()?;
    let listing = store.list(None)?;
    warn_of_damage(&listing);
    let mut runs: Vec<RunView> = Vec::new();
    for name in store.runs()? {
        let of_run = listing
            .checkpoints
            .iter()
            .filter(|s| s.placement.run == name);
        let mut view = RunView {
            name: name.clone(),
            checkpoints: 0,
            newest_step: None,
            logical_bytes: 0,
            added_bytes: 0,
        };
        for summary in of_run {
            view.checkpoints += 1;
            view.newest_step = Some(summary.step);
            let (logical, added) = (summary.placement.logical_bytes, added_bytes(summary));
            view.logical_bytes = view.logical_bytes.saturating_add(logical);
            view.added_bytes = view.added_bytes.saturating_add(added);
        }
        runs.push(view);
    }
    let usage = store.disk_usage()?;
    let logical = runs.iter().map(|r| r.logical_bytes);
    let logical_bytes = logical.fold(0, u64::saturating_add);
    let mut unique_bytes = None;
    if args.unique {
        let progress = session.progress("read manifests");
        unique_bytes = Some(store.unique_bytes(&progress)?.values().sum());
        progress.finish();
    }
    let view = StatsView {
        store: session.global.store.display().to_string(),
        checkpoints: runs.iter().map(|r| r.checkpoints).sum(),
        runs,
        tags: store.tags()?.len(),
        logical_bytes,
        disk_bytes: usage.total(),
        ratio: size::ratio(logical_bytes, usage.total()),
        packs: usage.packs,
        pack_bytes: usage.pack_bytes,
        manifest_bytes: usage.manifest_bytes,
        other_bytes: usage.other_bytes,
        trash_bytes: usage.trash_bytes,
        unique_bytes,
        settings: SettingsView::new(store.settings()),
        damaged: listing.damaged.iter().map(DamagedView::new).collect(),
    };
    if session.out.json {
        session.out.document(&view)?;
    } else if !session.out.quiet {
        session.out.text(&text(&view))?;
    }
    Ok(Outcome::Done)
}

fn text(view: &StatsView) -> String {
    let settings = &view.settings;
    let mut lines = vec![format!(
        "{} in {}, {}",
        size::count(view.checkpoints, "checkpoint"),
        size::count(view.runs.len() as u64, "run"),
        size::count(view.tags as u64, "tag"),
    )];
    for run in &view.runs {
        let newest = run.newest_step.map(|s| format!(", newest step {s}"));
        lines.push(format!(
            "  {}: {}{}, {} logical, {} added",
            run.name,
            size::count(run.checkpoints, "checkpoint"),
            newest.unwrap_or_default(),
            size::bytes(run.logical_bytes),
            size::bytes(run.added_bytes),
        ));
    }
    lines.push(format!(
        "as full saves  {}",
        size::bytes(view.logical_bytes)
    ));
    let smaller = if view.ratio >= 1.0 {
        format!(" ({:.1}x smaller than full saves)", view.ratio)
    } else {
        String::new()
    };
    lines.push(format!(
        "on disk        {}{smaller}",
        size::bytes(view.disk_bytes)
    ));
    let trash = match view.trash_bytes {
        0 => String::new(),
        bytes => format!(", {} in the trash", size::bytes(bytes)),
    };
    lines.push(format!(
        "  {} in {}, {} in manifests, {} in other files{trash}",
        size::bytes(view.pack_bytes),
        size::count(view.packs, "pack"),
        size::bytes(view.manifest_bytes),
        size::bytes(view.other_bytes),
    ));
    if let Some(unique) = view.unique_bytes {
        lines.push(format!(
            "needed by only one checkpoint  {}",
            size::bytes(unique)
        ));
    }
    let full_every = match settings.full_every {
        0 => "by the budget".to_owned(),
        n => format!("every {n}"),
    };
    lines.push(format!(
        "settings: restore budget {:.1}, max depth {}, full checkpoints {full_every}, level {}, chunks of {}",
        settings.restore_budget,
        settings.max_depth,
        settings.level,
        size::bytes(settings.chunk_bytes.into()),
    ));
    if let Some(quota) = settings.quota_bytes {
        lines.push(format!(
            "quota: {}, {} of it used",
            size::bytes(quota),
            size::bytes(view.disk_bytes)
        ));
    }
    for (name, value) in &settings.keep {
        lines.push(format!("keep {name}: {value}"));
    }
    lines.join("\n") + "\n"
}
