//! Keep rules: which checkpoints of a run stay. Arithmetic on summaries only.
//!
//! A rule only ever adds to what stays. Ages are taken from the run's newest checkpoint, never
//! from this machine's clock: a clock that jumps drops nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::limits;
use crate::format::name;
use crate::format::placement::Durability;
use crate::id::CheckpointId;
use crate::store::history::Summary;

/// Which end of a metric is the good one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// Less is better, as of a loss.
    Min,
    /// More is better, as of an accuracy.
    Max,
}

/// Keep the best checkpoints by a metric.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeepBest {
    /// The metric's name.
    pub metric: String,
    /// Which end of it is good.
    pub goal: Goal,
    /// How many to keep.
    pub count: u32,
}

impl KeepBest {
    /// Reads `METRIC:min:K` or `METRIC:max:K`.
    ///
    /// # Errors
    /// `InvalidInput` if it is of another form.
    pub fn parse(text: &str) -> Result<Self> {
        let mut parts = text.rsplitn(3, ':');
        let (count, goal, metric) = (parts.next(), parts.next(), parts.next());
        let count = count.and_then(|k| k.parse().ok()).filter(|k| *k > 0);
        let goal = match goal {
            Some("min") => Some(Goal::Min),
            Some("max") => Some(Goal::Max),
            _ => None,
        };
        let metric = metric.filter(|m| !m.is_empty() && !m.chars().any(char::is_control));
        match (metric, goal, count) {
            (Some(metric), Some(goal), Some(count)) => Ok(Self {
                metric: metric.to_owned(),
                goal,
                count,
            }),
            _ => Err(bad_rule(
                text,
                "write METRIC:min:K or METRIC:max:K, such as loss:min:3",
            )),
        }
    }
}

impl fmt::Display for KeepBest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let goal = match self.goal {
            Goal::Min => "min",
            Goal::Max => "max",
        };
        write!(f, "{}:{goal}:{}", self.metric, self.count)
    }
}

/// A span of time as people write it: `90s`, `30m`, `12h`, `7d`, `2w`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Age {
    count: u32,
    unit: char,
}

impl Age {
    /// Reads a number and one of s, m, h, d, w.
    ///
    /// # Errors
    /// `InvalidInput` if it is of another form.
    pub fn parse(text: &str) -> Result<Self> {
        let unit = text.chars().last().filter(|u| "smhdw".contains(*u));
        let count = unit.and_then(|_| text.get(..text.len() - 1)?.parse().ok());
        match (count.filter(|n| *n > 0), unit) {
            (Some(count), Some(unit)) => Ok(Self { count, unit }),
            _ => Err(bad_rule(
                text,
                "write a number and s, m, h, d or w, such as 12h or 7d",
            )),
        }
    }

    fn milliseconds(self) -> u64 {
        let seconds: u64 = match self.unit {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 86_400,
            _ => 604_800,
        };
        u64::from(self.count) * seconds * 1000
    }
}

impl fmt::Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.count, self.unit)
    }
}

/// Which checkpoints of each run stay.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeepRules {
    /// The last so many.
    pub last: Option<u64>,
    /// Those whose step is a multiple of this.
    pub every: Option<u64>,
    /// Those saved at most so long before the run's newest.
    pub within: Option<Age>,
    /// Those with one of these tags; if there is none here, those with any tag.
    pub tags: BTreeSet<String>,
    /// The best by each of these.
    pub best: Vec<KeepBest>,
}

/// Store attributes that record rules begin with this.
const PREFIX: &str = "keep.";

impl KeepRules {
    /// Whether no rule is set: then nothing is ever dropped by them.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The attributes that record them in a store's FORMAT.
    ///
    /// # Errors
    /// `InvalidInput` if a tag's name is not allowed or a rule is too long.
    pub fn to_attributes(&self) -> Result<BTreeMap<String, String>> {
        for tag in &self.tags {
            name::check(tag, "tag")?;
        }
        let tags: Vec<&str> = self.tags.iter().map(String::as_str).collect();
        let mut rules = vec![
            ("last".to_owned(), self.last.map(|n| n.to_string())),
            ("every".to_owned(), self.every.map(|n| n.to_string())),
            ("within".to_owned(), self.within.map(|age| age.to_string())),
            ("tag".to_owned(), (!tags.is_empty()).then(|| tags.join(","))),
        ];
        for (number, best) in (1..).zip(&self.best) {
            rules.push((best_name(number), Some(best.to_string())));
        }
        let mut attributes = BTreeMap::new();
        for (name, rule) in rules {
            let Some(rule) = rule else { continue };
            if rule.len() > limits::KEY_LEN_MAX {
                return Err(Error::invalid("keep-rule", "a keep rule is too long").subject(name));
            }
            attributes.insert(format!("{PREFIX}{name}"), rule);
        }
        Ok(attributes)
    }

