//! The packs that a save writes, without names until all are whole.

use crate::error::{Error, ErrorKind, Result};
use crate::format::pack::IndexEntry;
use crate::save::room::Allowance;
use crate::save::spare::Spare;
use crate::store::disk::Disk;
use crate::store::pack_file::{PACK_LEN_TARGET, PackWriter, UnnamedPack};
use crate::store::txn::Transaction;

/// Packs that are being written. Where there is no room for one more record, all is given up at
/// once, and what follows is only counted: who is to make room must know how much.
pub(super) struct NewPacks<'p> {
    disk: &'p dyn Disk,
    txn: &'p Transaction,
    room: &'p Allowance,
    durable: bool,
    open: Option<PackWriter>,
    finished: Vec<UnnamedPack>,
    no_room: Option<Error>,
}

impl<'p> NewPacks<'p> {
    pub(super) fn new(
        disk: &'p dyn Disk,
        txn: &'p Transaction,
        room: &'p Allowance,
        durable: bool,
    ) -> Self {
        Self {
            disk,
            txn,
            room,
            durable,
            open: None,
            finished: Vec::new(),
            no_room: None,
        }
    }

    /// Appends a record; its memory is given back to `spare`.
    pub(super) fn add(&mut self, record: Vec<u8>, entry: IndexEntry, spare: &Spare) -> Result<()> {
        let taken = self.room.take_record(record.len(), &entry);
        if self.no_room.is_none() {
            let written = taken.and_then(|()| self.write(&record, entry));
            self.note(written)?;
        }
        spare.give(record);
        Ok(())
    }

    fn write(&mut self, record: &[u8], entry: IndexEntry) -> Result<()> {
        let writer = match &mut self.open {
            Some(writer) => writer,
            none => none.insert(PackWriter::create(self.disk, self.txn.id)?),
        };
        writer.append(record, entry)?;
        if writer.len() >= PACK_LEN_TARGET {
            self.close()?;
        }
        Ok(())
    }

    fn close(&mut self) -> Result<()> {
        if let Some(writer) = self.open.take() {
            self.finished.push(writer.finish(self.durable)?);
        }
        Ok(())
    }

    /// Lets go of everything at once where there is no room: others may need it.
    fn note(&mut self, written: Result<()>) -> Result<()> {
        match written {
            Err(error) if error.kind() == ErrorKind::NoSpace => {
                self.open = None;
                self.finished.clear();
                self.no_room = Some(error);
                Ok(())
            }
            done => done,
        }
    }

    /// The packs, whole and as durable as was asked for.
    ///
    /// # Errors
    /// `NoSpace` if there was no room for one of the records.
    pub(super) fn finish(mut self) -> Result<Vec<UnnamedPack>> {
        if let Some(error) = self.no_room {
            return Err(error);
        }
        self.close()?;
        Ok(self.finished)
    }
}
