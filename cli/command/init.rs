//! `milepost init`: makes a store.

use clap::{Args, ValueEnum};
use milepost_engine::save::QUOTA;
use milepost_engine::{Store, StoreOptions, StoreSettings};
use serde::Serialize;

use crate::exit::{Outcome, Result};
use crate::keep::KeepArgs;
use crate::session::Session;
use crate::size;

/// Make a new, empty store.
///
/// What is set here is recorded in the store and holds for every later save; keep rules hold
/// for `milepost forget`, which drops nothing unless it is called, and for saves that find no room.
#[derive(Args, Debug)]
pub(crate) struct Init {
    /// Most that restoring any checkpoint may cost, as a multiple of one full checkpoint.
    #[arg(long, value_name = "X", default_value = "2.0", value_parser = parse_budget)]
    #[arg(allow_negative_numbers = true)]
    restore_budget: u32,

    /// Longest chain of deltas behind any part of a checkpoint.
    #[arg(long, value_name = "N", default_value_t = 64)]
    max_depth: u8,

    /// Store every N-th checkpoint of a run in full; 0 for where the budget calls for it.
    #[arg(long, value_name = "N", default_value_t = 0)]
    full_every: u32,

    /// How hard a save tries to be small.
    #[arg(long, value_name = "LEVEL", default_value = "fast")]
    level: LevelArg,

    /// Size of the chunks that tensors are cut into.
    #[arg(long, value_name = "BYTES", default_value = "256KiB", value_parser = size::parse_short_bytes)]
    chunk_size: u32,

    /// Most that the store may take on disk, such as 200GiB; a save that finds no room first
    /// drops what the keep rules below do not keep, and fails if there is none then.
    #[arg(long, value_name = "SIZE", value_parser = size::parse_bytes)]
    quota: Option<u64>,

    /// Take over a folder that has checkpoints but lost its FORMAT file; settings are these anew.
    #[arg(long)]
    adopt: bool,

    #[command(flatten)]
    keep: KeepArgs,
}

/// How hard a save tries to be small.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LevelArg {
    /// As fast as the disk.
    Fast,
    /// Smaller, for some time.
    Balanced,
    /// As small as it goes, at any cost of time.
    Archive,
}

impl From<LevelArg> for milepost_engine::Level {
    fn from(level: LevelArg) -> Self {
        match level {
            LevelArg::Fast => Self::Fast,
            LevelArg::Balanced => Self::Balanced,
            LevelArg::Archive => Self::Archive,
        }
    }
}

/// A store's settings as JSON.
#[derive(Serialize)]
pub(crate) struct SettingsView {
    pub(crate) uuid: String,
    pub(crate) restore_budget: f64,
    pub(crate) max_depth: u8,
    pub(crate) full_every: u32,
    pub(crate) level: &'static str,
    pub(crate) chunk_bytes: u32,
    pub(crate) quota_bytes: Option<u64>,
    pub(crate) keep: std::collections::BTreeMap<String, String>,
}

impl SettingsView {
    pub(crate) fn new(settings: &StoreSettings) -> Self {
        let keep = settings.attributes.iter().filter_map(|(name, value)| {
            let name = name.strip_prefix("keep.")?;
            Some((name.to_owned(), value.clone()))
        });
        Self {
            uuid: settings.uuid.iter().map(|b| format!("{b:02x}")).collect(),
            restore_budget: f64::from(settings.restore_budget_milli) / 1000.0,
            max_depth: settings.depth_max,
            full_every: settings.full_every,
            level: settings.level.name(),
            chunk_bytes: settings.chunk_len,
            quota_bytes: settings.attributes.get(QUOTA).and_then(|q| q.parse().ok()),
            keep: keep.collect(),
        }
    }
}

#[derive(Serialize)]
struct InitView {
    store: String,
    settings: SettingsView,
}

pub(crate) fn run(args: &Init, session: &Session) -> Result {
    let mut attributes = args.keep.rules().to_attributes()?;
    if let Some(quota) = args.quota {
        attributes.insert(QUOTA.into(), quota.to_string());
    }
    let settings = StoreSettings {
        restore_budget_milli: args.restore_budget,
        depth_max: args.max_depth,
        full_every: args.full_every,
        level: args.level.into(),
        chunk_len: args.chunk_size,
        attributes,
        ..StoreSettings::default()
    };
    // Checked before the folder is made.
    settings.encode()?;
    let root = &session.global.store;
    let options = StoreOptions {
        adopt: args.adopt,
        ..session.options()
    };
    let store = Store::create(root, settings, options).map_err(|e| e.subject(root.display()))?;
    let out = session.out;
    if out.json {
        out.document(&InitView {
            store: root.display().to_string(),
            settings: SettingsView::new(store.settings()),
        })?;
    } else if !out.quiet {
        out.line(format!("made an empty store in {}", root.display()))?;
        out.line("save to it with `milepost save FILE.safetensors`")?;
    }
    Ok(Outcome::Done)
}

fn parse_budget(text: &str) -> std::result::Result<u32, String> {
    let bad = || "write a number from 1 to 1000, such as 2.0".to_owned();
    let value: f64 = text.parse().map_err(|_| bad())?;
    if !(1.0..=1000.0).contains(&value) {
        return Err(bad());
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 1000 and 1000000"
    )]
    Ok((value * 1000.0).round() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_out_of_range_are_refused() {
        assert_eq!(parse_budget("2.5"), Ok(2500));
        for bad in ["0.5", "nan", "inf", "1001", "x", "-2"] {
            assert!(parse_budget(bad).is_err(), "{bad}");
        }
    }
}
