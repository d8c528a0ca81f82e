//! The part of a verification that reads data: checksums of records, hashes of chunks.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};

use rayon::iter::{IntoParallelRefIterator, ParallelIterator};

use crate::error::{ErrorKind, Result};
use crate::id::{ChunkId, PackId};
use crate::progress::{self, Observer};
use crate::restore::decode::check_chunk;
use crate::restore::recipe::Recipe;
use crate::store::Store;
use crate::store::catalog::Catalog;
use crate::store::pack_file::{PackFile, RecordExtent};
use crate::store::records::Located;
use crate::verify::graph::Graph;
use crate::verify::{Findings, ReadData, VerifyReport};

/// What is to be read.
pub(super) struct Work<'v> {
    catalog: &'v Catalog,
    /// Packs whose records are all checked; else only those of needed chunks are.
    whole_packs: Vec<PackId>,
    /// Records of needed chunks, by pack.
    records: BTreeMap<PackId, Vec<(ChunkId, RecordExtent)>>,
    /// Chunks to decode, in the order they lie on disk.
    decode: Vec<Located>,
    done: AtomicU64,
    total: u64,
}

impl<'v> Work<'v> {
    pub(super) fn new(
        catalog: &'v Catalog,
        graph: &Graph,
        packs: &[PackId],
        whole_store: bool,
        data: ReadData,
    ) -> Self {
        let needed = graph.closure.iter().filter_map(|c| catalog.find(c));
        let mut records: BTreeMap<PackId, Vec<_>> = BTreeMap::new();
        let mut decode = Vec::new();
        let mut total = 0;
        for located in needed {
            let extent = RecordExtent::from(&*located.entry);
            if data.takes(&located.entry.chunk) {
                total += u64::from(located.entry.raw_len);
                decode.push(located.clone());
            }
            if !whole_store {
                total += u64::from(extent.stored_len);
                let of_pack = records.entry(located.pack).or_default();
                of_pack.push((located.entry.chunk, extent));
            }
        }
        decode.sort_by_key(|located| (located.pack, located.entry.offset));
        let whole_packs = if whole_store {
            packs.to_vec()
        } else {
            Vec::new()
        };
        let lengths = whole_packs.iter().filter_map(|id| catalog.pack_len(id));
        total += lengths.sum::<u64>();
        Self {
            catalog,
            whole_packs,
            records,
            decode,
            done: AtomicU64::new(0),
            total,
        }
    }

    /// Checks the checksum of every record; a pack at a time, its records in parallel.
    pub(super) fn check_records(
        &self,
        store: &Store,
        report: &mut VerifyReport,
        findings: &mut Findings,
        observer: &dyn Observer,
    ) -> Result<()> {
        let disk = &*store.0.disk;
        for id in &self.whole_packs {
            // Packs that cannot be opened are in the findings already.
            let Ok(pack) = PackFile::open(disk, id) else {
                continue;
            };
            let entries = pack.index().iter();
            let records: Vec<_> = entries.map(|e| (e.chunk, RecordExtent::from(e))).collect();
            self.check_pack(store, &pack, &records, report, findings, observer)?;
            match pack.check_padding() {
                Err(error) if error.kind() == ErrorKind::Corrupt => {
                    findings.others.push((error, Vec::new()));
                }
                done => done?,
            }
            // The rest of the pack, its index above all, was read when it was opened.
            let in_records: u64 = pack.index().iter().map(|e| u64::from(e.stored_len)).sum();
            self.advance(pack.len().saturating_sub(in_records), observer);
        }
        for (id, records) in &self.records {
            let pack = PackFile::open_for_records(disk, id)?;
            self.check_pack(store, &pack, records, report, findings, observer)?;
        }
        Ok(())
    }

