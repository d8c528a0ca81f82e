//! What one tensor was made from: relations between the tensors of a draft, and the predictions
//! that they speak for.

use crate::codec::Predictor;
use crate::disjoint::Disjoint;
use crate::format::relations::{self as kinds, KINDS, TensorRelation};

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
    /// The sum of a squared gradient, by whose root Adagrad divides its steps (Duchi, Hazan and
    /// Singer, 2011).
    SumOfSquares {
        /// The tensor that the steps move.
        weight: String,
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
            | Self::SumOfSquares { weight: of }
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

/// Tensors that are coded together at most: a chunk of each is held in memory, and a file may say
/// anything. What trains a weight makes six of it at most.
const FAMILY_MAX: usize = 16;

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
    /// Relations told of items, whose numbers of elements these are. What relates tensors of
    /// different sizes says nothing, nor does a kind of a later version.
    pub(crate) fn of_items(told: &[TensorRelation], elements: &[u64], against: Against) -> Self {
        let mut relations = Self {
            ways: vec![Vec::new(); elements.len()],
            families: Vec::new(),
        };
        let mut together = Disjoint::new(elements.len());
        for relation in told {
            let this = relation.tensor as usize;
            let others: Vec<usize> = relation.of.iter().map(|item| *item as usize).collect();
            let same_size = |other: &usize| elements.get(*other) == elements.get(this);
            if this >= elements.len() || !others.iter().all(same_size) {
                continue;
            }
            match (relation.kind, others.as_slice()) {
                (kinds::ADAM, [m, v]) => relations.adam(this, *m, *v, against),
                (kinds::SECOND_MOMENT, [m]) => relations.second_moment(this, *m),
                (kinds::SUM_OF_SQUARES, [w]) => relations.sum_of_squares(this, *w, against),
                (kinds::MOMENTUM, [buffer]) => relations.momentum(this, *buffer),
                (kinds::AVERAGE, [of]) => relations.average(this, *of),
                (kinds::COPY, [of]) => {
                    relations.add(this, Predictor::Cast, vec![Origin::Now(*of)]);
                }
                _ => continue,
            }
            for other in others {
                together.join(this, other);
            }
        }
        relations.families = relations.families_of(together);
        relations
    }

    fn add(&mut self, item: usize, predictor: Predictor, inputs: Vec<Origin>) {
        if let Some(ways) = self.ways.get_mut(item) {
            ways.push(Way { predictor, inputs });
        }
    }

    /// `v1` is a sum of `v0` and the square of the gradient, which is a difference of `m1` and
    /// `m0`; solved for `v0`, it is of the same form.
    fn second_moment(&mut self, v: usize, m: usize) {
        use Origin::{Now, Other};
        let inputs = vec![Other(v), Now(m), Other(m)];
        self.add(v, Predictor::SecondMoment, inputs.clone());
        self.add(v, Predictor::SparseSecondMoment, inputs);
    }

    /// `s1` is told from `s0` and the way from `w0` to `w1`; so is `s0` from `s1`.
    fn sum_of_squares(&mut self, s: usize, w: usize, against: Against) {
        use Origin::{Now, Other};
        let inputs = match against {
            Against::Older => vec![Other(s), Now(w), Other(w)],
            Against::Newer => vec![Other(s), Other(w), Now(w)],
        };
        self.add(s, Predictor::SumOfSquares, inputs);
    }

    /// `w1` is `w0` and a step that `m1` and `v1` make: those of the newer of two checkpoints,
    /// whichever is told from the other.
    fn adam(&mut self, w: usize, m: usize, v: usize, against: Against) {
        use Origin::{Now, Other};
        self.second_moment(v, m);
        let (inputs, untouched) = match against {
            Against::Older => (vec![Other(w), Now(m), Now(v)], Other(m)),
            Against::Newer => (vec![Other(w), Other(m), Other(v)], Now(m)),
        };
        let with_both = [&inputs[..], &[untouched]].concat();
        self.add(w, Predictor::Adam, inputs);
        self.add(w, Predictor::SparseAdam, with_both);
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
        let mut families = Vec::new();
        for set in together.sets() {
            let mut members = Vec::with_capacity(set.len());
            for item in set {
                self.visit(item, &mut seen, &mut members);
            }
            let few = members.chunks(FAMILY_MAX).filter(|few| few.len() > 1);
            families.extend(few.map(|few| Family {
                members: few.to_vec(),
            }));
        }
        families
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Relations of tensors of five elements, or nine if their names are longer than a letter.
    fn resolve(related: &[(&str, Relation)], names: &[&str]) -> Relations {
        let item = |name: &str| u32::try_from(names.iter().position(|n| *n == name).unwrap());
        let told = |(name, relation): &(&str, Relation)| TensorRelation {
            tensor: item(name).unwrap(),
            kind: relation.kind(),
            of: relation
                .names()
                .into_iter()
                .map(|n| item(n).unwrap())
                .collect(),
        };
        let told: Vec<TensorRelation> = related.iter().map(told).collect();
        let size = |name: &&str| if name.len() > 1 { 9 } else { 5 };
        let elements: Vec<u64> = names.iter().map(size).collect();
        Relations::of_items(&told, &elements, Against::Older)
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
        let relations = resolve(&[("w", adam()), ("b", copy), ("e", average)], &names);
        let [family] = relations.families.as_slice() else {
            panic!("one family: {:?}", relations.families);
        };
        let at = |item| family.members.iter().position(|m| *m == item).unwrap();
        assert_eq!(family.members.len(), 5);
        assert!(at(2) < at(3) && at(3) < at(4), "m, v, w");
        assert!(at(4) < at(0) && at(4) < at(1), "w before its copies");
    }

    /// A manifest may say that everything is a copy of one tensor.
    #[test]
    fn a_family_is_bounded_however_many_are_related() {
        let names: Vec<String> = (100..200).map(|i| format!("t{i}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let of = || Relation::Copy { of: "t100".into() };
        let related: Vec<(&str, Relation)> = names[1..].iter().map(|n| (*n, of())).collect();
        let relations = resolve(&related, &names);
        let members = relations.families.iter().map(|f| f.members.len());
        assert!(members.clone().all(|count| count <= FAMILY_MAX));
        assert_eq!(members.sum::<usize>(), 100);
    }

    #[test]
    fn kinds_of_later_versions_relate_nothing() {
        let later = TensorRelation {
            tensor: 0,
            kind: 77,
            of: vec![1],
        };
        let relations = Relations::of_items(&[later], &[5, 5], Against::Newer);
        assert!(relations.families.is_empty() && relations.ways.iter().all(Vec::is_empty));
    }

    #[test]
    fn circles_are_broken_and_sizes_compared() {
        let copy = |of: &str| Relation::Copy { of: of.into() };
        let relations = resolve(&[("a", copy("b")), ("b", copy("a"))], &["a", "b"]);
        assert_eq!(relations.families.len(), 1);
        assert_eq!(relations.families[0].members.len(), 2);
        assert!(resolve(&[("a", copy("a"))], &["a"]).families.is_empty());
        let other_size = resolve(&[("a", copy("bb"))], &["a", "bb"]);
        assert!(other_size.families.is_empty() && other_size.ways[0].is_empty());
    }
}
