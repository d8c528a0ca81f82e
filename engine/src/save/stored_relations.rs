//! Relations as a manifest stores them (format-spec.md section 11.9): by places in its body.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::format::body::Body;
use crate::format::manifest::Manifest;
use crate::format::relations::{self, KINDS, TensorRelation};
use crate::save::relation::Relation;

impl Relation {
    pub(super) const fn kind(&self) -> u8 {
        match self {
            Self::Adam { .. } => relations::ADAM,
            Self::SecondMoment { .. } => relations::SECOND_MOMENT,
            Self::Momentum { .. } => relations::MOMENTUM,
            Self::Average { .. } => relations::AVERAGE,
            Self::Copy { .. } => relations::COPY,
            Self::SumOfSquares { .. } => relations::SUM_OF_SQUARES,
        }
    }

    /// `None` for a kind of a later version.
    fn from_names(kind: u8, of: Vec<String>) -> Option<Self> {
        let mut names = of.into_iter();
        let mut of = || names.next();
        Some(match kind {
            relations::ADAM => Self::Adam {
                exp_avg: of()?,
                exp_avg_sq: of()?,
            },
            relations::SECOND_MOMENT => Self::SecondMoment { exp_avg: of()? },
            relations::MOMENTUM => Self::Momentum { buffer: of()? },
            relations::AVERAGE => Self::Average { of: of()? },
            relations::COPY => Self::Copy { of: of()? },
            relations::SUM_OF_SQUARES => Self::SumOfSquares { weight: of()? },
            _ => return None,
        })
    }
}

/// Relations by the places of the tensors in a body.
///
/// # Errors
/// `InvalidInput` if one names a tensor that the body does not have.
pub(super) fn to_places(
    related: &BTreeMap<String, Relation>,
    body: &Body,
) -> Result<Vec<TensorRelation>> {
    let place = |name: &str| {
        let found = body.tensors.binary_search_by(|t| t.name.as_str().cmp(name));
        let place = found.ok().and_then(|place| u32::try_from(place).ok());
        place.ok_or_else(|| unknown(name))
    };
    // Names and places are in one order.
    let stored = related.iter().map(|(name, relation)| {
        Ok(TensorRelation {
            tensor: place(name)?,
            kind: relation.kind(),
            of: relation
                .names()
                .into_iter()
                .map(place)
                .collect::<Result<_>>()?,
        })
    });
    stored.collect()
}

fn unknown(name: &str) -> Error {
    Error::invalid(
        "relation",
        format!("a relation names {name:?}, which is no tensor of the checkpoint"),
    )
    .hint("add the tensors that relations speak of, by the same names")
}

impl Manifest {
    /// How the tensor at a place in the body came from others: the kind's name, and theirs.
    /// `None` if nothing is known of it, or if that is of a later version.
    #[must_use]
    pub fn relation_of(&self, place: usize) -> Option<(&'static str, Vec<&str>)> {
        let place = u32::try_from(place).ok()?;
        let at = self.relations.binary_search_by_key(&place, |r| r.tensor);
        let stored = self.relations.get(at.ok()?)?;
        let (_, kind, _) = KINDS.iter().find(|(code, ..)| *code == stored.kind)?;
        let name = |place: &u32| Some(self.body.tensors.get(*place as usize)?.name.as_str());
        Some((kind, stored.of.iter().map(name).collect::<Option<_>>()?))
    }

    /// The relations that its save was told of, by names; without those of later versions.
    pub fn named_relations(&self) -> impl Iterator<Item = (String, Relation)> {
        let known = self.relations.iter().filter(|stored| {
            let mut kinds = KINDS.iter();
            kinds.any(|(code, ..)| *code == stored.kind)
        });
        let name = |place: &u32| {
            let tensor = self.body.tensors.get(*place as usize);
            tensor.map(|t| t.name.clone())
        };
        known.filter_map(move |stored| {
            let of = stored.of.iter().map(name).collect::<Option<_>>()?;
            let relation = Relation::from_names(stored.kind, of)?;
            Some((name(&stored.tensor)?, relation))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::Dtype;
    use crate::format::body::TensorEntry;
    use crate::format::placement::Placement;

    fn manifest() -> Manifest {
        let tensor = |name: &str| TensorEntry {
            name: name.into(),
            dtype: Dtype::F32,
            shape: vec![0],
            chunk_elements: 64,
            byte_len: 0,
            chunks: Vec::new(),
        };
        let body = Body {
            tensors: ["copy", "later", "of"].map(tensor).into(),
            ..Body::default()
        };
        let placement = Placement {
            run: "main".into(),
            ..Placement::default()
        };
        let mut manifest = Manifest::new(body, placement, Vec::new(), Vec::new()).unwrap();
        let told = |tensor, kind, of: &[u32]| TensorRelation {
            tensor,
            kind,
            of: of.to_vec(),
        };
        manifest.relations = vec![told(0, relations::COPY, &[2]), told(1, 200, &[0, 2, 0])];
        manifest
    }

    /// A writer of a later version may know more: its words are passed over, and kept.
    #[test]
    fn kinds_of_later_versions_are_passed_over_and_kept() {
        let manifest = manifest();
        let raw = |_: &[u8]| None;
        let none = |_: &[u8], _: u32| -> Result<Vec<u8>> { Ok(Vec::new()) };
        let back = Manifest::decode(&manifest.encode(&raw).unwrap(), &none).unwrap();
        assert_eq!(back, manifest);
        let named: BTreeMap<String, Relation> = back.named_relations().collect();
        let of = "of".to_owned();
        assert_eq!(named, [("copy".to_owned(), Relation::Copy { of })].into());
        assert_eq!(back.relation_of(0), Some(("copy", vec!["of"])));
        assert_eq!((back.relation_of(1), back.relation_of(2)), (None, None));
        let places = to_places(&named, &back.body).unwrap();
        assert_eq!(places, back.relations[..1]);
    }

    #[test]
    fn strangers_are_refused() {
        let copy = |of: &str| Relation::Copy { of: of.into() };
        for (name, of) in [("copy", "z"), ("z", "copy")] {
            let related = [(name.to_owned(), copy(of))].into();
            let error = to_places(&related, &manifest().body).unwrap_err();
            assert_eq!(error.code(), "relation");
        }
    }
}
