//! Which part of a checkpoint is wanted: everything, names by glob, or rows of one tensor.

use std::collections::BTreeSet;
use std::ops::Range;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use crate::dtype::{self, Dtype};
use crate::error::{Error, ErrorKind, Result};
use crate::format::body::{Body, TensorEntry};
use crate::format::manifest::Manifest;
use crate::restore::plan::Wanted;

/// The code of the error that a thinned checkpoint lacks what is asked for.
pub const TENSOR_DROPPED: &str = "tensor-dropped";

/// A part of a checkpoint.
#[derive(Clone, Debug)]
pub struct Selection(Kind);

#[derive(Clone, Debug)]
enum Kind {
    All,
    /// Every tensor that was not dropped.
    Kept,
    Globs(GlobSet, Vec<String>),
    Tensor(String),
    Names(BTreeSet<String>),
    Rows(String, Range<u64>),
}

/// One tensor, or a part of it, that a selection picks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// The tensor's name.
    pub name: String,
    /// Its element type.
    pub dtype: Dtype,
    /// The shape of what is picked.
    pub shape: Vec<u64>,
    /// The bytes of the tensor that are picked.
    pub bytes: Range<u64>,
}

impl Selection {
    /// Every tensor.
    #[must_use]
    pub fn all() -> Self {
        Self(Kind::All)
    }

    /// Every tensor that a thinned checkpoint still has.
    #[must_use]
    pub fn kept() -> Self {
        Self(Kind::Kept)
    }

    /// The tensors whose names match one of the globs; `*` also matches dots.
    ///
    /// # Errors
    /// `InvalidInput` if a glob is malformed.
    pub fn globs<G: AsRef<str>>(globs: &[G]) -> Result<Self> {
        let mut set = GlobSetBuilder::new();
        for glob in globs {
            let built = GlobBuilder::new(glob.as_ref())
                .literal_separator(false)
                .build();
            set.add(built.map_err(|e| {
                Error::invalid("glob", format!("{:?} is no glob: {e}", glob.as_ref()))
            })?);
        }
        let set = set
            .build()
            .map_err(|e| Error::invalid("glob", format!("the globs cannot be used: {e}")))?;
        Ok(Self(Kind::Globs(
            set,
            globs.iter().map(|g| g.as_ref().to_owned()).collect(),
        )))
    }

    /// One tensor.
    #[must_use]
    pub fn tensor(name: &str) -> Self {
        Self(Kind::Tensor(name.to_owned()))
    }

    /// These tensors; names that are not there are passed over.
    #[must_use]
    pub fn tensors(names: impl IntoIterator<Item = String>) -> Self {
        Self(Kind::Names(names.into_iter().collect()))
    }

    /// Rows of one tensor: a range of its first dimension.
    #[must_use]
    pub fn rows(name: &str, rows: Range<u64>) -> Self {
        Self(Kind::Rows(name.to_owned(), rows))
    }

