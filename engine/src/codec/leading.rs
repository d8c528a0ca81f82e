//! Leading bits (format-spec.md section 10.4.3): one byte of each residual word is coded, the
//! bits below it are stored as they are.
//!
//! How many bits lie below depends on the base's exponent: a weight moves by about as much
//! whatever its size, so the residual in units of its last place shrinks as it grows. With a
//! shift for each exponent the coded bytes have one distribution, and one Huffman table fits.

use crate::codec::residual::{self, BLOCK, block_of};
use crate::codec::simd;
use crate::codec::transform::Transform;
use crate::codec::word::Word;
use crate::error::{Error, Result};

/// The byte that says that a whole word follows among the escapes.
pub(crate) const ESCAPE: u8 = 255;
/// Bits that the coded byte keeps of a word of mean length: room above for words 16 times as
/// large, bins fine enough that the bits below are even.
const MEAN_BITS: u32 = 4;
/// The shifts are learnt from one word in this many of a large chunk.
const LEARN_STRIDE: usize = 4;
/// A chunk with fewer words is learnt from whole.
const LEARN_ALL_BELOW: usize = 1 << 14;
/// Bytes beyond the low bits that the reader may look at.
const LOOK_AHEAD: usize = 8;

/// For each key (the top byte of the base without its sign), how many bits are stored raw.
pub(crate) struct Shifts([u8; 256]);

impl Shifts {
    /// The largest shift for words of `width` bytes: the coded byte is the top one.
    const fn max(width: usize) -> usize {
        width * 8 - 8
    }

    /// Learns the shifts from residuals and their base.
    pub(crate) fn learn<W: Word>(words: &[W], base: &[u8]) -> Self {
        simd::widest(
            #[inline(always)]
            || Self::learn_inline(words, base),
        )
    }

    #[inline(always)]
    fn learn_inline<W: Word>(words: &[W], base: &[u8]) -> Self {
        let mut totals = [(0u32, 0u32); 256];
        let stride = if words.len() < LEARN_ALL_BELOW {
            1
        } else {
            LEARN_STRIDE
        };
        // The first lane of every group, without the division that skipping one by one takes.
        let groups = words.chunks(stride).zip(base.chunks(stride * W::BYTES));
        let firsts = groups.filter_map(|(w, b)| Some((w.first()?, b.get(..W::BYTES)?)));
        for (word, b) in firsts {
            let (count, length) = &mut totals[usize::from(W::load(b).key())];
            *count += 1;
            *length += word.bit_length();
        }
        let mut shifts = [0; 256];
        let mut last = 0;
        for (shift, (count, length)) in shifts.iter_mut().zip(totals) {
            if let Some(mean) = (length + count / 2).checked_div(count) {
                let wanted = mean.saturating_sub(MEAN_BITS) as usize;
                last = u8::try_from(wanted.min(Self::max(W::BYTES))).unwrap_or(0);
            }
            // A key that does not occur takes its neighbour's shift: a longer run costs nothing.
            *shift = last;
        }
        Self(shifts)
    }

    #[inline(always)]
    pub(crate) fn of(&self, key: u8) -> u32 {
        u32::from(self.0[usize::from(key)])
    }

    /// Runs of keys with the same shift: the first key and the shift of each.
    pub(crate) fn to_params(&self) -> Vec<u8> {
        let mut params = Vec::new();
        let mut last = None;
        for (key, shift) in (0u8..=255).zip(self.0) {
            if last != Some(shift) {
                params.extend([key, shift]);
                last = Some(shift);
            }
        }
        params
    }

