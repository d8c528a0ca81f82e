//! Reading ahead: one more thread fetches what a restore needs next while the others decode, so
//! that a cold restore does not wait for one page after the other
//! (`docs/decisions/0015-a-thread-that-fetches.md`).

use std::ops::Range;
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread::Scope;

use crate::id::PackId;
use crate::restore::plan::PlanStep;
use crate::restore::recipe::RecipeStep;
use crate::restore::shared::Group;
use crate::store::Store;

/// Stored bytes that are fetched together, in the order of the disk.
const WINDOW_LEN: u64 = 16 << 20;
/// Stored bytes that are fetched and not decoded yet, at most: little for the page cache.
const AHEAD_MAX: u64 = 64 << 20;
/// Stored bytes of a restore that a thread is started for.
const FETCHED_MIN: u64 = 512 << 10;
/// Spans of which the kernel reads on by itself.
const LONG_LEN: u64 = 512 << 10;
/// Bytes that are fetched between two looks at whether decoding has ended.
const PIECE_LEN: usize = 1 << 20;
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

/// Where the records of some groups lie that follow each other.
struct Window {
    spans: Vec<(PackId, Range<u64>)>,
    /// Stored bytes of all groups before these, and with them.
    start: u64,
    end: u64,
}

fn windows<J: OnStep>(groups: &[Group<J>]) -> Vec<Window> {
    let mut windows: Vec<Window> = Vec::new();
    let (mut len, mut end) = (0, 0);
    for group in groups {
        if windows.is_empty() || len >= WINDOW_LEN {
            len = 0;
            windows.push(Window {
                spans: Vec::new(),
                start: end,
                end,
            });
        }
        let Some(window) = windows.last_mut() else {
            continue;
        };
        for record in records(group) {
            let start = record.extent.offset;
            let span = start..start + u64::from(record.extent.stored_len);
            window.spans.push((record.pack, span));
        }
        len += stored_len(group);
        end += stored_len(group);
        window.end = end;
    }
    for window in &mut windows {
        window.spans = joined(std::mem::take(&mut window.spans));
    }
    windows
}

fn records<J: OnStep>(group: &Group<J>) -> impl Iterator<Item = &RecipeStep> {
    group.jobs.iter().flat_map(|job| &job.step().recipe.steps)
}

/// Stored bytes that a group's jobs take; a record that several take counts for each.
pub(super) fn stored_len<J: OnStep>(group: &Group<J>) -> u64 {
    let lens = records(group).map(|record| u64::from(record.extent.stored_len));
    lens.sum()
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

/// How far decoding is, for whoever fetches ahead of it.
#[derive(Default)]
pub(super) struct Pace {
    /// Stored bytes of the groups that were decoded; all of them once it has ended.
    decoded: Mutex<u64>,
    moved: Condvar,
}

impl Pace {
    /// Tells of a group that was decoded.
    pub(super) fn advance(&self, stored_len: u64) {
        let mut decoded = self.decoded.lock().unwrap_or_else(PoisonError::into_inner);
        *decoded = decoded.saturating_add(stored_len);
        self.moved.notify_one();
    }

    /// Whether nothing is left to decode, or decoding was given up.
    fn has_ended(&self) -> bool {
        *self.decoded.lock().unwrap_or_else(PoisonError::into_inner) == u64::MAX
    }

    /// Waits until it pays to fetch up to here; false if all of it was decoded meanwhile.
    fn wait_for(&self, window: &Window) -> bool {
        let decoded = self.decoded.lock().unwrap_or_else(PoisonError::into_inner);
        let is_too_early = |decoded: &mut u64| decoded.saturating_add(AHEAD_MAX) < window.start;
        let waited = self.moved.wait_while(decoded, is_too_early);
        *waited.unwrap_or_else(PoisonError::into_inner) < window.end
    }
}

/// Ends the fetching when it is dropped, also when decoding panics.
pub(super) struct Ending<'p>(pub(super) &'p Pace);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.advance(u64::MAX);
    }
}

