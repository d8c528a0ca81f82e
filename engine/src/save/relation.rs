//! What one tensor was made from: relations between the tensors of a draft, and the predictions
//! that they speak for.

use std::collections::HashMap;

use crate::codec::Predictor;
use crate::disjoint::Disjoint;
use crate::error::{Error, Result};
use crate::format::relations::KINDS;

/// How a tensor came from others of the same checkpoint. A relation that does not hold costs a
/// little time and a few bytes, never correctness.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Relation {
    /// A weight that Adam or AdamW moves, with its running means (Kingma and Ba, 2014).
    Adam {
        /// The tensor of running means of the gradient.
        exp_avg: String,
        /// The tensor of running means of the squared gradient.
        exp_avg_sq: String,
    },
    /// The running mean of a squared gradient, where the weight is not known.
    SecondMoment {
        /// The tensor of running means of the gradient.
        exp_avg: String,
    },
    /// A weight that gradient descent with momentum moves.
    Momentum {
        /// The tensor that the steps are taken from.
        buffer: String,
    },
    /// A running average.
    Average {
        /// The tensor that is averaged.
        of: String,
    },
    /// A copy in bf16 or f16.
    Copy {
        /// The f32 tensor that was cast.
        of: String,
    },
}

impl Relation {
    /// What the format and the command line call its kind.
    #[must_use]
    pub fn kind_name(&self) -> &'static str {
        let known = KINDS.iter().find(|(code, ..)| *code == self.kind());
        known.map_or("unknown", |(_, name, _)| name)
    }

    /// The tensors that it names.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        match self {
            Self::Adam {
                exp_avg,
                exp_avg_sq,
            } => vec![exp_avg, exp_avg_sq],
            Self::SecondMoment { exp_avg: of }
            | Self::Momentum { buffer: of }
            | Self::Average { of }
            | Self::Copy { of } => vec![of],
        }
    }
}

/// Where an input of a prediction is taken from; the number is an item's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The checkpoint that is saved.
    Now(usize),
    /// The other one, which is stored already: most often its parent.
    Other(usize),
}

/// Which other checkpoint a checkpoint is coded against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Against {
    /// The one that it continues, as a save does.
    Older,
    /// The one that continues it, as a compaction does.
    Newer,
}

/// One way to predict an item's chunks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Way {
    pub(crate) predictor: Predictor,
    pub(crate) inputs: Vec<Origin>,
}

/// What a way does, whatever the tensors: its predictor, and which inputs are of the other
/// checkpoint.
pub(crate) type WayKind = (u8, Vec<bool>);

impl Way {
    pub(crate) fn kind(&self) -> WayKind {
        let is_other = |from: &Origin| matches!(from, Origin::Other(_));
        (
            self.predictor.code(),
            self.inputs.iter().map(is_other).collect(),
        )
    }
}

/// Tensors that are coded together, and how each may be predicted.
#[derive(Debug, Default)]
pub(crate) struct Family {
    /// Items in an order in which each comes after what it is predicted from.
    pub(crate) members: Vec<usize>,
}

/// The relations of a draft, told of items instead of names.
#[derive(Debug, Default)]
pub(crate) struct Relations {
    /// For each item the ways to predict it, best first.
    pub(crate) ways: Vec<Vec<Way>>,
    /// Families of two and more.
    pub(crate) families: Vec<Family>,
}

impl Relations {
    /// Resolves names; `tensors` are names and numbers of elements of the items in order. What
    /// relates tensors of different sizes says nothing.
    ///
    /// # Errors
    /// `InvalidInput` if a relation names a tensor that is not there.
    pub(crate) fn resolve<'n>(
        related: impl Iterator<Item = (&'n String, &'n Relation)>,
        tensors: impl ExactSizeIterator<Item = (&'n str, u64)>,
        against: Against,
    ) -> Result<Self> {
        let mut relations = Self {
            ways: vec![Vec::new(); tensors.len()],
            families: Vec::new(),
        };
        let items: HashMap<&str, (usize, u64)> = (0..)
            .zip(tensors)
            .map(|(item, (name, elements))| (name, (item, elements)))
            .collect();
        let find = |name: &str| items.get(name).copied().ok_or_else(|| unknown(name));
        let item = |name: &str| find(name).map(|(item, _)| item);
        let mut together = Disjoint::new(relations.ways.len());
        for (name, relation) in related {
            let (this, elements) = find(name)?;
            let others: Vec<_> = relation
                .names()
                .into_iter()
                .map(find)
                .collect::<Result<_>>()?;
            if others.iter().any(|(_, n)| *n != elements) {
                continue;
            }
            for (other, _) in others {
                together.join(this, other);
            }
            match relation {
                Relation::Adam {
                    exp_avg,
                    exp_avg_sq,
                } => relations.adam(this, item(exp_avg)?, item(exp_avg_sq)?, against),
                Relation::SecondMoment { exp_avg } => {
                    relations.second_moment(this, item(exp_avg)?);
                }
                Relation::Momentum { buffer } => relations.momentum(this, item(buffer)?),
                Relation::Average { of } => relations.average(this, item(of)?),
                Relation::Copy { of } => {
                    relations.add(this, Predictor::Cast, vec![Origin::Now(item(of)?)]);
                }
            }
        }
        relations.families = relations.families_of(together);
        Ok(relations)
    }

