//! Loops compiled for the widest vectors that the processor has.
//!
//! A kernel is plain Rust that the compiler vectorises. The build must run everywhere, so it is
//! compiled for the least processor of its architecture; [`widest`] compiles the same source
//! again for better ones and picks one when it runs. All come to the same bits: the compiler
//! neither reorders nor fuses floating-point operations.

/// Calls `kernel`, compiled for the best instructions that this processor has.
///
/// Only what is inlined into the kernel is compiled so: mark it `#[inline(always)]`, the closure
/// too.
#[inline(always)]
pub(crate) fn widest<R>(kernel: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    {
        x86_64::widest(kernel)
    }
    // The least 64-bit Arm has NEON, and there is nothing wider that is common.
    #[cfg(not(target_arch = "x86_64"))]
    {
        kernel()
    }
}

#[cfg(target_arch = "x86_64")]
mod x86_64 {
    /// What the psABI calls x86-64-v4, as far as kernels use it.
    #[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl")]
    #[target_feature(enable = "avx,avx2,bmi1,bmi2,lzcnt,movbe,popcnt")]
    fn at_level_4<R>(kernel: impl FnOnce() -> R) -> R {
        kernel()
    }

    /// What the psABI calls x86-64-v3, as far as kernels use it.
    #[target_feature(enable = "avx,avx2,bmi1,bmi2,lzcnt,movbe,popcnt")]
    fn at_level_3<R>(kernel: impl FnOnce() -> R) -> R {
        kernel()
    }

    /// The psABI's level of this processor.
    pub(super) fn level() -> u8 {
        let has_3 = is_x86_feature_detected!("avx")
            && is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("bmi2")
            && is_x86_feature_detected!("lzcnt")
            && is_x86_feature_detected!("movbe")
            && is_x86_feature_detected!("popcnt");
        let has_4 = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512cd")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl");
        match (has_3, has_4) {
            (true, true) => 4,
            (true, false) => 3,
            (false, _) => 1,
        }
    }

    #[inline(always)]
    pub(super) fn widest<R>(kernel: impl FnOnce() -> R) -> R {
        at(level(), kernel)
    }

    /// The kernel at a level that the processor has.
    #[inline(always)]
    pub(super) fn at<R>(level: u8, kernel: impl FnOnce() -> R) -> R {
        #[expect(unsafe_code, reason = "the one place that calls by what was detected")]
        match level.min(self::level()) {
            // SAFETY: `level` has detected every feature that the function enables.
            4 => unsafe { at_level_4(kernel) },
            // SAFETY: as above; level 4 has all of level 3.
            3 => unsafe { at_level_3(kernel) },
            _ => kernel(),
        }
    }
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::x86_64::{at, level};

    /// A little of what kernels do: integers, floats, a division, a square root, a rotation.
    #[inline(always)]
    fn kernel(lanes: &[u32]) -> (Vec<u32>, u64) {
        let of = |x: &u32| {
            let y = f64::from(f32::from_bits(x & 0x7f7f_ffff));
            let z = (y * 0.999 + 1.0 / (y.sqrt() + 1e-8)) * y - y * 0.5;
            z.to_bits().to_le_bytes()[3] as u32 ^ x.rotate_left(5).leading_zeros()
        };
        let sum = lanes.iter().map(|x| u64::from(x.count_ones())).sum();
        (lanes.iter().map(of).collect(), sum)
    }

    #[test]
    fn every_level_comes_to_the_same_bits() {
        let lanes: Vec<u32> = (0..10_007u32)
            .map(|i| i.wrapping_mul(0x9e37_79b9))
            .collect();
        let least = kernel(&lanes);
        for level in 1..=level() {
            assert_eq!(
                at(
                    level,
                    #[inline(always)]
                    || kernel(&lanes)
                ),
                least,
                "{level}"
            );
        }
    }
}
