//! Matrix product on one thread, every sum in one fixed order, so equal inputs
//! give equal bits.
//!
//! Both factors are first copied into panels that the inner loop reads in
//! order (Goto & van de Geijn 2008, "Anatomy of High-Performance Matrix
//! Multiplication"); the copy also takes care of transposed factors.

/// The tile of the result held in registers: with four floats a register,
/// eight of the sixteen that x86-64 always has.
const TILE_ROWS: usize = 4;
const TILE_COLUMNS: usize = 8;

/// A matrix inside a slice: element `(i, j)` lies at `i * row + j * column`.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
    row: usize,
    column: usize,
}

impl<'a> View<'a> {
    /// A row-major matrix.
    pub(super) fn new(data: &'a [f32], rows: usize, columns: usize) -> Self {
        Self::strided(data, rows, columns, columns)
    }

    /// A block of a wider row-major matrix, whose rows lie `row` apart.
    pub(super) fn strided(data: &'a [f32], rows: usize, columns: usize, row: usize) -> Self {
        Self {
            data,
            rows,
            columns,
            row,
            column: 1,
        }
    }

    pub(super) fn transposed(self) -> Self {
        Self {
            data: self.data,
            rows: self.columns,
            columns: self.rows,
            row: self.column,
            column: self.row,
        }
    }

    /// The rows in panels of `WIDTH`: a panel lists, column by column, its
    /// `WIDTH` elements. Rows past the end count as zeros.
    fn panels<const WIDTH: usize>(self) -> Vec<[f32; WIDTH]> {
        let mut panels = vec![[0.0; WIDTH]; self.rows.div_ceil(WIDTH) * self.columns];
        for i in 0..self.rows {
            let panel = &mut panels[i / WIDTH * self.columns..][..self.columns];
            let source = self.data[i * self.row..].iter().step_by(self.column);
            for (group, &element) in panel.iter_mut().zip(source) {
                group[i % WIDTH] = element;
            }
        }
        panels
    }
}

/// Adds `a * b` to the row-major `c`, whose rows lie `c_row` apart.
pub(super) fn add_product(a: View<'_>, b: View<'_>, c: &mut [f32], c_row: usize) {
    let depth = a.columns;
    if depth == 0 {
        return;
    }
    let left = a.panels::<TILE_ROWS>();
    let right = b.transposed().panels::<TILE_COLUMNS>();
    for (j, right) in right.chunks_exact(depth).enumerate() {
        let first_column = j * TILE_COLUMNS;
        let width = TILE_COLUMNS.min(b.columns - first_column);
        for (i, left) in left.chunks_exact(depth).enumerate() {
            let first_row = i * TILE_ROWS;
            let height = TILE_ROWS.min(a.rows - first_row);
            let tile = tile_product(left, right);
            for (r, sums) in tile.iter().enumerate().take(height) {
                let start = (first_row + r) * c_row + first_column;
                for (target, sum) in c[start..start + width].iter_mut().zip(sums) {
                    *target += sum;
                }
            }
        }
    }
}

fn tile_product(
    left: &[[f32; TILE_ROWS]],
    right: &[[f32; TILE_COLUMNS]],
) -> [[f32; TILE_COLUMNS]; TILE_ROWS] {
    let mut tile = [[0.0; TILE_COLUMNS]; TILE_ROWS];
    for (l, r) in left.iter().zip(right) {
        for (sums, l) in tile.iter_mut().zip(l) {
            for (sum, r) in sums.iter_mut().zip(r) {
                *sum += l * r;
            }
        }
    }
    tile
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counting(len: usize) -> Vec<f32> {
        (0..len).map(|i| (i % 11) as f32 - 5.0).collect()
    }

    #[test]
    fn equals_the_definition_for_sizes_off_the_tile() {
        for (m, k, n) in [(1, 1, 1), (4, 3, 8), (5, 7, 9), (6, 2, 17), (3, 0, 4)] {
            let (a, b) = (counting(m * k), counting(k * n));
            let mut c = vec![1.0; m * n];
            add_product(View::new(&a, m, k), View::new(&b, k, n), &mut c, n);
            for i in 0..m {
                for j in 0..n {
                    let sum: f32 = (0..k).map(|p| a[i * k + p] * b[p * n + j]).sum();
                    assert_eq!(c[i * n + j], 1.0 + sum);
                }
            }
        }
    }

    #[test]
    fn transposed_and_strided_factors_are_read_in_place() {
        // The middle two columns of a 3 x 4 matrix, transposed, times itself.
        let wide = counting(12);
        let block = View::strided(&wide[1..], 3, 2, 4);
        let mut c = vec![0.0; 2 * 5];
        add_product(block.transposed(), block, &mut c, 5);
        let dot = |x: usize, y: usize| (0..3).map(|i| wide[i * 4 + x] * wide[i * 4 + y]).sum();
        let expected: [f32; 4] = [dot(1, 1), dot(1, 2), dot(2, 1), dot(2, 2)];
        assert_eq!([c[0], c[1], c[5], c[6]], expected);
        assert_eq!(c[2..5], [0.0; 3]);
    }
}
