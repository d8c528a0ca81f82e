//! Slices to slices: predictors, transforms, layouts and coders (format-spec.md section 10).
//!
//! Knows no file, id, tensor name or chain. A record is decoded as
//! `value = combine(predict(inputs), residual)`; each part has a registry of codes.

mod assemble;
mod bits;
mod choose;
mod classes;
mod classes_fit;
pub mod coder;
pub mod cost;
mod decode;
mod decode_layouts;
mod encode;
mod encode_layouts;
mod estimate;
mod grid;
mod grid_fit;
mod histogram;
#[doc(hidden)]
pub mod kernels;
mod leading;
mod nonzero;
mod palette;
mod places;
mod planes;
mod predict;
mod residual;
mod simd;
mod sparse;
pub mod transform;
mod word;

pub use choose::Method;
pub use decode::{borrow_raw, decode};
pub use encode::{
    Encoding, Reference, encode, encode_alone, encode_estimated, encode_raw, max_encoded_len,
};
pub use estimate::{Estimate, estimate, estimate_alone, estimate_patch, estimate_predicted};
pub use grid::Rows;
pub use predict::fit::{Unfit, fit};
pub use predict::{AdagradStep, AdamStep, Half, INPUTS_MAX, Prediction};

use std::cell::RefCell;
use std::ops::RangeInclusive;

use crate::codec::word::with_word;
use crate::dtype::Lane;
use crate::error::Result;
use crate::memory;

/// What a lane's value is predicted from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Predictor {
    /// Nothing.
    None,
    /// The same lane of input 0.
    Base,
    /// The lane of an input twice as wide, cast.
    Cast,
    /// A sum of inputs with coefficients.
    Linear,
    /// A running mean of squares, from itself and the running mean before and after.
    SecondMoment,
    /// A step of Adam.
    Adam,
    /// As `SecondMoment`, of lanes whose gradient's mean changed.
    SparseSecondMoment,
    /// As `Adam`, of lanes whose gradient's mean changed.
    SparseAdam,
    /// A sum of squares, from itself and the weight that Adagrad moved by it.
    SumOfSquares,
    /// As `Linear`, with the first product rounded on its own.
    RoundedLinear,
    /// As `SecondMoment`, with the first product rounded on its own.
    RoundedSecondMoment,
}

impl Predictor {
    /// Every predictor, in the order of the registry.
    pub const ALL: [Self; 11] = [
        Self::None,
        Self::Base,
        Self::Cast,
        Self::Linear,
        Self::SecondMoment,
        Self::Adam,
        Self::SparseSecondMoment,
        Self::SparseAdam,
        Self::SumOfSquares,
        Self::RoundedLinear,
        Self::RoundedSecondMoment,
    ];

    /// The code on disk.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Base => 1,
            Self::Cast => 2,
            Self::Linear => 3,
            Self::SecondMoment => 4,
            Self::Adam => 5,
            Self::SparseSecondMoment => 6,
            Self::SparseAdam => 7,
            Self::SumOfSquares => 8,
            Self::RoundedLinear => 10,
            Self::RoundedSecondMoment => 11,
        }
    }

    /// The name in the registry.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Base => "base",
            Self::Cast => "cast",
            Self::Linear => "linear",
            Self::SecondMoment => "second-moment",
            Self::Adam => "adam",
            Self::SparseSecondMoment => "sparse-second-moment",
            Self::SparseAdam => "sparse-adam",
            Self::SumOfSquares => "sum-of-squares",
            Self::RoundedLinear => "rounded-linear",
            Self::RoundedSecondMoment => "rounded-second-moment",
        }
    }

    /// How many inputs it takes.
    #[must_use]
    pub const fn inputs(self) -> RangeInclusive<usize> {
        match self {
            Self::None => 0..=0,
            Self::Base | Self::Cast => 1..=1,
            Self::Linear | Self::RoundedLinear => 1..=INPUTS_MAX,
            Self::SecondMoment
            | Self::Adam
            | Self::SparseSecondMoment
            | Self::SumOfSquares
            | Self::RoundedSecondMoment => 3..=3,
            Self::SparseAdam => 4..=4,
        }
    }

    /// Whether it takes that many inputs.
    #[must_use]
    pub fn takes(self, inputs: usize) -> bool {
        self.inputs().contains(&inputs)
    }
}

