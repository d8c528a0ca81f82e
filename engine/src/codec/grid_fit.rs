//! Levels for rows and columns, learnt from a chunk: cheap guesses that cost bytes when wrong,
//! never correctness.

use crate::codec::choose;
use crate::codec::grid::{Grid, Levels, Rows, TURN_MAX, WEIGHT_ONE};
use crate::codec::histogram::{self, Histogram};
use crate::codec::simd;
use crate::codec::word::Word;

/// Fewer rows or columns than this teach nothing.
const ROWS_MIN: usize = 4;
const COLUMNS_MIN: usize = 8;
/// A term must speak for this many lanes on average.
const LANES_PER_TERM: usize = 8;
/// The base's weight and the spread are learnt from one row in this many.
const SPREAD_STRIDE: usize = 4;
/// Values below this, of the top 24 bits of a rotated word, are zeros and the like: they would
/// pull their row down and are coded as the exceptions that they are.
const ALIVE: f32 = 65_536.0;
/// The largest share of the base that a weight can say, and a little less.
const SHARE_MAX: f32 = 1.99;
/// A term's unit, as a share of the mean difference: finer ones cost more than they save.
const UNIT_SHARE: f32 = 0.5;
/// The top byte of a difference covers this many times the mean difference.
const RANGE_SPREADS: f32 = 10.0;
/// Where in that range the predictions lie: magnitudes of signed values reach further down
/// than up, squares about as far. In quarters.
const CENTRES: [u64; 2] = [2, 3];

/// A grid that was learnt, and what coding by it takes.
#[derive(Clone, Debug)]
pub(crate) struct Fit {
    pub(crate) grid: Grid,
    /// Terms of rows, then of columns.
    pub(crate) terms: Vec<u8>,
    /// Estimated bits per lane.
    pub(crate) bits: f32,
}

/// A chunk cut into the rows of its tensor.
#[derive(Clone, Copy)]
struct Table<'a> {
    rows: Rows,
    raw: &'a [u8],
    base: &'a [u8],
}

/// One row of a table as numbers: what an f32 holds of each rotated word.
#[derive(Default)]
struct Row {
    index: usize,
    column: usize,
    values: Vec<f32>,
    bases: Vec<f32>,
    /// 1 for a lane that counts, 0 for one that does not.
    alive: Vec<f32>,
    /// Whether it has a lane for every column, and all of them count.
    is_full: bool,
}

impl Table<'_> {
    /// Calls `visit` with one row in `stride`.
    #[inline(always)]
    fn each_row<W: Word>(self, stride: usize, mut visit: impl FnMut(&Row)) {
        let lanes = self.raw.len() / W::BYTES;
        let mut row = Row::default();
        for index in (0..self.rows.count(lanes)).step_by(stride) {
            let start = (index * self.rows.len).saturating_sub(self.rows.column);
            let end = lanes.min((index + 1) * self.rows.len - self.rows.column);
            let range = start * W::BYTES..end * W::BYTES;
            row.index = index;
            row.column = if index == 0 { self.rows.column } else { 0 };
            load::<W>(
                self.raw.get(range.clone()).unwrap_or_default(),
                &mut row.values,
            );
            load::<W>(self.base.get(range).unwrap_or_default(), &mut row.bases);
            row.alive.clear();
            let counts = |y: f32| if y >= ALIVE { 1.0 } else { 0.0 };
            if row.bases.is_empty() {
                row.alive.extend(row.values.iter().map(|y| counts(*y)));
            } else {
                let lanes = row.values.iter().zip(&row.bases);
                row.alive.extend(lanes.map(|(y, b)| counts(y.min(*b))));
            }
            let dead = row
                .alive
                .iter()
                .fold(false, |dead, alive| dead | (*alive == 0.0));
            row.is_full = !dead && row.alive.len() == self.rows.len;
            visit(&row);
        }
    }

    /// Lanes of a full row.
    #[expect(clippy::cast_precision_loss, reason = "rows are short against 2^24")]
    fn width(&self) -> f32 {
        self.rows.len as f32
    }
}

#[expect(clippy::cast_precision_loss, reason = "24 bits are exact")]
#[inline(always)]
fn load<W: Word>(bytes: &[u8], out: &mut Vec<f32>) {
    out.clear();
    let number = |x: &[u8]| W::load(x).rotate_left(1).top_24() as f32;
    out.extend(bytes.chunks_exact(W::BYTES).map(number));
}

/// Means of the rows, and of the columns as differences from the mean of all.
struct Means {
    rows: Vec<f32>,
    columns: Vec<f32>,
}

