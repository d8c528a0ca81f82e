//! What once went wrong, each told as a story: a writer is killed or the power is cut at a
//! certain point, somebody goes on working, and the power is cut again.

use milepost_engine::{Full, Store};

use super::driver::{Driver, options};
use super::scene::{CUTS, Scene};
use super::workload::{Op, Recode, Save, Writer, by_second, in_parts, relaxed, save, tagged};
use crate::support::broken_disk::Fault;
use crate::support::rng::Rng;
use crate::support::sim_disk::{Faults, Machine};

/// Histories of compactions that are killed; two of them met what their test tells.
const SHUFFLES: std::ops::Range<u64> = 335..350;

/// A writer is killed between the naming of its manifest and the sync of the folder. The same
/// save again finds its checkpoint there already and has nothing to do: it returned at once, and
/// a power cut took the checkpoint that had been called durable. It did not set the tags either.
#[test]
fn a_save_tried_again_after_a_kill_is_as_durable_as_any() {
    let scene = Scene::new(&[Op::Init, Op::Save(save("main", 0))]);
    scene.kill_everywhere(&[Op::Save(tagged("main", 1, &["best"]))]);
}

/// Who makes a store is killed between the naming of FORMAT and the sync of the root. Others see
/// the store and save durably; a power cut took FORMAT and with it everything.
#[test]
fn a_store_whose_maker_was_killed_keeps_what_is_saved() {
    Scene::new(&[]).kill_everywhere(&[Op::Init, Op::Save(save("main", 0))]);
}

/// A relaxed checkpoint is saved again, durably. It is there, so nothing was done, and a power
/// cut took it.
#[test]
fn a_relaxed_checkpoint_saved_again_durably_is_durable() {
    let scene = Scene::new(&[Op::Init, Op::Save(relaxed("main", 0))]);
    let after = scene.then(&[Op::Save(save("main", 0))], Faults::default());
    after.survives_cuts();
}

/// A power cut leaves a relaxed save's pack with a whole index and damaged records. The next
/// save found its chunks in that pack and referred to them, or failed for ever because the
/// damaged pack has the very name that the new one is to get.
#[test]
fn a_damaged_pack_is_neither_used_nor_in_the_way() {
    let scene = Scene::new(&[
        Op::Init,
        Op::Save(save("main", 0)),
        Op::Save(relaxed("main", 1)),
    ]);
    let again = [Op::Save(save("main", 1)), Op::Save(save("main", 2))];
    for cut in scene.cuts() {
        cut.then(&again, Faults::default()).survives_cuts();
    }
}

/// Two runs hold the same checkpoint, one durably. A power cut damages the manifest of the
/// other, and looking the checkpoint up by its id met only the damaged one.
#[test]
fn a_damaged_manifest_hides_no_whole_one_of_the_same_id() {
    let copy = Save {
        full: Full::SelfContained,
        ..relaxed("copy", 0)
    };
    let scene = Scene::new(&[
        Op::Init,
        Op::Save(tagged("main", 0, &["best"])),
        Op::Save(copy),
    ]);
    scene.survives_cuts();
}

/// The device refuses the bytes of a relaxed save, and the sync that a durable one asks for
/// fails. The kernel tells only once: the next sync of the same file works, though the bytes are
/// not on the device.
#[test]
fn a_sync_that_failed_is_not_believed_when_tried_again() {
    let scene = Scene::new(&[
        Op::Init,
        Op::Save(save("main", 0)),
        Op::Save(relaxed("main", 1)),
    ]);
    for ops in [[Op::Save(save("main", 1))], [Op::Save(save("main", 2))]] {
        for sync in 0..12 {
            let faults = Faults {
                fail_sync_at: Some(sync),
                ..Faults::default()
            };
            for luck in 0..8 {
                scene.then_with_luck(&ops, faults, luck).survives_cuts();
            }
        }
    }
}