    fn add(&mut self, item: usize, predictor: Predictor, inputs: Vec<Origin>) {
        if let Some(ways) = self.ways.get_mut(item) {
            ways.push(Way { predictor, inputs });
        }
    }

    /// `v1` is a sum of `v0` and the square of the gradient, which is a difference of `m1` and
    /// `m0`.
    fn second_moment(&mut self, v: usize, m: usize) {
        use Origin::{Now, Other};
        self.add(v, Predictor::SecondMoment, vec![Other(v), Now(m), Other(m)]);
    }

    /// `w1` is `w0` and a step that `m1` and `v1` make: those of the newer of two checkpoints,
    /// whichever is told from the other.
    fn adam(&mut self, w: usize, m: usize, v: usize, against: Against) {
        use Origin::{Now, Other};
        self.second_moment(v, m);
        let inputs = match against {
            Against::Older => vec![Other(w), Now(m), Now(v)],
            Against::Newer => vec![Other(w), Other(m), Other(v)],
        };
        self.add(w, Predictor::Adam, inputs);
    }

    fn momentum(&mut self, w: usize, buffer: usize) {
        use Origin::{Now, Other};
        self.add(
            w,
            Predictor::Linear,
            vec![Other(w), Now(buffer), Other(buffer)],
        );
    }

    fn average(&mut self, average: usize, of: usize) {
        use Origin::{Now, Other};
        self.add(
            average,
            Predictor::Linear,
            vec![Other(average), Other(of), Now(of)],
        );
    }

    /// Joined items, each after those that it is predicted from, as far as that goes.
    fn families_of(&self, together: Disjoint) -> Vec<Family> {
        let mut seen = vec![false; self.ways.len()];
        let mut ordered = |members: Vec<usize>| {
            let mut family = Family::default();
            for item in members {
                self.visit(item, &mut seen, &mut family.members);
            }
            family
        };
        let families = together.sets().into_iter().filter(|m| m.len() > 1);
        families.map(&mut ordered).collect()
    }

    fn visit(&self, item: usize, seen: &mut [bool], order: &mut Vec<usize>) {
        let mut stack = vec![(item, false)];
        while let Some((item, inputs_done)) = stack.pop() {
            if inputs_done {
                order.push(item);
                continue;
            }
            if seen.get(item).copied().unwrap_or(true) {
                continue;
            }
            if let Some(mark) = seen.get_mut(item) {
                *mark = true;
            }
            stack.push((item, true));
            let ways = self.ways.get(item).into_iter().flatten();
            for input in ways.flat_map(|way| &way.inputs) {
                if let Origin::Now(input) = input {
                    stack.push((*input, false));
                }
            }
        }
    }
}

fn unknown(name: &str) -> Error {
    Error::invalid(
        "relation",
        format!("a relation names {name:?}, which is no tensor of the checkpoint"),
    )
    .hint("add the tensors that relations speak of, by the same names")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(related: &[(&str, Relation)], names: &[&str]) -> Result<Relations> {
        let related: Vec<(String, Relation)> = related
            .iter()
            .map(|(n, r)| ((*n).to_owned(), r.clone()))
            .collect();
        let size = |name: &str| if name.len() > 1 { 9 } else { 5 };
        let tensors = names.iter().map(|n| (*n, size(n)));
        Relations::resolve(related.iter().map(|(n, r)| (n, r)), tensors, Against::Older)
    }

    fn adam() -> Relation {
        Relation::Adam {
            exp_avg: "m".into(),
            exp_avg_sq: "v".into(),
        }
    }

    #[test]
    fn a_family_is_ordered_by_what_it_is_predicted_from() {
        let copy = Relation::Copy { of: "w".into() };
        let average = Relation::Average { of: "w".into() };
        let names = ["b", "e", "m", "v", "w", "x"];
        let relations = resolve(&[("w", adam()), ("b", copy), ("e", average)], &names).unwrap();
        let [family] = relations.families.as_slice() else {
            panic!("one family: {:?}", relations.families);
        };
        let at = |item| family.members.iter().position(|m| *m == item).unwrap();
        assert_eq!(family.members.len(), 5);
        assert!(at(2) < at(3) && at(3) < at(4), "m, v, w");
        assert!(at(4) < at(0) && at(4) < at(1), "w before its copies");
    }

    #[test]
    fn circles_are_broken_and_strangers_refused() {
        let copy = |of: &str| Relation::Copy { of: of.into() };
        let relations = resolve(&[("a", copy("b")), ("b", copy("a"))], &["a", "b"]).unwrap();
        assert_eq!(relations.families.len(), 1);
        assert_eq!(relations.families[0].members.len(), 2);
        assert!(
            resolve(&[("a", copy("a"))], &["a"])
                .unwrap()
                .families
                .is_empty()
        );
        let other_size = resolve(&[("a", copy("bb"))], &["a", "bb"]).unwrap();
        assert!(other_size.families.is_empty() && other_size.ways[0].is_empty());
        assert_eq!(
            resolve(&[("a", copy("z"))], &["a"]).unwrap_err().code(),
            "relation"
        );
        assert_eq!(
            resolve(&[("z", copy("a"))], &["a"]).unwrap_err().code(),
            "relation"
        );
    }
}
