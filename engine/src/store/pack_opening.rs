//! Opening packs: envelope, trailer, index; of several packs each step side by side, so that a
//! device is asked for all of them at once.

use std::ops::Range;
use std::sync::Arc;

use rayon::ThreadPool;
use rayon::iter::{IntoParallelIterator, IntoParallelRefIterator, ParallelIterator};

use crate::error::{Error, Result};
use crate::format::cursor::Reader;
use crate::format::envelope::{self, ENVELOPE_LEN, FileKind};
use crate::format::pack::{self, IndexEntry, TRAILER_LEN, Trailer};
use crate::hash;
use crate::id::PackId;
use crate::store::disk::FileView;
use crate::store::pack_file::{PackFile, read_within};
use crate::store::path;

/// A pack of which nothing was read yet.
pub(crate) struct Opening {
    id: PackId,
    view: Arc<dyn FileView>,
}

/// A pack of which it is known where its index lies.
struct Found {
    opening: Opening,
    index: Trailer,
}

impl Opening {
    pub(crate) fn new(id: PackId, view: Arc<dyn FileView>) -> Self {
        Self { id, view }
    }

    /// Reads the index and holds it against the pack's name; no record is read.
    pub(crate) fn open(self) -> Result<PackFile> {
        self.find_index()?.read_index()
    }

    /// Says that what leads to the index will be read soon.
    fn announce(self) -> Self {
        self.view.announce(0..ENVELOPE_LEN as u64);
        self.view.announce(trailer_place(&*self.view));
        self
    }

    fn find_index(self) -> Result<Found> {
        match read_trailer(&*self.view) {
            Ok(index) => Ok(Found {
                opening: self,
                index,
            }),
            Err(error) => Err(error.file(path::pack(&self.id))),
        }
    }
}

impl Found {
    /// Says that the index will be read soon.
    fn announce(self) -> Self {
        let end = self.index.index_offset + self.index.index_len;
        self.opening.view.announce(self.index.index_offset..end);
        self
    }

    fn read_index(self) -> Result<PackFile> {
        let Opening { id, view } = self.opening;
        match read_index(&*view, &self.index, &id) {
            Ok(index) => Ok(PackFile::new(id, view, index)),
            Err(error) => Err(error.file(path::pack(&id))),
        }
    }
}

/// Opens packs side by side; `view` opens the file of one.
pub(crate) fn open_together(
    threads: &ThreadPool,
    packs: &[PackId],
    view: impl Fn(&PackId) -> Result<Arc<dyn FileView>> + Sync,
) -> Vec<Result<PackFile>> {
    let begin = |id: &PackId| Ok(Opening::new(*id, view(id)?).announce());
    threads.install(|| {
        let begun: Vec<Result<Opening>> = packs.par_iter().map(begin).collect();
        let begun = begun.into_par_iter();
        let found: Vec<Result<Found>> = begun
            .map(|opening| Ok(opening?.find_index()?.announce()))
            .collect();
        let found = found.into_par_iter();
        found.map(|found| found?.read_index()).collect()
    })
}

fn trailer_place(view: &dyn FileView) -> Range<u64> {
    view.len().saturating_sub(TRAILER_LEN as u64)..view.len()
}

fn read_trailer(view: &dyn FileView) -> Result<Trailer> {
    // First the envelope: a newer pack may end in another way, and is not damaged for that.
    let envelope_bytes = read_within(view, 0, ENVELOPE_LEN)?;
    envelope::decode(&mut Reader::new(&envelope_bytes, 0), FileKind::Pack)?;
    let trailer_bytes = read_within(view, trailer_place(view).start, TRAILER_LEN)?;
    Trailer::decode(&trailer_bytes, view.len())
}

fn read_index(view: &dyn FileView, place: &Trailer, id: &PackId) -> Result<Vec<IndexEntry>> {
    let len = usize::try_from(place.index_len).unwrap_or(usize::MAX);
    let bytes = read_within(view, place.index_offset, len)?;
    let found = hash::pack_id(&bytes);
    if found != *id {
        return Err(
            Error::corrupt("index-hash", "a pack's index does not hash to its name")
                .offset(place.index_offset)
                .differs(id, found),
        );
    }
    pack::decode_index(&bytes, place.index_offset)
}
