//! Two processes in each other's way: one operation between any two steps of another, and a
//! power cut at every moment of both.

use milepost_engine::{Durability, Full};

use super::check::check;
use super::driver::Driver;
use super::expect::Expect;
use super::workload::{Op, Recode, Save, Writer, by_second, save, tagged};
use crate::support::broken_disk::Fault;
use crate::support::rng::Rng;
use crate::support::sim_disk::Machine;

/// Ways that each moment is crashed in.
const WAYS: u64 = 2;

/// A run whose first checkpoint shares nothing with the others, known to both writers.
fn prefix() -> Vec<Op> {
    let alone = |save: Save| {
        Op::Save(Save {
            full: Full::SelfContained,
            ..save
        })
    };
    vec![
        Op::Init,
        Op::Save(tagged("main", 0, &["best"])),
        Op::Save(by_second("side", 0)),
        Op::Save(save("main", 1)),
        // Last, so that nothing else finds its chunks there.
        alone(by_second("solo", 0)),
        alone(save("solo", 1)),
    ]
}

/// Puts `second` between any two steps of `first`, after `before`.
fn every_way(before: &[Op], first: &Op, second: &Op) {
    let both = Op::Interleaved(Box::new(first.clone()), Box::new(second.clone()));
    let mut after = 0;
    loop {
        let machine = Machine::new(after);
        machine.record();
        let driver = Driver::new(&machine, Fault::None, false, after);
        let perform = |op: &Op| {
            let done = driver.perform(op);
            assert!(done.is_ok(), "{second:?} after {after} steps: {done:?}");
        };
        prefix().iter().chain(before).for_each(perform);
        let (steps, moments) = (machine.operations(), machine.moments());
        perform(&both);
        let interrupted = machine.was_interrupted();
        let last = machine.operations();
        perform(&Op::Look(Writer::First));
        perform(&Op::Look(Writer::Second));
        let expected = Expect::default().after_each(&driver.events());
        for moment in &machine.take_moments()[moments..] {
            for way in 0..WAYS {
                let mut rng = Rng::at(&[after, moment.mark as u64, way]);
                let crashed = Machine::boot(moment.state.crash(&mut rng).state, 1);
                let checked = check(crashed.process(), &expected[moment.mark].crash(), None);
                assert!(
                    checked.is_ok(),
                    "{second:?} after {after} steps: {checked:?}"
                );
            }
        }
        if !interrupted || after > last - steps {
            return;
        }
        after += 1;
    }
}

/// Without this, nothing below would be collected.
#[test]
fn dropping_the_lone_checkpoint_leaves_a_pack_to_collect() {
    let machine = Machine::new(1);
    let driver = Driver::new(&machine, Fault::None, false, 0);
    let perform = |op: &Op| driver.perform(op).unwrap();
    prefix().iter().for_each(perform);
    perform(&Op::Forget(Writer::First, "solo", 1));
    let before = machine.state().files("packs").len();
    perform(&Op::Gc(Writer::First));
    assert_eq!(machine.state().files("packs").len(), before - 1);
}

#[test]
fn a_collection_spares_what_a_save_has_just_found() {
    let dropped = [Op::Forget(Writer::First, "solo", 1)];
    let (gc, again) = (Op::Gc(Writer::First), Op::Save(by_second("again", 0)));
    every_way(&dropped, &gc, &again);
    // A relaxed save syncs nothing, so it would not stumble over what is gone.
    let relaxed = Op::Save(Save {
        durability: Durability::Relaxed,
        ..by_second("again", 0)
    });
    every_way(&dropped, &gc, &relaxed);
    let (gc, again) = (Op::Gc(Writer::Second), Op::Save(save("again", 0)));
    every_way(&dropped, &again, &gc);
}

#[test]
fn a_collection_and_a_deletion_do_not_meet() {
    let forget = Op::Forget(Writer::Second, "solo", 1);
    every_way(&[], &Op::Gc(Writer::First), &forget);
    let forget = Op::Forget(Writer::First, "solo", 1);
    every_way(&[], &forget, &Op::Gc(Writer::Second));
}

#[test]
fn a_save_on_top_of_what_is_dropped_is_whole() {
    let on_top = Op::Save(by_second("solo", 2));
    every_way(&[], &Op::Forget(Writer::First, "solo", 1), &on_top);
    every_way(&[], &Op::Thin(Writer::First, "solo", 1), &on_top);
    let forget = Op::Forget(Writer::Second, "main", 1);
    every_way(&[], &Op::Save(save("main", 2)), &forget);
    let thin = Op::Thin(Writer::Second, "main", 1);
    every_way(&[], &Op::Save(save("main", 2)), &thin);
}

#[test]
fn a_fork_is_whole_whatever_becomes_of_its_source() {
    let fork = Op::Fork("main", 0, "fork");
    every_way(&[], &fork, &Op::Forget(Writer::Second, "main", 1));
    every_way(&[], &fork, &Op::Gc(Writer::Second));
}

#[test]
fn two_writers_of_one_step_agree_or_conflict() {
    let (same, other) = (Op::Save(by_second("main", 2)), Op::Save(save("main", 2)));
    every_way(&[], &other, &same);
}

/// Both replace or remove manifests: what was dropped must not come back.
#[test]
fn what_is_forgotten_while_manifests_are_replaced_stays_forgotten() {
    let forget = Op::Forget(Writer::Second, "solo", 1);
    every_way(&[], &Op::Thin(Writer::First, "solo", 1), &forget);
    every_way(&[], &Op::Compact(Writer::First, Recode::Copies), &forget);
}

#[test]
fn a_compaction_and_a_save_do_not_meet() {
    let dropped = [Op::Forget(Writer::First, "main", 1)];
    for recode in [Recode::Copies, Recode::CodesAnew] {
        let (compact, on_top) = (
            Op::Compact(Writer::First, recode),
            Op::Save(by_second("main", 2)),
        );
        every_way(&dropped, &compact, &on_top);
        let (compact, on_top) = (
            Op::Compact(Writer::Second, recode),
            Op::Save(save("main", 2)),
        );
        every_way(&dropped, &on_top, &compact);
    }
}

#[test]
fn a_compaction_and_a_deletion_do_not_meet() {
    let forget = Op::Forget(Writer::First, "solo", 1);
    every_way(&[], &forget, &Op::Compact(Writer::Second, Recode::Copies));
    let thin = Op::Thin(Writer::Second, "main", 1);
    every_way(&[], &Op::Compact(Writer::First, Recode::CodesAnew), &thin);
}

/// The source is dropped and collected between the choice and the fork: there is no such
/// checkpoint, which is no damage.
#[test]
fn a_fork_of_what_was_just_collected_says_that_it_is_gone() {
    let gone = Op::InTurn(vec![
        Op::Forget(Writer::Second, "solo", 1),
        Op::Gc(Writer::Second),
    ]);
    every_way(&[], &Op::Fork("solo", 0, "again"), &gone);
}
