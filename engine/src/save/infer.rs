//! Relations told by names: what PyTorch, DeepSpeed, JAX and Keras call weights, moments,
//! averages and copies.
//!
//! A name is cut into words. Words that say what part a tensor plays, and words that every name
//! of its kind has, are taken out; tensors that are left with the same words belong together.

use std::collections::BTreeMap;

use crate::dtype::Dtype;
use crate::save::relation::Relation;

/// The part that a tensor plays among those of the same words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Weight,
    Master,
    FirstMoment,
    SecondMoment,
    Momentum,
    SumOfSquares,
    Average,
}

/// A tensor's part, dtype and name.
type Named<'n> = (Part, Dtype, &'n str);

/// Words that tell the part, wherever they stand; also as the end of a longer word.
const PARTS: [(&str, Part); 15] = [
    ("exp_avg_sq", Part::SecondMoment),
    ("exp_avg", Part::FirstMoment),
    ("momentum_buffer", Part::Momentum),
    ("second_moment", Part::SecondMoment),
    ("first_moment", Part::FirstMoment),
    ("velocity", Part::SecondMoment),
    ("momentum", Part::FirstMoment),
    ("ema_model", Part::Average),
    ("ema", Part::Average),
    ("shadow", Part::Average),
    ("master_params", Part::Master),
    ("master_param", Part::Master),
    ("master", Part::Master),
    ("fp32_params", Part::Master),
    ("fp32", Part::Master),
];

/// Words that tell the part only in front of all others.
const LEADING_PARTS: [(&str, Part); 6] = [
    ("m", Part::FirstMoment),
    ("v", Part::SecondMoment),
    ("mu", Part::FirstMoment),
    ("nu", Part::SecondMoment),
    ("trace", Part::Momentum),
    ("sum_of_squares", Part::SumOfSquares),
];

/// Words that tell the part only as the last of an optimizer's: layers have such names as well.
const LAST_PARTS: [(&str, Part); 2] = [
    ("sum", Part::SumOfSquares),
    ("accumulator", Part::SumOfSquares),
];

/// Words that say nothing about which tensor it is.
const COMMON: [&str; 25] = [
    "model",
    "module",
    "params",
    "param",
    "state",
    "state_dict",
    "optimizer",
    "optim",
    "opt",
    "opt_state",
    "optimizer_state",
    "optimizer_state_dict",
    "base_optimizer_state",
    "adagrad",
    "adam",
    "adamw",
    "sgd",
    "zero",
    "fp16",
    "bf16",
    "half",
    "train_state",
    "target",
    "variables",
    "weights",
];

/// Relations of tensors by their names, dtypes and shapes.
pub(super) fn infer<'n>(
    tensors: impl Iterator<Item = (&'n str, Dtype, &'n [u64])>,
) -> BTreeMap<String, Relation> {
    let mut kin: BTreeMap<(String, &[u64]), Vec<Named<'n>>> = BTreeMap::new();
    for (name, dtype, shape) in tensors {
        let (words, part) = words_of(name);
        kin.entry((words, shape))
            .or_default()
            .push((part, dtype, name));
    }
    let mut relations = BTreeMap::new();
    for tensors in kin.values().filter(|tensors| tensors.len() > 1) {
        relate(tensors, &mut relations);
    }
    relations
}

/// A name without the words that tell its part, and that part.
fn words_of(name: &str) -> (String, Part) {
    let name = name.to_ascii_lowercase();
    let mut part = Part::Weight;
    let mut words: Vec<&str> = Vec::new();
    let all: Vec<&str> = name
        .split(['.', '/', ':', '@'])
        .filter(|w| !w.is_empty())
        .collect();
    let mut after_optimizer = false;
    for (at, word) in all.iter().enumerate() {
        let leading = words.is_empty() && part == Part::Weight;
        let is_last = after_optimizer && at + 1 == all.len();
        let last = LAST_PARTS.iter().filter(|_| is_last);
        let found = PARTS.iter().chain(last).find_map(|(told, part)| {
            let rest = word.strip_suffix(told)?;
            (rest.is_empty() || rest.ends_with('_')).then_some((rest.trim_end_matches('_'), *part))
        });
        let found = found.or_else(|| {
            let told = LEADING_PARTS
                .iter()
                .find(|(told, _)| leading && told == word);
            told.filter(|_| at + 1 < all.len())
                .map(|(_, part)| ("", *part))
        });
        if let Some((rest, told)) = found.filter(|_| part == Part::Weight || part == Part::Master) {
            part = told;
            words.extend(Some(rest).filter(|rest| !rest.is_empty()));
        } else if COMMON.contains(word) && words.is_empty() {
            after_optimizer |= word.starts_with("opt") || *word == "adagrad";
        } else {
            words.push(word);
        }
    }
    if after_optimizer
        && part == Part::Weight
        && let Some((told, rest)) = numbered_part(&words)
    {
        return (rest.join("_"), told);
    }
    // One of several optimizers, such as `optimizer.0.state.w.exp_avg`.
    if after_optimizer && let [number, common, rest @ ..] = words.as_slice() {
        let is_one_of_several = is_number(number) && COMMON.contains(common) && !rest.is_empty();
        if is_one_of_several {
            return (rest.join("_"), part);
        }
    }
    (words.join("_"), part)
}