    /// The rules that a store's attributes record.
    ///
    /// # Errors
    /// `Unsupported` if a rule is of a form that this version does not know: dropping by half
    /// the rules would drop too much.
    pub fn from_attributes(attributes: &BTreeMap<String, String>) -> Result<Self> {
        let mut rules = Self::default();
        let mut best = BTreeMap::new();
        for (key, text) in attributes {
            let Some(name) = key.strip_prefix(PREFIX) else {
                continue;
            };
            let unknown = || {
                Error::new(
                    crate::ErrorKind::Unsupported,
                    "keep-rule",
                    "the store has a keep rule that this version does not know",
                )
                .subject(format!("{key} = {text:?}"))
                .hint("upgrade milepost, or give the rules on the command line")
            };
            let number = || text.parse().ok().filter(|n| *n > 0).ok_or_else(unknown);
            match name {
                "last" => rules.last = Some(number()?),
                "every" => rules.every = Some(number()?),
                "within" => rules.within = Some(Age::parse(text).map_err(|_| unknown())?),
                "tag" => rules.tags = text.split(',').map(str::to_owned).collect(),
                _ => {
                    let place = best_number(name).ok_or_else(unknown)?;
                    best.insert(place, KeepBest::parse(text).map_err(|_| unknown())?);
                }
            }
        }
        rules.best = best.into_values().collect();
        Ok(rules)
    }
}

fn best_name(number: usize) -> String {
    match number {
        1 => "best".to_owned(),
        _ => format!("best.{number}"),
    }
}

fn best_number(name: &str) -> Option<usize> {
    match name.strip_prefix("best")? {
        "" => Some(1),
        rest => rest.strip_prefix('.')?.parse().ok(),
    }
}

fn bad_rule(text: &str, hint: &'static str) -> Error {
    Error::invalid("keep-rule", format!("{text:?} is no keep rule")).hint(hint)
}

/// Why a checkpoint stays.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// It is the run's newest durable checkpoint, or newer than that.
    Newest,
    /// It is one of the last.
    Last,
    /// Its step is a multiple.
    Every,
    /// It is young enough.
    Within,
    /// It has this tag.
    Tag(String),
    /// It is one of the best by this metric.
    Best(String),
    /// It is the newest that was read back when it was saved.
    Verified,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Newest => f.write_str("newest"),
            Self::Last => f.write_str("last"),
            Self::Every => f.write_str("every"),
            Self::Within => f.write_str("within"),
            Self::Tag(tag) => write!(f, "tag {tag}"),
            Self::Best(metric) => write!(f, "best {metric}"),
            Self::Verified => f.write_str("verified"),
        }
    }
}

/// A checkpoint and why it stays; it goes if there is no reason.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The checkpoint.
    pub checkpoint: Arc<Summary>,
    /// Why it stays, sorted.
    pub reasons: Vec<Reason>,
}

impl Verdict {
    /// Whether it stays.
    #[must_use]
    pub fn stays(&self) -> bool {
        !self.reasons.is_empty()
    }
}

/// Judges the checkpoints of one run, in order of their saves.
#[must_use]
pub fn judge(
    run: &[Arc<Summary>],
    tags: &BTreeMap<String, CheckpointId>,
    rules: &KeepRules,
) -> Vec<Verdict> {
    let newest_durable = run
        .iter()
        .rposition(|s| s.placement.durability != Durability::Relaxed)
        .unwrap_or_default();
    let ages = rules.within.map(|age| ages(run, age));
    let best: Vec<(&str, BTreeSet<usize>)> = rules
        .best
        .iter()
        .map(|rule| (rule.metric.as_str(), best_of(run, rule)))
        .collect();
    let reasons = |index: usize, summary: &Summary| {
        let from_end = (run.len() - index) as u64;
        let mut reasons = Vec::new();
        let mut add = |holds: bool, reason: Reason| {
            if holds {
                reasons.push(reason);
            }
        };
        add(index >= newest_durable, Reason::Newest);
        add(rules.last.is_some_and(|n| from_end <= n), Reason::Last);
        let multiple = |n: u64| summary.step.is_multiple_of(n);
        add(rules.every.is_some_and(multiple), Reason::Every);
        let age = ages.as_ref().and_then(|ages| ages.get(index).copied());
        let young = |within: Age| age.is_some_and(|age| age <= within.milliseconds());
        add(rules.within.is_some_and(young), Reason::Within);
        for tag in tags.iter().filter(|(_, id)| **id == summary.id) {
            let protects = rules.tags.is_empty() || rules.tags.contains(tag.0);
            add(protects, Reason::Tag(tag.0.clone()));
        }
        for (metric, kept) in &best {
            add(kept.contains(&index), Reason::Best((*metric).to_owned()));
        }
        reasons
    };
    let verdict = |(index, summary): (usize, &Arc<Summary>)| Verdict {
        checkpoint: Arc::clone(summary),
        reasons: reasons(index, summary),
    };
    run.iter().enumerate().map(verdict).collect()
}

