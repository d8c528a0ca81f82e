//! A machine's disk at a certain point, and what may happen to it from there.

use milepost_engine::{Store, Unobserved, VerifyOptions};

use super::check::{Violation, check, nothing_is_left_behind};
use super::driver::{Driver, options};
use super::expect::Expect;
use super::workload::{Op, Recode, Writer, save};
use crate::support::broken_disk::Fault;
use crate::support::rng::Rng;
use crate::support::sim_disk::{Faults, Machine, State};

/// Power cuts tried at each point.
pub(super) const CUTS: u64 = 25;

/// A machine's disk and what must be on it.
pub(super) struct Scene {
    pub(super) state: State,
    pub(super) expect: Expect,
}

impl Scene {
    pub(super) fn new(ops: &[Op]) -> Self {
        let empty = Self {
            state: Machine::new(1).state(),
            expect: Expect::default(),
        };
        empty.then(ops, Faults::default())
    }

    /// Goes on with these operations; one that a fault hits is tried again.
    pub(super) fn then(&self, ops: &[Op], faults: Faults) -> Self {
        self.then_with_luck(ops, faults, 1)
    }

    /// Luck says what the device keeps of a file whose sync fails.
    pub(super) fn then_with_luck(&self, ops: &[Op], faults: Faults, luck: u64) -> Self {
        let machine = Machine::boot(self.state.clone(), luck);
        machine.set_faults(faults);
        let driver = Driver::new(&machine, Fault::None, false, 0);
        for op in ops {
            let done = driver.perform(op);
            assert!(done.is_ok(), "{faults:?}: {done:?}");
        }
        let mut expected = self.expect.clone().after_each(&driver.events());
        Self {
            state: machine.state(),
            expect: expected.pop().unwrap(),
        }
    }

    /// The scene at every moment of these operations.
    pub(super) fn moments(&self, ops: &[Op]) -> Vec<Self> {
        let machine = Machine::boot(self.state.clone(), 1);
        machine.record();
        let driver = Driver::new(&machine, Fault::None, false, 0);
        for op in ops {
            driver.perform(op).unwrap();
        }
        let expected = self.expect.clone().after_each(&driver.events());
        let moments = machine.take_moments().into_iter();
        moments
            .map(|moment| Self {
                expect: expected[moment.mark].clone(),
                state: moment.state,
            })
            .collect()
    }

    /// What power cuts leave of it, each checked.
    pub(super) fn cuts(&self) -> impl Iterator<Item = Self> {
        (0..CUTS).map(|seed| {
            let after = Self {
                state: self.state.crash(&mut Rng::new(seed)).state,
                expect: self.expect.crash(),
            };
            let checked = after.checked();
            assert!(checked.is_ok(), "cut {seed}: {checked:?}");
            after
        })
    }

    pub(super) fn checked(&self) -> Result<(), Violation> {
        let machine = Machine::boot(self.state.clone(), 1);
        check(machine.process(), &self.expect, None)
    }

    /// Goes on with saves, a compaction that is killed, a deletion and a collection, by chance.
    pub(super) fn shuffled(self, rng: &mut Rng, step: &mut u64) -> Self {
        let run = |rng: &mut Rng| ["main", "side", "copy"][rng.below(3)];
        let mut scene = self;
        for _ in 0..rng.below(3) {
            let run = run(rng);
            *step += 1;
            scene = scene.then(&[Op::Save(save(run, *step))], Faults::default());
        }
        if rng.percent(60) {
            let recode = [Recode::CodesAnew, Recode::CodesAnew, Recode::Copies][rng.below(3)];
            let moments = scene.moments(&[Op::Compact(Writer::First, recode)]);
            let killed = rng.below(moments.len());
            scene = moments.into_iter().nth(killed).unwrap();
        }
        if rng.percent(60) {
            let run = run(rng);
            let last = 1 + rng.below(3) as u64;
            scene = scene.then(&[Op::Forget(Writer::First, run, last)], Faults::default());
        }
        if rng.percent(50) {
            scene = scene.then(&[Op::Gc(Writer::Second)], Faults::default());
        }
        scene
    }

    /// Everything loads, and a verification has nothing to say.
    pub(super) fn is_sound(&self, seed: u64) {
        let machine = Machine::boot(self.state.clone(), 1);
        let store = Store::open_on(machine.process(), options()).unwrap();
        let verify = VerifyOptions::default();
        let report = store.verify(&verify, &Unobserved).unwrap();
        assert!(report.problems.is_empty(), "{seed}: {:?}", report.problems);
        let checked = self.checked();
        assert!(checked.is_ok(), "{seed}: {checked:?}");
    }

    pub(super) fn survives_cuts(&self) {
        assert_eq!(self.cuts().count() as u64, CUTS);
    }

    /// Does the operations with the writer killed before each of their steps in turn, tries
    /// again, and cuts the power once that has worked.
    pub(super) fn kill_everywhere(&self, ops: &[Op]) {
        let steps = self.moments(ops).len() as u64;
        for step in 0..steps {
            let faults = Faults {
                kill_at: Some(step),
                ..Faults::default()
            };
            let after = self.then(ops, faults);
            after.survives_cuts();
            // What is killed last is the removal of the intent; that waits for the next writer.
            let mut left = after.state.files("txn").into_keys();
            assert!(!left.any(|path| path.ends_with(".tmp")), "step {step}");
            let later = after.then(&[Op::Save(save("main", 50))], Faults::default());
            nothing_is_left_behind(&later.state).unwrap();
        }
    }
}
