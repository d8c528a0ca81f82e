//! Grid (format-spec.md section 10.4.4): words as differences from a level for each row and each
//! column of the tensor.
//!
//! The magnitudes of moments and of gradients are nearly a product of one factor for each row and
//! one for each column (Shazeer and Stern, "Adafactor", 2018). A float's bits, its sign moved to
//! the end, are nearly its logarithm, so in them the product is a sum, and sums of integers are
//! the same on every machine.

use crate::codec::planes;
use crate::codec::residual::{BLOCK, block_of};
use crate::codec::simd;
use crate::codec::word::Word;
use crate::error::{Error, Result};
use crate::format::cursor::{Reader, Writer};

/// How the lanes of a chunk lie in the rows of its tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rows {
    /// Lanes in a row, at least 1.
    pub len: usize,
    /// The column of the chunk's first lane.
    pub column: usize,
}

impl Rows {
    /// How many rows `lanes` lanes touch.
    pub(crate) const fn count(self, lanes: usize) -> usize {
        (self.column + lanes).div_ceil(self.len)
    }
}

/// One in the fixed-point numbers of [`Grid::weight`].
pub(crate) const WEIGHT_ONE: f32 = 32_768.0;

/// Differences are rotated by at most a byte.
pub(crate) const TURN_MAX: u8 = 8;

/// What a chunk's words are predicted from, besides its terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grid {
    pub(crate) rows: Rows,
    /// Added to every prediction.
    pub(crate) level: u64,
    /// The base's share, in units of 2^-15.
    pub(crate) weight: u16,
    /// Bits that a term is shifted by.
    pub(crate) unit: u8,
    /// Bits that a difference is rotated by.
    pub(crate) turn: u8,
}

impl Grid {
    /// Terms of `lanes` lanes: one for each row, then one for each column.
    pub(crate) const fn terms(&self, lanes: usize) -> usize {
        self.rows.count(lanes) + self.rows.len
    }

    /// Parts plane 0: what lies above the top byte of a difference, and is nearly always zero,
    /// goes to `overflow`, so that what lies below it stays even.
    pub(crate) fn part(&self, plane: &mut [u8], overflow: &mut [u8]) {
        simd::widest(
            #[inline(always)]
            || self.part_inline(plane, overflow),
        );
    }

    #[inline(always)]
    fn part_inline(&self, plane: &mut [u8], overflow: &mut [u8]) {
        let mask = (1u16 << self.turn).wrapping_sub(1).to_le_bytes()[0];
        for (low, over) in plane.iter_mut().zip(overflow) {
            *over = *low & mask;
            *low = low.checked_shr(self.turn.into()).unwrap_or(0);
        }
    }

    /// Undoes [`Self::part`] into `overflow`; `None` if a byte has bits that it must not have.
    pub(crate) fn join(&self, low: &[u8], overflow: &mut [u8]) -> Option<()> {
        simd::widest(
            #[inline(always)]
            || self.join_inline(low, overflow),
        )
    }

    #[inline(always)]
    fn join_inline(&self, low: &[u8], overflow: &mut [u8]) -> Option<()> {
        let turn = u32::from(self.turn);
        let mut stray = 0;
        for (over, low) in overflow.iter_mut().zip(low) {
            let joined = u16::from(*low) << turn;
            stray |= joined >> 8 | u16::from(*over) >> turn;
            *over |= joined.to_le_bytes()[0];
        }
        (stray == 0).then_some(())
    }

    pub(crate) fn to_params(self) -> Vec<u8> {
        let mut w = Writer::new();
        let word = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        w.u32(word(self.rows.len)).u32(word(self.rows.column));
        w.u64(self.level)
            .u16(self.weight)
            .u8(self.unit)
            .u8(self.turn);
        w.finish()
    }

    /// Reads and checks parameters for `lanes` lanes of `width` bytes.
    pub(crate) fn from_params(params: &[u8], width: usize, lanes: usize) -> Result<Self> {
        let bad = || Error::corrupt("grid-params", "a record's grid breaks its rules");
        let mut r = Reader::new(params, 0);
        let (len, column) = (r.u32()? as usize, r.u32()? as usize);
        let grid = Self {
            rows: Rows { len, column },
            level: r.u64()?,
            weight: r.u16()?,
            unit: r.u8()?,
            turn: r.u8()?,
        };
        let bits = width * 8;
        let fits = column < len
            && grid.terms(lanes) <= lanes
            && usize::from(grid.unit) < bits
            && grid.turn <= TURN_MAX
            && (bits == 64 || grid.level >> bits == 0)
            && r.left() == 0;
        if fits { Ok(grid) } else { Err(bad()) }
    }
}

