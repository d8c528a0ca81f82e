//! Which checkpoints of a run the keep rules leave. Arithmetic on summaries only.
//!
//! A rule only ever adds to what stays. Ages are taken from the run's newest checkpoint, never
//! from this machine's clock.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use crate::format::placement::Durability;
use crate::id::CheckpointId;
use crate::retain::rules::{Age, Goal, KeepBest, KeepRules};
use crate::store::history::Summary;

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

/// How long before the run's newest each was saved, in milliseconds. One checkpoint that was saved
/// while the clock was wrong, either way, makes neither itself nor another look old: one that
/// comes later than `within` after the one before it ages no other yet, and one that is older
/// than both its neighbours is as old as the older of them.
fn ages(run: &[Arc<Summary>], within: Age) -> Vec<u64> {
    let saved: Vec<u64> = run.iter().map(|s| s.placement.time_ms).collect();
    let now = match saved.as_slice() {
        [.., before, last] if last.saturating_sub(*before) > within.milliseconds() => *before,
        [.., last] => *last,
        [] => 0,
    };
    let mut times = saved.clone();
    for (beside, time) in saved.windows(3).zip(times.iter_mut().skip(1)) {
        if let [before, _, after] = beside {
            *time = (*time).max(*before.min(after));
        }
    }
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
    fn one_wrong_clock_ages_nothing() {
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
            (&[12, 0, 13, 14], &[0, 1, 2, 3]),
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
}
