//! Reading ahead: the storage is told what the next window of a restore needs while this one
//! is decoded, so that a cold restore does not wait for one page after the other.

use std::ops::Range;

use crate::id::PackId;
use crate::restore::plan::PlanStep;
use crate::restore::shared::Group;
use crate::store::Store;

/// Stored bytes of the first window, which nothing is decoded beside; each is twice the last.
const WINDOW_LEN_FIRST: u64 = 2 << 20;
/// Stored bytes of the longest: many reads for the storage, little for the page cache.
const WINDOW_LEN_MAX: u64 = 64 << 20;
/// Spans that lie closer are read as one.
const GAP_MAX: u64 = 64 << 10;

/// What works on a step of the plan.
pub(super) trait OnStep {
    fn step(&self) -> &PlanStep;
}

impl OnStep for &PlanStep {
    fn step(&self) -> &PlanStep {
        self
    }
}

impl OnStep for (&PlanStep, &mut [u8]) {
    fn step(&self) -> &PlanStep {
        self.0
    }
}

/// Some jobs that follow each other, and where their records lie.
pub(super) struct Window<J> {
    pub(super) groups: Vec<Group<J>>,
    spans: Vec<(PackId, Range<u64>)>,
}

/// The jobs in windows of growing lengths.
pub(super) fn windows<J: OnStep>(groups: Vec<Group<J>>) -> Vec<Window<J>> {
    let mut windows: Vec<Window<J>> = Vec::new();
    let (mut len, mut most) = (0, 0);
    for group in groups {
        if len >= most {
            len = 0;
            most = (2 * most).clamp(WINDOW_LEN_FIRST, WINDOW_LEN_MAX);
            windows.push(Window {
                groups: Vec::new(),
                spans: Vec::new(),
            });
        }
        if let Some(window) = windows.last_mut() {
            for record in group.jobs.iter().flat_map(|job| &job.step().recipe.steps) {
                let stored = u64::from(record.extent.stored_len);
                let start = record.extent.offset;
                window.spans.push((record.pack, start..start + stored));
                len += stored;
            }
            window.groups.push(group);
        }
    }
    for window in &mut windows {
        window.spans = joined(std::mem::take(&mut window.spans));
    }
    windows
}

/// Sorted, with spans that nearly touch made one.
fn joined(mut spans: Vec<(PackId, Range<u64>)>) -> Vec<(PackId, Range<u64>)> {
    spans.sort_unstable_by_key(|(pack, span)| (*pack, span.start));
    let mut joined: Vec<(PackId, Range<u64>)> = Vec::new();
    for (pack, span) in spans {
        match joined.last_mut() {
            Some((last, open)) if *last == pack && span.start <= open.end + GAP_MAX => {
                open.end = open.end.max(span.end);
            }
            _ => joined.push((pack, span)),
        }
    }
    joined
}

/// Tells the storage. A pack that cannot be opened is reported by whoever reads it.
pub(super) fn announce<J>(store: &Store, window: &Window<J>) {
    for (pack, span) in &window.spans {
        if let Ok(pack) = store.0.reading.open_pack(&*store.0.disk, pack) {
            pack.will_need(span.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    use crate::id::ChunkId;
    use crate::restore::recipe::{Recipe, RecipeStep};
    use crate::store::pack_file::RecordExtent;

    fn step(pack: u8, offset: u64, stored_len: u32) -> PlanStep {
        let record = RecipeStep {
            chunk: ChunkId([1; 32]),
            pack: PackId([pack; 32]),
            extent: RecordExtent {
                offset,
                stored_len,
                crc32: 0,
            },
            raw_len: 8,
            inputs: Vec::new(),
        };
        PlanStep {
            output: 0,
            target: 0..8,
            within: 0..8,
            recipe: Recipe {
                steps: vec![record],
            },
        }
    }

    fn alone(steps: &[PlanStep]) -> Vec<Group<&PlanStep>> {
        let group = |step| Group {
            jobs: vec![step],
            shared: HashSet::new(),
        };
        steps.iter().map(group).collect()
    }

    #[test]
    fn near_spans_are_read_as_one_and_far_ones_are_not() {
        let far = 10 * GAP_MAX;
        let steps = [
            step(2, 32, 100),
            step(1, far, 100),
            step(1, 144, 100),
            step(1, 32, 100),
        ];
        let found = windows(alone(&steps));
        assert_eq!(found.len(), 1);
        let [a, b] = [PackId([1; 32]), PackId([2; 32])];
        let expected = [(a, 32..244), (a, far..far + 100), (b, 32..132)];
        assert_eq!(found[0].spans, expected);
    }

    #[test]
    fn windows_hold_every_job_once_and_in_order() {
        let len = 1u32 << 20;
        let steps: Vec<PlanStep> = (0..200).map(|i| step(1, i * u64::from(len), len)).collect();
        let found = windows(alone(&steps));
        let lens: Vec<usize> = found.iter().map(|w| w.groups.len()).collect();
        assert_eq!(lens, [2, 4, 8, 16, 32, 64, 64, 10]);
        let groups = found.into_iter().flat_map(|w| w.groups);
        let jobs: Vec<&PlanStep> = groups.flat_map(|g| g.jobs).collect();
        assert!(jobs.iter().zip(&steps).all(|(a, b)| *a == b) && jobs.len() == 200);
    }
}
