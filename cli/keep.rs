//! Keep rules: checked when the store is made, recorded in it for `forget`.

use std::collections::BTreeMap;

use clap::Args;
use milepost_engine::{Error, Result};

/// Which checkpoints `forget` is to keep; recorded in the store, applied only by `forget`.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Keep rules (recorded in the store for `milepost forget`)")]
pub(crate) struct KeepRules {
    /// Keep the last N checkpoints of each run.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    keep_last: Option<u64>,

    /// Keep checkpoints whose step is a multiple of N.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    keep_every: Option<u64>,

    /// Keep checkpoints younger than this, such as 90s, 30m, 12h or 7d.
    #[arg(long, value_name = "DUR", value_parser = parse_duration)]
    keep_within: Option<Within>,

    /// Keep checkpoints with this tag; may be given several times.
    #[arg(long, value_name = "TAG")]
    keep_tag: Vec<String>,

    /// Keep the K best checkpoints by a metric, such as loss:min:3.
    #[arg(long, value_name = "METRIC:min|max:K", value_parser = parse_best)]
    keep_best: Option<String>,
}

/// A duration as it was typed, checked.
#[derive(Clone, Debug)]
struct Within(String);

impl KeepRules {
    /// The attributes that record them.
    pub(crate) fn attributes(&self) -> Result<BTreeMap<String, String>> {
        for tag in &self.keep_tag {
            milepost_engine::format::name::check(tag, "tag")?;
        }
        let tags = (!self.keep_tag.is_empty()).then(|| self.keep_tag.join(","));
        let rules = [
            ("keep.last", self.keep_last.map(|n| n.to_string())),
            ("keep.every", self.keep_every.map(|n| n.to_string())),
            ("keep.within", self.keep_within.clone().map(|w| w.0)),
            ("keep.tag", tags),
            ("keep.best", self.keep_best.clone()),
        ];
        let mut attributes = BTreeMap::new();
        for (name, rule) in rules {
            let Some(rule) = rule else { continue };
            if rule.len() > milepost_engine::format::limits::KEY_LEN_MAX {
                return Err(Error::invalid("setting", "a keep rule is too long").subject(name));
            }
            attributes.insert(name.to_owned(), rule);
        }
        Ok(attributes)
    }
}

fn parse_duration(text: &str) -> std::result::Result<Within, String> {
    let (number, unit) = text.split_at(text.len() - text.chars().last().map_or(0, char::len_utf8));
    let known = matches!(unit, "s" | "m" | "h" | "d" | "w");
    let positive = number.parse::<u32>().is_ok_and(|n| n > 0);
    if known && positive {
        return Ok(Within(text.to_owned()));
    }
    Err("write a number and s, m, h, d or w, such as 12h or 7d".into())
}

fn parse_best(text: &str) -> std::result::Result<String, String> {
    let mut parts = text.rsplitn(3, ':');
    let (count, order, metric) = (parts.next(), parts.next(), parts.next());
    let counted = count.is_some_and(|k| k.parse::<u32>().is_ok_and(|k| k > 0));
    let ordered = matches!(order, Some("min" | "max"));
    let named = metric.is_some_and(|m| !m.is_empty() && !m.chars().any(char::is_control));
    if counted && ordered && named {
        return Ok(text.to_owned());
    }
    Err("write METRIC:min:K or METRIC:max:K, such as loss:min:3".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_checked_before_they_are_recorded() {
        for good in ["90s", "30m", "12h", "7d", "2w"] {
            assert!(parse_duration(good).is_ok(), "{good}");
        }
        for bad in ["", "d", "0d", "7", "7y", "-1d", "1\u{e9}"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
        for good in ["loss:min:3", "eval:acc:max:1"] {
            assert!(parse_best(good).is_ok(), "{good}");
        }
        for bad in ["loss", "loss:min", "loss:best:1", "loss:min:0", ":min:1"] {
            assert!(parse_best(bad).is_err(), "{bad}");
        }
    }
}