/// How long before the run's newest each was saved, in milliseconds, told so that a clock which
/// jumps makes none look old: nothing is younger than what was saved after it, and a newest that
/// came later than `within` after all the others does not age them alone.
fn ages(run: &[Arc<Summary>], within: Age) -> Vec<u64> {
    let mut times: Vec<u64> = run.iter().map(|s| s.placement.time_ms).collect();
    let mut earliest = u64::MAX;
    for time in times.iter_mut().rev() {
        earliest = earliest.min(*time);
        *time = earliest;
    }
    let mut newest = times.iter().rev().copied();
    let last = newest.next().unwrap_or_default();
    let one_before = newest.next().unwrap_or(last);
    let now = match last - one_before > within.milliseconds() {
        true => one_before,
        false => last,
    };
    times.iter().map(|time| now.saturating_sub(*time)).collect()
}

/// The places of the best by a metric; of equal ones the earlier. NaN is never good.
fn best_of(run: &[Arc<Summary>], rule: &KeepBest) -> BTreeSet<usize> {
    let value = |s: &Summary| s.metrics.get(&rule.metric).copied().filter(|v| !v.is_nan());
    let mut measured: Vec<(usize, f64)> = run
        .iter()
        .enumerate()
        .filter_map(|(index, s)| Some((index, value(s)?)))
        .collect();
    measured.sort_by(|a, b| match rule.goal {
        Goal::Min => a.1.total_cmp(&b.1),
        Goal::Max => b.1.total_cmp(&a.1),
    });
    let count = usize::try_from(rule.count).unwrap_or(usize::MAX);
    measured.into_iter().take(count).map(|(i, _)| i).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::placement::Placement;

    fn summary(seq: u64, step: u64, time_ms: u64, loss: f64) -> Arc<Summary> {
        Arc::new(Summary {
            id: CheckpointId([u8::try_from(seq).unwrap(); 32]),
            parent: None,
            step,
            metrics: [("loss".to_owned(), loss)].into(),
            tensors: 0,
            dropped: 0,
            manifest_len: 0,
            placement: Placement {
                seq,
                time_ms,
                durability: Durability::Durable,
                ..Placement::default()
            },
        })
    }

    fn run() -> Vec<Arc<Summary>> {
        let losses = [3.0, 1.0, f64::NAN, 2.0, 1.0, 9.0];
        (1u64..)
            .zip(losses)
            .map(|(seq, loss)| summary(seq, seq * 100, seq * 60_000, loss))
            .collect()
    }

    fn kept(rules: &KeepRules, tags: &BTreeMap<String, CheckpointId>) -> Vec<u64> {
        let stays = |v: &Verdict| v.stays().then_some(v.checkpoint.placement.seq);
        judge(&run(), tags, rules)
            .iter()
            .filter_map(stays)
            .collect()
    }

    #[test]
    fn each_rule_keeps_what_it_says_and_the_newest() {
        let none = BTreeMap::new();
        let rules = KeepRules::default;
        assert_eq!(kept(&rules(), &none), [6]);
        let last = KeepRules {
            last: Some(2),
            ..rules()
        };
        assert_eq!(kept(&last, &none), [5, 6]);
        let every = KeepRules {
            every: Some(200),
            ..rules()
        };
        assert_eq!(kept(&every, &none), [2, 4, 6]);
        let within = KeepRules {
            within: Some(Age::parse("2m").unwrap()),
            ..rules()
        };
        assert_eq!(kept(&within, &none), [4, 5, 6]);
    }

    /// One checkpoint that was saved under a clock far ahead once made all others look old.
    #[test]
    fn a_clock_that_jumps_ages_nothing() {
        let rules = KeepRules {
            within: Some(Age::parse("2m").unwrap()),
            ..KeepRules::default()
        };
        let kept = |minutes: &[u64]| -> Vec<usize> {
            let saved = |(seq, minute): (u64, &u64)| summary(seq, seq, minute * 60_000, 0.0);
            let run: Vec<_> = (1..).zip(minutes).map(saved).collect();
            let verdicts = judge(&run, &BTreeMap::new(), &rules);
            (0..run.len()).filter(|i| verdicts[*i].stays()).collect()
        };
        for (minutes, stay) in [
            (&[10, 11, 12, 13, 14][..], &[2, 3, 4][..]),
            // Ahead: once in the middle, at the end, for a while.
            (&[10, 11, 12, 9000, 13, 14], &[2, 3, 4, 5]),
            (&[10, 11, 12, 13, 14, 9000], &[2, 3, 4, 5]),
            (&[10, 11, 12, 9000, 9001, 9002, 13], &[1, 2, 3, 4, 5, 6]),
            // Back, to the beginning of time, and forth again.
            (&[10, 11, 12, 0, 1], &[0, 1, 2, 3, 4]),
            (&[10, 11, 0, 12, 13, 14], &[3, 4, 5]),
            // Stopped for a week: the first after it lets go nothing more, the second does.
            (&[10, 11, 12, 13, 10_093], &[1, 2, 3, 4]),
            (&[10, 11, 12, 13, 10_093, 10_094], &[4, 5]),
        ] {
            assert_eq!(kept(minutes), stay, "{minutes:?}");
        }
    }

    #[test]
    fn the_best_are_kept_nan_never_and_the_earlier_of_equals() {
        let none = BTreeMap::new();
        let best = |text| KeepRules {
            best: vec![KeepBest::parse(text).unwrap()],
            ..KeepRules::default()
        };
        assert_eq!(kept(&best("loss:min:1"), &none), [2, 6]);
        assert_eq!(kept(&best("loss:min:2"), &none), [2, 5, 6]);
        assert_eq!(kept(&best("loss:max:2"), &none), [1, 6]);
        assert_eq!(kept(&best("loss:min:9"), &none), [1, 2, 4, 5, 6]);
        assert_eq!(kept(&best("other:min:9"), &none), [6]);
    }

    #[test]
    fn every_tag_protects_unless_some_are_named() {
        let tags: BTreeMap<String, CheckpointId> = [
            ("a".to_owned(), CheckpointId([1; 32])),
            ("b".to_owned(), CheckpointId([3; 32])),
        ]
        .into();
        assert_eq!(kept(&KeepRules::default(), &tags), [1, 3, 6]);
        let named = KeepRules {
            tags: ["b".to_owned()].into(),
            ..KeepRules::default()
        };
        assert_eq!(kept(&named, &tags), [3, 6]);
    }

    /// Retention must not drop the last checkpoint that a power cut leaves for sure.
    #[test]
    fn what_is_not_older_than_the_newest_durable_stays() {
        let mut run = run();
        for relaxed in [4, 5] {
            let mut summary = (*run[relaxed]).clone();
            summary.placement.durability = Durability::Relaxed;
            run[relaxed] = Arc::new(summary);
        }
        let rules = KeepRules {
            last: Some(1),
            ..KeepRules::default()
        };
        let stays: Vec<bool> = judge(&run, &BTreeMap::new(), &rules)
            .iter()
            .map(Verdict::stays)
            .collect();
        assert_eq!(stays, [false, false, false, true, true, true]);
    }

    #[test]
    fn rules_round_trip_through_attributes() {
        let rules = KeepRules {
            last: Some(5),
            every: Some(1000),
            within: Some(Age::parse("7d").unwrap()),
            tags: ["best".to_owned(), "v1".to_owned()].into(),
            best: vec![
                KeepBest::parse("loss:min:3").unwrap(),
                KeepBest::parse("eval:acc:max:1").unwrap(),
            ],
        };
        let mut attributes = rules.to_attributes().unwrap();
        attributes.insert("other".into(), "x".into());
        assert_eq!(KeepRules::from_attributes(&attributes).unwrap(), rules);
        attributes.insert("keep.moon".into(), "full".into());
        let error = KeepRules::from_attributes(&attributes).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::Unsupported);
    }

    #[test]
    fn malformed_rules_are_refused() {
        for good in ["90s", "30m", "12h", "7d", "2w"] {
            assert_eq!(Age::parse(good).unwrap().to_string(), good);
        }
        for bad in ["", "d", "0d", "7", "7y", "-1d", "1\u{e9}", "+-1d"] {
            assert!(Age::parse(bad).is_err(), "{bad}");
        }
        for bad in ["loss", "loss:min", "loss:best:1", "loss:min:0", ":min:1"] {
            assert!(KeepBest::parse(bad).is_err(), "{bad}");
        }
    }
}
