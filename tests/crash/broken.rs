//! Protocols with one step wrong: a test that does not catch them proves nothing.

use super::explore::{Plan, Summary, WAYS_MAX, explore};
use crate::support::broken_disk::{Fault, Part};

/// States within which a broken protocol must be caught.
const STATES_MAX: u64 = 30_000;

fn explored(fault: Fault, states: u64, ways_max: u64) -> Summary {
    explore(Plan {
        seed: 1,
        states,
        fault,
        stop_at_first: true,
        ways_max,
        only: None,
    })
}

fn caught(name: &str, fault: Fault) {
    // What shows only with the right interruption needs many workloads, not many crashes.
    let ways_max = match fault {
        Fault::LocksDoNotExclude => 0,
        _ => WAYS_MAX,
    };
    let summary = explored(fault, STATES_MAX, ways_max);
    let Some((violation, _)) = summary.violations.first() else {
        panic!("{name} was not caught in {} states", summary.states);
    };
    println!(
        "broken | {name} | {} after {} states in {} runs | {}",
        violation.invariant, summary.states, summary.runs, violation.what
    );
}

macro_rules! broken {
    ($($name:ident: $fault:expr;)*) => {
        $(#[test]
        fn $name() {
            caught(stringify!($name), $fault);
        })*
    };
}

/// Records and packs are proved before they are relied on, so one step is not needed: a pack may
/// have its name before it is synced, if only it is synced before the manifest that needs it.
#[test]
fn packs_may_be_named_before_they_are_synced() {
    let summary = explored(Fault::NameBeforeSync(Part::Pack), STATES_MAX / 4, WAYS_MAX);
    assert!(summary.violations.is_empty(), "{summary}");
}

broken! {
    packs_are_not_synced: Fault::NoFileSync(Part::Pack);
    manifests_are_not_synced: Fault::NoFileSync(Part::Manifest);
    tags_are_not_synced: Fault::NoFileSync(Part::Tag);
    format_is_not_synced: Fault::NoFileSync(Part::Format);
    folders_of_packs_are_not_synced: Fault::NoFolderSync(Part::PackFolder);
    the_packs_folder_is_not_synced: Fault::NoFolderSync(Part::Packs);
    folders_of_runs_are_not_synced: Fault::NoFolderSync(Part::RunFolder);
    the_runs_folder_is_not_synced: Fault::NoFolderSync(Part::Runs);
    the_tags_folder_is_not_synced: Fault::NoFolderSync(Part::Tags);
    the_root_is_not_synced: Fault::NoFolderSync(Part::Root);
    folders_of_packs_are_synced_late: Fault::LateFolderSync(Part::PackFolder);
    folders_of_runs_are_synced_late: Fault::LateFolderSync(Part::RunFolder);
    relaxed_packs_are_not_made_durable: Fault::NoSyncOfNamed(Part::Pack);
    manifests_are_named_before_synced: Fault::NameBeforeSync(Part::Manifest);
    tags_are_removed_before_replaced: Fault::RemoveBeforeReplace;
    manifests_come_before_packs: Fault::ManifestBeforePack;
    packs_are_written_in_place: Fault::PackInPlace;
    packs_replace_packs: Fault::PublishReplaces(Part::Pack);
    format_is_replaced: Fault::PublishReplaces(Part::Format);
    failed_syncs_are_swallowed: Fault::SwallowFailedSync;
    the_boot_id_stays: Fault::BootIdStays;
    nothing_is_removed: Fault::NothingRemoved;
    locks_do_not_exclude: Fault::LocksDoNotExclude;
}