impl Means {
    /// Of sums and of how many were added.
    fn new(sums: &Sums, counts: &Sums) -> Option<Self> {
        let (total, count): (f32, f32) = (sums.rows.iter().sum(), counts.rows.iter().sum());
        if count == 0.0 {
            return None;
        }
        let all = total / count;
        let means = |sums: &[f32], counts: &[f32], less: f32| {
            let mean = |(sum, count): (&f32, &f32)| match *count {
                0.0 => all - less,
                count => sum / count - less,
            };
            sums.iter().zip(counts).map(mean).collect()
        };
        Some(Self {
            rows: means(&sums.rows, &counts.rows, 0.0),
            columns: means(&sums.columns, &counts.columns, all),
        })
    }

    /// What is left of a row's values.
    #[inline(always)]
    fn rest(&self, row: &Row, values: &[f32], out: &mut Vec<f32>) {
        let level = self.rows.get(row.index).copied().unwrap_or_default();
        let columns = self.columns.get(row.column..).unwrap_or_default();
        let lanes = values.iter().zip(columns).zip(&row.alive);
        out.clear();
        out.extend(lanes.map(|((y, column), alive)| (y - level - column) * alive));
    }
}

/// A number for each row and for each column.
struct Sums {
    rows: Vec<f32>,
    columns: Vec<f32>,
}

impl Sums {
    /// Zeros for the rows and columns of a table.
    fn new(rows: usize, columns: usize) -> Self {
        Self {
            rows: vec![0.0; rows],
            columns: vec![0.0; columns],
        }
    }

    /// Adds the values of a row that count.
    #[inline(always)]
    fn add(&mut self, row: &Row, values: &[f32]) {
        let columns = self.columns.get_mut(row.column..).unwrap_or_default();
        for (sum, (y, alive)) in columns.iter_mut().zip(values.iter().zip(&row.alive)) {
            *sum += y * alive;
        }
        if let Some(sum) = self.rows.get_mut(row.index) {
            *sum = dot(values, &row.alive);
        }
    }
}

/// Means of values and of base values.
#[inline(always)]
fn means<W: Word>(table: Table<'_>) -> Option<(Means, Option<Means>)> {
    let rows = table.rows.count(table.raw.len() / W::BYTES);
    let sums = || Sums::new(rows, table.rows.len);
    let (mut of_values, mut of_bases, mut counts) = (sums(), sums(), sums());
    // Rows of which everything counts are the most by far, and counted at the end.
    let mut full_rows = 0.0;
    table.each_row::<W>(
        1,
        #[inline(always)]
        |row| {
            of_values.add(row, &row.values);
            if !row.bases.is_empty() {
                of_bases.add(row, &row.bases);
            }
            if row.is_full {
                full_rows += 1.0;
                if let Some(count) = counts.rows.get_mut(row.index) {
                    *count = table.width();
                }
            } else {
                counts.add(row, &row.alive);
            }
        },
    );
    counts.columns.iter_mut().for_each(|n| *n += full_rows);
    let values = Means::new(&of_values, &counts)?;
    let bases = Means::new(&of_bases, &counts).filter(|_| !table.base.is_empty());
    Some((values, bases))
}

/// The sum of products, in several sums at once as vector units want it.
#[inline(always)]
fn dot(a: &[f32], b: &[f32]) -> f32 {
    const AT_ONCE: usize = 16;
    let mut sums = [0.0; AT_ONCE];
    let mut add = |a: &[f32], b: &[f32]| {
        for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += a * b;
        }
    };
    // Blocks of a length that the compiler knows, then what is left.
    let len = a.len().min(b.len());
    let (blocks_a, rest_a) = a.split_at(len).0.as_chunks::<AT_ONCE>();
    let (blocks_b, rest_b) = b.split_at(len).0.as_chunks::<AT_ONCE>();
    blocks_a.iter().zip(blocks_b).for_each(|(a, b)| add(a, b));
    add(rest_a, rest_b);
    sums.iter().sum()
}

