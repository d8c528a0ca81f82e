//! Long histories: a listing opens few files, and shows nothing that is no longer true.

use std::sync::Arc;

use milepost_engine::{Durability, SaveOptions, Store, StoreOptions, StoreSettings};

use crate::support::rng::Rng;
use crate::support::sim_disk::{Machine, SimDisk};
use crate::support::state::{State, Tensor, assert_holds, save, state_of};

/// Enough saves for a cache, and some that it does not hold.
const SAVES: u64 = 70;

fn state_at(step: u64) -> State {
    let value = f32::from(u8::try_from(step).unwrap());
    state_of([("w", Tensor::floats([value, 1.0, 2.0]))])
}

fn options(step: u64, durability: Durability) -> SaveOptions {
    SaveOptions {
        durability,
        ..SaveOptions::new("main").step(step)
    }
}

fn opened(machine: &Arc<Machine>) -> Store {
    let disk: Arc<SimDisk> = machine.process();
    Store::open_on(disk, StoreOptions::default()).unwrap()
}

/// A machine with a store of small checkpoints.
fn filled(durability: Durability) -> Arc<Machine> {
    let machine = Machine::new(1);
    let settings = StoreSettings::default();
    let store = Store::create_on(machine.process(), settings, StoreOptions::default()).unwrap();
    for step in 0..SAVES {
        save(&store, options(step, durability), &state_at(step)).unwrap();
    }
    machine
}

/// Relaxed saves were left out of the cache once, and a store of 10,000 of them took a third of
/// a second to list.
#[test]
fn a_listing_reads_the_cache_and_not_every_manifest() {
    for durability in [Durability::Relaxed, Durability::Durable] {
        let machine = filled(durability);
        let store = opened(&machine);
        let before = machine.looks();
        let listing = store.list(None).unwrap();
        assert_eq!(listing.checkpoints.len() as u64, SAVES);
        let looks = machine.looks() - before;
        assert!(looks < SAVES, "{durability:?}: {looks}");
    }
}

/// The runs' folder is listed, the run's, and one manifest is opened and read. A restore of the newest
/// of 10,000 listed the run once more and took twice as long.
#[test]
fn the_newest_is_found_by_one_look_at_its_run() {
    let machine = filled(Durability::Durable);
    // A word may be a tag, which is looked for first.
    for (revision, most) in [("latest", 3), ("main", 4), ("main@latest", 2)] {
        let store = opened(&machine);
        let before = machine.looks();
        let found = store.checkpoint(revision).unwrap();
        assert_eq!(found.manifest().body.step, SAVES - 1);
        let looks = machine.looks() - before;
        assert_eq!(looks, most, "{revision}");
    }
}

/// After a power cut a cache may remember relaxed saves whose files did not reach the disk.
#[test]
fn after_a_power_cut_no_lost_relaxed_save_is_listed() {
    let machine = filled(Durability::Relaxed);
    let (mut listed, mut lost) = (0, 0);
    for seed in 0..100 {
        let crashed = machine.state().crash(&mut Rng::new(seed));
        let machine = Machine::boot(crashed.state, seed);
        let Ok(store) = Store::open_on(machine.process(), StoreOptions::default()) else {
            continue;
        };
        let listing = store.list(None).unwrap();
        lost += SAVES - listing.checkpoints.len() as u64;
        for summary in &listing.checkpoints {
            let checkpoint = store.checkpoint_by_id(&summary.id).unwrap();
            assert_holds(&checkpoint, &state_at(summary.step));
            listed += 1;
        }
    }
    assert!(lost > 0, "no cut lost anything");
    assert!(listed > 0, "no cut left anything");
}

/// A relaxed save that is saved again as durable is listed as durable, by other processes too.
#[test]
fn a_save_that_was_made_durable_is_listed_as_durable() {
    let machine = filled(Durability::Relaxed);
    let store = opened(&machine);
    let last = SAVES - 1;
    for step in [3, last] {
        save(&store, options(step, Durability::Durable), &state_at(step)).unwrap();
        let listing = opened(&machine).list(None).unwrap();
        let found = listing.checkpoints.iter().find(|c| c.step == step).unwrap();
        assert_eq!(found.placement.durability, Durability::Durable, "{step}");
    }
}