/// A coordinator's sync of a part's pack failed, and the part's writer, whom nobody told, took
/// its bytes for stored whenever it saved the part again: the device never had them, and the
/// checkpoint could not be committed until that process ended. Met after 13 million crash states.
#[test]
fn a_sync_that_failed_of_another_s_part_does_not_fail_every_commit() {
    let scene = Scene::new(&[Op::Init, Op::Save(in_parts(save("wide", 0)))]);
    // Of step 2 one part is relaxed.
    let ops = [Op::Save(in_parts(save("wide", 2)))];
    for sync in 0..16 {
        let faults = Faults {
            fail_sync_at: Some(sync),
            ..Faults::default()
        };
        for luck in 0..8 {
            scene.then_with_luck(&ops, faults, luck).survives_cuts();
        }
    }
}

/// As above, but it is another process that is told, between this one's look at what the device
/// has and its own sync.
#[test]
fn a_sync_that_failed_for_another_is_not_believed() {
    let scene = Scene::new(&[
        Op::Init,
        Op::Save(save("main", 0)),
        Op::Save(relaxed("main", 1)),
    ]);
    let first = Op::Save(save("main", 1));
    let second = Op::Once(Box::new(Op::Save(by_second("main", 1))));
    let steps = scene.moments(std::slice::from_ref(&first)).len() as u64;
    for (after, sync, luck) in (0..steps * 16 * 3).map(|n| (n / 48, n / 3 % 16, n % 3)) {
        let machine = Machine::boot(scene.state.clone(), luck);
        machine.set_faults(Faults {
            fail_sync_at: Some(sync),
            ..Faults::default()
        });
        let driver = Driver::new(&machine, Fault::None, false, after);
        let both = Op::Interleaved(Box::new(first.clone()), Box::new(second.clone()));
        driver.perform(&both).unwrap();
        let mut expected = scene.expect.clone().after_each(&driver.events());
        let after = Scene {
            state: machine.state(),
            expect: expected.pop().unwrap(),
        };
        assert_eq!(after.cuts().take(4).count(), 4);
    }
}

/// A power cut leaves a relaxed save's manifest with a count above the format's limit. That is
/// no checksum error, and the newest checkpoint of the run could not be found for it.
#[test]
fn whatever_is_left_of_a_relaxed_manifest_is_passed_over() {
    let scene = Scene::new(&[
        Op::Init,
        Op::Save(save("main", 0)),
        Op::Save(relaxed("main", 1)),
    ]);
    for seed in 0..3000 {
        let after = Scene {
            state: scene.state.crash(&mut Rng::new(seed)).state,
            expect: scene.expect.crash(),
        };
        let checked = after.checked();
        assert!(checked.is_ok(), "cut {seed}: {checked:?}");
    }
}

/// A durable save's pack is named and whole, but what it was coded against is a relaxed save's
/// that the power cut takes. The same save again found its chunks in that pack and missed their
/// inputs.
#[test]
fn a_pack_without_its_inputs_is_not_used() {
    let scene = Scene::new(&[
        Op::Init,
        Op::Save(relaxed("loose", 0)),
        Op::Save(relaxed("loose", 1)),
    ]);
    let again = [Op::Save(save("loose", 2)), Op::Save(save("loose", 3))];
    for moment in scene.moments(&[Op::Save(save("loose", 2))]) {
        for cut in moment.cuts().take(8) {
            cut.then(&again, Faults::default()).survives_cuts();
        }
    }
}

/// A writer is killed while it moves a tag. Its intent went with the next writer, its temporary
/// file only with the one after that.
#[test]
fn temporary_files_go_with_the_next_writer() {
    let scene = Scene::new(&[
        Op::Init,
        Op::Save(save("main", 0)),
        Op::Save(tagged("main", 1, &["best"])),
    ]);
    scene.kill_everywhere(&[Op::Tag("best", "main", 0)]);
}

/// Who drops checkpoints is killed before the unlinked manifests are gone for good. The next
/// one finds nothing left to drop, so does not sync either; packs were collected all the same,
/// and the power cut brought the manifests back.
#[test]
fn packs_outlast_manifests_that_may_come_back() {
    let scene = Scene::new(&[
        Op::Init,
        Op::Save(save("main", 0)),
        Op::Save(Save {
            full: Full::SelfContained,
            ..save("main", 1)
        }),
    ]);
    let forget = Op::Forget(Writer::First, "main", 1);
    scene.kill_everywhere(&[forget, Op::Gc(Writer::First)]);
}

