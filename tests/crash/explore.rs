//! Takes the workload through crashes: at every moment, in many ways, and again in recovery.

use std::collections::HashSet;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use milepost_engine::store::disk::Disk;

use super::check::{Loaded, LoadedBefore, Violation, check};
use super::driver::Driver;
use super::expect::Expect;
use super::recover;
use super::verdict::{Listener, Verdicts};
use super::workload::script;
use crate::support::broken_disk::{BrokenDisk, Fault};
use crate::support::rng::{Rng, mix};
use crate::support::sim_disk::{Crashed, Faults, Machine, Moment};

/// Ways that one moment is crashed at most.
pub(crate) const WAYS_MAX: u64 = 8;
/// One distinct image in so many is recovered, and the recovery crashed again.
const NESTED_EVERY: usize = 400;
/// Operations of a save that another may come in between.
const INTERRUPTIONS: u64 = 60;
/// One image in so many is loaded whole, even if each of its checkpoints was met before.
const LOAD_ALL_EVERY: u64 = 16;
/// Workloads with other interruptions and faults that are tried when states run out.
const RUNS_MAX: u64 = 100_000;

/// What to explore.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    /// How many crash states.
    pub(crate) states: u64,
    pub(crate) fault: Fault,
    pub(crate) stop_at_first: bool,
    /// How many ways one moment is crashed in at most.
    pub(crate) ways_max: u64,
    /// Only this state: run, moment and way.
    pub(crate) only: Option<[u64; 3]>,
}

/// Counts, shared by all threads.
pub(crate) struct Tally {
    pub(crate) plan: Plan,
    states: AtomicU64,
    drawn: AtomicU64,
    nested: AtomicU64,
    torn: AtomicU64,
    recoveries: AtomicU64,
    seen: Mutex<HashSet<u64>>,
    loaded: Mutex<LoadedBefore>,
    verdicts: Verdicts,
    /// New images that were found to read as one before.
    alike: AtomicU64,
    violations: Mutex<Vec<(Violation, String)>>,
}

/// What came out.
#[derive(Debug)]
pub(crate) struct Summary {
    pub(crate) states: u64,
    /// With those that were met before, and not checked again.
    pub(crate) drawn: u64,
    pub(crate) nested: u64,
    pub(crate) torn: u64,
    /// That answer as an image before to everything that its check asks.
    pub(crate) alike: u64,
    /// Times that work went on after a crash.
    pub(crate) recoveries: u64,
    /// Times that the workload was run.
    pub(crate) runs: u64,
    pub(crate) took: Duration,
    pub(crate) violations: Vec<(Violation, String)>,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "crash states: {} of {} drawn ({} nested, {} torn; {} were read, {} answer as one before), \
             {} recoveries, violations: {}, {:.1} s",
            self.states,
            self.drawn,
            self.nested,
            self.torn,
            self.states.saturating_sub(self.alike),
            self.alike,
            self.recoveries,
            self.violations.len(),
            self.took.as_secs_f64(),
        )?;
        for invariant in ["I1", "I2", "I3", "I4", "I5"] {
            let count = |(v, _): &&(Violation, String)| v.invariant == invariant;
            let count = self.violations.iter().filter(count).count();
            if count > 0 {
                write!(f, ", {invariant}: {count}")?;
            }
        }
        for (violation, place) in self.violations.iter().take(number_shown()) {
            write!(
                f,
                "\n{}: {}\n  {place}",
                violation.invariant, violation.what
            )?;
        }
        Ok(())
    }
}

fn number_shown() -> usize {
    super::number("MILEPOST_CRASH_SHOW").map_or(8, |n| usize::try_from(n).unwrap_or(usize::MAX))
}

impl Tally {
    fn new(plan: Plan) -> Self {
        Self {
            plan,
            states: AtomicU64::new(0),
            drawn: AtomicU64::new(0),
            nested: AtomicU64::new(0),
            torn: AtomicU64::new(0),
            recoveries: AtomicU64::new(0),
            seen: Mutex::default(),
            loaded: Mutex::default(),
            verdicts: Verdicts::default(),
            alike: AtomicU64::new(0),
            violations: Mutex::default(),
        }
    }

    fn is_over(&self) -> bool {
        let found = self.violations.lock().unwrap().len();
        self.states.load(Ordering::Relaxed) >= self.plan.states
            || (self.plan.stop_at_first && found > 0)
            || found >= 1000
    }

