//! A power cut at any moment loses nothing that was acknowledged and shows nothing that is not
//! whole.
//!
//! The promises, as checked after every simulated crash: I1, what was acknowledged as durable is
//! there and exact; I2, nothing loads with wrong bytes; I3, nothing is listed that does not load;
//! I4, recovery works, again and again, whatever it is interrupted by; I5, nothing leaks.

mod broken; // protocols with one step wrong, each of which must be caught
mod check; // the invariants
mod content; // what the checkpoints of the workload hold
mod driver; // does it
mod expect; // what must be there after what was seen done
mod explore; // crashes at every moment of a workload
mod interleaved; // one operation in the middle of another
mod recover; // work after a crash, and crashes of that
mod regression; // the stories of what once went wrong
mod scene; // a disk at a certain point, and what may happen from there
mod verdict; // what a check read, and what that says of other images
mod workload; // what is done

use crate::support::broken_disk::Fault;
use explore::{Plan, Summary, explore};

/// States of an ordinary test run.
const STATES: u64 = 20_000;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// `seed:run:moment:way`, as a violation prints it.
fn one_state() -> Option<[u64; 4]> {
    let text = std::env::var("MILEPOST_CRASH_AT").ok()?;
    let parts: Vec<u64> = text.split(':').filter_map(|p| p.parse().ok()).collect();
    parts.try_into().ok()
}

fn explored() -> Summary {
    let only = one_state();
    explore(Plan {
        seed: only.map_or_else(
            || number("MILEPOST_CRASH_SEED").unwrap_or(1),
            |[seed, ..]| seed,
        ),
        states: number("MILEPOST_CRASH_STATES").unwrap_or(STATES),
        fault: Fault::None,
        stop_at_first: false,
        ways_max: explore::WAYS_MAX,
        only: only.map(|[_, run, moment, way]| [run, moment, way]),
    })
}

#[test]
fn no_crash_loses_or_spoils_anything() {
    let summary = explored();
    println!("{summary}");
    assert!(summary.violations.is_empty(), "{summary}");
}