    fn check_pack(
        &self,
        store: &Store,
        pack: &PackFile,
        records: &[(ChunkId, RecordExtent)],
        report: &mut VerifyReport,
        findings: &mut Findings,
        observer: &dyn Observer,
    ) -> Result<()> {
        let check = |buffer: &mut Vec<u8>, (chunk, extent): &(ChunkId, RecordExtent)| {
            progress::check(observer)?;
            let found = pack.record(*extent, buffer).map(drop);
            self.advance(u64::from(extent.stored_len), observer);
            match found {
                Ok(()) => Ok(None),
                Err(error) => Ok(Some((*chunk, error.subject(format!("chunk {chunk}"))))),
            }
        };
        let checked: Result<Vec<_>> = store.pool()?.install(|| {
            records
                .par_iter()
                .map_init(Vec::new, check)
                .filter_map(Result::transpose)
                .collect()
        });
        for (chunk, error) in checked? {
            findings.chunks.entry(chunk).or_insert(error);
        }
        report.records += records.len() as u64;
        report.record_bytes += records
            .iter()
            .map(|(_, extent)| u64::from(extent.stored_len))
            .sum::<u64>();
        Ok(())
    }

    /// Decodes and hashes chunks in parallel, each once. What depends on damage that is known
    /// already is passed over: it would only be told twice.
    pub(super) fn decode_chunks(
        &self,
        store: &Store,
        graph: &Graph,
        report: &mut VerifyReport,
        findings: &mut Findings,
        observer: &dyn Observer,
    ) -> Result<()> {
        if self.decode.is_empty() {
            return Ok(());
        }
        let known = graph.spread(findings.chunks.keys().copied());
        let sound: Vec<&Located> = self
            .decode
            .iter()
            .filter(|located| !known.contains(&located.entry.chunk))
            .collect();
        let decode = |(held, out): &mut (crate::store::HeldDecoder<'_>, Vec<u8>),
                      located: &&Located| {
            progress::check(observer)?;
            let entry = &located.entry;
            out.resize(entry.raw_len as usize, 0);
            let decoded = Recipe::find(self.catalog, &entry.chunk)
                .and_then(|recipe| {
                    let disk = &*store.0.disk;
                    held.decoder.decode(disk, self.catalog, &recipe, false, out)
                })
                .and_then(|()| check_chunk(&entry.chunk, out));
            self.advance(u64::from(entry.raw_len), observer);
            match decoded {
                Ok(()) => Ok(None),
                Err(error) => {
                    let error = error
                        .file(crate::store::path::pack(&located.pack))
                        .offset(entry.offset)
                        .subject(format!("chunk {}", entry.chunk));
                    Ok(Some((entry.chunk, error)))
                }
            }
        };
        let bad: Result<HashMap<ChunkId, crate::Error>> = store.pool()?.install(|| {
            sound
                .par_iter()
                .map_init(|| (store.decoder(), Vec::new()), decode)
                .filter_map(Result::transpose)
                .collect()
        });
        let mut bad = bad?;
        // A chunk whose input is wrong is wrong as well: the input is the problem.
        let causes: Vec<ChunkId> = bad
            .keys()
            .filter(|chunk| !self.has_bad_input(chunk, &bad))
            .copied()
            .collect();
        for chunk in causes {
            findings
                .chunks
                .extend(bad.remove(&chunk).map(|error| (chunk, error)));
        }
        report.decoded_chunks = sound.len() as u64;
        report.decoded_bytes = sound.iter().map(|l| u64::from(l.entry.raw_len)).sum();
        Ok(())
    }

    fn has_bad_input(&self, chunk: &ChunkId, bad: &HashMap<ChunkId, crate::Error>) -> bool {
        let recipe = Recipe::find(self.catalog, chunk).unwrap_or_default();
        let inputs = recipe.steps.iter().filter(|step| step.chunk != *chunk);
        inputs.into_iter().any(|step| bad.contains_key(&step.chunk))
    }

    fn advance(&self, bytes: u64, observer: &dyn Observer) {
        let done = self.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        observer.advance(done.min(self.total), self.total);
    }
}
