//! A small store with every kind of file and record, and everything that reading it may say.
#![expect(
    clippy::disallowed_methods,
    reason = "damages files behind the store's back"
)]

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use milepost_engine::{
    CheckpointId, Durability, Error, ErrorKind, Full, ReaderMode, Result, SaveOptions, Selection,
    Store, StoreOptions, StoreSettings, Unobserved,
};

use crate::support::packs::files_below;
use crate::support::state::{State, Tensor, noise, state_of};

/// The blob of a step, of which no other holds a copy.
fn blob(step: u16) -> Vec<u8> {
    format!("a blob of text, of text, of text, of some text {step}").into_bytes()
}

/// What a checkpoint must hold.
pub(crate) struct Expected {
    id: CheckpointId,
    state: State,
    blob: Vec<u8>,
}

/// Answers that come back right from the undamaged store: tensors and blob of each checkpoint.
pub(crate) const ALL_RIGHT: u32 = 8;

/// A store in a folder and all that it holds.
pub(crate) struct Fixture {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) files: Vec<PathBuf>,
    expected: Vec<Expected>,
}

/// What came of reading a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) right: u32,
    pub(crate) refused: u32,
}

fn options(reader: ReaderMode) -> StoreOptions {
    StoreOptions {
        adopt: false,
        lock_timeout: None,
        quota: None,
        threads: 1,
        cache_bytes: 0,
        reader,
        clock: || 1_700_000_000_000,
    }
}

/// State `step` of a run: floats that drift (deltas of zstd and raw planes), noise that is stored raw and
/// changes in one byte, a constant, and two more types.
fn state(run: u16, step: u16) -> State {
    // Twelve bits behind the point: enough for planes of every kind in little space.
    let drift = |i: u16| (f32::from(i) * 0.37 + f32::from(run)).sin() * 4096.0 + f32::from(step);
    let drift = |i: u16| drift(i).round() / 4096.0;
    let mut raw = noise(7 + u64::from(run), 300);
    raw[5] = u8::try_from(step / 2).unwrap();
    let mut tensors = state_of([
        ("drift", Tensor::floats((0..1060).map(drift))),
        ("noise", Tensor::bytes(raw)),
        ("zero", Tensor::bytes(vec![0; 5000])),
        ("empty", Tensor::bytes(Vec::new())),
    ]);
    let half = Tensor::bytes((0..200u8).flat_map(|i| [i, 0x3f]).collect());
    let half = Tensor {
        dtype: milepost_engine::Dtype::BF16,
        shape: vec![10, 20],
        ..half
    };
    tensors.insert("half".into(), half);
    tensors
}

impl Fixture {
    /// A full checkpoint, a relaxed one of deltas, a self-contained one with a tag, and a fork
    /// of the second.
    pub(crate) fn new() -> Self {
        Self::of_run(0)
    }

