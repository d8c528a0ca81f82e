//! What decoding a record takes beside reading it (format-spec.md section 12.3).

use crate::codec::{Encoding, Layout};

/// Weights of the restore cost, in 1/256 of reading one raw byte from a disk of 1 GB/s;
/// measured on two cores, see `docs/decisions/0002-restore-cost.md`.
pub mod weight {
    /// Checking and moving one stored byte that is not coded.
    pub const READ: u64 = 256;
    /// Copying one raw byte of a base of which few change.
    pub const PATCH: u64 = 12;
    /// Merging one raw byte from planes and undoing its transform.
    pub const MERGE: u64 = 24;
    /// Putting together one raw byte from leading and low bits and undoing its transform.
    pub const UNPACK: u64 = 48;
    /// Making one byte in a zstd decoder.
    pub const ZSTD: u64 = 64;
}

/// The passes over the raw bytes that a layout takes, in raw bytes read.
#[must_use]
pub fn passes(layout: Layout, is_patch: bool, raw_len: usize) -> u64 {
    let pass = match layout {
        Layout::Whole => 0,
        Layout::Classes | Layout::Sparse if is_patch => weight::PATCH,
        Layout::Planes | Layout::Grid | Layout::GridDelta => weight::MERGE,
        Layout::Leading | Layout::Classes | Layout::Sparse | Layout::Palette => weight::UNPACK,
    };
    (raw_len as u64 * pass).div_ceil(256)
}

/// What a record costs in all, in raw bytes read.
#[must_use]
pub fn of_record(stored_len: usize, raw_len: usize, encoding: Encoding) -> u64 {
    let zstd = encoding.zstd_len as u64 * weight::ZSTD;
    let read = (stored_len as u64 * weight::READ + zstd).div_ceil(256);
    read + passes(encoding.layout, encoding.is_patch, raw_len)
}

/// What a layout must save against the one that was judged best, in thousandths: for less, a
/// restore shall not put up with a slower one, which leaves less of its budget for deltas.
const GAIN_MIN_MILLI: usize = 3;
/// What each byte that a slower layout saves may cost more in every restore, in raw bytes read.
const COST_OF_A_BYTE: u64 = 64;

/// Whether another layout saves enough, also for what it costs more, which is taken from the budget
/// for deltas; each with its stored bytes.
pub(super) fn pays(raw_len: usize, judged: (usize, Encoding), other: (usize, Encoding)) -> bool {
    let cost = |(len, made)| of_record(len, raw_len, made);
    let saved = judged.0.saturating_sub(other.0);
    let is_enough = other.0 <= judged.0 * (1000 - GAIN_MIN_MILLI) / 1000;
    is_enough && cost(other) <= cost(judged) + saved as u64 * COST_OF_A_BYTE
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLANES: Encoding = Encoding {
        uses_base: true,
        zstd_len: 250,
        layout: Layout::Planes,
        is_patch: false,
    };

    #[test]
    fn costs_count_reading_and_passes() {
        let wanted = 1000 + (24_000u64 + 16_000).div_ceil(256);
        assert_eq!(of_record(1000, 1000, PLANES), wanted);
    }

    /// Balanced took more space than fast with little to restore: of short records, layouts that
    /// were a little shorter and twice as slow used up the restore budget.
    #[test]
    fn a_slower_layout_must_save_for_it() {
        let leading = Encoding {
            layout: Layout::Leading,
            ..PLANES
        };
        assert!(!pays(100_000, (4_300, PLANES), (4_200, leading)));
        assert!(pays(100_000, (4_300, PLANES), (3_900, leading)));
        assert!(
            pays(100_000, (4_300, leading), (4_280, PLANES)),
            "a faster one"
        );
    }
}
