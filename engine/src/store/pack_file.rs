//! Packs as files: sealing one, opening one, reading a record out of one.

use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::format::envelope::{self, ENVELOPE_LEN, FileKind};
use crate::format::pack::{self, IndexEntry, TRAILER_LEN, Trailer};
use crate::format::placement::PackHint;
use crate::format::record::RECORD_ALIGN;
use crate::hash;
use crate::id::PackId;
use crate::memory;
use crate::store::catalog::Catalog;
use crate::store::disk::{self, Disk, FileView, NewFile, Published};
use crate::store::pack_opening::Opening;
use crate::store::path;

/// A pack is closed and another begun beyond this many bytes.
pub(crate) const PACK_LEN_TARGET: u64 = 1 << 30;

/// A pack that is being written.
#[derive(Debug)]
pub(crate) struct PackWriter {
    file: Box<dyn NewFile>,
    at: u64,
    entries: Vec<IndexEntry>,
}

/// A pack that has its name.
#[derive(Debug)]
pub(crate) struct SealedPack {
    pub(crate) hint: PackHint,
    pub(crate) entries: Vec<IndexEntry>,
    /// Whether the save made it; otherwise the store had the very same pack.
    pub(crate) new: bool,
}

impl SealedPack {
    /// Makes its records known.
    pub(crate) fn add_to(&self, catalog: &Catalog) {
        catalog.add(self.hint.pack, self.hint.len, self.entries.clone());
    }
}

impl PackWriter {
    pub(crate) fn create(disk: &dyn Disk, txn: u128) -> Result<Self> {
        let mut file = disk.create(txn)?;
        file.write(&envelope::encode(FileKind::Pack))?;
        Ok(Self {
            file,
            at: ENVELOPE_LEN as u64,
            entries: Vec::new(),
        })
    }

    /// Bytes so far.
    pub(crate) fn len(&self) -> u64 {
        self.at
    }

    /// How many records it has so far.
    pub(crate) fn records(&self) -> usize {
        self.entries.len()
    }

    /// Makes sure that the disk has room for so many bytes more.
    pub(crate) fn reserve(&mut self, bytes: u64) -> Result<()> {
        self.file.reserve(bytes)
    }

    /// Appends a record; `entry` gets its offset, length and checksum here, and its own bytes are
    /// added to its cycle's.
    pub(crate) fn append(&mut self, record: &[u8], mut entry: IndexEntry) -> Result<&IndexEntry> {
        entry.offset = self.at;
        entry.crc32 = hash::crc32(record);
        entry.stored_len = u32::try_from(record.len())
            .map_err(|_| Error::new(ErrorKind::Limit, "record-length", "a record is too long"))?;
        self.file.write(record)?;
        entry.cycle_len = entry.cycle_len.saturating_add(entry.stored_len);
        let end = self.at + u64::from(entry.stored_len);
        self.at = end.next_multiple_of(RECORD_ALIGN);
        let padding = [0; 16];
        let (zeros, _) = padding.split_at(usize::try_from(self.at - end).unwrap_or_default());
        self.file.write(zeros)?;
        Ok(self.entries.push_mut(entry))
    }

    /// Writes index and trailer, and makes the bytes durable if asked. Nobody sees the pack yet.
    pub(crate) fn finish(mut self, durable: bool) -> Result<UnnamedPack> {
        let (index, id) = pack::encode_index(&mut self.entries)?;
        let index_len = index.len() as u64;
        let len = self.at + index_len + TRAILER_LEN as u64;
        self.file.write(&index)?;
        self.file.write(
            &Trailer {
                index_offset: self.at,
                index_len,
                pack_len: len,
            }
            .encode(),
        )?;
        if durable {
            self.file.sync()?;
        }
        Ok(UnnamedPack {
            file: self.file,
            hint: PackHint { pack: id, len },
            entries: self.entries,
        })
    }
}