    /// As [`Self::new`], with other bytes for every number.
    pub(crate) fn of_run(run: u16) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let settings = StoreSettings {
            chunk_len: 4096,
            uuid: [3; 16],
            ..StoreSettings::default()
        };
        let store = Store::create(folder.path(), settings, options(ReaderMode::Auto)).unwrap();
        let mut expected = Vec::new();
        for step in 0..3 {
            let mut options = SaveOptions::new("main");
            if step == 1 {
                options.durability = Durability::Relaxed;
            }
            if step == 2 {
                options.full = Full::SelfContained;
                options.tags = vec!["best".into()];
            }
            let (state, blob) = (state(run, step), blob(step));
            let mut draft = store.draft(options).unwrap();
            for (name, t) in &state {
                draft.tensor(name, t.dtype, &t.shape, &t.bytes).unwrap();
            }
            draft.blob("text", &blob).unwrap();
            draft.metric("loss", f64::from(step)).unwrap();
            draft.metadata("note", "kept").unwrap();
            let id = draft.commit().unwrap().id;
            expected.push(Expected { id, state, blob });
        }
        let fork = store.fork("main~1", "trial").unwrap().id;
        expected.push(Expected {
            id: fork,
            state: state(run, 1),
            blob: blob(1),
        });
        let files = files_below(folder.path());
        let files: Vec<_> = files
            .into_iter()
            .filter(|f| !f.starts_with("txn"))
            .collect();
        for file in &files {
            let writable = std::fs::Permissions::from_mode(0o644);
            std::fs::set_permissions(folder.path().join(file), writable).unwrap();
        }
        Self {
            folder,
            files,
            expected,
        }
    }

    pub(crate) fn path(&self, file: &Path) -> PathBuf {
        self.folder.path().join(file)
    }

    pub(crate) fn read(&self, file: &Path) -> Vec<u8> {
        std::fs::read(self.path(file)).unwrap()
    }

    /// Puts bytes in a file's place, as a new file.
    pub(crate) fn write(&self, file: &Path, bytes: &[u8]) {
        self.clear(file);
        std::fs::write(self.path(file), bytes).unwrap();
    }

    /// Takes away whatever lies at a name.
    pub(crate) fn clear(&self, file: &Path) {
        let path = self.path(file);
        if path.is_dir() && !path.is_symlink() {
            std::fs::remove_dir_all(path).unwrap();
        } else if path.symlink_metadata().is_ok() {
            std::fs::remove_file(path).unwrap();
        }
    }

    pub(crate) fn open(&self, reader: ReaderMode) -> Result<Store> {
        Store::open(self.folder.path(), options(reader))
    }

    /// Opens, lists and restores everything: each answer is right or a typed error of a kind
    /// that damage may have.
    pub(crate) fn read_all(&self, reader: ReaderMode) -> Outcome {
        let mut outcome = Outcome::default();
        let store = match self.open(reader) {
            Ok(store) => store,
            Err(error) => {
                outcome.refuse(&error);
                return outcome;
            }
        };
        match store.tags() {
            Ok(tags) => assert!(
                tags.iter()
                    .all(|(name, id)| name == "best" && *id == self.best())
            ),
            Err(error) => outcome.refuse(&error),
        }
        match store.list(None) {
            Ok(listing) => {
                let known = |id: &CheckpointId| self.expected.iter().any(|e| e.id == *id);
                assert!(listing.checkpoints.iter().all(|s| known(&s.id)));
                listing
                    .damaged
                    .iter()
                    .for_each(|d| outcome.refuse(&d.error));
            }
            Err(error) => outcome.refuse(&error),
        }
        match store.checkpoint("best") {
            Ok(best) => assert_eq!(best.id(), self.best()),
            Err(error) => outcome.refuse(&error),
        }
        for expected in &self.expected {
            expected.read(&store, &mut outcome);
        }
        outcome
    }

    /// Every tensor and blob of every checkpoint, with its bytes.
    pub(crate) fn parts(&self) -> Vec<(CheckpointId, String, Vec<u8>)> {
        let of_checkpoint = |e: &Expected| {
            let tensors = e
                .state
                .iter()
                .map(|(name, t)| (name.clone(), t.bytes.clone()));
            let all = tensors.chain([("text".to_owned(), e.blob.clone())]);
            all.map(|(name, bytes)| (e.id, name, bytes))
                .collect::<Vec<_>>()
        };
        self.expected.iter().flat_map(of_checkpoint).collect()
    }

    fn best(&self) -> CheckpointId {
        self.expected[2].id
    }
}

impl Expected {
    fn read(&self, store: &Store, outcome: &mut Outcome) {
        let checkpoint = match store.checkpoint_by_id(&self.id) {
            Ok(checkpoint) => checkpoint,
            Err(error) => return outcome.refuse(&error),
        };
        let body = &checkpoint.manifest().body;
        let note = BTreeMap::from([("note".into(), "kept".into())]);
        assert_eq!(
            (&body.metadata, body.tensors.len()),
            (&note, self.state.len())
        );
        let mut buffers: Vec<Vec<u8>> = self
            .state
            .values()
            .map(|t| vec![0x55; t.bytes.len()])
            .collect();
        let mut targets: Vec<&mut [u8]> = buffers.iter_mut().map(Vec::as_mut_slice).collect();
        let plan = checkpoint.plan(&Selection::all());
        match plan.and_then(|(_, plan)| checkpoint.restore_into(&plan, &mut targets, &Unobserved)) {
            Ok(()) => {
                let mut tensors = self.state.values().zip(&buffers);
                assert!(
                    tensors.all(|(t, found)| t.bytes == *found),
                    "wrong bytes came back"
                );
                outcome.right += 1;
            }
            Err(error) => outcome.refuse(&error),
        }
        match checkpoint.blob("text") {
            Ok(bytes) => {
                assert!(bytes == self.blob, "wrong bytes came back");
                outcome.right += 1;
            }
            Err(error) => outcome.refuse(&error),
        }
    }
}

impl Outcome {
    fn refuse(&mut self, error: &Error) {
        let of_damage = matches!(
            error.kind(),
            ErrorKind::Corrupt | ErrorKind::NotFound | ErrorKind::Io
        );
        assert!(of_damage, "{error:?}");
        self.refused += 1;
    }
}