    /// Reads the runs; keys ascend from 0 and no shift is too large.
    pub(crate) fn from_params(params: &[u8], width: usize) -> Result<Self> {
        let bad = || Error::corrupt("leading-params", "a record's shifts break their rules");
        let mut shifts = [0; 256];
        let mut previous: Option<u8> = None;
        if !params.len().is_multiple_of(2) || params.first() != Some(&0) {
            return Err(bad());
        }
        for run in params.chunks_exact(2) {
            let [key, shift] = *run else {
                return Err(bad());
            };
            if previous.is_some_and(|p| p >= key) || usize::from(shift) > Self::max(width) {
                return Err(bad());
            }
            previous = Some(key);
            shifts
                .get_mut(usize::from(key)..)
                .unwrap_or_default()
                .fill(shift);
        }
        Ok(Self(shifts))
    }
}

/// The three streams of a chunk.
#[derive(Default)]
pub(crate) struct Streams {
    /// One byte for each word.
    pub(crate) leading: Vec<u8>,
    /// The bits below, packed from the least significant bit up.
    pub(crate) low: Vec<u8>,
    /// Words whose leading bits do not fit a byte.
    pub(crate) escapes: Vec<u8>,
}

/// Splits residual words into streams.
pub(crate) fn split<W: Word>(words: &[W], base: &[u8], shifts: &Shifts, streams: &mut Streams) {
    simd::widest(
        #[inline(always)]
        || split_inline(words, base, shifts, streams),
    );
}

#[inline(always)]
fn split_inline<W: Word>(words: &[W], base: &[u8], shifts: &Shifts, streams: &mut Streams) {
    streams.escapes.clear();
    streams.leading.resize(words.len(), 0);
    streams.low.resize(size_of_val(words) + LOOK_AHEAD, 0);
    let mut packer = Packer::default();
    let lanes = words.chunks(TOGETHER).zip(base.chunks(TOGETHER * W::BYTES));
    for ((words, base), leading) in lanes.zip(streams.leading.chunks_mut(TOGETHER)) {
        let (mut low, mut shift) = ([0u64; TOGETHER], [0u32; TOGETHER]);
        let parts = low.iter_mut().zip(&mut shift).zip(leading.iter_mut());
        let mut escapes = false;
        for ((word, b), ((low, shift), leading)) in
            words.iter().zip(base.chunks_exact(W::BYTES)).zip(parts)
        {
            let bits = word.to_u64();
            let key_shift = shifts.of(W::load(b).key());
            let top = bits >> key_shift;
            let escaped = top >= u64::from(ESCAPE);
            escapes |= escaped;
            *leading = top.min(ESCAPE.into()).to_le_bytes()[0];
            *shift = if escaped { 0 } else { key_shift };
            *low = bits & ((1 << *shift) - 1);
        }
        packer.push_all::<W>(&low, &shift, &mut streams.low);
        if escapes {
            let escaped = words.iter().zip(leading).filter(|(_, top)| **top == ESCAPE);
            for (word, _) in escaped {
                let bytes = word.to_u64().to_le_bytes();
                streams
                    .escapes
                    .extend_from_slice(bytes.split_at(W::BYTES).0);
            }
        }
    }
    streams.low.truncate(packer.len());
}

/// Words that are split before their low bits are packed.
const TOGETHER: usize = 16;

/// Packs low bits from the least significant bit up.
#[derive(Default)]
struct Packer {
    held: u64,
    /// At most 7 between two calls.
    held_bits: u32,
    at: usize,
}

impl Packer {
    /// Packs the low bits of words, as many of each as `shifts` says.
    #[inline(always)]
    fn push_all<W: Word>(
        &mut self,
        low: &[u64; TOGETHER],
        shifts: &[u32; TOGETHER],
        out: &mut [u8],
    ) {
        // A shift is at most 8 * W::BYTES - 8, so those of a pair of short words leave room for
        // what is held: half as many steps wait for each other.
        if W::BYTES == 8 {
            for (low, shift) in low.iter().zip(shifts) {
                self.push(*low, *shift, out);
            }
            return;
        }
        let pairs = low.as_chunks::<2>().0.iter().zip(shifts.as_chunks::<2>().0);
        for ([low_0, low_1], [shift_0, shift_1]) in pairs {
            self.push(low_0 | low_1 << shift_0, shift_0 + shift_1, out);
        }
    }

