//! Every prefix and every flipped byte of every file of a small store, and one byte more.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;

use milepost_engine::ReaderMode;

use crate::corruption::fixture::{ALL_RIGHT, Fixture, Outcome};

const READERS: [ReaderMode; 2] = [ReaderMode::Mmap, ReaderMode::Pread];
/// A low bit, the highest, and all of them.
const FLIPS: [u8; 3] = [0x01, 0x80, 0xff];

/// Cases tried, and how many of them were noticed.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    cases: u64,
    noticed: u64,
}

impl Count {
    fn add(&mut self, outcome: Outcome) {
        self.cases += 1;
        self.noticed += u64::from(outcome.refused > 0);
    }

    fn sum(self, other: Self) -> Self {
        Self {
            cases: self.cases + other.cases,
            noticed: self.noticed + other.noticed,
        }
    }
}

/// Runs one half of the work on a store of its own on each of two threads.
fn on_two_threads(work: impl Fn(&Fixture, usize) -> Count + Sync) -> Count {
    std::thread::scope(|scope| {
        let halves = [0, 1].map(|half| {
            let work = &work;
            scope.spawn(move || work(&Fixture::new(), half))
        });
        halves
            .into_iter()
            .map(|half| half.join().unwrap())
            .fold(Count::default(), Count::sum)
    })
}

fn open_for_damage(fixture: &Fixture, file: &Path) -> std::fs::File {
    #[expect(clippy::disallowed_methods, reason = "damages a file in place")]
    let file = OpenOptions::new().write(true).open(fixture.path(file));
    file.unwrap()
}

#[test]
fn the_undamaged_store_is_read_right() {
    let fixture = Fixture::new();
    for reader in READERS {
        let outcome = fixture.read_all(reader);
        assert_eq!((outcome.refused, outcome.right), (0, ALL_RIGHT));
    }
    let kinds = ["FORMAT", "packs", "runs", "tags"];
    for kind in kinds {
        assert!(fixture.files.iter().any(|f| f.starts_with(kind)), "{kind}");
    }
}

/// Only what nobody reads may change unnoticed: the padding between records, and a record of a
/// chunk that another pack holds as well.
#[test]
fn every_flipped_byte_is_refused_or_harmless() {
    let count = on_two_threads(|fixture, half| {
        let mut count = Count::default();
        for file in &fixture.files {
            let good = fixture.read(file);
            let damaged = open_for_damage(fixture, file);
            for (at, byte) in good.iter().enumerate().filter(|(at, _)| at % 2 == half) {
                for (flip, reader) in FLIPS.into_iter().flat_map(|f| READERS.map(|r| (f, r))) {
                    damaged.write_all_at(&[byte ^ flip], at as u64).unwrap();
                    let outcome = fixture.read_all(reader);
                    let whole = outcome.right == ALL_RIGHT && file.starts_with("packs");
                    assert!(
                        outcome.refused > 0 || whole,
                        "{file:?} byte {at} ^ {flip:#x}"
                    );
                    count.add(outcome);
                }
                damaged.write_all_at(&[*byte], at as u64).unwrap();
            }
        }
        count
    });
    println!("flipped bytes: {count:?}");
    assert!(count.noticed * 100 > count.cases * 90, "{count:?}");
}

#[test]
fn every_prefix_is_refused() {
    let count = on_two_threads(|fixture, half| {
        let mut count = Count::default();
        for file in &fixture.files {
            let good = fixture.read(file);
            // Shorter and shorter, in place: no store is open while the file is cut.
            let damaged = open_for_damage(fixture, file);
            for len in (0..good.len()).rev() {
                damaged.set_len(len as u64).unwrap();
                if len % 2 == half {
                    for reader in READERS {
                        let outcome = fixture.read_all(reader);
                        assert!(outcome.refused > 0, "{file:?} cut to {len}");
                        count.add(outcome);
                    }
                }
            }
            fixture.write(file, &good);
        }
        count
    });
    println!("prefixes: {count:?}");
    assert_eq!(count.noticed, count.cases);
}

#[test]
fn bytes_behind_the_end_and_pages_of_zeros_are_refused() {
    let fixture = Fixture::new();
    let mut count = Count::default();
    for file in &fixture.files {
        let good = fixture.read(file);
        let zeroed = |from: usize| {
            let mut bytes = good.clone();
            let to = (from + 4096).min(bytes.len());
            bytes[from..to].fill(0);
            bytes
        };
        let mut damages: Vec<Vec<u8>> = vec![
            [&good[..], &[0]].concat(),
            [&good[..], b"\n"].concat(),
            [&good[..], &[0; 4096]].concat(),
            [&good[..], &good[..]].concat(),
        ];
        damages.extend((0..good.len()).step_by(4096).map(zeroed));
        for bytes in damages.iter().filter(|b| **b != good) {
            fixture.write(file, bytes);
            for reader in READERS {
                let outcome = fixture.read_all(reader);
                assert!(outcome.refused > 0, "{file:?} of {} bytes", bytes.len());
                count.add(outcome);
            }
        }
        fixture.write(file, &good);
    }
    println!("extensions and zero pages: {count:?}");
}