/// Learns a grid for `raw`, with the base's share of it if there is one; `None` where the chunk
/// is no table worth it.
pub(crate) fn learn<W: Word>(raw: &[u8], base: &[u8], rows: Rows) -> Option<Fit> {
    simd::widest(
        #[inline(always)]
        || learn_inline::<W>(raw, base, rows),
    )
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "guesses in floating point become integers once, here"
)]
#[inline(always)]
fn learn_inline<W: Word>(raw: &[u8], base: &[u8], rows: Rows) -> Option<Fit> {
    let lanes = raw.len() / W::BYTES;
    let count = rows.count(lanes);
    let too_small = count < ROWS_MIN || rows.len < COLUMNS_MIN;
    if too_small || (count + rows.len) * LANES_PER_TERM > lanes || W::BYTES == 1 {
        return None;
    }
    let table = Table { rows, raw, base };
    let (mut means, base_means) = means::<W>(table)?;
    let stride = if count < 8 * SPREAD_STRIDE {
        1
    } else {
        SPREAD_STRIDE
    };
    let mut weight = 0;
    if let Some(of_base) = base_means {
        let share = base_share::<W>(table, stride, &means, &of_base);
        weight = (share * WEIGHT_ONE) as u16;
        let share = f32::from(weight) / WEIGHT_ONE;
        let less = |all: &mut [f32], of_base: &[f32]| {
            all.iter_mut()
                .zip(of_base)
                .for_each(|(y, b)| *y -= share * b);
        };
        less(&mut means.rows, &of_base.rows);
        less(&mut means.columns, &of_base.columns);
    }
    let spread = spread::<W>(table, stride, &means, f32::from(weight) / WEIGHT_ONE);
    let bits = 8 * W::BYTES as i32;
    let below = |share: f32| share.max(1.0).log2() as i32;
    let unit_24 = below(spread * UNIT_SHARE);
    let unit = (unit_24 + bits - 24).clamp(0, bits - 1);
    let turn =
        below(2f32.powi(24) / (spread.max(1.0) * RANGE_SPREADS)).clamp(0, i32::from(TURN_MAX));
    let level = means.rows.iter().sum::<f32>() / count as f32;
    let step = 2f32.powi(unit + 24 - bits);
    let term = |mean: f32| (mean / step).round().clamp(-127.0, 127.0) as i8;
    let rows_terms = means.rows.iter().map(|m| term(m - level).cast_unsigned());
    let columns_terms = means.columns.iter().map(|m| term(*m).cast_unsigned());
    let level = (level.round() as i64).cast_unsigned();
    let grid = Grid {
        rows,
        level: if bits >= 24 {
            level << (bits - 24)
        } else {
            level >> (24 - bits)
        },
        weight,
        unit: unit as u8,
        turn: turn as u8,
    };
    Some(centred::<W>(
        grid,
        rows_terms.chain(columns_terms).collect(),
        raw,
        base,
    ))
}

/// The share of the base that explains most of what rows and columns leave (least squares).
#[inline(always)]
fn base_share<W: Word>(table: Table<'_>, stride: usize, values: &Means, bases: &Means) -> f32 {
    let (mut product, mut square) = (0.0, 0.0);
    let (mut of_values, mut of_bases) = (Vec::new(), Vec::new());
    table.each_row::<W>(
        stride,
        #[inline(always)]
        |row| {
            values.rest(row, &row.values, &mut of_values);
            bases.rest(row, &row.bases, &mut of_bases);
            product += dot(&of_values, &of_bases);
            square += dot(&of_bases, &of_bases);
        },
    );
    if square > 0.0 {
        (product / square).clamp(0.0, SHARE_MAX)
    } else {
        0.0
    }
}

/// The mean difference from what rows, columns and base say.
#[inline(always)]
fn spread<W: Word>(table: Table<'_>, stride: usize, means: &Means, share: f32) -> f32 {
    let (mut total, mut count) = (0.0, 0.0);
    let (mut values, mut rest) = (Vec::new(), Vec::new());
    table.each_row::<W>(
        stride,
        #[inline(always)]
        |row| {
            values.clone_from(&row.values);
            values
                .iter_mut()
                .zip(&row.bases)
                .for_each(|(y, b)| *y -= share * b);
            means.rest(row, &values, &mut rest);
            rest.iter_mut().for_each(|y| *y = y.abs());
            total += dot(&rest, &row.alive);
            count += dot(&row.alive, &row.alive);
        },
    );
    if count > 0.0 { total / count } else { 0.0 }
}

