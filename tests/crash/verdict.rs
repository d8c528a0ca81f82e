//! Verdicts by what a check read. A check is a function of what is expected and of the answers
//! that it gets from the disk, or would have got of what was loaded before: an image that answers
//! every question of an earlier check in the same way has the same verdict, however it differs in
//! what was not asked for. Now and then an image is read whole all the same.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use milepost_engine::Result;
use milepost_engine::store::disk::{Disk, Entry, FileView, Lock, LockMode, NewFile, Published};
use milepost_engine::store::path::{self, StorePath};

use super::check::{Loaded, LoadedBefore, check};
use super::scene::Scene;
use super::workload::{Op, save};
use crate::support::rng::mix;
use crate::support::sim_disk::{Machine, Question, State};

/// A disk that notes what is asked of it.
#[derive(Debug)]
pub(crate) struct Listener {
    disk: Arc<dyn Disk>,
    questions: Mutex<Vec<Question>>,
    /// What a check makes itself it may read again, and no other image has it.
    changed: AtomicBool,
}

impl Listener {
    pub(crate) fn over(disk: Arc<dyn Disk>) -> Arc<Self> {
        Arc::new(Self {
            disk,
            questions: Mutex::default(),
            changed: AtomicBool::new(false),
        })
    }

    /// Notes a question that is asked past the disk.
    pub(crate) fn note(&self, question: Question) {
        self.questions.lock().unwrap().push(question);
    }

    /// How many questions it has heard.
    pub(crate) fn heard(&self) -> usize {
        self.questions.lock().unwrap().len()
    }

    /// What it has heard since it had heard so many.
    pub(crate) fn since(&self, heard: usize) -> Vec<Question> {
        self.questions.lock().unwrap()[heard..].to_vec()
    }

    fn changes(&self) -> &dyn Disk {
        self.changed.store(true, Ordering::Relaxed);
        &*self.disk
    }

    /// What was asked, each question once; `None` if something was changed.
    fn asked(&self) -> Option<Vec<Question>> {
        let mut questions = std::mem::take(&mut *self.questions.lock().unwrap());
        let mut met = HashSet::new();
        questions.retain(|question| met.insert(question.clone()));
        (!self.changed.load(Ordering::Relaxed)).then_some(questions)
    }
}

impl Disk for Listener {
    fn list(&self, folder: &StorePath) -> Result<Vec<Entry>> {
        self.note(Question::Names(folder.clone()));
        self.disk.list(folder)
    }

    fn open(&self, path: &StorePath) -> Result<Arc<dyn FileView>> {
        self.note(Question::File(path.clone()));
        self.disk.open(path)
    }

    fn open_uncached(&self, path: &StorePath) -> Result<Arc<dyn FileView>> {
        self.note(Question::File(path.clone()));
        self.disk.open_uncached(path)
    }

    fn create(&self, txn: u128) -> Result<Box<dyn NewFile>> {
        self.changes().create(txn)
    }

    fn make_folder(&self, folder: &StorePath) -> Result<()> {
        self.changes().make_folder(folder)
    }

    fn sync(&self, path: &StorePath) -> Result<()> {
        self.changes().sync(path)
    }

    fn link(&self, from: &StorePath, to: &StorePath) -> Result<Published> {
        self.changes().link(from, to)
    }

    fn remove(&self, path: &StorePath) -> Result<()> {
        self.changes().remove(path)
    }

    fn lock(&self, path: &StorePath, mode: LockMode) -> Result<Option<Box<dyn Lock>>> {
        self.changes().lock(path, mode)
    }

    fn boot_id(&self) -> [u8; 16] {
        self.note(Question::Boot);
        self.disk.boot_id()
    }
}

/// Parts that threads wait for one another at, by what is expected.
const PARTS: usize = 64;
/// Answers that a part remembers before it begins anew.
const ANSWERS_MAX: usize = 1 << 18;

/// Images that were found in order.
pub(crate) struct Verdicts(Vec<Mutex<Tree>>);

/// What is asked next, by what is expected and the answers so far.
#[derive(Default)]
struct Tree {
    /// By a hash of these: the next question, or none if all is in order.
    next: HashMap<u64, Option<u32>>,
    questions: Vec<Question>,
    numbers: HashMap<Question, u32>,
}

fn then(answers: u64, answer: u64) -> u64 {
    mix(answers.rotate_left(1) ^ answer)
}