/// How residual words become streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layout {
    /// One stream of little-endian words.
    Whole,
    /// One stream for each byte of the word.
    Planes,
    /// One byte of each word, the bits below it, and the words that do not fit.
    Leading,
    /// Planes of differences from levels of rows and columns.
    Grid,
    /// The same with a share of the base in the prediction.
    GridDelta,
    /// Leading bytes parted by the base's exponent.
    Classes,
    /// Planes of the words that are not zero, and the gaps between them.
    Sparse,
    /// The values that occur, and an index for each lane.
    Palette,
}

impl Layout {
    /// Every layout, in the order of the registry.
    pub const ALL: [Self; 8] = [
        Self::Whole,
        Self::Planes,
        Self::Leading,
        Self::Grid,
        Self::GridDelta,
        Self::Classes,
        Self::Sparse,
        Self::Palette,
    ];

    /// The code on disk.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Whole => 0,
            Self::Planes => 1,
            Self::Leading => 2,
            Self::Grid => 3,
            Self::GridDelta => 4,
            Self::Classes => 5,
            Self::Sparse => 6,
            Self::Palette => 7,
        }
    }

    /// The name in the registry.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Planes => "planes",
            Self::Leading => "leading",
            Self::Grid => "grid",
            Self::GridDelta => "grid-delta",
            Self::Classes => "classes",
            Self::Sparse => "sparse",
            Self::Palette => "palette",
        }
    }

    /// Whether it has parameters.
    #[must_use]
    pub const fn has_params(self) -> bool {
        !matches!(self, Self::Whole | Self::Planes)
    }

    /// Whether it is one of the two that predict by rows and columns.
    #[must_use]
    pub const fn is_grid(self) -> bool {
        matches!(self, Self::Grid | Self::GridDelta)
    }
}

/// How the bytes of a chunk are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    /// The lanes that they are made of.
    pub lane: Lane,
    /// The rows that the lanes lie in, where the tensor has more than one dimension.
    pub rows: Option<Rows>,
}

/// Lanes in no order that is known.
impl From<Lane> for Form {
    fn from(lane: Lane) -> Self {
        Self { lane, rows: None }
    }
}

/// How many lanes of two slices of the same length differ.
#[must_use]
pub fn changed_lanes(a: &[u8], b: &[u8], lane: Lane) -> u64 {
    with_word!(lane.width, W => residual::changed::<W>(a, b))
}

/// One thread's scratch memory: planes of a chunk and zstd contexts, grown once and kept.
#[derive(Default)]
pub struct Workspace {
    pub(crate) planes: Vec<u8>,
    pub(crate) streams: Vec<u8>,
    pub(crate) words: Vec<u64>,
    pub(crate) predicted: Vec<u8>,
    pub(crate) leading: leading::Streams,
    pub(crate) classes: classes::Streams,
    pub(crate) contexts: coder::Contexts,
}

/// Compresses a manifest section, if that makes it shorter.
#[must_use]
pub fn compress_section(raw: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mode = coder::ZstdMode::Level(3);
    match coder::Contexts::default().compress(mode, raw, raw.len(), &mut out) {
        Ok(true) => Some(out),
        _ => None,
    }
}

/// Decompresses a manifest section to exactly `raw_len` bytes.
///
/// # Errors
/// `Corrupt` if the frame is damaged or of another length.
pub fn decompress_section(stored: &[u8], raw_len: u32) -> Result<Vec<u8>> {
    // A zstd block of 128 KiB takes at least 4 bytes: no frame expands further than this.
    let possible = (stored.len() as u64).saturating_mul(32 << 10) >= u64::from(raw_len);
    if !possible {
        return Err(crate::Error::corrupt(
            "section-length",
            "a section is too short for its length",
        )
        .differs(raw_len, stored.len()));
    }
    let mut out = memory::zeros(raw_len.into())?;
    SECTION_CONTEXTS.with_borrow_mut(|contexts| contexts.decompress(stored, &mut out))?;
    Ok(out)
}

thread_local! {
    /// Making a context takes longer than decompressing most sections, and a listing reads
    /// thousands of them.
    static SECTION_CONTEXTS: RefCell<coder::Contexts> = RefCell::default();
}
