//! Keep rules as flags: `init` records them in the store, `forget` takes them.

use clap::Args;
use milepost_engine::KeepRules;
use milepost_engine::retain::{Age, KeepBest};

/// Which checkpoints of each run stay.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Keep rules")]
pub(crate) struct KeepArgs {
    /// Keep the last N checkpoints of each run.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    keep_last: Option<u64>,

    /// Keep checkpoints whose step is a multiple of N.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    keep_every: Option<u64>,

    /// Keep checkpoints saved at most this long before the newest of their run: 90s, 30m, 12h, 7d.
    #[arg(long, value_name = "DUR", value_parser = parse_age)]
    keep_within: Option<Age>,

    /// Keep checkpoints with this tag, and not with every tag; may be given several times.
    #[arg(long, value_name = "TAG")]
    keep_tag: Vec<String>,

    /// Keep the K best of each run by a metric, such as loss:min:3; may be given several times.
    #[arg(long, value_name = "METRIC:min|max:K", value_parser = parse_best)]
    keep_best: Vec<KeepBest>,
}

impl KeepArgs {
    pub(crate) fn rules(&self) -> KeepRules {
        KeepRules {
            last: self.keep_last,
            every: self.keep_every,
            within: self.keep_within,
            tags: self.keep_tag.iter().cloned().collect(),
            best: self.keep_best.clone(),
        }
    }
}

fn parse_age(text: &str) -> Result<Age, String> {
    Age::parse(text).map_err(|e| e.advice().unwrap_or_default().to_owned())
}

fn parse_best(text: &str) -> Result<KeepBest, String> {
    KeepBest::parse(text).map_err(|e| e.advice().unwrap_or_default().to_owned())
}
