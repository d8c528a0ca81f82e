//! One test for each fault that was found and fixed; each tells its story.

use milepost_engine::codec::{self, Layout, Method, Workspace, transform::Transform};
use milepost_engine::dtype::Lane;
use milepost_engine::format::cache_file::CachedIndex;
use milepost_engine::format::limits;
use milepost_engine::format::pack;
use milepost_engine::format::section;
use milepost_engine::{
    ByteSource, CheckpointId, Dtype, Durability, ErrorKind, Full, Level, Relation, Result,
    SaveOptions, Store, StoreOptions, StoreSettings, hash,
};

use crate::support::hostile::{self, Codes, HostileStore};
use crate::support::store::{TestStore, save_floats};

/// A cache names the offset of each index that it holds. The fuzzer gave one near the end of
/// 64 bits: the reader's own offset, kept for error messages, overflowed and panicked.
#[test]
fn an_index_at_the_end_of_all_offsets_is_refused() {
    let index = pack::encode_index(&mut []).unwrap().0;
    for at in [u64::MAX, u64::MAX - 9] {
        assert!(pack::decode_index(&index, at).is_err());
        let item = [
            &hash::pack_id(&index).0[..],
            &[0; 8],
            &at.to_le_bytes(),
            &index,
        ];
        assert!(CachedIndex::decode(&item.concat(), |_| true).is_err());
    }
}

/// The fuzzer encoded no bytes at all, and bytes that do not fill a lane: the first divided
/// planes by nothing and panicked, the second lost its tail. Both are stored raw now.
#[test]
fn bytes_that_are_no_whole_lanes_are_stored_as_they_are() {
    for raw in [&b""[..], b"abc", b"0123456789"] {
        let lane = Lane {
            width: 4,
            float: true,
        };
        let (mut record, mut workspace) = (Vec::new(), Workspace::default());
        codec::encode(
            raw,
            None,
            lane,
            Method {
                transform: Transform::Rotate,
                layout: Layout::Planes,
            },
            Level::Fast,
            &mut workspace,
            &mut record,
        )
        .unwrap();
        let mut out = vec![0x55; raw.len()];
        codec::decode(&record, &[], &mut out, &mut workspace).unwrap();
        assert_eq!(out, raw);
        assert!(record.len() <= codec::max_encoded_len(raw.len()));
    }
}

/// A record of lane width 3, or with parameters that nothing takes, is refused by `decode`; the
/// fuzzer saw `borrow_raw` lend its bytes all the same, so one reader took what another refused.
#[test]
fn a_record_that_cannot_be_decoded_cannot_be_borrowed() {
    let good = Codes {
        streams: vec![(0, vec![9; 64])],
        ..Codes::zeros(64)
    };
    assert!(codec::borrow_raw(&good.bytes()).unwrap().is_some());
    let bad_width = Codes {
        lane_width: 3,
        ..good.clone()
    };
    let bad_params = Codes {
        params: vec![1],
        ..good
    };
    for bad in [bad_width, bad_params] {
        assert_eq!(
            codec::borrow_raw(&bad.bytes()).unwrap_err().code(),
            "record-rule"
        );
    }
}

/// A manifest of a few kilobytes can claim a blob of 128 TiB, all of it one chunk of zeros. The
/// buffer for it was allocated without asking, and the allocator ended the process.
#[test]
fn a_blob_too_large_for_memory_is_an_error() {
    let (chunk_len, chunks) = (64u64 << 20, 1 << 21);
    let planted = HostileStore::new();
    let hint = planted.plant_records(&[Codes::zeros(64 << 20).record(1, 0, &[])]);
    let body = hostile::blob_of(chunk_len << 21, chunk_len, vec![hostile::chunk(1); chunks]);
    let id = planted.plant_body(&body.encode().unwrap(), &[hint]);
    let error = planted.open().checkpoint_by_id(&id).unwrap().blob("b");
    assert_eq!(error.unwrap_err().code(), "memory");
}