/// A pack that is written and has no name: dropped, it leaves nothing.
#[derive(Debug)]
pub(crate) struct UnnamedPack {
    file: Box<dyn NewFile>,
    hint: PackHint,
    entries: Vec<IndexEntry>,
}

impl UnnamedPack {
    /// Bytes in all.
    pub(crate) fn len(&self) -> u64 {
        self.hint.len
    }

    /// Gives it its name.
    pub(crate) fn publish(mut self, disk: &dyn Disk) -> Result<SealedPack> {
        let PackHint { pack: id, len } = self.hint;
        let path = path::pack(&id);
        disk.make_folder(&path.parent())?;
        let published = if is_damaged(disk, &id, len)? {
            // A power cut took what a relaxed save had not synced, or the medium failed. The
            // name is the hash of the index, so the new file is what the old one was to be. What
            // is left of that one may be needed by durable checkpoints: what takes its place is
            // made durable, whatever this save asks for.
            self.file.sync()?;
            self.file.replace(&path)?;
            disk.sync(&path.parent())?;
            Published::New
        } else {
            self.file.publish(&path)?
        };
        Ok(SealedPack {
            hint: self.hint,
            entries: self.entries,
            new: published == Published::New,
        })
    }
}

/// A pack open for reading, its index checked against its name.
#[derive(Debug)]
pub(crate) struct PackFile {
    pub(crate) id: PackId,
    view: Arc<dyn FileView>,
    index: Vec<IndexEntry>,
}

impl PackFile {
    pub(super) fn new(id: PackId, view: Arc<dyn FileView>, index: Vec<IndexEntry>) -> Self {
        Self { id, view, index }
    }

    /// Opens a pack and checks envelope, trailer and index; no record is read.
    pub(crate) fn open(disk: &dyn Disk, id: &PackId) -> Result<Self> {
        Opening::new(*id, disk.open(&path::pack(id))?).open()
    }

    /// As [`PackFile::open`], to read what the device has.
    pub(crate) fn open_uncached(disk: &dyn Disk, id: &PackId) -> Result<Self> {
        Opening::new(*id, disk.open_uncached(&path::pack(id))?).open()
    }

    /// Opens a pack whose index is known already.
    pub(crate) fn open_for_records(disk: &dyn Disk, id: &PackId) -> Result<Self> {
        Ok(Self {
            id: *id,
            view: disk.open(&path::pack(id))?,
            index: Vec::new(),
        })
    }

    pub(crate) fn index(&self) -> &[IndexEntry] {
        &self.index
    }

    /// Its index, which it has no longer: what is left serves to read records.
    pub(crate) fn take_index(&mut self) -> Vec<IndexEntry> {
        std::mem::take(&mut self.index)
    }

    pub(crate) fn len(&self) -> u64 {
        self.view.len()
    }

    /// Checks every record against its CRC-32.
    pub(crate) fn prove(&self) -> Result<()> {
        let mut buffer = Vec::new();
        for entry in &self.index {
            self.record(RecordExtent::from(entry), &mut buffer)?;
        }
        Ok(())
    }

    /// Holds that the bytes between records, which no checksum covers, are zero.
    pub(crate) fn check_padding(&self) -> Result<()> {
        for entry in &self.index {
            let end = entry.offset + u64::from(entry.stored_len);
            let len = usize::try_from(end.next_multiple_of(RECORD_ALIGN) - end).unwrap_or_default();
            let padding = read_within(&*self.view, end, len)?;
            if padding.iter().any(|byte| *byte != 0) {
                return Err(
                    Error::corrupt("padding", "the bytes behind a record are not zero")
                        .file(path::pack(&self.id))
                        .offset(end),
                );
            }
        }
        Ok(())
    }

    /// Writes all its bytes to a new file.
    pub(crate) fn copy_to(&self, file: &mut dyn NewFile) -> Result<()> {
        disk::copy(&*self.view, file)
    }

    /// Whether a collection has removed it.
    pub(crate) fn is_removed(&self) -> bool {
        self.view.is_removed()
    }