/// Starts a thread that fetches what the groups need, in their order, until decoding has ended, if
/// anything of it is far. Without one, decoding waits for the storage itself.
pub(super) fn start<'s, J: OnStep>(
    scope: &'s Scope<'s, '_>,
    store: &'s Store,
    groups: &[Group<J>],
    pace: &'s Pace,
) {
    let windows = windows(groups);
    // A pack that cannot be opened or read is reported by whoever decodes from it.
    let open = |pack: &PackId| store.0.reading.open_pack(&*store.0.disk, pack).ok();
    let is_far = |window: &Window| {
        let first = window.spans.first();
        let pack = first.and_then(|(pack, span)| Some((open(pack)?, span.start)));
        pack.is_some_and(|(pack, start)| !pack.is_near(start))
    };
    let is_little = windows.last().is_none_or(|last| last.end < FETCHED_MIN);
    if is_little || !windows.iter().any(is_far) {
        return;
    }
    // All is read, also what is near: passing over it would keep the kernel from reading on.
    let fetch_window = move |window: &Window| {
        for (pack, span) in &window.spans {
            let Some(pack) = open(pack) else { continue };
            // Of short ones the kernel does not read on, and to wait for each is slow.
            if span.end - span.start < LONG_LEN {
                pack.announce(span.clone());
                continue;
            }
            for start in span.clone().step_by(PIECE_LEN) {
                let piece = start..span.end.min(start + PIECE_LEN as u64);
                if pace.has_ended() || pack.fetch(piece).is_err() {
                    return;
                }
            }
        }
    };
    let fetch = move || {
        let wanted = windows.iter().filter(|window| pace.wait_for(window));
        wanted.for_each(fetch_window);
    };
    let builder = std::thread::Builder::new().name("milepost-read".to_owned());
    let _ = builder.spawn_scoped(scope, fetch);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::sync::Arc;
    use std::time::Duration;

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
            recipe: Arc::new(Recipe {
                steps: vec![record],
            }),
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
        let found = windows(&alone(&steps));
        assert_eq!(found.len(), 1);
        let [a, b] = [PackId([1; 32]), PackId([2; 32])];
        let expected = [(a, 32..244), (a, far..far + 100), (b, 32..132)];
        assert_eq!(found[0].spans, expected);
    }

    #[test]
    fn windows_hold_every_record_in_order_and_say_where_they_end() {
        let len = 1u32 << 20;
        let steps: Vec<PlanStep> = (0..40).map(|i| step(1, i * u64::from(len), len)).collect();
        let found = windows(&alone(&steps));
        let ends: Vec<u64> = found.iter().map(|w| w.end >> 20).collect();
        assert_eq!(ends, [16, 32, 40]);
        let spans = found.into_iter().flat_map(|w| w.spans);
        let spans: Vec<Range<u64>> = spans.map(|(_, span)| span).collect();
        assert_eq!(spans, [0..16 << 20, 16 << 20..32 << 20, 32 << 20..40 << 20]);
    }

    #[test]
    fn fetching_keeps_a_bounded_way_ahead_and_ends_with_decoding() {
        let window = |start| Window {
            spans: Vec::new(),
            start,
            end: start + 10,
        };
        let pace = Pace::default();
        assert!(pace.wait_for(&window(AHEAD_MAX)) && !pace.has_ended());
        std::thread::scope(|scope| {
            let (sender, receiver) = std::sync::mpsc::channel();
            let pace = &pace;
            scope.spawn(move || {
                sender
                    .send(pace.wait_for(&window(AHEAD_MAX + 100)))
                    .unwrap();
                sender.send(pace.wait_for(&window(50))).unwrap();
                sender.send(pace.wait_for(&window(10 * AHEAD_MAX))).unwrap();
            });
            let early = Duration::from_millis(50);
            assert!(receiver.recv_timeout(early).is_err());
            pace.advance(100);
            assert!(receiver.recv().unwrap());
            assert!(!receiver.recv().unwrap(), "decoded meanwhile");
            assert!(receiver.recv_timeout(early).is_err());
            drop(Ending(pace));
            assert!(!receiver.recv().unwrap() && pace.has_ended());
        });
    }
}
