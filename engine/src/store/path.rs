//! Where things lie in a store (format-spec.md section 5): the only code that makes paths.
//!
//! A path is made of fixed folder names, hex of ids, decimal numbers and checked run and tag
//! names; no other text from a file or a caller can become one.

use std::fmt;

use crate::error::Result;
use crate::format::name;
use crate::id::{CheckpointId, PackId};

/// A path relative to the store's root, safe by construction.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StorePath(String);

impl StorePath {
    /// The path's text, with `/` between its parts.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The folder it lies in; the root's is the root.
    #[must_use]
    pub fn parent(&self) -> Self {
        Self(
            self.0
                .rsplit_once('/')
                .map_or_else(String::new, |(dir, _)| dir.to_owned()),
        )
    }

    /// Its last part.
    #[must_use]
    pub fn file_name(&self) -> &str {
        self.0
            .rsplit_once('/')
            .map_or(self.0.as_str(), |(_, name)| name)
    }
}

impl fmt::Display for StorePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "." } else { &self.0 })
    }
}

/// The store's root folder.
#[must_use]
pub fn root() -> StorePath {
    StorePath(String::new())
}

/// The FORMAT file.
#[must_use]
pub fn format_file() -> StorePath {
    StorePath("FORMAT".into())
}

/// One of the fixed folders.
#[must_use]
pub fn folder(folder: Folder) -> StorePath {
    StorePath(folder.name().into())
}

/// The fixed folders of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Folder {
    /// Packs, in folders of two hex digits.
    Packs,
    /// Manifests, in a folder for each run.
    Runs,
    /// Tags.
    Tags,
    /// Intents and locks of live writers.
    Txn,
    /// What a collector set aside.
    Trash,
    /// What can be rebuilt.
    Cache,
}

impl Folder {
    /// Every folder, in the order they are made.
    pub const ALL: [Self; 6] = [
        Self::Packs,
        Self::Runs,
        Self::Tags,
        Self::Txn,
        Self::Trash,
        Self::Cache,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Packs => "packs",
            Self::Runs => "runs",
            Self::Tags => "tags",
            Self::Txn => "txn",
            Self::Trash => "trash",
            Self::Cache => "cache",
        }
    }
}

/// The folder of packs whose ids begin with `byte`.
#[must_use]
pub fn pack_folder(byte: u8) -> StorePath {
    StorePath(format!("packs/{byte:02x}"))
}

/// A pack.
#[must_use]
pub fn pack(id: &PackId) -> StorePath {
    StorePath(format!("packs/{:02x}/{id}.pack", id.0[0]))
}

/// The id in a pack's file name, if it is one.
#[must_use]
pub fn parse_pack(file_name: &str) -> Option<PackId> {
    file_name.strip_suffix(".pack")?.parse().ok()
}

/// A pack that a collector has set aside.
#[must_use]
pub fn trashed(id: &PackId) -> StorePath {
    StorePath(format!("trash/{id}.pack"))
}

/// The folder of a run.
///
/// # Errors
/// `InvalidInput` if the name is not allowed.
pub fn run_folder(run: &str) -> Result<StorePath> {
    name::check(run, "run")?;
    Ok(StorePath(format!("runs/{run}")))
}

/// A manifest.
///
/// # Errors
/// `InvalidInput` if the run's name is not allowed.
pub fn manifest(run: &str, seq: u64, id: &CheckpointId) -> Result<StorePath> {
    name::check(run, "run")?;
    Ok(StorePath(format!("runs/{run}/{seq:020}-{id}.ckpt")))
}

/// The sequence number and id in a manifest's file name, if it is one.
#[must_use]
pub fn parse_manifest(file_name: &str) -> Option<(u64, CheckpointId)> {
    let (seq, id) = file_name.strip_suffix(".ckpt")?.split_once('-')?;
    let canonical = seq.len() == 20 && seq.bytes().all(|b| b.is_ascii_digit());
    Some((seq.parse().ok().filter(|_| canonical)?, id.parse().ok()?))
}

/// A tag.
///
/// # Errors
/// `InvalidInput` if the name is not allowed.
pub fn tag(tag: &str) -> Result<StorePath> {
    name::check(tag, "tag")?;
    Ok(StorePath(format!("tags/{tag}")))
}

/// The gate that writers share and a collector takes alone.
#[must_use]
pub fn gate() -> StorePath {
    StorePath("txn/gate.lock".into())
}

/// What a collector holds while it waits for the gate, so that no new writer comes before it.
#[must_use]
pub fn turn() -> StorePath {
    StorePath("txn/turn.lock".into())
}

