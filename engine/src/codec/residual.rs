//! Whole slices of lanes to residual words and back: the loops that the compiler vectorises.

use crate::codec::simd;
use crate::codec::transform::Transform;
use crate::codec::word::Word;

/// Words per block of the layouts: 8 KiB of 64-bit words stay in the first-level cache.
pub(crate) const BLOCK: usize = 1024;

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
    simd::widest(
        #[inline(always)]
        || residuals_inline(transform, raw, base, out),
    );
}

/// As [`residuals`], as part of another kernel.
#[inline(always)]
pub(crate) fn residuals_inline<W: Word>(
    transform: Transform,
    raw: &[u8],
    base: &[u8],
    out: &mut [W],
) {
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

/// Lanes of residual words, the inverse of [`residuals`].
pub(crate) fn lanes<W: Word>(transform: Transform, words: &[W], base: &[u8], out: &mut [u8]) {
    simd::widest(
        #[inline(always)]
        || lanes_inline(transform, words, base, out),
    );
}

/// As [`lanes`], as part of another kernel.
#[inline(always)]
pub(crate) fn lanes_inline<W: Word>(
    transform: Transform,
    words: &[W],
    base: &[u8],
    out: &mut [u8],
) {
    with_fixed_transform!(transform, FIXED => {
        if FIXED.needs_base() {
            let lanes = out.chunks_exact_mut(W::BYTES).zip(base.chunks_exact(W::BYTES));
            for (word, (x, b)) in words.iter().zip(lanes) {
                FIXED.inverse(*word, W::load(b)).store(x);
            }
        } else {
            for (word, x) in words.iter().zip(out.chunks_exact_mut(W::BYTES)) {
                FIXED.inverse(*word, W::ZERO).store(x);
            }
        }
    });
}

/// The part of `base` that belongs to a block; empty if the transform needs none.
pub(crate) fn block_of(base: &[u8], start: usize, len: usize) -> &[u8] {
    base.get(start..start + len).unwrap_or_default()
}

/// How many lanes differ.
pub(crate) fn changed<W: Word>(a: &[u8], b: &[u8]) -> u64 {
    simd::widest(
        #[inline(always)]
        || {
            let lanes = a.chunks_exact(W::BYTES).zip(b.chunks_exact(W::BYTES));
            let differ = lanes.map(|(a, b)| u64::from(W::load(a) != W::load(b)));
            differ.sum()
        },
    )
}
