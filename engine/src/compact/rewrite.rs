//! Live records to new packs, byte for byte, in the order in which restores want them.

use std::cmp::Reverse;
use std::collections::HashSet;

use crate::compact::live::Live;
use crate::compact::plan::Plan;
use crate::error::{Error, ErrorKind, Result};
use crate::format::limits;
use crate::format::manifest::Manifest;
use crate::gc::mark::Mark;
use crate::id::PackId;
use crate::progress::{self, Observer};
use crate::store::Store;
use crate::store::disk::Disk;
use crate::store::history::{self, Place};
use crate::store::pack_file::{PACK_LEN_TARGET, PackWriter, RecordExtent, UnnamedPack};
use crate::store::records::Located;
use crate::store::txn::Transaction;

/// What became of the copying.
pub(super) enum Copied {
    All(Vec<UnnamedPack>),
    /// A record of this pack fails its checksum: its pack is to be left alone.
    Damaged(PackId, Error),
}

/// Copies the live records of the plan's packs: those of the newest checkpoint first.
pub(super) fn copy(
    store: &Store,
    mark: &Mark<'_>,
    live: &Live,
    plan: &Plan,
    txn: &Transaction,
    observer: &dyn Observer,
) -> Result<Copied> {
    let disk = &*store.0.disk;
    let total = plan.packs.iter().map(|pack| live.bytes_in(pack)).sum();
    let mut packs = Packs::new(disk, txn);
    packs.reserve(total)?;
    let (mut seen, mut done, mut buffer) = (HashSet::new(), 0, Vec::new());
    for place in newest_first(store, mark)? {
        let Some(manifest) = read(disk, &place)? else {
            continue;
        };
        for located in live.in_order(manifest.needed_chunks(), &mut seen) {
            if !plan.packs.contains(&located.pack) {
                continue;
            }
            progress::check(observer)?;
            let pack = live.records.open_pack(disk, &located.pack)?;
            let record = match pack.record(RecordExtent::from(&*located.entry), &mut buffer) {
                Err(error) if error.kind() == ErrorKind::Corrupt => {
                    return Ok(Copied::Damaged(located.pack, error));
                }
                record => record?,
            };
            packs.append_copy(record, &located)?;
            done += u64::from(located.entry.stored_len);
            observer.advance(done, total);
        }
    }
    Ok(Copied::All(packs.finish()?))
}

/// The places that were marked, the newest first.
fn newest_first(store: &Store, mark: &Mark<'_>) -> Result<Vec<Place>> {
    let disk = &*store.0.disk;
    let mut places = Vec::new();
    for place in mark.places() {
        match store.0.history.summary(disk, place) {
            Ok(summary) => places.push((summary.placement.time_ms, place.clone())),
            // Forgotten since, or a relaxed save that does not count.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Corrupt) => {}
            Err(error) => return Err(error),
        }
    }
    places.sort_unstable_by_key(|(time_ms, place)| Reverse((*time_ms, place.clone())));
    Ok(places.into_iter().map(|(_, place)| place).collect())
}

/// A manifest that counts, unless it was forgotten meanwhile.
pub(super) fn read(disk: &dyn Disk, place: &Place) -> Result<Option<Manifest>> {
    match history::read_counting(disk, place) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        read => read,
    }
}

/// Packs that are written one after the other.
pub(super) struct Packs<'d> {
    disk: &'d dyn Disk,
    txn: u128,
    open: Option<PackWriter>,
    finished: Vec<UnnamedPack>,
}

impl<'d> Packs<'d> {
    pub(super) fn new(disk: &'d dyn Disk, txn: &Transaction) -> Self {
        Self {
            disk,
            txn: txn.id,
            open: None,
            finished: Vec::new(),
        }
    }

    /// Makes sure that there is room, as far as one pack goes: better now than after hours.
    fn reserve(&mut self, bytes: u64) -> Result<()> {
        match bytes {
            0 => Ok(()),
            bytes => self.writer()?.reserve(bytes.min(PACK_LEN_TARGET)),
        }
    }

    /// The pack that is open, with room for a record.
    pub(super) fn writer(&mut self) -> Result<&mut PackWriter> {
        let is_full = |w: &PackWriter| {
            w.len() >= PACK_LEN_TARGET || w.records() >= limits::RECORDS_MAX as usize
        };
        if self.open.as_ref().is_some_and(is_full) {
            self.close()?;
        }
        Ok(match &mut self.open {
            Some(writer) => writer,
            none => none.insert(PackWriter::create(self.disk, self.txn)?),
        })
    }

    /// Ends the pack that is open.
    pub(super) fn close(&mut self) -> Result<()> {
        if let Some(writer) = self.open.take().filter(|w| w.records() > 0) {
            self.finished.push(writer.finish(true)?);
        }
        Ok(())
    }

    fn append_copy(&mut self, record: &[u8], located: &Located) -> Result<()> {
        let mut entry = (*located.entry).clone();
        // The writer adds the record's own bytes.
        entry.cycle_len = entry.cycle_len.saturating_sub(entry.stored_len);
        self.writer()?.append(record, entry)?;
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<Vec<UnnamedPack>> {
        self.close()?;
        Ok(self.finished)
    }
}
