//! What happens after a crash: the next writer's work, during which the machine crashes again.

use std::sync::Arc;

use milepost_engine::Full;

use super::check::{self, Violation};
use super::driver::{Done, Driver};
use super::expect::{Event, Expect, Flight};
use super::explore::Tally;
use super::workload::{Op, Save, Writer, relaxed, save};
use crate::support::broken_disk::{BrokenDisk, Fault};
use crate::support::rng::{Rng, mix};
use crate::support::sim_disk::{Machine, State};

/// Crashes within crashes.
const DEPTH_MAX: u64 = 3;
/// Moments of a recovery that are crashed.
const MOMENTS: usize = 64;

/// Boots on an image, goes on working, checks, and crashes the recovery as well.
pub(super) fn recover(
    tally: &Tally,
    state: State,
    expect: &Expect,
    rng: &mut Rng,
    depth: u64,
) -> Result<(), Violation> {
    tally.recovers();
    let fault = tally.plan.fault;
    let machine = Machine::boot(state, rng.next());
    machine.record();
    let driver = Driver::after(&machine, fault, expect);
    work(&driver, expect, rng, depth)?;
    let moments = machine.take_moments();
    let expected = expect.clone().after_each(&driver.events());
    let last = &expected[driver.events().len()];
    let fresh = BrokenDisk::over(machine.process(), fault);
    check::check(fresh, last, None)?;
    check_through_a_writer(&machine, last)?;
    for _ in 0..MOMENTS {
        let moment = &moments[rng.below(moments.len())];
        let expect = &expected[moment.mark];
        let crashed = moment.state.crash(rng);
        let after = expect.crash();
        let digest = mix(crashed.digest ^ mix(after.digest()));
        let again = depth < DEPTH_MAX && rng.percent(4);
        let is_new = tally.count(digest, crashed.torn, true);
        if is_new || tally.plan.only.is_some() {
            tally.check_crashed(&crashed, &after)?;
        }
        if again {
            recover(tally, crashed.state, &after, rng, depth + 1)?;
        }
    }
    Ok(())
}

/// What a user does next: the same again, then something new.
fn work(driver: &Arc<Driver>, expect: &Expect, rng: &mut Rng, depth: u64) -> Result<(), Violation> {
    if !expect.initialized {
        driver.perform(&Op::Init)?;
    }
    for flight in expect.in_flight.iter().filter(|f| f.op != Op::Init) {
        // A relaxed checkpoint that is gone can neither be forked nor tagged.
        let source = flight.op.source();
        if source.is_none_or(|key| expect.must.contains_key(&key)) {
            retry(driver, flight)?;
        }
    }
    let step = 100 + 10 * depth;
    let next: Vec<Save> = match rng.below(6) {
        0 => vec![Save {
            tags: &["best"],
            ..save("main", step)
        }],
        1 => vec![relaxed("main", step), save("main", step + 1)],
        2 => vec![save("side", step), save("side", 1)],
        // What was saved relaxed, if it is there at all, is to be durable now.
        3 => vec![save("copy", 0), save("loose", 1)],
        4 => vec![save("main", 4), save("main", 5)],
        _ => vec![Save {
            full: Full::Shared,
            ..save("loose", step)
        }],
    };
    for save in next {
        driver.perform(&Op::Save(save))?;
        check::nothing_is_left_behind(&driver.machine.state())?;
    }
    if rng.percent(50) {
        driver.perform(&Op::Forget(Writer::First, "main", 2))?;
    }
    if rng.percent(50) {
        driver.perform(&Op::Gc(Writer::Second))?;
        check::nothing_is_unneeded(&driver.first_store())?;
    }
    Ok(())
}

/// Does again what the crash cut off. If the crash left all its packs whole, nothing is to be
/// stored a second time.
fn retry(driver: &Arc<Driver>, flight: &Flight) -> Result<(), Violation> {
    let before = driver.machine.state().files("packs");
    driver.perform(&flight.op)?;
    if matches!(flight.op, Op::Save(_)) {
        check::nothing_is_left_behind(&driver.machine.state())?;
    }
    let all_there = flight.packs.as_ref().is_some_and(|packs| {
        packs
            .iter()
            .all(|(path, digest)| before.get(path) == Some(digest))
    });
    let after = driver.machine.state().files("packs");
    if all_there && after.len() > before.len() {
        return Err(Violation::new(
            "I5",
            format!("{:?} stores again what was there", flight.op),
        ));
    }
    let stored = driver.events().pop().and_then(|event| match event {
        Event::Done {
            done: Done::Saved(report),
            ..
        } => Some(report.new_chunks),
        _ => None,
    });
    let isolated = matches!(&flight.op, Op::Save(s) if s.full == Full::SelfContained);
    if all_there && !isolated && stored.is_some_and(|chunks| chunks > 0) {
        return Err(Violation::new(
            "I5",
            format!("{:?} finds nothing of what was there", flight.op),
        ));
    }
    Ok(())
}

/// A handle that has saved knows every pack of the store, those of dead writers too: it must
/// still load everything. The save is done on a copy of the machine.
fn check_through_a_writer(machine: &Machine, expect: &Expect) -> Result<(), Violation> {
    let machine = Machine::boot(machine.state(), 1);
    let driver = Driver::after(&machine, Fault::None, expect);
    driver.perform(&Op::Save(save("probe", 0)))?;
    let expected = expect.clone().after_each(&driver.events());
    let store = driver.first_store();
    let store = store.map_err(|e| Violation::new("I1", format!("no store: {e:?}")))?;
    check::check_store(&store, &expected[expected.len() - 1], None)
}