/// What keeps collectors apart.
#[must_use]
pub fn collector() -> StorePath {
    StorePath("txn/collector.lock".into())
}

/// The lock that orders the commits of one run.
///
/// # Errors
/// `InvalidInput` if the name is not allowed.
pub fn run_lock(run: &str) -> Result<StorePath> {
    name::check(run, "run")?;
    Ok(StorePath(format!("txn/run-{run}.lock")))
}

/// The intent of a live writer.
#[must_use]
pub fn intent(txn: u128) -> StorePath {
    StorePath(format!("txn/{txn:032x}.txn"))
}

/// A writer's file before it has a name of its own, on file systems without unnamed files.
#[must_use]
pub fn temporary(txn: u128, number: u64) -> StorePath {
    StorePath(format!("txn/{txn:032x}.{number:08x}.tmp"))
}

/// A file found in `txn/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TxnFile {
    /// A writer's intent.
    Intent(u128, StorePath),
    /// A writer's temporary file.
    Temporary(u128, StorePath),
}

/// What a name in `txn/` says; `None` for locks and for files of others.
#[must_use]
pub fn parse_txn(file_name: &str) -> Option<TxnFile> {
    let path = || StorePath(format!("txn/{file_name}"));
    let txn = file_name
        .get(..32)
        .filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()))?;
    let txn = u128::from_str_radix(txn, 16).ok()?;
    let rest = file_name.get(32..)?;
    if rest == ".txn" {
        return Some(TxnFile::Intent(txn, path()));
    }
    let number = rest.strip_prefix('.')?.strip_suffix(".tmp")?;
    let hex = number.len() == 8 && number.bytes().all(|b| b.is_ascii_hexdigit());
    hex.then(|| TxnFile::Temporary(txn, path()))
}

/// A cache file of one kind, named by the hash of its bytes.
#[must_use]
pub fn cache(kind: &'static str, hash: u128) -> StorePath {
    StorePath(format!("cache/{kind}-{hash:032x}.cache"))
}

/// The path of a cache file of that kind, if the name is one.
#[must_use]
pub fn parse_cache(kind: &'static str, file_name: &str) -> Option<StorePath> {
    let hash = file_name
        .strip_prefix(kind)?
        .strip_prefix('-')?
        .strip_suffix(".cache")?;
    let hex = hash.len() == 32 && hash.bytes().all(|b| b.is_ascii_hexdigit());
    hex.then(|| StorePath(format!("cache/{file_name}")))
}

/// The path of a file in one of the small folders, if its name is one that the store gives.
#[must_use]
pub fn known_file(folder: Folder, file_name: &str) -> Option<StorePath> {
    match folder {
        Folder::Tags => tag(file_name).ok(),
        Folder::Txn => parse_txn(file_name).map(|file| match file {
            TxnFile::Intent(_, path) | TxnFile::Temporary(_, path) => path,
        }),
        Folder::Cache => ["indexes", "summaries"]
            .into_iter()
            .find_map(|kind| parse_cache(kind, file_name)),
        Folder::Packs | Folder::Runs | Folder::Trash => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        let id = CheckpointId([0xab; 32]);
        let path = manifest("main", 7, &id).unwrap();
        assert_eq!(parse_manifest(path.file_name()), Some((7, id)));
        assert_eq!(path.parent(), run_folder("main").unwrap());
        let pack_path = pack(&PackId([1; 32]));
        assert_eq!(parse_pack(pack_path.file_name()), Some(PackId([1; 32])));
        assert_eq!(pack_path.parent(), pack_folder(1));
        assert_eq!(
            parse_txn(intent(5).file_name()),
            Some(TxnFile::Intent(5, intent(5)))
        );
        assert_eq!(
            parse_txn(temporary(5, 1).file_name()),
            Some(TxnFile::Temporary(5, temporary(5, 1)))
        );
        assert_eq!(
            parse_cache("packs", cache("packs", 9).file_name()),
            Some(cache("packs", 9))
        );
    }

    #[test]
    fn foreign_names_are_nothing() {
        for name in [
            "1-ab.ckpt",
            "x",
            "00000000000000000001-zz.ckpt",
            "+0000000000000000001-ab.ckpt",
        ] {
            assert_eq!(parse_manifest(name), None, "{name}");
        }
        for name in ["gate.lock", "../../x", "a.txn", "\u{e9}.txn"] {
            assert_eq!(parse_txn(name), None, "{name}");
        }
        assert!(run_folder("../x").is_err() && tag("a/b").is_err());
    }
}