    /// The names of the tensors that it picks; none is no error.
    pub(crate) fn names<'b>(&self, body: &'b Body) -> BTreeSet<&'b str> {
        let picks = |name: &str| match &self.0 {
            Kind::All | Kind::Kept => true,
            Kind::Globs(set, _) => set.is_match(name),
            Kind::Names(names) => names.contains(name),
            Kind::Tensor(one) | Kind::Rows(one, _) => one == name,
        };
        let names = body.tensors.iter().map(|t| t.name.as_str());
        names.filter(|name| picks(name)).collect()
    }

    /// What it picks of a checkpoint, dropped or not, in the order of names.
    ///
    /// # Errors
    /// `NotFound` if it picks nothing, `InvalidInput` if the rows are not there.
    pub(crate) fn picked(&self, manifest: &Manifest) -> Result<Vec<Output>> {
        let body = &manifest.body;
        let tensors = body.tensors.iter();
        match &self.0 {
            Kind::Tensor(name) => Ok(vec![whole(find(body, name)?)]),
            Kind::Rows(name, rows) => Ok(vec![part(find(body, name)?, rows)?]),
            Kind::All => Ok(tensors.map(whole).collect()),
            Kind::Names(names) => {
                let named = tensors.filter(|t| names.contains(&t.name));
                Ok(named.map(whole).collect())
            }
            Kind::Kept => {
                let kept = |(place, _): &(usize, _)| !manifest.is_dropped(*place);
                Ok(tensors
                    .enumerate()
                    .filter(kept)
                    .map(|(_, t)| whole(t))
                    .collect())
            }
            Kind::Globs(set, globs) => {
                let picked: Vec<Output> = tensors
                    .filter(|t| set.is_match(&t.name))
                    .map(whole)
                    .collect();
                if picked.is_empty() {
                    return Err(Error::new(ErrorKind::NotFound, "glob", "no tensor matches")
                        .subject(globs.join(", "))
                        .hint("`milepost ls REV` shows the names"));
                }
                Ok(picked)
            }
        }
    }

    /// What it picks of a checkpoint that can be restored.
    ///
    /// # Errors
    /// As [`Selection::picked`], and `NotFound` if a tensor was dropped.
    pub(crate) fn outputs(&self, manifest: &Manifest) -> Result<Vec<Output>> {
        let picked = self.picked(manifest)?;
        require_kept(manifest, picked.iter().map(|o| o.name.as_str()))?;
        Ok(picked)
    }
}

/// Holds that none of these tensors was dropped.
pub(crate) fn require_kept<'n>(
    manifest: &Manifest,
    names: impl Iterator<Item = &'n str>,
) -> Result<()> {
    let dropped: BTreeSet<&str> = manifest.dropped_names().collect();
    let mut missing = names.filter(|name| dropped.contains(name));
    let Some(first) = missing.next() else {
        return Ok(());
    };
    let others = match missing.count() {
        0 => String::new(),
        count => format!(" and {count} more"),
    };
    Err(Error::new(
        ErrorKind::NotFound,
        TENSOR_DROPPED,
        "the checkpoint was thinned: a tensor that is asked for was dropped",
    )
    .subject(format!("tensor {first:?}{others}"))
    .hint("restore what was kept (`milepost restore --kept`), or another checkpoint"))
}

impl Output {
    pub(crate) fn wanted<'b>(&self, body: &'b Body) -> Option<Wanted<'b>> {
        let tensor = body.tensor(&self.name)?;
        Some(Wanted {
            cut: tensor.cut(),
            chunks: &tensor.chunks,
            bytes: self.bytes.clone(),
        })
    }
}

fn find<'b>(body: &'b Body, name: &str) -> Result<&'b TensorEntry> {
    body.tensor(name).ok_or_else(|| {
        Error::new(
            ErrorKind::NotFound,
            "tensor",
            format!("the checkpoint has no tensor {name:?}"),
        )
        .hint("`milepost ls REV` shows the names")
    })
}

fn whole(tensor: &TensorEntry) -> Output {
    Output {
        name: tensor.name.clone(),
        dtype: tensor.dtype,
        shape: tensor.shape.clone(),
        bytes: 0..tensor.byte_len,
    }
}

fn part(tensor: &TensorEntry, rows: &Range<u64>) -> Result<Output> {
    let bad =
        |why: String| Error::invalid("rows", why).subject(format!("tensor {:?}", tensor.name));
    let Some((count, row_shape)) = tensor.shape.split_first() else {
        return Err(bad("a scalar has no rows".into()));
    };
    if rows.start > rows.end || rows.end > *count {
        return Err(bad(format!(
            "rows {}..{} are not within 0..{count}",
            rows.start, rows.end
        )));
    }
    // Rows that are not there take nothing, whatever their shape would take.
    let row_bits = if *count == 0 {
        0
    } else {
        dtype::elements(row_shape)?.saturating_mul(tensor.dtype.bits())
    };
    if row_bits % 8 != 0 {
        return Err(bad("a row of this type does not fill whole bytes".into()));
    }
    let shape = [&[rows.end - rows.start], row_shape].concat();
    let bytes = rows.start * (row_bits / 8)..rows.end * (row_bits / 8);
    Ok(Output {
        name: tensor.name.clone(),
        dtype: tensor.dtype,
        shape,
        bytes,
    })
}
