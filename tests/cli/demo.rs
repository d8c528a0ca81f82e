//! The demo in short: it trains, kills, resumes and proves.

use crate::support::command::TestFolder;

#[test]
fn the_demo_proves_that_nothing_was_lost() {
    let test = TestFolder::empty();
    let text = test.ok(&["demo", "--steps", "20", "--keep", "kept"]);
    assert!(
        text.contains("Act one") && text.contains("Act two"),
        "{text}"
    );
    assert!(
        text.contains("proof: the final states are equal, bit for bit"),
        "{text}"
    );
    assert!(
        text.contains("milepost -s kept/uninterrupted log"),
        "{text}"
    );
    for store in ["kept/uninterrupted", "kept/killed"] {
        assert_eq!(test.json(&["-s", store, "stats"])["checkpoints"], 20);
        assert_eq!(
            test.json(&["-s", store, "verify", "--read-data"])["ok"],
            true
        );
    }
    test.fails(1, &["demo", "--steps", "20", "--keep", "kept"]);
}

#[test]
fn the_demo_for_machines_tells_the_same() {
    let test = TestFolder::empty();
    let told = test.json(&["demo", "--steps", "20"]);
    assert_eq!(told["proved"], true);
    assert_eq!(told["checkpoints"].as_array().unwrap().len(), 20);
    assert_eq!(told["identical_checkpoints"], 20);
    assert_eq!(told["fingerprint"], told["resumed_fingerprint"]);
    assert!(told["killed_while_saving_step"].as_u64() >= Some(10));
    assert!(test.folder.path().read_dir().unwrap().next().is_none());
}