    /// Counts work that goes on after a crash.
    pub(super) fn recovers(&self) {
        self.recoveries.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a crash state if it was not met before; only then it is checked.
    pub(super) fn count(&self, digest: u64, torn: bool, nested: bool) -> bool {
        self.drawn.fetch_add(1, Ordering::Relaxed);
        let is_new = self.seen.lock().unwrap().insert(digest);
        if is_new {
            self.states.fetch_add(1, Ordering::Relaxed);
            self.nested.fetch_add(u64::from(nested), Ordering::Relaxed);
            self.torn.fetch_add(u64::from(torn), Ordering::Relaxed);
        }
        is_new
    }

    /// Boots a machine on an image and looks at the store there.
    pub(super) fn check_crashed(
        &self,
        crashed: &Crashed,
        expect: &Expect,
    ) -> Result<(), Violation> {
        let state = &crashed.state;
        let process = || {
            let machine = Machine::boot(state.clone(), 1);
            BrokenDisk::over(machine.process(), self.plan.fault)
        };
        // Now and then everything is loaded, whatever was loaded before.
        if crashed.digest.is_multiple_of(LOAD_ALL_EVERY) {
            return check(process(), expect, None);
        }
        let expected = expect.digest();
        if self.verdicts.are_known(expected, state) {
            self.alike.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        let listener = Listener::over(process());
        let loaded = Loaded {
            state,
            listener: &listener,
            before: &self.loaded,
        };
        check(Arc::clone(&listener) as Arc<dyn Disk>, expect, Some(loaded))?;
        self.verdicts.add(expected, state, &listener);
        Ok(())
    }

    fn report(&self, violation: Violation, place: [u64; 3]) {
        let [run, moment, way] = place;
        let line = format!(
            "reproduce: MILEPOST_CRASH_AT={}:{run}:{moment}:{way} \
             cargo test --test tests crash::no_crash -- --nocapture (fault {:?})",
            self.plan.seed, self.plan.fault
        );
        self.violations.lock().unwrap().push((violation, line));
    }
}

/// Explores on as many threads as there are cores.
pub(crate) fn explore(plan: Plan) -> Summary {
    let (tally, start, next) = (Tally::new(plan), Instant::now(), AtomicU64::new(0));
    let length = Length::measure(plan);
    let threads = match (plan.only, plan.stop_at_first) {
        (None, false) => std::thread::available_parallelism().map_or(1, usize::from),
        _ => 1,
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !tally.is_over() {
                    let run = match plan.only {
                        Some([run, ..]) => run,
                        None => next.fetch_add(1, Ordering::Relaxed),
                    };
                    if run >= RUNS_MAX {
                        return;
                    }
                    explore_run(&tally, &length, run);
                    if plan.only.is_some() {
                        return;
                    }
                }
            });
        }
    });
    Summary {
        states: tally.states.into_inner(),
        drawn: tally.drawn.into_inner(),
        nested: tally.nested.into_inner(),
        torn: tally.torn.into_inner(),
        alike: tally.alike.into_inner(),
        recoveries: tally.recoveries.into_inner(),
        runs: next.into_inner(),
        took: start.elapsed(),
        violations: tally.violations.into_inner().unwrap(),
    }
}

/// Operations and syncs of one workload without faults.
struct Length {
    operations: u64,
    syncs: u64,
}

impl Length {
    fn measure(plan: Plan) -> Self {
        let machine = Machine::new(plan.seed);
        let driver = Driver::new(&machine, plan.fault, false, 5);
        for op in script() {
            if driver.perform(&op).is_err() {
                break;
            }
        }
        Self {
            operations: machine.operations().max(1),
            syncs: machine.syncs().max(1),
        }
    }
}

/// What is to go wrong in a run beside the crashes: in a third nothing.
fn faults_of(plan: Plan, length: &Length, rng: &mut Rng) -> Faults {
    let pick = |rng: &mut Rng, bound: u64| rng.next() % bound;
    let mut faults = Faults::default();
    match rng.below(3) {
        _ if plan.fault == Fault::SwallowFailedSync => {
            faults.fail_sync_at = Some(pick(rng, 8));
            faults.fail_every = Some(7);
        }
        0 => faults.kill_at = Some(pick(rng, length.operations)),
        1 => faults.fail_sync_at = Some(pick(rng, length.syncs)),
        _ => {}
    }
    faults
}

/// One workload from an empty disk to its end, and crashes at all of its moments.
fn explore_run(tally: &Tally, length: &Length, run: u64) {
    let plan = tally.plan;
    let mut rng = Rng::at(&[plan.seed, run]);
    let machine = Machine::new(rng.next());
    let faults = faults_of(plan, length, &mut rng);
    machine.set_faults(faults);
    let lossy = Expect {
        lossy: faults.fail_sync_at.is_some(),
        ..Expect::default()
    };
    machine.record();
    let driver = Driver::new(&machine, plan.fault, lossy.lossy, run % INTERRUPTIONS);
    let failed = script().iter().find_map(|op| driver.perform(op).err());
    let moments = machine.take_moments();
    if let Some(violation) = failed {
        tally.report(violation, [run, moments.len() as u64, 0]);
    }
    let expected = lossy.after_each(&driver.events());
    for (index, moment) in (0u64..).zip(&moments) {
        if tally.is_over() || plan.ways_max == 0 {
            return;
        }
        if plan.only.is_none_or(|[_, only, _]| only == index) {
            explore_moment(tally, moment, &expected[moment.mark], [run, index]);
        }
    }
}

/// Crashes one moment in many ways; in one more the process dies and the machine does not.
fn explore_moment(tally: &Tally, moment: &Moment, expect: &Expect, [run, index]: [u64; 2]) {
    let plan = tally.plan;
    let after = expect.crash();
    let expect_digest = after.digest();
    let ways = (1 + 3 * moment.state.uncertainties()).min(plan.ways_max);
    for way in 0..=ways {
        if plan.only.is_some_and(|[.., only]| only != way) {
            continue;
        }
        let mut rng = Rng::at(&[plan.seed, run, index, way]);
        let result = if way == 0 {
            if rng.below(NESTED_EVERY) > 0 && plan.only.is_none() {
                continue;
            }
            recover::recover(tally, moment.state.clone(), expect, &mut rng, 1)
        } else {
            let crashed = moment.state.crash(&mut rng);
            let digest = mix(crashed.digest ^ mix(expect_digest));
            if !tally.count(digest, crashed.torn, false) && plan.only.is_none() {
                continue;
            }
            tally.check_crashed(&crashed, &after).and_then(|()| {
                if rng.below(NESTED_EVERY) == 0 {
                    return recover::recover(tally, crashed.state, &after, &mut rng, 1);
                }
                Ok(())
            })
        };
        if let Err(violation) = result {
            tally.report(violation, [run, index, way]);
            if tally.is_over() {
                return;
            }
        }
    }
}
