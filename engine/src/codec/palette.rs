//! Palette (format-spec.md section 10.4.7): the few values that a chunk has, and for each lane
//! which of them it is.

use crate::codec::choose;
use crate::codec::histogram::{self, Histogram};
use crate::codec::word::{Word, with_word};
use crate::error::{Error, Result};

/// Most values of a palette.
pub(crate) const ENTRIES_MAX: usize = 256;
/// Of lanes of one byte, more values than this are no fewer bits than the bytes themselves.
const BYTES_MAX: usize = 16;
/// Lanes that are looked at before all are.
const GLANCE: usize = 1024;
/// Slots of the table in which values are looked up: at least twice as many as values.
const SLOTS: usize = GLANCE;

/// Bits of an index into so many entries: a divisor of 8.
pub(crate) const fn index_bits(entries: usize) -> usize {
    match entries {
        0..=2 => 1,
        3..=4 => 2,
        5..=16 => 4,
        _ => 8,
    }
}

/// Bytes of the packed indices of so many lanes.
pub(crate) const fn packed_len(lanes: usize, entries: usize) -> usize {
    lanes.div_ceil(8 / index_bits(entries))
}

/// The distinct values among lanes, up to a number of them.
struct Values<W> {
    slots: Vec<Option<(W, u8)>>,
    found: Vec<W>,
}

impl<W: Word> Values<W> {
    fn new() -> Self {
        Self {
            slots: vec![None; SLOTS],
            found: Vec::new(),
        }
    }

    /// Where a value is, or would be.
    #[inline(always)]
    fn slot(&self, word: W) -> usize {
        let hash = word.to_u64().wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut at = (hash >> 54) as usize % SLOTS;
        while self.slots[at].is_some_and(|(held, _)| held != word) {
            at = (at + 1) % SLOTS;
        }
        at
    }

    /// Adds values until there are more than `most`: then `false`.
    fn add(&mut self, lanes: &[u8], most: usize) -> bool {
        for lane in lanes.chunks_exact(W::BYTES) {
            let word = W::load(lane);
            let slot = self.slot(word);
            if self.slots[slot].is_some() {
                continue;
            }
            if self.found.len() == most {
                return false;
            }
            self.slots[slot] = Some((word, 0));
            self.found.push(word);
        }
        true
    }

    /// A table from each value to its index among these.
    fn of(entries: &[W]) -> Self {
        let mut values = Self::new();
        for (word, index) in entries.iter().zip(0u8..=u8::MAX) {
            let slot = values.slot(*word);
            values.slots[slot] = Some((*word, index));
        }
        values
    }
}

/// Whether some lanes in the middle have at most half as many values as there are lanes: then
/// matches may pay, also of floats.
pub(crate) fn repeats(width: usize, raw: &[u8]) -> bool {
    fn few<W: Word>(raw: &[u8]) -> bool {
        let lanes = raw.len() / W::BYTES;
        let run = lanes.min(GLANCE);
        let start = (lanes - run) / 2;
        let range = start * W::BYTES..(start + run) * W::BYTES;
        Values::<W>::new().add(raw.get(range).unwrap_or_default(), run / 2)
    }
    with_word!(width, W => few::<W>(raw))
}

/// The values of a chunk, and what coding it by them takes.
#[derive(Clone, Debug)]
pub(crate) struct PaletteFit {
    /// Ascending.
    pub(crate) entries: Vec<u64>,
    /// Estimated bits per lane.
    pub(crate) bits: f32,
}

/// The palette of a chunk; `None` if it has too many values.
#[expect(
    clippy::cast_precision_loss,
    reason = "lanes of a chunk are far below 2^24"
)]
pub(crate) fn learn<W: Word>(raw: &[u8]) -> Option<PaletteFit> {
    let most = if W::BYTES == 1 {
        BYTES_MAX
    } else {
        ENTRIES_MAX
    };
    let lanes = raw.len() / W::BYTES;
    let glance = raw.get(..lanes.min(GLANCE) * W::BYTES)?;
    let mut values = Values::<W>::new();
    if !values.add(glance, most) || !values.add(raw, most) {
        return None;
    }
    let mut entries: Vec<u64> = values.found.iter().map(|word| word.to_u64()).collect();
    entries.sort_unstable();
    let sample = histogram::sample_lanes(W::BYTES, raw);
    let packed = pack::<W>(&sample, &entries)?;
    let of_byte = choose::stream_bits(&Histogram::of(&histogram::sample_lanes(1, &packed)));
    let indices = of_byte * packed_len(lanes, entries.len()) as f32;
    let palette = (entries.len() * W::BYTES * 8) as f32;
    Some(PaletteFit {
        bits: (indices + palette) / lanes.max(1) as f32,
        entries,
    })
}

