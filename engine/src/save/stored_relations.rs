//! Relations as a manifest stores them (format-spec.md section 11.9): by places in its body.

use std::collections::BTreeMap;

use crate::format::body::Body;
use crate::format::manifest::Manifest;
use crate::format::relations::{self, TensorRelation};
use crate::save::relation::Relation;

impl Relation {
    pub(super) const fn kind(&self) -> u8 {
        match self {
            Self::Adam { .. } => relations::ADAM,
            Self::SecondMoment { .. } => relations::SECOND_MOMENT,
            Self::Momentum { .. } => relations::MOMENTUM,
            Self::Average { .. } => relations::AVERAGE,
            Self::Copy { .. } => relations::COPY,
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
            _ => return None,
        })
    }
}

/// The relations of tensors that a body has, by their places.
pub(super) fn to_places(related: &BTreeMap<String, Relation>, body: &Body) -> Vec<TensorRelation> {
    let place = |name: &str| {
        let found = body.tensors.binary_search_by(|t| t.name.as_str().cmp(name));
        found.ok().and_then(|place| u32::try_from(place).ok())
    };
    let stored = related.iter().filter_map(|(name, relation)| {
        Some(TensorRelation {
            tensor: place(name)?,
            kind: relation.kind(),
            of: relation
                .names()
                .into_iter()
                .map(place)
                .collect::<Option<_>>()?,
        })
    });
    // Names and places are in one order.
    stored.collect()
}

impl Manifest {
    /// The relations that its save was told of, by names; without those of later versions.
    #[must_use]
    pub fn named_relations(&self) -> BTreeMap<String, Relation> {
        let name = |place: &u32| {
            let tensor = self.body.tensors.get(*place as usize);
            tensor.map(|t| t.name.clone())
        };
        let named = self.relations.iter().filter_map(|stored| {
            let of = stored.of.iter().map(name).collect::<Option<_>>()?;
            Some((
                name(&stored.tensor)?,
                Relation::from_names(stored.kind, of)?,
            ))
        });
        named.collect()
    }
}