/// 255 inputs of 64 MiB, each a record of 17 bytes: all were decoded and held, 16 GiB in all,
/// before the record that needs them was found to be of no known predictor.
#[test]
fn more_inputs_than_any_predictor_takes_are_refused_before_they_are_made() {
    let planted = HostileStore::new();
    let tags: Vec<u8> = (1..=255).collect();
    let mut records: Vec<_> = tags
        .iter()
        .map(|tag| Codes::zeros(64 << 20).record(*tag, 0, &[]))
        .collect();
    let many = Codes {
        inputs: 255,
        ..Codes::same_as_input(64 << 20)
    };
    records.push(many.record(0, 1, &tags));
    let error = planted.error_of(&records, 0, 64 << 20);
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::Unsupported, "inputs")
    );
}

/// A file named as checkpoint 2^64 - 1 of a run: the next save added one to it. When that was
/// refused, one junk file ended the run.
#[test]
fn a_junk_file_with_the_last_number_ends_no_run() {
    let planted = HostileStore::new();
    let junk = |seq: u64| format!("runs/main/{seq:020}-{}.ckpt", CheckpointId([1; 32]));
    planted.plant(&junk(u64::MAX), b"");
    let save = || planted.open().draft(SaveOptions::new("main"))?.commit();
    assert_eq!(save().unwrap().seq, 1);
    planted.plant(&junk(u64::MAX - 1), b"");
    let error = save().unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Limit, "run-full"));
}

/// One flipped bit in the count of a manifest's sections was called a passed limit, since the
/// count is read before its checksum. Only damaged manifests are passed over in the search for
/// the newest whole one, so the run could neither be read at `latest` nor be saved to.
#[test]
fn a_damaged_section_count_does_not_hide_the_checkpoints_before_it() {
    let test = TestStore::new();
    let first = save_floats(&test.store, 0, &[("w", &[1.0])]);
    let last = save_floats(&test.store, 1, &[("w", &[2.0])]);
    let planted = HostileStore::around(test);
    let path = format!("runs/main/{:020}-{}.ckpt", last.seq, last.id);
    let mut file = std::fs::read(planted.root().join(&path)).unwrap();
    file[33] ^= 1;
    planted.plant(&path, &file);
    let store = planted.open();
    assert_eq!(store.checkpoint("latest").unwrap().id(), first.id);
    assert_eq!(save_floats(&store, 2, &[("w", &[3.0])]).seq, 3);
}

/// The hints of a manifest may be left out by the format. Reading then looks at every pack,
/// but a fork looked at none and called the store corrupt.
#[test]
fn a_checkpoint_without_hints_can_be_forked() {
    let planted = HostileStore::new();
    planted.plant_records(&[Codes::zeros(64).record(1, 0, &[])]);
    let body = hostile::body_of(64, 64, vec![hostile::chunk(1)]);
    let body = body.encode().unwrap();
    let placement = hostile::placement().encode().unwrap();
    let id = planted.plant_sections(
        &body,
        &mut [
            hostile::raw(section::BODY, &body),
            hostile::raw(section::PLACEMENT, &placement),
        ],
    );
    let report = planted.open().fork(&id.to_string(), "other").unwrap();
    let forked = planted.open().checkpoint_by_id(&report.id).unwrap();
    assert_eq!(forked.tensor("w").unwrap(), [0; 64]);
    let source = planted.open().checkpoint_by_id(&id).unwrap();
    let lent = source.with_raw_chunk(&hostile::chunk(1), <[u8]>::len);
    assert!(lent.unwrap().is_none(), "zeros are not stored raw");
}

