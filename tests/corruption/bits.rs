//! Single bits of every file of a store: what `verify` names is exactly what does not come back.

use std::array;
use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use milepost_engine::{CheckpointId, ReadData, ReaderMode, Store, Unobserved, VerifyOptions};

use crate::corruption::fixture::Fixture;

/// A tensor or blob of a checkpoint.
type Part = (CheckpointId, String);

/// Threads that flip bits, each in stores of its own.
const WORKERS: usize = 4;

/// Flips tried, and what became of them.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    flips: u64,
    /// The store did not open.
    refused: u64,
    /// `verify` found it, and something does not come back.
    hit: u64,
    /// `verify` found it, and everything comes back.
    noticed: u64,
    /// `verify` found nothing, and everything comes back.
    harmless: u64,
}

impl Count {
    fn sum(self, other: Self) -> Self {
        Self {
            flips: self.flips + other.flips,
            refused: self.refused + other.refused,
            hit: self.hit + other.hit,
            noticed: self.noticed + other.noticed,
            harmless: self.harmless + other.harmless,
        }
    }
}

/// How many bits are flipped: `MILEPOST_BIT_FLIPS`, by default enough to see that it works.
fn flips() -> u64 {
    let set = std::env::var("MILEPOST_BIT_FLIPS");
    set.ok().and_then(|n| n.parse().ok()).unwrap_or(4000)
}

/// Every bit of a store's files, by file and place.
fn bits(fixture: &Fixture) -> Vec<(PathBuf, u64)> {
    let of_file = |file: &PathBuf| {
        let (file, len) = (file.clone(), fixture.read(file).len() as u64);
        (0..len * 8).map(move |bit| (file.clone(), bit))
    };
    fixture.files.iter().flat_map(of_file).collect()
}

/// What cannot be restored, found by restoring.
fn lost(store: &Store, fixture: &Fixture) -> BTreeSet<Part> {
    let mut lost = BTreeSet::new();
    let parts = fixture.parts();
    for of_checkpoint in parts.chunk_by(|one, next| one.0 == next.0) {
        let checkpoint = store.checkpoint_by_id(&of_checkpoint[0].0).ok();
        for (id, name, bytes) in of_checkpoint {
            let found = checkpoint.as_ref().and_then(|checkpoint| {
                let found = checkpoint.tensor(name).or_else(|_| checkpoint.blob(name));
                found.ok()
            });
            match found {
                Some(found) => assert!(found == *bytes, "wrong bytes"),
                None => _ = lost.insert((*id, name.clone())),
            }
        }
    }
    lost
}

/// What cannot be restored, as `verify` says, and whether it says anything.
fn named(store: &Store, fixture: &Fixture) -> (BTreeSet<Part>, bool) {
    let options = VerifyOptions {
        data: ReadData::All,
        ..VerifyOptions::default()
    };
    let report = store.verify(&options, &Unobserved).unwrap();
    let mut named = BTreeSet::new();
    for hit in report.problems.iter().flat_map(|p| &p.hits) {
        if hit.step.is_none() {
            let parts = fixture.parts().into_iter().filter(|p| p.0 == hit.id);
            named.extend(parts.map(|(id, name, _)| (id, name)));
        }
        let names = hit.tensors.iter().chain(&hit.blobs);
        named.extend(names.map(|name| (hit.id, name.clone())));
    }
    (named, !report.problems.is_empty() || report.lost > 0)
}

fn flip(fixture: &Fixture, file: &PathBuf, bit: u64, count: &mut Count) {
    let Ok(store) = fixture.open(ReaderMode::Pread) else {
        count.refused += 1;
        return;
    };
    let (named, found) = named(&store, fixture);
    let lost = lost(&store, fixture);
    if !named.is_empty() || !lost.is_empty() {
        assert_eq!(named, lost, "bit {bit} of {file:?}");
        count.hit += 1;
    } else if found {
        count.noticed += 1;
    } else {
        count.harmless += 1;
    }
}

/// Flips the `worker`-th of every [`WORKERS`] bits that are tried, store after store.
fn work(worker: usize, flips: u64) -> Count {
    let mut count = Count::default();
    for run in 0.. {
        let fixture = Fixture::of_run(run);
        let all = bits(&fixture);
        // Few flips are spread over all of the store, at an odd stride: over all bits of a byte.
        let stride = (all.len() as u64 / (flips * WORKERS as u64)) | 1;
        let tried = all.iter().step_by(usize::try_from(stride).unwrap());
        for (file, bit) in tried.skip(worker).step_by(WORKERS) {
            if count.flips == flips {
                return count;
            }
            #[expect(clippy::disallowed_methods, reason = "damages a file in place")]
            let damaged = OpenOptions::new().write(true).open(fixture.path(file));
            let damaged = damaged.unwrap();
            let good = fixture.read(file)[usize::try_from(bit / 8).unwrap()];
            damaged
                .write_all_at(&[good ^ 1 << (bit % 8)], bit / 8)
                .unwrap();
            flip(&fixture, file, *bit, &mut count);
            damaged.write_all_at(&[good], bit / 8).unwrap();
            count.flips += 1;
        }
    }
    count
}

#[test]
fn every_bit_is_found_and_what_it_hits_is_named_exactly() {
    let each = flips().div_ceil(WORKERS as u64);
    let count = std::thread::scope(|scope| {
        let workers = array::from_fn::<_, WORKERS, _>(|n| scope.spawn(move || work(n, each)));
        let counts = workers.into_iter().map(|w| w.join().unwrap());
        counts.fold(Count::default(), Count::sum)
    });
    println!("bit flips: {count:?}");
    assert_eq!(count.harmless, 0, "{count:?}");
}
