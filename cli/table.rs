//! Columns of text, as wide as their widest cell.

use anstyle::Style;

use crate::output::one_line;

const HEAD: Style = Style::new().bold();

/// Where a column's text stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// A table being filled.
#[derive(Debug)]
pub(crate) struct Table {
    heads: Vec<(String, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new<H: Into<String>>(heads: impl IntoIterator<Item = (H, Align)>) -> Self {
        let heads = heads.into_iter().map(|(h, a)| (h.into(), a)).collect();
        Self {
            heads,
            rows: Vec::new(),
        }
    }

    /// Adds a row; cells that are missing at its end are empty.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows
            .push(cells.into_iter().map(|c| one_line(&c)).collect());
    }

    /// The table's lines.
    pub(crate) fn render(&self) -> String {
        let widths = self.widths();
        let mut out = String::new();
        let heads: Vec<&str> = self.heads.iter().map(|(h, _)| h.as_str()).collect();
        let line = self.line(&heads, &widths);
        out.push_str(&format!("{HEAD}{line}{HEAD:#}\n"));
        for row in &self.rows {
            let cells: Vec<&str> = row.iter().map(String::as_str).collect();
            out.push_str(&self.line(&cells, &widths));
            out.push('\n');
        }
        out
    }

    fn widths(&self) -> Vec<usize> {
        let widest = |(column, (head, _)): (usize, &(String, Align))| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            let lengths = cells.map(|cell| cell.chars().count());
            lengths.max().unwrap_or(0).max(head.chars().count())
        };
        self.heads.iter().enumerate().map(widest).collect()
    }

    fn line(&self, cells: &[&str], widths: &[usize]) -> String {
        let mut line = String::new();
        for (column, ((_, align), width)) in self.heads.iter().zip(widths).enumerate() {
            let cell = cells.get(column).copied().unwrap_or_default();
            let gap = if column == 0 { "" } else { "  " };
            match align {
                Align::Left => line.push_str(&format!("{gap}{cell:<width$}")),
                Align::Right => line.push_str(&format!("{gap}{cell:>width$}")),
            }
        }
        line.truncate(line.trim_end().len());
        line
    }
}

/// A bar of eighths of a block for a share between 0 and 1; any share above 0 shows.
pub(crate) fn bar(share: f64) -> String {
    const BLOCKS: [&str; 9] = [
        "", "\u{258f}", "\u{258e}", "\u{258d}", "\u{258c}", "\u{258b}", "\u{258a}", "\u{2589}",
        "\u{2588}",
    ];
    const CELLS: u32 = 10;
    let share = if share.is_finite() { share } else { 0.0 };
    let eighths = (share.clamp(0.0, 1.0) * f64::from(CELLS * 8)).ceil();
    let eighths = (0..=CELLS * 8)
        .find(|n| f64::from(*n) >= eighths)
        .unwrap_or(0);
    let (full, rest) = ((eighths / 8) as usize, (eighths % 8) as usize);
    "\u{2588}".repeat(full) + BLOCKS.get(rest).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_lines_end_with_text() {
        let mut table = Table::new([("A", Align::Left), ("B", Align::Right), ("C", Align::Left)]);
        table.row(["long".into(), "1".into()]);
        table.row(["x".into(), "10".into(), "y\u{7}".into()]);
        let text = anstream::adapter::strip_str(&table.render()).to_string();
        assert_eq!(text, "A      B  C\nlong   1\nx     10  y\\u{7}\n");
    }

    #[test]
    fn bars_show_every_share_above_nothing() {
        assert_eq!(bar(0.0), "");
        assert_eq!(bar(1e-9), "\u{258f}");
        assert_eq!(bar(1.0).chars().count(), 10);
        assert_eq!(bar(f64::NAN), "");
    }
}
