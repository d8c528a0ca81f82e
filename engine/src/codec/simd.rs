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
    #[inline]
    fn level() -> u8 {
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
        let level = level();
        #[cfg(test)]
        let level = level.min(super::tests::most());
        #[expect(unsafe_code, reason = "the one place that calls by what was detected")]
        match level {
            // SAFETY: `level` has detected every feature that the function enables.
            4 => unsafe { at_level_4(kernel) },
            // SAFETY: as above; level 4 has all of level 3.
            3 => unsafe { at_level_3(kernel) },
            _ => kernel(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use crate::codec::{self, AdamStep, Form, Half, Prediction, Reference, Rows, Workspace};
    use crate::dtype::Lane;
    use crate::format::store_file::Level;

    thread_local! {
        static MOST: Cell<u8> = const { Cell::new(u8::MAX) };
    }

    /// The level that kernels of this thread may not exceed.
    pub(super) fn most() -> u8 {
        MOST.get()
    }

    /// What `work` comes to, which must be the same at every level that there is here.
    fn the_same_at_every_level<R: PartialEq + std::fmt::Debug>(
        what: &str,
        work: impl Fn() -> R,
    ) -> R {
        let at = |level| {
            MOST.set(level);
            let made = work();
            MOST.set(u8::MAX);
            made
        };
        let least = at(1);
        for level in [3, 4] {
            assert!(
                at(level) == least,
                "{what}: level {level} differs from level 1"
            );
        }
        least
    }

    /// Bits of every kind, with `share` in 256 of them as in `like`.
    fn bits(seed: u64, len: usize, like: &[u8], share: u8) -> Vec<u8> {
        let mut state = seed;
        let mut next = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 56).to_le_bytes()[0]
        };
        (0..len)
            .map(|at| match like.get(at) {
                Some(byte) if next() < share => *byte,
                _ => next(),
            })
            .collect()
    }

    #[test]
    fn records_and_what_they_decode_to_are_the_same_at_every_level() {
        // Neither whole blocks nor whole vectors.
        const LANES: usize = 5 * 1024 + 37;
        for width in [1, 2, 4, 8] {
            let base = bits(1, LANES * width, &[], 0);
            for share in [0, 200, 254] {
                let raw = bits(2, LANES * width, &base, share);
                for (float, with_base) in
                    [(true, true), (true, false), (false, true), (false, false)]
                {
                    let form = Form {
                        lane: Lane { width, float },
                        rows: Some(Rows { len: 61, column: 5 }),
                    };
                    for method in codec::choose::candidates(form, with_base) {
                        let what = format!("{form:?} {method:?} {share}");
                        let base = with_base.then_some(base.as_slice());
                        the_same_at_every_level(&what, || round_trip(&raw, base, form, method));
                    }
                    let estimate = || match with_base {
                        true => codec::estimate(&raw, &base, form),
                        false => codec::estimate_alone(&raw, form),
                    };
                    the_same_at_every_level("estimates", || format!("{:?}", estimate()));
                    let patch = || codec::estimate_patch(&raw, &base, form);
                    let found = the_same_at_every_level("patches", || format!("{:?}", patch()));
                    assert_eq!(found != "None", share == 254, "{form:?} {share}");
                }
            }
        }
    }

    fn round_trip(raw: &[u8], base: Option<&[u8]>, form: Form, method: codec::Method) -> Vec<u8> {
        let (mut workspace, mut record) = (Workspace::default(), Vec::new());
        let level = Level::Fast;
        let made = codec::encode(raw, base, form, method, level, &mut workspace, &mut record);
        let inputs: Vec<&[u8]> = base
            .filter(|_| made.unwrap().uses_base)
            .into_iter()
            .collect();
        let mut out = vec![0x55; raw.len()];
        codec::decode(&record, &inputs, &mut out, &mut workspace).unwrap();
        assert_eq!(out, raw);
        assert_eq!(codec::changed_lanes(raw, &out, form.lane), 0);
        record
    }

    #[test]
    fn predictions_are_the_same_at_every_level() {
        let input = |seed| bits(seed, 4 * 5003, &[], 0);
        let [x, y, z] = [input(1), input(2), input(3)];
        let inputs = [x.as_slice(), &y, &z];
        let step = AdamStep {
            decay: 0.999,
            step: -1e-3,
            scale: 0.3,
            epsilon: 1e-8,
        };
        let predictions = [
            (Prediction::Cast(Half::Bf16), 1),
            (Prediction::Cast(Half::F16), 1),
            (Prediction::Linear(vec![0.5]), 1),
            (Prediction::Linear(vec![0.5, -1.25]), 2),
            (Prediction::Linear(vec![0.5, -1.25, 1e-9]), 3),
            (Prediction::SecondMoment([0.95, 0.05, 0.01, 0.02]), 3),
            (Prediction::RoundedLinear(vec![0.3]), 1),
            (Prediction::RoundedLinear(vec![0.3, -1.25, 1e-9]), 3),
            (Prediction::RoundedSecondMoment([0.95, 0.05, 0.01, 0.02]), 3),
            (Prediction::Adam(step), 3),
        ];
        for (prediction, count) in predictions {
            let half = matches!(prediction, Prediction::Cast(_));
            let inputs = inputs.split_at(count).0;
            let made = the_same_at_every_level("predict", || {
                let mut out = vec![0; if half { x.len() / 2 } else { x.len() }];
                prediction.predict(inputs, &mut out);
                out
            });
            let predictor = prediction.predictor();
            the_same_at_every_level("fit", || codec::fit(predictor, &made, inputs).ok());
            let form: Form = Lane {
                width: if half { 2 } else { 4 },
                float: true,
            }
            .into();
            the_same_at_every_level("record", || {
                let (mut workspace, mut record) = (Workspace::default(), Vec::new());
                let raw = bits(9, made.len(), &made, 250);
                let reference = Reference {
                    bytes: &made,
                    prediction: &prediction,
                    inputs: count,
                };
                let estimate = codec::estimate(&raw, &made, form);
                let level = Level::Fast;
                let (to, out) = (&mut workspace, &mut record);
                codec::encode_estimated(&raw, Some(reference), form, &estimate, level, to, out)
                    .unwrap();
                record
            });
        }
    }
}
