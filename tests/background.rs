//! Saves in the background: what is saved is what was handed over, in order, and a failure is
//! returned once, whoever asks first.

use std::sync::atomic::{AtomicBool, Ordering};

use milepost_engine::{
    ByteSource, Dtype, Error, ErrorKind, Result, SaveHandle, SaveOptions, Store,
};

use crate::support::store::TestStore;

const LEN: usize = 3 << 20;

fn hand_over(store: &Store, step: u64, bytes: &[u8]) -> Result<SaveHandle> {
    let state = step.to_le_bytes();
    let mut draft = store.draft(SaveOptions::new("main").step(step))?;
    draft.tensor("w", Dtype::U8, &[bytes.len() as u64], bytes)?;
    draft.blob("state", &state)?;
    draft.metadata("step", &step.to_string())?;
    draft.metric("loss", 0.5)?;
    draft.commit_in_background()
}

fn noise(seed: u64) -> Vec<u8> {
    let mut state = seed;
    let next = |_| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 56).to_le_bytes()[0]
    };
    (0..LEN).map(next).collect()
}

#[test]
fn what_is_changed_after_the_call_is_not_what_is_saved() {
    let test = TestStore::new();
    let mut bytes = noise(1);
    let handle = hand_over(&test.store, 3, &bytes).unwrap();
    bytes.fill(0);
    let report = handle.wait().unwrap();
    assert_eq!(report.step, 3);
    let saved = test.reopened().checkpoint("latest").unwrap();
    assert_eq!(saved.tensor("w").unwrap(), noise(1));
    assert_eq!(saved.blob("state").unwrap(), 3u64.to_le_bytes());
    let body = &saved.manifest().body;
    assert_eq!(body.metadata.get("step").map(String::as_str), Some("3"));
    assert_eq!(body.metrics.get("loss"), Some(&0.5));
}

#[test]
fn each_continues_the_one_before_it() {
    let test = TestStore::new();
    let mut bytes = noise(2);
    let mut handles = Vec::new();
    for step in 0..6 {
        bytes[usize::try_from(step).unwrap()] ^= 1;
        handles.push(hand_over(&test.store, step, &bytes).unwrap());
    }
    let ids: Vec<_> = handles.into_iter().map(|h| h.wait().unwrap().id).collect();
    for step in 1..6 {
        let checkpoint = test.store.checkpoint(&format!("step:{step}")).unwrap();
        assert_eq!(checkpoint.manifest().body.parent, Some(ids[step - 1]));
    }
    let listed = test.store.list(None).unwrap().checkpoints;
    let steps: Vec<u64> = listed.iter().map(|c| c.step).collect();
    assert_eq!(steps, [0, 1, 2, 3, 4, 5]);
}

/// The same step with another content: it fails only when its turn comes.
fn conflict(test: &TestStore) -> SaveHandle {
    let good = hand_over(&test.store, 1, &noise(1)).unwrap();
    let bad = hand_over(&test.store, 1, &noise(2)).unwrap();
    good.wait().unwrap();
    bad
}

#[test]
fn a_failure_is_returned_by_the_handle_and_by_nothing_else() {
    let test = TestStore::new();
    let error = conflict(&test).wait().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    test.store.finish_background().unwrap();
    hand_over(&test.store, 2, &noise(3))
        .unwrap()
        .wait()
        .unwrap();
}

#[test]
fn a_failure_of_a_dropped_handle_is_returned_by_the_next_draft_once() {
    let test = TestStore::new();
    let bad = conflict(&test);
    while !bad.is_done() {
        std::thread::yield_now();
    }
    drop(bad);
    let error = test.store.draft(SaveOptions::new("main")).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    test.store.draft(SaveOptions::new("main")).unwrap();
    test.store.finish_background().unwrap();
}

#[test]
fn a_failure_after_the_handle_was_dropped_is_returned_at_the_end() {
    let test = TestStore::new();
    drop(conflict(&test));
    let error = test.store.finish_background().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    test.store.finish_background().unwrap();
}

#[test]
fn a_cancelled_save_leaves_nothing_and_stops_nothing() {
    let test = TestStore::new();
    let first = hand_over(&test.store, 0, &noise(1)).unwrap();
    let second = hand_over(&test.store, 1, &noise(2)).unwrap();
    second.cancel();
    first.wait().unwrap();
    let error = second.wait().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted);
    let third = hand_over(&test.store, 2, &noise(3)).unwrap();
    third.wait().unwrap();
    let listed = test.store.list(None).unwrap().checkpoints;
    assert_eq!(listed.iter().map(|c| c.step).collect::<Vec<_>>(), [0, 2]);
}

#[test]
fn progress_ends_at_all_the_bytes() {
    let test = TestStore::new();
    let handle = hand_over(&test.store, 0, &noise(1)).unwrap();
    while !handle.is_done() {
        let (done, total) = handle.progress();
        assert!(done <= total || total == 0);
    }
    assert_eq!(handle.progress(), (LEN as u64 + 8, LEN as u64 + 8));
    handle.wait().unwrap();
}

/// A source that may refuse.
struct Moody(AtomicBool);

impl ByteSource for Moody {
    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        if self.0.load(Ordering::SeqCst) {
            return Err(Error::invalid("moody", "not now"));
        }
        out.fill(offset.to_le_bytes()[0]);
        Ok(())
    }
}

#[test]
fn a_source_is_read_before_the_call_returns_and_may_refuse() {
    let test = TestStore::new();
    let source = Moody(AtomicBool::new(true));
    let save = |source: &Moody| {
        let mut draft = test.store.draft(SaveOptions::new("main")).unwrap();
        let added = draft.tensor_from("w", Dtype::U8, &[1000], source, 5);
        added.unwrap();
        draft.commit_in_background()
    };
    assert_eq!(save(&source).unwrap_err().code(), "moody");
    source.0.store(false, Ordering::SeqCst);
    let handle = save(&source).unwrap();
    source.0.store(true, Ordering::SeqCst);
    handle.wait().unwrap();
    let saved = test.store.checkpoint("latest").unwrap();
    assert_eq!(saved.tensor("w").unwrap(), vec![5; 1000]);
    test.store.finish_background().unwrap();
}
