//! Everything on a simulated machine that a crash acts on: files, folders and pending names.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use milepost_engine::store::path::StorePath;

use super::inode::Inode;
use crate::support::rng::Rng;

pub(super) type InodeId = usize;
type FolderId = usize;

/// What a name leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Node {
    File(InodeId),
    Folder(FolderId),
    /// A link, a FIFO or the like.
    Other,
}

type Names = BTreeMap<Arc<str>, Node>;

#[derive(Clone, Debug, Default)]
struct Folder {
    /// The names that the device has.
    device: Arc<Names>,
    /// The names that processes see.
    now: Arc<Names>,
}

/// A change of a folder that the device may or may not have; `None` removes the name.
#[derive(Clone, Debug)]
struct Change {
    folder: FolderId,
    name: Arc<str>,
    node: Option<Node>,
}

/// A copy shares everything that does not change: taking one costs little.
#[derive(Clone, Debug)]
pub(crate) struct State {
    inodes: Vec<Arc<Inode>>,
    folders: Vec<Arc<Folder>>,
    /// In the order they were made, over all folders.
    pending: Vec<Change>,
    pub(super) boot: u64,
}

/// What a crash left.
#[derive(Debug)]
pub(crate) struct Crashed {
    pub(crate) state: State,
    /// Equal for equal images; ids that the engine draws at random do not count.
    pub(crate) digest: u64,
    /// Whether a file lost bytes that it had.
    pub(crate) torn: bool,
}

/// What can be asked of an image without changing it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Question {
    /// What is in this folder?
    Names(StorePath),
    /// What is in this file?
    File(StorePath),
    /// Which boot is it?
    Boot,
}

impl State {
    /// An empty root folder.
    pub(super) fn new() -> Self {
        Self {
            inodes: Vec::new(),
            folders: vec![Arc::default()],
            pending: Vec::new(),
            boot: 1,
        }
    }

    /// What a path leads to; `None` if nothing.
    pub(super) fn find(&self, path: &str) -> Option<Node> {
        let mut node = Node::Folder(0);
        for part in path.split('/').filter(|p| !p.is_empty()) {
            let Node::Folder(folder) = node else {
                return None;
            };
            node = *self.folders[folder].now.get(part)?;
        }
        Some(node)
    }

    pub(super) fn names(&self, folder: FolderId) -> impl Iterator<Item = (&str, Node)> {
        self.folders[folder]
            .now
            .iter()
            .map(|(name, node)| (&**name, *node))
    }

    pub(super) fn inode(&self, id: InodeId) -> &Inode {
        &self.inodes[id]
    }

    pub(super) fn inode_mut(&mut self, id: InodeId) -> &mut Inode {
        Arc::make_mut(&mut self.inodes[id])
    }

    pub(super) fn add_inode(&mut self) -> InodeId {
        self.inodes.push(Arc::default());
        self.inodes.len() - 1
    }

    pub(super) fn add_folder(&mut self) -> Node {
        self.folders.push(Arc::default());
        Node::Folder(self.folders.len() - 1)
    }

    /// Sets or removes a name; `false` if its folder is missing.
    pub(super) fn set_name(&mut self, path: &str, node: Option<Node>) -> bool {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let Some(Node::Folder(folder)) = self.find(parent) else {
            return false;
        };
        let name: Arc<str> = name.into();
        let names = Arc::make_mut(&mut Arc::make_mut(&mut self.folders[folder]).now);
        match node {
            Some(node) => names.insert(Arc::clone(&name), node),
            None => names.remove(&name),
        };
        self.pending.push(Change { folder, name, node });
        true
    }

    /// Makes a folder's names durable; the folder's own name is its parent's affair.
    pub(super) fn sync_folder(&mut self, folder: FolderId) {
        let held = Arc::make_mut(&mut self.folders[folder]);
        held.device = Arc::clone(&held.now);
        self.pending.retain(|change| change.folder != folder);
    }

    /// How much a crash now has to decide: unsynced names outside `txn/`, and unsynced files.
    pub(crate) fn uncertainties(&self) -> u64 {
        let txn = self.find("txn");
        let names = self
            .pending
            .iter()
            .filter(|change| txn != Some(Node::Folder(change.folder)));
        let files = self.folders.iter().flat_map(|folder| folder.now.values());
        let unsynced = files.filter(|node| match node {
            Node::File(id) => !self.inodes[*id].is_clean(),
            _ => false,
        });
        (names.count() + unsynced.count()) as u64
    }