impl Default for Verdicts {
    fn default() -> Self {
        Self((0..PARTS).map(|_| Mutex::default()).collect())
    }
}

impl Verdicts {
    fn of(&self, expected: u64) -> MutexGuard<'_, Tree> {
        let part = usize::try_from(expected % PARTS as u64).unwrap();
        self.0[part].lock().unwrap()
    }

    /// Whether a check of this image would find all in order.
    pub(crate) fn are_known(&self, expected: u64, state: &State) -> bool {
        self.of(expected).is_known(expected, state)
    }

    /// Notes that a check found this image in order.
    pub(crate) fn add(&self, expected: u64, state: &State, listener: &Listener) {
        if let Some(asked) = listener.asked() {
            self.of(expected).add(expected, state, &asked);
        }
    }
}

impl Tree {
    fn is_known(&self, expected: u64, state: &State) -> bool {
        let mut answers = expected;
        while let Some(next) = self.next.get(&answers) {
            let Some(number) = next else {
                return true;
            };
            answers = then(answers, state.answer(&self.questions[*number as usize]));
        }
        false
    }

    fn add(&mut self, expected: u64, state: &State, asked: &[Question]) {
        if self.next.len() > ANSWERS_MAX {
            *self = Self::default();
        }
        let mut answers = expected;
        for question in asked {
            let number = self.number(question);
            // A check that asks in another order is not noted.
            if *self.next.entry(answers).or_insert(Some(number)) != Some(number) {
                return;
            }
            answers = then(answers, state.answer(question));
        }
        self.next.entry(answers).or_insert(None);
    }

    fn number(&mut self, question: &Question) -> u32 {
        if let Some(number) = self.numbers.get(question) {
            return *number;
        }
        let number = u32::try_from(self.questions.len()).unwrap();
        self.questions.push(question.clone());
        self.numbers.insert(question.clone(), number);
        number
    }
}

/// Every file of a store is changed in turn: an image is known if and only if it was not read. So
/// it is where all was loaded before, and a check has only looked at what it would have read.
#[test]
fn an_image_is_known_unless_what_a_check_reads_of_it_is_other() {
    let ops = [
        Op::Init,
        Op::Save(save("main", 1)),
        Op::Save(save("main", 2)),
    ];
    let scene = Scene::new(&ops);
    let (state, expected) = (&scene.state, scene.expect.digest());
    let before = Mutex::<LoadedBefore>::default();
    let listen = || {
        let listener = Listener::over(Machine::boot(state.clone(), 1).process());
        let loaded = Loaded {
            state,
            listener: &listener,
            before: &before,
        };
        let disk = Arc::clone(&listener) as Arc<dyn Disk>;
        check(disk, &scene.expect, Some(loaded)).unwrap();
        (listener.heard(), listener.asked().unwrap())
    };
    let (loading, looking) = (listen(), listen());
    assert!(loading.0 > looking.0, "all is loaded again");
    for (_, asked) in [loading, looking] {
        let mut tree = Tree::default();
        assert!(!tree.is_known(expected, state));
        tree.add(expected, state, &asked);
        assert!(tree.is_known(expected, state));
        assert!(!tree.is_known(expected ^ 1, state));
        only_what_is_not_read_may_change(&tree, expected, state);
    }
}

fn only_what_is_not_read_may_change(tree: &Tree, expected: u64, state: &State) {
    let files = [state.files("packs"), state.files("runs")];
    let files = files.iter().flat_map(|files| files.keys());
    let mut read: Vec<StorePath> = files.filter_map(|file| parsed(file)).collect();
    read.push(path::format_file());
    assert_eq!(read.len(), 2 + 2 + 1);
    let locks = [path::gate(), path::run_lock("main").unwrap()];
    for file in read.iter().chain(&locks) {
        let machine = Machine::boot(state.clone(), 1);
        machine.append_in_place(file, b"x");
        machine.process().sync(file).unwrap();
        let is_known = tree.is_known(expected, &machine.state());
        assert_eq!(is_known, locks.contains(file), "{file:?}");
    }
}

/// The path of a pack or manifest.
fn parsed(file: &str) -> Option<StorePath> {
    let (folder, name) = file.rsplit_once('/')?;
    match path::parse_pack(name) {
        Some(pack) => Some(path::pack(&pack)),
        None => {
            let (seq, id) = path::parse_manifest(name)?;
            path::manifest(folder.strip_prefix("runs/")?, seq, &id).ok()
        }
    }
}
