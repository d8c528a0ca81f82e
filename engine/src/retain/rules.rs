//! Keep rules, and how they are written on a command line and in a store.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::error::{Error, Result};
use crate::format::limits;
use crate::format::name;

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

    pub(super) fn milliseconds(self) -> u64 {
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

#[cfg(test)]
mod tests {
    use super::*;

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