    /// The machine loses its power: unsynced names and bytes survive as chance has it.
    pub(crate) fn crash(&self, rng: &mut Rng) -> Crashed {
        let kept = self.surviving_changes(rng);
        let mut folders = self.folders.clone();
        let mut touched: BTreeMap<FolderId, Names> = BTreeMap::new();
        for (change, _) in self.pending.iter().zip(kept).filter(|(_, kept)| *kept) {
            let names = touched
                .entry(change.folder)
                .or_insert_with(|| (*self.folders[change.folder].device).clone());
            match change.node {
                Some(node) => names.insert(Arc::clone(&change.name), node),
                None => names.remove(&change.name),
            };
        }
        for (id, folder) in folders.iter_mut().enumerate() {
            let device = touched
                .remove(&id)
                .map_or_else(|| Arc::clone(&folder.device), Arc::new);
            if !Arc::ptr_eq(&folder.now, &device) || !Arc::ptr_eq(&folder.device, &device) {
                let now = Arc::clone(&device);
                *folder = Arc::new(Folder { device, now });
            }
        }
        let mut after = Self {
            inodes: self.inodes.clone(),
            folders,
            pending: Vec::new(),
            boot: self.boot + 1,
        };
        // Of no use any more: states that were found before stay where they were.
        rng.next();
        let mut digest = DefaultHasher::new();
        let torn = after.crash_files(0, rng, &mut digest);
        Crashed {
            state: after,
            digest: digest.finish(),
            torn,
        }
    }

    /// Which pending changes the device has: a prefix of all, or any subset.
    fn surviving_changes(&self, rng: &mut Rng) -> Vec<bool> {
        let count = self.pending.len();
        if rng.percent(40) {
            // Most of the undecided is recent: half of the prefixes end there.
            let recent = if rng.percent(50) { count } else { count.min(8) };
            let prefix = count - rng.below(recent + 1);
            return (0..count).map(|i| i < prefix).collect();
        }
        let percent = [10, 50, 90][rng.below(3)];
        (0..count).map(|_| rng.percent(percent)).collect()
    }

    /// Crashes every file below a folder. Files without a surviving name are gone, because
    /// nothing reaches them.
    fn crash_files(&mut self, folder: FolderId, rng: &mut Rng, digest: &mut impl Hasher) -> bool {
        let names = Arc::clone(&self.folders[folder].now);
        let mut torn = false;
        for (name, node) in names.iter() {
            digest_name(name).hash(digest);
            match node {
                Node::File(id) => {
                    if !self.inodes[*id].is_settled() {
                        let (crashed, lost) = self.inodes[*id].crash(rng);
                        self.inodes[*id] = Arc::new(crashed);
                        torn |= lost;
                    }
                    self.inodes[*id].digest().hash(digest);
                }
                Node::Folder(inner) => {
                    torn |= self.crash_files(*inner, rng, digest);
                    u64::MAX.hash(digest);
                }
                Node::Other => {}
            }
        }
        torn
    }

    /// A hash of what the device has of a file; only after a crash, when nothing is dirty.
    pub(crate) fn digest_of(&self, path: &str) -> Option<u64> {
        match self.find(path)? {
            Node::File(id) => Some(self.inodes[id].digest()),
            _ => None,
        }
    }

    /// A hash of the answer to a question; only after a crash, when nothing is dirty.
    pub(crate) fn answer(&self, question: &Question) -> u64 {
        let mut hasher = DefaultHasher::new();
        match question {
            Question::Boot => self.boot.hash(&mut hasher),
            Question::File(path) => match self.find(path.as_str()) {
                Some(Node::File(id)) => (1, self.inodes[id].digest()).hash(&mut hasher),
                other => other.is_some().hash(&mut hasher),
            },
            Question::Names(path) => match self.find(path.as_str()) {
                Some(Node::Folder(id)) => {
                    for (name, node) in self.names(id) {
                        (name, std::mem::discriminant(&node)).hash(&mut hasher);
                    }
                }
                other => other.is_some().hash(&mut hasher),
            },
        }
        hasher.finish()
    }

    /// The files below a folder and hashes of what readers see of them.
    pub(crate) fn files(&self, folder: &str) -> BTreeMap<String, u64> {
        let mut files = BTreeMap::new();
        let Some(Node::Folder(id)) = self.find(folder) else {
            return files;
        };
        for (name, node) in self.names(id) {
            let path = format!("{folder}/{name}");
            match node {
                Node::File(inode) => {
                    let mut hasher = DefaultHasher::new();
                    self.inodes[inode].cache.hash(&mut hasher);
                    files.insert(path, hasher.finish());
                }
                Node::Folder(_) => files.extend(self.files(&path)),
                Node::Other => {}
            }
        }
        files
    }
}

/// Intents and temporaries are named at random; what they are is in their endings.
fn digest_name(name: &str) -> &str {
    match name.split_once('.') {
        Some((stem, rest)) if stem.len() == 32 => rest,
        _ => name,
    }
}