/// Of equal records the catalog takes the one of the lowest pack id, which for every other
/// self-contained checkpoint was an older pack: its manifest then named packs of others.
#[test]
fn a_self_contained_checkpoint_names_only_its_own_packs() {
    for seed in 0..8u16 {
        let test = TestStore::new();
        let weights: Vec<f32> = (0..3000).map(|i| f32::from(i ^ seed).sin()).collect();
        save_floats(&test.store, 0, &[("w", &weights)]);
        let before = test.store.disk_usage().unwrap().packs;
        let mut options = SaveOptions::new("main");
        options.full = Full::SelfContained;
        let mut draft = test.store.draft(options).unwrap();
        let bytes: Vec<u8> = weights.iter().flat_map(|v| v.to_le_bytes()).collect();
        draft.tensor("w", Dtype::F32, &[3000], &bytes).unwrap();
        draft.blob("more", b"another pack").unwrap();
        let report = draft.commit().unwrap();
        assert_eq!(test.store.disk_usage().unwrap().packs, before + 1);
        let checkpoint = test.store.checkpoint_by_id(&report.id).unwrap();
        assert_eq!(checkpoint.manifest().packs.len(), 1, "seed {seed}");
    }
}

/// A save that was cut off between its manifest and its tag is repeated by the caller: the
/// repetition found the checkpoint and left the tag unset. And a durable repetition of a
/// relaxed save returned at once, with nothing durable.
#[test]
fn a_repeated_save_still_sets_its_tags_and_its_durability() {
    let test = TestStore::new();
    let save = |durability, tags: &[&str]| {
        let mut options = SaveOptions::new("main").step(1).durability(durability);
        options.tags = tags.iter().map(|t| (*t).to_owned()).collect();
        let mut draft = test.store.draft(options).unwrap();
        draft.tensor("w", Dtype::U8, &[4], b"same").unwrap();
        draft.commit().unwrap()
    };
    let first = save(Durability::Relaxed, &[]);
    let second = save(Durability::Durable, &["best"]);
    assert!(second.existed && second.id == first.id);
    assert_eq!(test.store.tags().unwrap().get("best"), Some(&first.id));
}

/// The format allows 2^23 chunks in a checkpoint. A writer that passed it made a manifest that
/// no reader takes, or ran out of memory while it listed the chunks.
#[test]
fn a_state_of_too_many_chunks_is_refused_before_it_is_read() {
    struct Unread;
    impl ByteSource for Unread {
        fn read_at(&self, _: u64, _: &mut [u8]) -> Result<()> {
            panic!("the save should not get this far")
        }
    }
    let test = TestStore::new();
    let mut draft = test.store.draft(SaveOptions::new("main")).unwrap();
    draft
        .tensor_from("w", Dtype::U8, &[1 << 60], &Unread, 0)
        .unwrap();
    let error = draft.commit().unwrap_err();
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::Limit, "chunk-refs")
    );
}