fn is_number(word: &str) -> bool {
    word.bytes().all(|b| b.is_ascii_digit())
}

/// Optax numbers the parts of its state in front of the parameters' own names. A number alone
/// may be such a name, as that of a layer in `torch.nn.Sequential`.
fn numbered_part<'w>(words: &[&'w str]) -> Option<(Part, Vec<&'w str>)> {
    let says_nothing = |word: &&str| is_number(word) || COMMON.contains(word);
    words.first().filter(|word| is_number(word))?;
    let at = words.iter().position(|word| !says_nothing(word))?;
    let (told, rest) = words.get(at..)?.split_first()?;
    let (_, part) = LEADING_PARTS.iter().find(|(name, _)| name == told)?;
    let rest: Vec<&str> = rest
        .iter()
        .filter(|w| !COMMON.contains(w))
        .copied()
        .collect();
    (!rest.is_empty()).then_some((*part, rest))
}

fn relate(tensors: &[Named<'_>], relations: &mut BTreeMap<String, Relation>) {
    let only = |part: Part| {
        let mut found = tensors
            .iter()
            .filter(|(p, d, _)| *p == part && *d == Dtype::F32);
        let first = found.next().map(|(_, _, name)| (*name).to_owned());
        first.filter(|_| found.next().is_none())
    };
    let weight = only(Part::Master).or_else(|| only(Part::Weight));
    let (first, second) = (only(Part::FirstMoment), only(Part::SecondMoment));
    if let (Some(exp_avg), Some(exp_avg_sq)) = (&first, &second) {
        let (tensor, relation) = match &weight {
            Some(weight) => {
                let (exp_avg, exp_avg_sq) = (exp_avg.clone(), exp_avg_sq.clone());
                (
                    weight,
                    Relation::Adam {
                        exp_avg,
                        exp_avg_sq,
                    },
                )
            }
            None => {
                let exp_avg = exp_avg.clone();
                (exp_avg_sq, Relation::SecondMoment { exp_avg })
            }
        };
        relations.insert(tensor.clone(), relation);
    } else if let (Some(weight), Some(buffer)) = (&weight, only(Part::Momentum).or(first)) {
        relations.insert(weight.clone(), Relation::Momentum { buffer });
    }
    let Some(weight) = weight else { return };
    if let Some(sum) = only(Part::SumOfSquares) {
        let weight = weight.clone();
        relations.insert(sum, Relation::SumOfSquares { weight });
    }
    for (part, dtype, name) in tensors.iter().filter(|(_, _, name)| *name != weight) {
        let of = weight.clone();
        let relation = match (part, dtype) {
            (Part::Average, Dtype::F32) => Relation::Average { of },
            (Part::Weight, Dtype::BF16 | Dtype::F16) => Relation::Copy { of },
            _ => continue,
        };
        relations.insert((*name).to_owned(), relation);
    }
    let copies = tensors.iter().filter(|(part, dtype, _)| {
        *part == Part::Average && matches!(dtype, Dtype::BF16 | Dtype::F16)
    });
    for (_, _, name) in copies {
        if let Some(of) = only(Part::Average) {
            relations.insert((*name).to_owned(), Relation::Copy { of });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(tensors: &[(&str, Dtype)]) -> Vec<(String, Relation)> {
        let shape = [3u64, 4];
        infer(tensors.iter().map(|(n, d)| (*n, *d, &shape[..])))
            .into_iter()
            .collect()
    }

    fn adam(m: &str, v: &str) -> Relation {
        Relation::Adam {
            exp_avg: m.into(),
            exp_avg_sq: v.into(),
        }
    }

    /// How those who write checkpoints name weights and Adam's moments.
    #[test]
    fn adam_is_known_by_every_common_naming() {
        let namings = [
            (
                "model.h.0.w",
                "optim.exp_avg.h.0.w",
                "optim.exp_avg_sq.h.0.w",
            ),
            (
                "h.0.w",
                "optimizer.state.h.0.w.exp_avg",
                "optimizer.state.h.0.w.exp_avg_sq",
            ),
            (
                "zero/h.0.w/fp32",
                "zero/h.0.w/exp_avg",
                "zero/h.0.w/exp_avg_sq",
            ),
            (
                "params/h/w",
                "opt_state/0/mu/params/h/w",
                "opt_state/0/nu/params/h/w",
            ),
            ("params/h/w", "opt_state/0/mu/h/w", "opt_state/0/nu/h/w"),
            (
                "dense/kernel",
                "adam/dense_kernel_momentum",
                "adam/dense_kernel_velocity",
            ),
            ("w.weight", "m.w.weight", "v.w.weight"),
            (
                "model.17.weight",
                "optimizer.state.17.weight.exp_avg",
                "optimizer.state.17.weight.exp_avg_sq",
            ),
            ("params/0/w", "opt_state/1/0/mu/0/w", "opt_state/1/0/nu/0/w"),
            (
                "model.w",
                "optimizer.0.state.w.exp_avg",
                "optimizer.0.state.w.exp_avg_sq",
            ),
        ];
        for (w, m, v) in namings {
            let found = told(&[(w, Dtype::F32), (m, Dtype::F32), (v, Dtype::F32)]);
            assert_eq!(found, [(w.to_owned(), adam(m, v))], "{w}, {m}, {v}");
        }
    }

    #[test]
    fn numbered_states_relate_the_moments_alone() {
        let (m, v) = ("optimizer.state.0.exp_avg", "optimizer.state.0.exp_avg_sq");
        let found = told(&[(m, Dtype::F32), (v, Dtype::F32), ("model.w", Dtype::F32)]);
        let exp_avg = m.to_owned();
        assert_eq!(found, [(v.to_owned(), Relation::SecondMoment { exp_avg })]);
    }

    #[test]
    fn masters_averages_copies_and_momentum_are_known() {
        let of = || "master.w".to_owned();
        let found = told(&[("master.w", Dtype::F32), ("model.w", Dtype::BF16)]);
        assert_eq!(found, [("model.w".to_owned(), Relation::Copy { of: of() })]);
        let found = told(&[
            ("model.w", Dtype::F32),
            ("ema.w", Dtype::F32),
            ("half.w", Dtype::F16),
        ]);
        let of = || "model.w".to_owned();
        let expected = [
            ("ema.w".to_owned(), Relation::Average { of: of() }),
            ("half.w".to_owned(), Relation::Copy { of: of() }),
        ];
        assert_eq!(found, expected);
        for (weight, buffer) in [
            ("model.w", "optimizer.state.w.momentum_buffer"),
            ("model.0.bias", "optimizer.state.0.bias.momentum_buffer"),
            ("model.0.bias", "optim.momentum_buffer.0.bias"),
            ("params.0.w", "opt_state.0.trace.params.0.w"),
        ] {
            let found = told(&[(weight, Dtype::F32), (buffer, Dtype::F32)]);
            let buffer = buffer.to_owned();
            let expected = [(weight.to_owned(), Relation::Momentum { buffer })];
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn sums_of_adagrad_are_known() {
        for (weight, sum) in [
            ("model.t.weight", "optimizer.state.t.weight.sum"),
            ("dense/kernel", "adagrad/dense_kernel_accumulator"),
            ("params/t/w", "opt_state/0/sum_of_squares/t/w"),
        ] {
            let found = told(&[(weight, Dtype::F32), (sum, Dtype::F32)]);
            let weight = weight.to_owned();
            let expected = [(sum.to_owned(), Relation::SumOfSquares { weight })];
            assert_eq!(found, expected);
        }
    }

    /// What a layer is called says nothing of what an optimizer keeps for it.
    #[test]
    fn layers_called_sum_are_layers() {
        for layer in ["sum", "attn_sum", "accumulator"] {
            let [w, m, v] = [
                "model.L.weight",
                "optimizer.state.L.weight.exp_avg",
                "optimizer.state.L.weight.exp_avg_sq",
            ]
            .map(|name| name.replace('L', layer));
            let found = told(&[(&w, Dtype::F32), (&m, Dtype::F32), (&v, Dtype::F32)]);
            assert_eq!(found, [(w.clone(), adam(&m, &v))]);
        }
        let buffers = [
            ("codebook.embed", Dtype::F32),
            ("codebook.embed_sum", Dtype::F32),
        ];
        assert!(told(&buffers).is_empty());
    }

    #[test]
    fn what_only_looks_alike_is_left_alone() {
        assert!(told(&[("attn.v.weight", Dtype::F32), ("attn.q.weight", Dtype::F32)]).is_empty());
        assert!(told(&[("a.w", Dtype::F32), ("model.a.w", Dtype::F32)]).is_empty());
        let shapes: [&[u64]; 2] = [&[3], &[4]];
        let names = ["model.w", "half.w"];
        let dtypes = [Dtype::F32, Dtype::F16];
        let tensors = (0..2).map(|i| (names[i], dtypes[i], shapes[i]));
        assert!(infer(tensors).is_empty());
    }
}
