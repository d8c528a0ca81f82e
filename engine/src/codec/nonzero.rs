//! Where words are not zero: blocks of them are compared at once, so that each zero costs a bit
//! and not a branch.

use crate::codec::word::Word;

/// Words of a block: one for each bit of a mask.
pub(crate) const BLOCK: usize = 64;

/// Calls `visit` with every word that is not zero and its index, in order.
#[inline(always)]
pub(crate) fn each<W: Word>(words: &[W], mut visit: impl FnMut(usize, W)) {
    let (blocks, rest) = words.as_chunks::<BLOCK>();
    for (block, start) in blocks.iter().zip((0..).step_by(BLOCK)) {
        let mut left = mask(block);
        while left != 0 {
            let at = left.trailing_zeros() as usize;
            left &= left - 1;
            visit(start + at, block[at % BLOCK]);
        }
    }
    let start = blocks.len() * BLOCK;
    for (at, word) in rest.iter().enumerate().filter(|(_, w)| **w != W::ZERO) {
        visit(start + at, *word);
    }
}

/// Calls `visit` with every lane in which two slices differ and what each has there, in order, for
/// as long as it wants more.
#[inline(always)]
pub(crate) fn each_difference<W: Word>(
    a: &[u8],
    b: &[u8],
    mut visit: impl FnMut(usize, W, W) -> bool,
) {
    let len = BLOCK * W::BYTES;
    let blocks = a.chunks(len).zip(b.chunks(len));
    for ((a, b), start) in blocks.zip((0..).step_by(BLOCK)) {
        let lanes = || a.chunks_exact(W::BYTES).zip(b.chunks_exact(W::BYTES));
        let mut flags = [0u8; BLOCK];
        for (flag, (x, y)) in flags.iter_mut().zip(lanes()) {
            *flag = u8::from(W::load(x) != W::load(y));
        }
        let mut left = gather(&flags);
        while left != 0 {
            let at = left.trailing_zeros() as usize;
            left &= left - 1;
            let Some((x, y)) = lanes().nth(at) else {
                return;
            };
            if !visit(start + at, W::load(x), W::load(y)) {
                return;
            }
        }
    }
}

/// A bit for each word that is not zero.
#[inline(always)]
fn mask<W: Word>(block: &[W; BLOCK]) -> u64 {
    let mut flags = [0u8; BLOCK];
    for (flag, word) in flags.iter_mut().zip(block) {
        *flag = u8::from(*word != W::ZERO);
    }
    gather(&flags)
}

/// A bit for each flag.
#[inline(always)]
fn gather(flags: &[u8; BLOCK]) -> u64 {
    let (eights, _) = flags.as_chunks::<8>();
    let mut mask = 0;
    for (flags, shift) in eights.iter().zip((0u32..).step_by(8)) {
        // Each flag reaches the top byte, at its own bit, by one of the factor's bits.
        let gathered = u64::from_le_bytes(*flags).wrapping_mul(0x0102_0408_1020_4080) >> 56;
        mask |= gathered << shift;
    }
    mask
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_that_is_not_zero_is_met_once_and_in_order() {
        let mut bits = 1u64;
        for len in [0, 1, 7, 63, 64, 65, 128, 500] {
            for share in [0, 1, 50, 255] {
                let word = |_| {
                    bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    let [.., value, chance] = bits.to_le_bytes();
                    u16::from(chance < share) * (1 + u16::from(value))
                };
                let words: Vec<u16> = (0..len).map(word).collect();
                let mut found = Vec::new();
                each(&words, |at, word| found.push((at, word)));
                let expected = words.iter().copied().enumerate().filter(|(_, w)| *w != 0);
                assert_eq!(found, expected.collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn every_difference_is_met_once_and_in_order_until_enough() {
        for len in [0usize, 1, 63, 64, 65, 200] {
            let a: Vec<u8> = (0..=255).cycle().take(len * 2).collect();
            let mut b = a.clone();
            let changed: Vec<usize> = (0..len).filter(|lane| lane * lane % 5 == 1).collect();
            changed.iter().for_each(|lane| b[lane * 2 + lane % 2] ^= 1);
            for most in [0, 3, len] {
                let mut found = Vec::new();
                each_difference::<u16>(&a, &b, |lane, x, y| {
                    let at =
                        |bytes: &[u8]| u16::from_le_bytes([bytes[lane * 2], bytes[lane * 2 + 1]]);
                    assert_eq!((x, y), (at(&a), at(&b)));
                    found.push(lane);
                    found.len() < most
                });
                assert_eq!(found, changed[..changed.len().min(most.max(1))]);
            }
        }
    }

    #[test]
    fn each_flag_has_its_own_bit() {
        for at in 0..BLOCK {
            let mut block = [0u32; BLOCK];
            block[at] = 1 << 31;
            assert_eq!(mask(&block), 1 << at);
        }
        assert_eq!(mask(&[1u8; BLOCK]), u64::MAX);
    }
}