/// The index of each lane, the first in the low bits of a byte; `None` if a lane has another value.
pub(crate) fn pack<W: Word>(raw: &[u8], entries: &[u64]) -> Option<Vec<u8>> {
    let words: Vec<W> = entries.iter().map(|entry| W::from_u64(*entry)).collect();
    let values = Values::of(&words);
    let bits = index_bits(entries.len());
    let index = |lane: &[u8]| {
        let held = values.slots[values.slot(W::load(lane))];
        held.map(|(_, index)| index)
    };
    let of_byte = |lanes: &[u8]| {
        let mut byte = 0;
        for (lane, at) in lanes.chunks_exact(W::BYTES).zip((0..8).step_by(bits)) {
            byte |= index(lane)? << at;
        }
        Some(byte)
    };
    raw.chunks(W::BYTES * (8 / bits)).map(of_byte).collect()
}

/// The lanes of packed indices.
pub(crate) fn unpack<W: Word>(packed: &[u8], entries: &[u8], out: &mut [u8]) -> Result<()> {
    let count = entries.len() / W::BYTES;
    let bits = index_bits(count);
    let mask = u8::MAX >> (8 - bits);
    let mut table = [W::ZERO; ENTRIES_MAX];
    for (slot, entry) in table.iter_mut().zip(entries.chunks_exact(W::BYTES)) {
        *slot = W::load(entry);
    }
    let mut largest = 0;
    for (byte, lanes) in packed.iter().zip(out.chunks_mut(W::BYTES * (8 / bits))) {
        for (lane, at) in lanes.chunks_exact_mut(W::BYTES).zip((0..8).step_by(bits)) {
            let index = byte >> at & mask;
            largest = largest.max(index);
            table[usize::from(index)].store(lane);
        }
    }
    if usize::from(largest) >= count {
        return Err(Error::corrupt(
            "palette-index",
            "an index leads behind the end of a record's palette",
        )
        .differs(count, largest));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{self, Layout, Workspace};
    use crate::dtype::Lane;
    use crate::format::store_file::Level;

    #[test]
    fn any_number_of_values_comes_back() {
        for count in [1usize, 2, 3, 4, 5, 16, 17, 255, 256] {
            for lanes in [count, count + 1, 1000] {
                let word = |i: usize| u16::try_from(i % count * 97).unwrap();
                let raw: Vec<u8> = (0..lanes).flat_map(|i| word(i).to_le_bytes()).collect();
                let fit = learn::<u16>(&raw).unwrap();
                assert_eq!(fit.entries.len(), count);
                let packed = pack::<u16>(&raw, &fit.entries).unwrap();
                assert_eq!(packed.len(), packed_len(lanes, count));
                let entries = fit.entries.iter().flat_map(|e| {
                    let [low, high, ..] = e.to_le_bytes();
                    [low, high]
                });
                let entries: Vec<u8> = entries.collect();
                let mut out = vec![0x55; raw.len()];
                unpack::<u16>(&packed, &entries, &mut out).unwrap();
                assert_eq!(out, raw, "{count} values in {lanes} lanes");
                if count.is_power_of_two() {
                    continue;
                }
                let short = &entries[..entries.len() - 2];
                let bits_stay = index_bits(count) == index_bits(count - 1);
                assert!(!bits_stay || unpack::<u16>(&packed, short, &mut out).is_err());
            }
        }
    }

    #[test]
    fn many_values_are_no_palette() {
        let raw: Vec<u8> = (0..257u32).flat_map(u32::to_le_bytes).collect();
        assert!(learn::<u32>(&raw).is_none());
        assert!(learn::<u32>(&raw[4..]).is_some());
        let bytes: Vec<u8> = (0..17).collect();
        assert!(learn::<u8>(&bytes).is_none(), "as good as the bytes");
    }

    #[test]
    fn repeats_are_seen() {
        let noise: Vec<u8> = (0..2000u32).flat_map(|i| (i * i).to_le_bytes()).collect();
        assert!(!repeats(4, &noise));
        let tens: Vec<u8> = (0..2000u32).flat_map(|i| (i / 10).to_le_bytes()).collect();
        assert!(repeats(4, &tens));
        assert!(repeats(4, &[]), "of nothing there is nothing twice");
    }

    /// Floats that stand for five-bit numbers cost no more than these numbers.
    #[test]
    fn scaled_integers_cost_their_entropy() {
        let scaled = |i: u16| (f32::from(i * 7 % 31) - 15.0) * 0.012_3;
        let lanes = (0..65_536u32).map(|i| scaled(u16::try_from(i * i % 997).unwrap()));
        let raw: Vec<u8> = lanes.flat_map(f32::to_le_bytes).collect();
        let lane = Lane {
            width: 4,
            float: true,
        };
        let estimate = codec::estimate_alone(&raw, lane);
        assert_eq!(estimate.method.layout, Layout::Palette);
        let (mut record, mut workspace) = (Vec::new(), Workspace::default());
        codec::encode_alone(&raw, lane, Level::Fast, &mut workspace, &mut record).unwrap();
        assert!(record.len() < 65_536 * 5 / 8 + 500, "{}", record.len());
    }
}