    pub(crate) fn require_len(&self, len: u64) -> Result<()> {
        if self.len() == len {
            return Ok(());
        }
        Err(
            Error::corrupt("pack-length", "a pack has another length than was written")
                .file(path::pack(&self.id))
                .differs(len, self.len()),
        )
    }

    /// Whether reading this byte does not wait for a device.
    pub(crate) fn is_near(&self, offset: u64) -> bool {
        self.view.is_near(offset)
    }

    /// Says that these bytes will be fetched soon.
    pub(crate) fn announce(&self, range: std::ops::Range<u64>) {
        self.view.announce(range);
    }

    /// Brings these bytes near, which are about to be read.
    pub(crate) fn fetch(&self, range: std::ops::Range<u64>) -> Result<()> {
        self.view.fetch(range)
    }

    /// A record's bytes, checked against their CRC-32: borrowed from the map, or read into
    /// `buffer`.
    pub(crate) fn record<'a>(
        &'a self,
        at: RecordExtent,
        buffer: &'a mut Vec<u8>,
    ) -> Result<&'a [u8]> {
        let bytes = self.bytes(at, buffer)?;
        let found = hash::crc32(bytes);
        if found != at.crc32 {
            return Err(
                Error::corrupt("record-checksum", "a record fails its checksum")
                    .file(path::pack(&self.id))
                    .offset(at.offset)
                    .differs(format!("{:#010x}", at.crc32), format!("{found:#010x}")),
            );
        }
        Ok(bytes)
    }

    fn bytes<'a>(&'a self, at: RecordExtent, buffer: &'a mut Vec<u8>) -> Result<&'a [u8]> {
        let end = at.offset + u64::from(at.stored_len);
        if end > self.len() {
            return Err(
                Error::corrupt("truncated", "a pack ends before a record of its index")
                    .file(path::pack(&self.id))
                    .offset(at.offset)
                    .differs(end, self.len()),
            );
        }
        if let Some(map) = self.view.mapped() {
            let range = usize::try_from(at.offset)
                .ok()
                .zip(usize::try_from(end).ok());
            return Ok(range
                .and_then(|(start, end)| map.get(start..end))
                .unwrap_or_default());
        }
        buffer.resize(at.stored_len as usize, 0);
        self.view.read_at(at.offset, buffer)?;
        Ok(buffer)
    }

    /// The bytes of a record where they lie, if the pack is mapped; not checked.
    pub(crate) fn mapped(&self) -> Option<&[u8]> {
        self.view.mapped()
    }
}

/// Whether something has this pack's name and is not the whole pack.
fn is_damaged(disk: &dyn Disk, id: &PackId, len: u64) -> Result<bool> {
    let held = PackFile::open_uncached(disk, id).and_then(|pack| {
        pack.require_len(len)?;
        pack.prove()
    });
    match held {
        Ok(()) => Ok(false),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) if error.kind() == ErrorKind::Corrupt => Ok(true),
        Err(error) => Err(error),
    }
}

/// Bytes that lie within the file. Read, also where it is mapped: to fault in a page of a cold
/// map, kernels may fetch megabytes around it.
pub(super) fn read_within(view: &dyn FileView, offset: u64, len: usize) -> Result<Vec<u8>> {
    let end = offset.checked_add(len as u64);
    if end.is_none_or(|end| end > view.len()) {
        return Err(Error::corrupt("truncated", "a pack is too short").offset(offset));
    }
    let mut bytes = memory::zeros(len as u64)?;
    view.read_at(offset, &mut bytes)?;
    Ok(bytes)
}

/// Where a record's bytes lie in its pack, and their checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordExtent {
    /// First byte.
    pub offset: u64,
    /// Bytes in all.
    pub stored_len: u32,
    /// CRC-32 of them.
    pub crc32: u32,
}

impl From<&IndexEntry> for RecordExtent {
    fn from(entry: &IndexEntry) -> Self {
        Self {
            offset: entry.offset,
            stored_len: entry.stored_len,
            crc32: entry.crc32,
        }
    }
}