    /// Packs up to 56 bits.
    #[inline(always)]
    fn push(&mut self, low: u64, bits: u32, out: &mut [u8]) {
        self.held |= low << self.held_bits;
        self.held_bits += bits;
        if let Some(room) = out.get_mut(self.at..self.at + LOOK_AHEAD) {
            room.copy_from_slice(&self.held.to_le_bytes());
        }
        self.at += (self.held_bits / 8) as usize;
        self.held >>= self.held_bits & !7;
        self.held_bits &= 7;
    }

    /// Bytes so far.
    fn len(&self) -> usize {
        self.at + usize::from(self.held_bits > 0)
    }
}

/// The streams of a record, as the decoder sees them; `low` has zeros behind it.
pub(crate) struct StreamsView<'a> {
    pub(crate) leading: &'a [u8],
    pub(crate) low: &'a [u8],
    /// Bytes of `low` without the zeros.
    pub(crate) low_len: usize,
    pub(crate) escapes: &'a [u8],
}

/// Zeros that must follow the low bits.
pub(crate) const fn look_ahead() -> usize {
    LOOK_AHEAD
}

/// Puts residual words together again and undoes the transform, into `out`.
pub(crate) fn merge<W: Word>(
    transform: Transform,
    streams: &StreamsView<'_>,
    base: &[u8],
    shifts: &Shifts,
    out: &mut [u8],
) -> Result<()> {
    simd::widest(
        #[inline(always)]
        || merge_inline::<W>(transform, streams, base, shifts, out),
    )
}

#[inline(always)]
fn merge_inline<W: Word>(
    transform: Transform,
    streams: &StreamsView<'_>,
    base: &[u8],
    shifts: &Shifts,
    out: &mut [u8],
) -> Result<()> {
    let mut unpacker = Unpacker {
        low: streams.low,
        bit: 0,
        escapes: streams.escapes,
    };
    let mut words = [W::ZERO; BLOCK];
    let mut done = 0;
    for block in out.chunks_mut(BLOCK * W::BYTES) {
        let base_block = block_of(base, done * W::BYTES, block.len());
        let (words, _) = words.split_at_mut(block.len() / W::BYTES);
        let leading = block_of(streams.leading, done, words.len());
        unpacker
            .fill(leading, base_block, shifts, words)
            .ok_or_else(overrun)?;
        residual::lanes_inline(transform, words, base_block, block);
        done += words.len();
    }
    let all_read = unpacker.bit.div_ceil(8) == streams.low_len && unpacker.escapes.is_empty();
    if all_read { Ok(()) } else { Err(overrun()) }
}

/// Reads words from low bits and escapes, forward.
struct Unpacker<'a> {
    low: &'a [u8],
    bit: usize,
    escapes: &'a [u8],
}

impl Unpacker<'_> {
    /// The next words; `None` if a stream ends early.
    #[inline(always)]
    fn fill<W: Word>(
        &mut self,
        leading: &[u8],
        base: &[u8],
        shifts: &Shifts,
        words: &mut [W],
    ) -> Option<()> {
        let mut bit = self.bit;
        let lanes = leading.iter().zip(base.chunks_exact(W::BYTES));
        for (word, (leading, b)) in words.iter_mut().zip(lanes) {
            if *leading == ESCAPE {
                let (escape, rest) = self.escapes.split_at_checked(W::BYTES)?;
                self.escapes = rest;
                *word = W::load(escape);
                continue;
            }
            let shift = shifts.of(W::load(b).key());
            let window = self.low.get(bit / 8..)?.first_chunk::<LOOK_AHEAD>()?;
            let low = (u64::from_le_bytes(*window) >> (bit % 8)) & ((1 << shift) - 1);
            bit += shift as usize;
            *word = W::from_u64(u64::from(*leading) << shift | low);
        }
        self.bit = bit;
        Some(())
    }
}

