//! What a manifest tells of tensors that were made from others (format-spec.md section 11.9).

use crate::error::{Error, Result};
use crate::format::cursor::{Reader, Writer};
use crate::format::limits;

/// A tensor and what it was made from, by their places in the body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorRelation {
    /// The place of the tensor.
    pub tensor: u32,
    /// How it was made: one of the codes of section 11.9.1, or of a later version.
    pub kind: u8,
    /// The places of the tensors that it was made from.
    pub of: Vec<u32>,
}

/// A weight that Adam moves, of its first and its second moment.
pub const ADAM: u8 = 1;
/// A second moment, of the first.
pub const SECOND_MOMENT: u8 = 2;
/// A weight, of its momentum buffer.
pub const MOMENTUM: u8 = 3;
/// A running average, of what is averaged.
pub const AVERAGE: u8 = 4;
/// A copy in a narrower dtype, of what was cast.
pub const COPY: u8 = 5;
/// A sum of squared gradients, of the weight that Adagrad moves by it.
pub const SUM_OF_SQUARES: u8 = 6;

/// The kinds that are known: code, name, and of how many tensors each is.
pub const KINDS: [(u8, &str, usize); 6] = [
    (ADAM, "adam", 2),
    (SECOND_MOMENT, "second-moment", 1),
    (MOMENTUM, "momentum", 1),
    (AVERAGE, "average", 1),
    (COPY, "copy", 1),
    (SUM_OF_SQUARES, "sum-of-squares", 1),
];

fn is_of_right_number(kind: u8, of: usize) -> bool {
    let known = KINDS.iter().find(|(code, ..)| *code == kind);
    known.is_none_or(|(.., number)| *number == of)
}

/// The bytes of a relations section.
///
/// # Errors
/// `Limit` if there are too many, `Corrupt` if one names more than 255 tensors.
pub fn encode_relations(relations: &[TensorRelation]) -> Result<Vec<u8>> {
    let mut w = Writer::new();
    w.count(relations.len(), limits::ENTRIES_MAX)?;
    for relation in relations {
        let of = u8::try_from(relation.of.len()).map_err(|_| broken())?;
        w.u32(relation.tensor).u8(relation.kind).u8(of);
        relation.of.iter().for_each(|place| {
            w.u32(*place);
        });
    }
    Ok(w.finish())
}

/// Reads a relations section of a body with so many tensors.
///
/// # Errors
/// `Corrupt` if it is cut short, not strictly ascending, or names a tensor that is not there, or
/// if a known kind has another number of tensors.
pub fn decode_relations(bytes: &[u8], tensors: usize) -> Result<Vec<TensorRelation>> {
    let mut r = Reader::new(bytes, 0);
    let count = r.count(limits::ENTRIES_MAX, 6)?;
    let mut relations: Vec<TensorRelation> = Vec::with_capacity(count);
    for _ in 0..count {
        let (tensor, kind, of) = (r.u32()?, r.u8()?, usize::from(r.u8()?));
        let of = (0..of).map(|_| r.u32()).collect::<Result<Vec<_>>>()?;
        let ascends = relations.last().is_none_or(|last| last.tensor < tensor);
        let is_there = |place: &u32| (*place as usize) < tensors;
        let all_there = is_there(&tensor) && of.iter().all(is_there);
        if !(ascends && all_there && is_of_right_number(kind, of.len())) {
            return Err(broken());
        }
        relations.push(TensorRelation { tensor, kind, of });
    }
    r.finish()?;
    Ok(relations)
}

fn broken() -> Error {
    Error::corrupt("relations", "a manifest's relations break their rule")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relation(tensor: u32, kind: u8, of: &[u32]) -> TensorRelation {
        let of = of.to_vec();
        TensorRelation { tensor, kind, of }
    }

    fn back(relations: &[TensorRelation], tensors: usize) -> Result<Vec<TensorRelation>> {
        decode_relations(&encode_relations(relations).unwrap(), tensors)
    }

    #[test]
    fn round_trips_with_kinds_of_later_versions() {
        let relations = [
            relation(0, COPY, &[3]),
            relation(2, SECOND_MOMENT, &[1]),
            relation(3, ADAM, &[1, 2]),
            relation(4, SUM_OF_SQUARES, &[3]),
            relation(5, 77, &[]),
            relation(6, 78, &[0, 0, 0]),
        ];
        assert_eq!(back(&relations, 7).unwrap(), relations);
        assert_eq!(back(&[], 0).unwrap(), []);
    }

    #[test]
    fn what_breaks_the_rule_is_refused() {
        let bad = [
            vec![relation(6, COPY, &[0])],
            vec![relation(0, COPY, &[6])],
            vec![relation(0, COPY, &[1, 2])],
            vec![relation(0, ADAM, &[1])],
            vec![relation(0, 77, &[6])],
            vec![relation(1, COPY, &[0]), relation(1, COPY, &[0])],
            vec![relation(1, COPY, &[0]), relation(0, COPY, &[1])],
        ];
        for relations in bad {
            let error = back(&relations, 6).unwrap_err();
            assert_eq!(error.code(), "relations", "{relations:?}");
        }
        let good = encode_relations(&[relation(1, ADAM, &[2, 3])]).unwrap();
        for len in 0..good.len() {
            assert!(decode_relations(&good[..len], 6).is_err(), "{len} bytes");
        }
    }
}