/// Puts the predictions where the top byte of most differences holds them, judged from a
/// sample, and tells what it takes.
#[inline(always)]
fn centred<W: Word>(grid: Grid, terms: Vec<u8>, raw: &[u8], base: &[u8]) -> Fit {
    let lanes = raw.len() / W::BYTES;
    let plain = Grid { turn: 0, ..grid };
    let levels = Levels::<W>::new(plain, &terms, lanes);
    let mut words = Vec::new();
    for run in histogram::sample_runs(lanes) {
        let bytes = run.start * W::BYTES..run.end * W::BYTES;
        let at = words.len();
        words.resize(at + run.len(), W::ZERO);
        let (_, out) = words.split_at_mut(at);
        let base = base.get(bytes.clone()).unwrap_or_default();
        levels.differences(run.start, raw.get(bytes).unwrap_or_default(), base, out);
    }
    // A turn of nothing covers all words: half of them is as far as one can go.
    let half = 1u64 << (8 * W::BYTES - 1 - usize::from(grid.turn));
    let term_bits = {
        let sample = histogram::sample_lanes(1, &terms);
        choose::stream_bits(&Histogram::of(&sample)) * terms.len() as f32 / lanes as f32
    };
    let fits = CENTRES.map(|centre| {
        let ahead = W::from_u64(half / 2 * centre);
        let turned: Vec<W> = words
            .iter()
            .map(|u| u.add(ahead).rotate_left(grid.turn.into()))
            .collect();
        let mut low: Vec<u8> = turned.iter().map(|u| u.byte(0)).collect();
        let mut overflow = vec![0; low.len()];
        grid.part(&mut low, &mut overflow);
        let parted = [Histogram::of(&low), Histogram::of(&overflow)];
        let planes = histogram::planes_of_words(&turned);
        let planes = parted.iter().chain(planes.iter().skip(1));
        let bits: f32 = planes.map(choose::stream_bits).sum();
        (
            W::from_u64(grid.level).sub(ahead).to_u64(),
            bits + term_bits,
        )
    });
    let [first, second] = fits;
    let (level, bits) = if second.1 < first.1 { second } else { first };
    Fit {
        grid: Grid { level, ..grid },
        terms,
        bits,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::transform::Transform;
    use crate::codec::{Form, Layout, Method, Workspace, decode, encode};
    use crate::dtype::Lane;
    use crate::format::store_file::Level;

    const ROWS: Rows = Rows {
        len: 100,
        column: 30,
    };

    /// A product of a factor for each row and one for each column, with luck between 1 and 2.
    fn table(lanes: usize, seed: u64) -> Vec<f32> {
        let share = |n: usize, salt: u64| {
            let mixed = (n as u64 ^ salt << 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let mixed = (mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            f32::from((mixed >> 48) as u16) / 65_536.0
        };
        let cell = |at: usize| {
            let (row, column) = ((ROWS.column + at) / ROWS.len, (ROWS.column + at) % ROWS.len);
            let factors = (10.0 * share(row, 1)).exp2() * (10.0 * share(column, 2)).exp2();
            factors * (1.0 + share(at, seed))
        };
        (0..lanes).map(cell).collect()
    }

    fn bytes(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|v| v.to_le_bytes()).collect()
    }

    fn record_of(raw: &[u8], base: Option<&[u8]>, layout: Layout) -> Vec<u8> {
        let form = Form {
            lane: Lane {
                width: 4,
                float: true,
            },
            rows: Some(ROWS),
        };
        let method = Method {
            transform: Transform::Rotate,
            layout,
        };
        let (mut workspace, mut record) = (Workspace::default(), Vec::new());
        let level = Level::Fast;
        encode(raw, base, form, method, level, &mut workspace, &mut record).unwrap();
        let mut out = vec![0x55; raw.len()];
        let inputs: Vec<&[u8]> = base.into_iter().collect();
        decode(&record, &inputs, &mut out, &mut workspace).unwrap();
        assert_eq!(out, raw);
        record
    }

    #[test]
    fn factors_of_rows_and_columns_are_found() {
        let raw = bytes(&table(20_000, 3));
        let planes = record_of(&raw, None, Layout::Planes).len();
        let grid = record_of(&raw, None, Layout::Grid).len();
        // The factors spread over 20 octaves, luck over one: about 3.5 bits a value.
        assert!(planes - grid > 20_000 * 2 / 8, "{grid} against {planes}");
    }

    #[test]
    fn a_share_of_the_base_is_found() {
        let (old, new) = (table(20_000, 3), table(20_000, 4));
        let near: Vec<f32> = old
            .iter()
            .zip(&new)
            .map(|(o, n)| 0.9 * o + 0.1 * n)
            .collect();
        let (raw, base) = (bytes(&near), bytes(&old));
        let grid = record_of(&raw, None, Layout::Grid).len();
        let delta = record_of(&raw, Some(&base), Layout::GridDelta).len();
        assert!(grid - delta > 20_000 / 8, "{delta} against {grid}");
    }

    #[test]
    fn what_is_no_table_is_left_alone() {
        let raw = bytes(&table(20_000, 3));
        for (len, column) in [(1, 0), (7, 3), (19_000, 0), (20_000, 0), (1 << 30, 5)] {
            assert!(
                learn::<u32>(&raw, &[], Rows { len, column }).is_none(),
                "{len}"
            );
        }
        let nothing = vec![0; 80_000];
        assert!(learn::<u32>(&nothing, &[], ROWS).is_none());
        assert!(learn::<u8>(&raw, &[], ROWS).is_none());
    }
}