fn overrun() -> Error {
    Error::corrupt(
        "leading-streams",
        "a record's low bits or escapes do not fit its leading bytes",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip<W: Word>(words: &[W], base: &[u8]) -> Streams {
        let shifts = Shifts::learn(words, base);
        let shifts = Shifts::from_params(&shifts.to_params(), W::BYTES).unwrap();
        let mut streams = Streams::default();
        split(words, base, &shifts, &mut streams);
        let mut low = streams.low.clone();
        low.resize(low.len() + LOOK_AHEAD, 0);
        let view = StreamsView {
            leading: &streams.leading,
            low: &low,
            low_len: streams.low.len(),
            escapes: &streams.escapes,
        };
        let mut out = vec![0; base.len()];
        merge::<W>(Transform::Identity, &view, base, &shifts, &mut out).unwrap();
        let found: Vec<W> = out.chunks_exact(W::BYTES).map(W::load).collect();
        assert!(found == words);
        streams
    }

    fn noise(seed: u64) -> impl Iterator<Item = u64> {
        (0u64..).map(move |i| {
            (i ^ seed)
                .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                .rotate_left(31)
                .wrapping_mul(0xd6e8_feb8_6659_fd93)
        })
    }

    #[test]
    fn words_of_every_length_round_trip() {
        for lanes in [1usize, 2, 7, 64, 1000] {
            let base: Vec<u8> = noise(1).take(lanes).flat_map(u64::to_le_bytes).collect();
            for bits in 0..=64u32 {
                let cut = |w: u64| if bits == 0 { 0 } else { w >> (64 - bits) };
                let words: Vec<u64> = noise(2).take(lanes).map(cut).collect();
                round_trip(&words, &base);
                let words: Vec<u32> = words.iter().map(|w| u32::from_u64(*w)).collect();
                round_trip(&words, base.split_at(lanes * 4).0);
                let words: Vec<u16> = words.iter().map(|w| u16::from_u64(u64::from(*w))).collect();
                round_trip(&words, base.split_at(lanes * 2).0);
            }
        }
    }

    /// Residuals that are large where the base is small must give one narrow distribution.
    #[test]
    fn the_shift_follows_the_exponent() {
        let exponents = noise(3).map(|w| 100 + w % 12);
        let (mut words, mut base) = (Vec::new(), Vec::new());
        for (exponent, w) in exponents.zip(noise(4)).take(50_000) {
            base.extend((u32::from_u64(exponent) << 23).to_le_bytes());
            words.push(u32::from_u64((w >> 44) << 8 >> (exponent - 100)));
        }
        let streams = round_trip(&words, &base);
        assert!(streams.escapes.len() < 50_000 / 20);
        let top = streams.leading.iter().filter(|s| **s >= 128).count();
        assert!(top < 50_000 / 10, "{top}");
    }

    #[test]
    fn hostile_params_and_streams_are_refused() {
        for params in [
            &[][..],
            &[0],
            &[1, 3],
            &[0, 25],
            &[0, 1, 0, 2],
            &[0, 1, 5, 2, 4, 2],
        ] {
            assert!(Shifts::from_params(params, 4).is_err(), "{params:?}");
        }
        let shifts = Shifts::from_params(&[0, 20], 4).unwrap();
        let base = [0; 8];
        let view = |low_len, escapes| StreamsView {
            leading: &[3, ESCAPE],
            low: &[0; 11],
            low_len,
            escapes,
        };
        let decode = |view| merge::<u32>(Transform::Xor, &view, &base, &shifts, &mut [0; 8]);
        assert!(decode(view(3, &[1, 2, 3, 4])).is_ok());
        assert!(
            decode(view(4, &[1, 2, 3, 4])).is_err(),
            "low bits left over"
        );
        assert!(decode(view(3, &[])).is_err(), "escape missing");
        assert!(decode(view(3, &[0; 8])).is_err(), "escape left over");
        assert!(decode(view(3, &[0; 5])).is_err(), "half an escape");
    }
}
