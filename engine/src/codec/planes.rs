//! Byte planes (format-spec.md section 10.4): byte `i` of every residual word, plane by plane.
//!
//! Both directions work in blocks that stay in the first-level cache.

use crate::codec::residual::{self, BLOCK, block_of};
use crate::codec::simd;
use crate::codec::transform::Transform;
use crate::codec::word::Word;

/// Splits the residuals of `raw` into `W::BYTES` planes, laid one after the other in `planes`.
pub(crate) fn split<W: Word>(transform: Transform, raw: &[u8], base: &[u8], planes: &mut [u8]) {
    simd::widest(
        #[inline(always)]
        || split_blocks::<W>(transform, raw, base, planes),
    );
}

#[inline(always)]
fn split_blocks<W: Word>(transform: Transform, raw: &[u8], base: &[u8], planes: &mut [u8]) {
    let lanes = raw.len() / W::BYTES;
    let mut words = [W::ZERO; BLOCK];
    let mut done = 0;
    for block in raw.chunks(BLOCK * W::BYTES) {
        let count = block.len() / W::BYTES;
        let base_block = block_of(base, done * W::BYTES, block.len());
        let (words, _) = words.split_at_mut(count);
        residual::residuals_inline(transform, block, base_block, words);
        scatter(words, done, lanes, planes);
        done += count;
    }
}

/// Puts the bytes of words `start..start + words.len()` into planes of `lanes` bytes each.
#[inline(always)]
pub(super) fn scatter<W: Word>(words: &[W], start: usize, lanes: usize, planes: &mut [u8]) {
    for (index, plane) in planes.chunks_exact_mut(lanes).enumerate() {
        let (_, plane) = plane.split_at_mut(start);
        for (byte, word) in plane.iter_mut().zip(words) {
            *byte = word.byte(index);
        }
    }
}

/// Puts planes together again and undoes the transform, into `out`.
pub(crate) fn merge<W: Word>(transform: Transform, planes: &[&[u8]], base: &[u8], out: &mut [u8]) {
    simd::widest(
        #[inline(always)]
        || merge_blocks::<W>(transform, planes, base, out),
    );
}

#[inline(always)]
fn merge_blocks<W: Word>(transform: Transform, planes: &[&[u8]], base: &[u8], out: &mut [u8]) {
    let mut words = [W::ZERO; BLOCK];
    let mut done = 0;
    for block in out.chunks_mut(BLOCK * W::BYTES) {
        let base_block = block_of(base, done * W::BYTES, block.len());
        let (words, _) = words.split_at_mut(block.len() / W::BYTES);
        gather(planes, done, words);
        residual::lanes_inline(transform, words, base_block, block);
        done += words.len();
    }
}

/// Words `start..start + words.len()` from their planes.
#[inline(always)]
pub(super) fn gather<W: Word>(planes: &[&[u8]], start: usize, words: &mut [W]) {
    words.fill(W::ZERO);
    for (index, plane) in planes.iter().enumerate() {
        let plane = plane.get(start..).unwrap_or_default();
        for (word, byte) in words.iter_mut().zip(plane) {
            *word = word.with_byte(index, *byte);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip<W: Word>(lanes: usize) {
        let bytes = |seed: usize| -> Vec<u8> {
            (0..lanes * W::BYTES)
                .map(|i| u8::try_from((i * 31 + seed * 7 + i / 5) % 256).unwrap())
                .collect()
        };
        let (raw, base) = (bytes(1), bytes(2));
        for transform in Transform::ALL {
            let base = if transform.needs_base() {
                &base[..]
            } else {
                &[]
            };
            let mut planes = vec![0; raw.len()];
            split::<W>(transform, &raw, base, &mut planes);
            let planes: Vec<&[u8]> = planes.chunks_exact(lanes).collect();
            let mut out = vec![0; raw.len()];
            merge::<W>(transform, &planes, base, &mut out);
            assert_eq!(out, raw, "{transform:?}, {lanes} lanes");
        }
    }

    #[test]
    fn merge_undoes_split_around_block_ends() {
        for lanes in [1, 2, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 7] {
            round_trip::<u8>(lanes);
            round_trip::<u16>(lanes);
            round_trip::<u32>(lanes);
            round_trip::<u64>(lanes);
        }
    }
}
