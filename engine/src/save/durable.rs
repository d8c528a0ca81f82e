//! What a checkpoint needs, made durable and, on request, read back from the device.

use std::collections::HashSet;

use rayon::iter::{IntoParallelRefIterator, ParallelIterator};

use crate::error::{ErrorKind, Result};
use crate::format::manifest::Manifest;
use crate::format::placement::PackHint;
use crate::id::ChunkId;
use crate::progress::{self, Observer};
use crate::restore::decode::Decoder;
use crate::restore::recipe::Recipe;
use crate::store::Store;
use crate::store::catalog::Catalog;
use crate::store::disk::Disk;
use crate::store::pack_file::{PackFile, SealedPack};
use crate::store::path;
use crate::store::txn::Transaction;

/// Holds that every pack found by dedup is still there: a collector may have run meanwhile.
pub(super) fn require_packs(store: &Store, packs: &[PackHint]) -> Result<()> {
    for hint in packs {
        PackFile::open_for_records(&*store.0.disk, &hint.pack)?.require_len(hint.len)?;
    }
    Ok(())
}

/// Makes packs and their names durable. What a durable checkpoint needs is so already; packs of
/// others, found by dedup, may not be.
pub(crate) fn sync_packs(
    store: &Store,
    txn: &Transaction,
    own: &[SealedPack],
    needed: &[PackHint],
) -> Result<()> {
    let disk = &*store.0.disk;
    let own: HashSet<_> = own.iter().filter(|p| p.new).map(|p| p.hint.pack).collect();
    let mut folders = HashSet::new();
    for hint in needed {
        let (path, is_own) = (path::pack(&hint.pack), own.contains(&hint.pack));
        if store.0.catalog.is_settled(&hint.pack) && !is_own {
            continue;
        }
        if !is_own {
            // Of a sync that failed, only the first caller was told, and the kernel goes on
            // showing the bytes that it could not write: the device is asked what it has.
            let synced = disk.sync(&path);
            let proved = synced.and_then(|()| PackFile::open_uncached(disk, &hint.pack)?.prove());
            let kept = proved.or_else(|error| match error.kind() {
                ErrorKind::Corrupt => write_again(disk, txn, hint).map_err(|e| match e.kind() {
                    ErrorKind::Corrupt => error,
                    _ => e,
                }),
                _ => Err(error),
            });
            if let Err(error) = kept {
                store.forget_packs();
                return Err(error.hint("try again: what another save left could not be kept"));
            }
        }
        folders.insert(path.parent());
    }
    let mut folders: Vec<_> = folders.into_iter().collect();
    folders.sort_unstable();
    for folder in &folders {
        disk.sync(folder)?;
    }
    // A folder may be new; its own name must last as well.
    folders
        .first()
        .map_or(Ok(()), |folder| disk.sync(&folder.parent()))
}

/// Writes a pack again that the device lost in a sync that failed, if every process still sees it
/// whole. Who wrote it may not be told, and go on naming it.
fn write_again(disk: &dyn Disk, txn: &Transaction, hint: &PackHint) -> Result<()> {
    let seen = PackFile::open(disk, &hint.pack)?;
    seen.require_len(hint.len)?;
    seen.prove()?;
    let mut file = disk.create(txn.id)?;
    seen.copy_to(&mut *file)?;
    file.sync()?;
    file.replace(&path::pack(&hint.pack))
}

/// Reads the chunks of a checkpoint back from the device, decodes each and holds it against its
/// id: those that were stored now, and those that were found in the store, but for those that
/// another writer has read back already.
pub(super) fn verify(
    store: &Store,
    manifest: &Manifest,
    verified: &HashSet<ChunkId>,
    observer: &dyn Observer,
) -> Result<()> {
    let disk = &*store.0.disk;
    let device = Catalog::of_device();
    device.load_hinted(disk, &manifest.packs)?;
    let needed = manifest.needed_chunks();
    let chunks: HashSet<&ChunkId> = needed.filter(|c| !verified.contains(*c)).collect();
    let recipes = chunks.iter().map(|chunk| Recipe::find(&device, chunk));
    let mut recipes = recipes.collect::<Result<Vec<_>>>()?;
    recipes.sort_by_key(Recipe::position);
    let verify = |(decoder, raw): &mut (Decoder, Vec<u8>), recipe: &Recipe| {
        progress::check(observer)?;
        raw.resize(recipe.raw_len(), 0);
        match decoder.decode(disk, &device, recipe, true, raw) {
            // A restore would take another record of the chunk as well.
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                match store.is_restorable(&recipe.chunk())? {
                    true => Ok(()),
                    false => Err(error),
                }
            }
            done => done,
        }
    };
    store.pool()?.install(|| {
        recipes
            .par_iter()
            .try_for_each_init(|| (Decoder::default(), Vec::new()), verify)
    })
}
