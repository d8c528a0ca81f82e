//! Byte planes (format-spec.md section 10.4): byte `i` of every residual word, plane by plane.
//!
//! Both directions work in blocks that stay in the first-level cache; the compiler vectorises
//! the inner loops, whose transform is fixed before they start.

use crate::codec::transform::Transform;
use crate::codec::word::Word;

/// Words per block: 8 KiB of 64-bit words.
const BLOCK: usize = 1024;

/// Calls `$body` with the transform as a compile-time constant in each arm.
macro_rules! with_fixed_transform {
    ($transform:expr, $fixed:ident => $body:expr) => {
        match $transform {
            Transform::Identity => {
                const $fixed: Transform = Transform::Identity;
                $body
            }
            Transform::Rotate => {
                const $fixed: Transform = Transform::Rotate;
                $body
            }
            Transform::FloatSubtract => {
                const $fixed: Transform = Transform::FloatSubtract;
                $body
            }
            Transform::IntSubtract => {
                const $fixed: Transform = Transform::IntSubtract;
                $body
            }
            Transform::Xor => {
                const $fixed: Transform = Transform::Xor;
                $body
            }
            Transform::RotatedXor => {
                const $fixed: Transform = Transform::RotatedXor;
                $body
            }
        }
    };
}

/// Residual words of `raw` against `base`; `base` may be empty if the transform needs none.
pub(crate) fn residuals<W: Word>(transform: Transform, raw: &[u8], base: &[u8], out: &mut [W]) {
    with_fixed_transform!(transform, FIXED => {
        if FIXED.needs_base() {
            let lanes = raw.chunks_exact(W::BYTES).zip(base.chunks_exact(W::BYTES));
            for (u, (x, b)) in out.iter_mut().zip(lanes) {
                *u = FIXED.forward(W::load(x), W::load(b));
            }
        } else {
            for (u, x) in out.iter_mut().zip(raw.chunks_exact(W::BYTES)) {
                *u = FIXED.forward(W::load(x), W::ZERO);
            }
        }
    });
}

/// How many lanes differ.
pub(crate) fn changed<W: Word>(a: &[u8], b: &[u8]) -> u64 {
    let lanes = a.chunks_exact(W::BYTES).zip(b.chunks_exact(W::BYTES));
    lanes
        .map(|(a, b)| u64::from(W::load(a) != W::load(b)))
        .sum()
}

/// Splits the residuals of `raw` into `W::BYTES` planes, laid one after the other in `planes`.
pub(crate) fn split<W: Word>(transform: Transform, raw: &[u8], base: &[u8], planes: &mut [u8]) {
    let lanes = raw.len() / W::BYTES;
    let mut words = [W::ZERO; BLOCK];
    let mut done = 0;
    for block in raw.chunks(BLOCK * W::BYTES) {
        let count = block.len() / W::BYTES;
        let base_block = base
            .get(done * W::BYTES..done * W::BYTES + block.len())
            .unwrap_or_default();
        let (words, _) = words.split_at_mut(count);
        residuals(transform, block, base_block, words);
        for (index, plane) in planes.chunks_exact_mut(lanes).enumerate() {
            let (_, plane) = plane.split_at_mut(done);
            for (byte, word) in plane.iter_mut().zip(words.iter()) {
                *byte = word.byte(index);
            }
        }
        done += count;
    }
}

/// Puts planes together again and undoes the transform, into `out`.
pub(crate) fn merge<W: Word>(transform: Transform, planes: &[&[u8]], base: &[u8], out: &mut [u8]) {
    let mut words = [W::ZERO; BLOCK];
    let mut done = 0;
    for block in out.chunks_mut(BLOCK * W::BYTES) {
        let count = block.len() / W::BYTES;
        let base_block = base
            .get(done * W::BYTES..done * W::BYTES + block.len())
            .unwrap_or_default();
        let (words, _) = words.split_at_mut(count);
        gather(planes, done, words);
        with_fixed_transform!(transform, FIXED => {
            if FIXED.needs_base() {
                let lanes = block.chunks_exact_mut(W::BYTES).zip(base_block.chunks_exact(W::BYTES));
                for (word, (x, b)) in words.iter().zip(lanes) {
                    FIXED.inverse(*word, W::load(b)).store(x);
                }
            } else {
                for (word, x) in words.iter().zip(block.chunks_exact_mut(W::BYTES)) {
                    FIXED.inverse(*word, W::ZERO).store(x);
                }
            }
        });
        done += count;
    }
}

/// Words `start..start + words.len()` from their planes.
fn gather<W: Word>(planes: &[&[u8]], start: usize, words: &mut [W]) {
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