/// A grid with its terms at hand: the prediction of every lane of a chunk.
pub(crate) struct Levels<W> {
    grid: Grid,
    rows: Vec<W>,
    columns: Vec<W>,
}

impl<W: Word> Levels<W> {
    pub(crate) fn new(grid: Grid, terms: &[u8], lanes: usize) -> Self {
        let (rows, columns) = terms.split_at(grid.rows.count(lanes).min(terms.len()));
        let word = |term: &u8| W::from_i8(term.cast_signed()).shift_left(grid.unit.into());
        let level = W::from_u64(grid.level);
        Self {
            grid,
            rows: rows.iter().map(word).collect(),
            columns: columns.iter().map(|t| word(t).add(level)).collect(),
        }
    }

    /// Predictions of the lanes from `start` on; `base` is theirs, or empty.
    #[inline(always)]
    fn predict(&self, start: usize, base: &[u8], out: &mut [W]) {
        let Rows { len, column } = self.grid.rows;
        let (mut at, mut rest) = (column + start, &mut *out);
        while !rest.is_empty() {
            let (row, column) = (at / len, at % len);
            let (segment, behind) = rest.split_at_mut(rest.len().min(len - column));
            at += segment.len();
            rest = behind;
            let row = self.rows.get(row).copied().unwrap_or(W::ZERO);
            let columns = self.columns.get(column..).unwrap_or_default();
            for (p, column) in segment.iter_mut().zip(columns) {
                *p = row.add(*column);
            }
        }
        for (p, b) in out.iter_mut().zip(base.chunks_exact(W::BYTES)) {
            *p = p.add(W::load(b).rotate_left(1).scale(self.grid.weight));
        }
    }

    /// Differences of the lanes from `start` on from their predictions.
    #[inline(always)]
    pub(crate) fn differences(&self, start: usize, raw: &[u8], base: &[u8], out: &mut [W]) {
        self.predict(start, base, out);
        let turn = u32::from(self.grid.turn);
        for (u, x) in out.iter_mut().zip(raw.chunks_exact(W::BYTES)) {
            let x = W::load(x).rotate_left(1);
            *u = x.sub(u.clear_lowest()).rotate_left(turn);
        }
    }

    /// Splits `raw` into planes of differences, laid one after the other.
    pub(crate) fn split(&self, raw: &[u8], base: &[u8], planes: &mut [u8]) {
        simd::widest(
            #[inline(always)]
            || self.split_inline(raw, base, planes),
        );
    }

    #[inline(always)]
    fn split_inline(&self, raw: &[u8], base: &[u8], planes: &mut [u8]) {
        let mut words = [W::ZERO; BLOCK];
        let mut done = 0;
        for block in raw.chunks(BLOCK * W::BYTES) {
            let base = block_of(base, done * W::BYTES, block.len());
            let (words, _) = words.split_at_mut(block.len() / W::BYTES);
            self.differences(done, block, base, words);
            planes::scatter(words, done, raw.len() / W::BYTES, planes);
            done += words.len();
        }
    }

    /// Puts planes of differences together again, into `out`.
    pub(crate) fn merge(&self, planes: &[&[u8]], base: &[u8], out: &mut [u8]) {
        simd::widest(
            #[inline(always)]
            || self.merge_inline(planes, base, out),
        );
    }

    #[inline(always)]
    fn merge_inline(&self, planes: &[&[u8]], base: &[u8], out: &mut [u8]) {
        let (mut words, mut predicted) = ([W::ZERO; BLOCK], [W::ZERO; BLOCK]);
        let turn = u32::from(self.grid.turn);
        let mut done = 0;
        for block in out.chunks_mut(BLOCK * W::BYTES) {
            let base = block_of(base, done * W::BYTES, block.len());
            let (words, _) = words.split_at_mut(block.len() / W::BYTES);
            let (predicted, _) = predicted.split_at_mut(words.len());
            planes::gather(planes, done, words);
            self.predict(done, base, predicted);
            let lanes = words.iter().zip(predicted);
            for ((u, p), x) in lanes.zip(block.chunks_exact_mut(W::BYTES)) {
                let x_rotated = u.rotate_right(turn).add(p.clear_lowest());
                x_rotated.rotate_right(1).store(x);
            }
            done += words.len();
        }
    }
}