/// Killed anywhere, a collection and a thinning leave what the next one can finish.
#[test]
fn deletions_that_were_killed_are_done_again() {
    let scene = Scene::new(&[
        Op::Init,
        Op::Save(save("main", 0)),
        Op::Save(save("side", 0)),
        Op::Save(save("main", 1)),
        Op::Save(relaxed("main", 2)),
        Op::Save(save("main", 3)),
    ]);
    scene.kill_everywhere(&[
        Op::Thin(Writer::First, "main", 2),
        Op::Forget(Writer::First, "main", 1),
        Op::Gc(Writer::First),
        Op::Save(save("main", 4)),
    ]);
}

/// Killed anywhere, a compaction leaves every checkpoint whole, and the next one can finish.
#[test]
fn a_compaction_that_was_killed_is_done_again() {
    let scene = Scene::new(&[
        Op::Init,
        Op::Save(save("main", 0)),
        Op::Save(save("main", 1)),
        Op::Save(relaxed("main", 2)),
        Op::Save(save("main", 3)),
        Op::Forget(Writer::First, "main", 2),
    ]);
    for recode in [Recode::Copies, Recode::CodesAnew] {
        scene.kill_everywhere(&[
            Op::Compact(Writer::First, recode),
            Op::Save(save("main", 4)),
        ]);
    }
}

/// A relaxed save holds the chunks of a durable checkpoint less deep. A compaction leaves that
/// pack as it is and makes the durable checkpoint rely on it.
#[test]
fn what_only_relaxed_checkpoints_named_is_made_durable_first() {
    let scene = Scene::new(&[
        Op::Init,
        Op::Save(save("main", 0)),
        Op::Save(save("main", 1)),
        Op::Save(Save {
            full: Full::SelfContained,
            ..relaxed("copy", 1)
        }),
    ]);
    let compact = [Op::Compact(Writer::First, Recode::CopiesIdle)];
    let before = scene.state.files("packs").len();
    let after = scene.then(&compact, Faults::default());
    assert!(after.state.files("packs").len() < before);
    after.survives_cuts();
}

/// A writer is killed between the naming of its manifest and the sync of the folder, and what
/// came before it is dropped for its sake. A power cut could take the new name and keep the
/// removal of the old one: the run was empty.
#[test]
fn what_is_kept_is_durable_before_anything_goes_for_its_sake() {
    let scene = Scene::new(&[Op::Init, Op::Save(save("main", 0))]);
    for killed in scene.moments(&[Op::Save(save("main", 1))]) {
        for moment in killed.moments(&[Op::Forget(Writer::First, "main", 1)]) {
            for seed in 0..CUTS {
                let after = moment.state.crash(&mut Rng::new(seed)).state;
                let machine = Machine::boot(after, 1);
                let store = Store::open_on(machine.process(), options()).unwrap();
                let newest = store.checkpoint("main").unwrap();
                assert!(newest.tensor("weights").is_ok(), "cut {seed}");
            }
        }
    }
}

/// A compaction that coded anew was killed between two manifests, and what stayed of both codings
/// was thinned out. A record was left in a pack that something else needed, and what it was coded
/// against was left deeper than it: nothing needed it, and `verify` called it damage.
#[test]
fn what_two_codings_leave_is_sound() {
    for seed in SHUFFLES {
        let mut rng = Rng::new(seed);
        let mut scene = Scene::new(&[
            Op::Init,
            Op::Save(save("main", 0)),
            Op::Save(save("main", 1)),
            Op::Fork("main", 1, "copy"),
            Op::Save(save("side", 1)),
            Op::Save(save("side", 2)),
        ]);
        let mut step = 3;
        for _ in 0..6 {
            scene = scene.shuffled(&mut rng, &mut step);
            scene.is_sound(seed);
        }
    }
}