/// A FORMAT file longer than a reader takes was written all the same: the folder then held a
/// store that could neither be opened nor be made anew.
#[test]
fn settings_too_long_to_read_back_make_no_store() {
    let folder = tempfile::tempdir().unwrap();
    let long = |i| (format!("keep.{i}"), "x".repeat(limits::KEY_LEN_MAX));
    let settings = StoreSettings {
        attributes: (0..20).map(long).collect(),
        ..StoreSettings::default()
    };
    let error = Store::create(folder.path(), settings, StoreOptions::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    Store::create(
        folder.path(),
        StoreSettings::default(),
        StoreOptions::default(),
    )
    .unwrap();
}

/// No rows of a tensor that has none, in a row shape whose size overflows: an empty result was
/// called a mistake of the caller.
#[test]
fn no_rows_of_an_empty_tensor_are_no_bytes() {
    let test = TestStore::new();
    let mut draft = test.store.draft(SaveOptions::new("main")).unwrap();
    draft
        .tensor("a", Dtype::F4, &[0, u64::MAX], b"")
        .unwrap()
        .tensor("b", Dtype::U8, &[0, u64::MAX, 2], b"")
        .unwrap();
    let report = draft.commit().unwrap();
    let checkpoint = test.store.checkpoint_by_id(&report.id).unwrap();
    for name in ["a", "b"] {
        assert_eq!(checkpoint.rows(name, 0..0).unwrap(), b"");
    }
}

/// One weight in a hundred changed, with its moments. A step of Adam foretold the weights so that
/// they took a third of standing alone, and no other base was looked at: their old values would
/// have done it in far less.
#[test]
fn a_good_prediction_does_not_hide_a_better_base() {
    let test = TestStore::new();
    let number = |at: u64| {
        let bits = crate::support::rng::mix(at) >> 40;
        (bits as f32 / 8_388_608.0 - 1.0) * 0.1
    };
    let floats = |seed: u64| -> Vec<f32> { (0..40_000).map(|i| number(seed << 32 | i)).collect() };
    let mut state = [
        ("w", floats(1)),
        ("m", floats(2)),
        ("v", floats(3).iter().map(|m| m * m).collect()),
    ];
    let save = |state: &[(&str, Vec<f32>); 3]| {
        let bytes = state.each_ref().map(|(name, values)| {
            let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
            (*name, bytes)
        });
        let mut draft = test.store.draft(SaveOptions::new("main")).unwrap();
        for (name, bytes) in &bytes {
            draft.tensor(name, Dtype::F32, &[200, 200], bytes).unwrap();
        }
        let (exp_avg, exp_avg_sq) = ("m".to_owned(), "v".to_owned());
        draft.relate(
            "w",
            Relation::Adam {
                exp_avg,
                exp_avg_sq,
            },
        );
        draft.commit().unwrap()
    };
    let first = save(&state);
    for (_, values) in &mut state {
        for at in (0..values.len()).step_by(97) {
            values[at] *= 1.001;
        }
    }
    let second = save(&state);
    assert!(
        second.added_bytes * 10 < first.added_bytes,
        "{} against {}",
        second.added_bytes,
        first.added_bytes
    );
}

/// Of tensors that are related and that only differences from their parents describe, the first
/// to be coded used up the restore budget of all: the others could not be deltas any more. A
/// fine-tune took 0.652 of raw instead of 0.623.
#[test]
fn related_tensors_share_their_restore_budget_fairly() {
    let stored = |related: bool| {
        let test = TestStore::new();
        let mut added = 0;
        for step in 0..8u16 {
            // Every value moves a little at every step, by itself.
            let noise = |word: u32| {
                let word = word.wrapping_mul(2_654_435_761);
                f32::from(u16::try_from((word ^ word >> 15) & 0xffff).unwrap()) / 65_536.0 - 0.5
            };
            let values = |seed: u32| -> Vec<f32> {
                let value = |i: u32| {
                    let moves = (0..=u32::from(step)).map(|s| noise(i + seed * 5000 + s * 20_000));
                    noise(i * 3 + seed * 7 + 1) * (1.0 + moves.sum::<f32>() * 1e-3)
                };
                (0..4000).map(value).collect()
            };
            let (w, m, v) = (values(1), values(2), values(3));
            let bytes = |x: &[f32]| -> Vec<u8> { x.iter().flat_map(|v| v.to_le_bytes()).collect() };
            let all = [("m", bytes(&m)), ("v", bytes(&v)), ("w", bytes(&w))];
            let options = SaveOptions::new("main").step(step.into());
            let mut draft = test.store.draft(options).unwrap();
            for (name, bytes) in &all {
                draft.tensor(name, Dtype::F32, &[4000], bytes).unwrap();
            }
            if related {
                let (exp_avg, exp_avg_sq) = ("m".into(), "v".into());
                let relation = Relation::Adam {
                    exp_avg,
                    exp_avg_sq,
                };
                draft.relate("w", relation);
            }
            added += draft.commit().unwrap().added_bytes;
        }
        added
    };
    let (related, unrelated) = (stored(true), stored(false));
    assert!(
        related * 100 < unrelated * 105,
        "{related} bytes with relations that do not hold, {unrelated} without"
    );
}
