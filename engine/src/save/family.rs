//! Chunks that are coded together: those of the same number of tensors that are related.
//!
//! A chunk may be predicted from its siblings, so they are coded one after the other by one
//! worker, and they share one restore budget: who restores all of them decodes each once.

use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::Arc;

use crate::chain::Costs;
use crate::codec;
use crate::error::{Error, ErrorKind, Result};
use crate::format::pack::IndexEntry;
use crate::id::ChunkId;
use crate::restore::decode::Decoder;
use crate::save::base_choice::Decoded;
use crate::save::chunk::{SaveChunks, SavedChunk};
use crate::save::pipeline::{Item, Piece};
use crate::save::probe::Probe;
use crate::save::relation::{Origin, Relations, Way};

/// What a chunk that is coded alone is taken to cost, in percent of its raw bytes: it is read
/// nearly whole and put together from planes.
const ALONE_COST_PERCENT: u64 = 105;

/// Chunks of one number, in the order in which they are coded.
pub(crate) struct Family {
    pub(crate) pieces: Vec<Piece>,
}

/// All chunks of the items, each in one family; those of one item follow each other.
pub(crate) fn families(items: &[Item<'_>], relations: &Relations) -> Vec<Family> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let mut joined = vec![false; items.len()];
    for family in &relations.families {
        groups.push(family.members.clone());
        for item in &family.members {
            if let Some(joined) = joined.get_mut(*item) {
                *joined = true;
            }
        }
    }
    groups.extend(
        (0..items.len())
            .filter(|i| joined.get(*i) == Some(&false))
            .map(|i| vec![i]),
    );
    groups.sort_by_key(|members| members.iter().min().copied());
    let of_group = |members: &Vec<usize>| -> Vec<Family> {
        let cut = |item: &usize| items.get(*item).map(|it| (*item, it.column.cut));
        let cuts: Vec<_> = members.iter().filter_map(cut).collect();
        let count = cuts
            .iter()
            .map(|(_, cut)| cut.count())
            .max()
            .unwrap_or_default();
        let family = |index: u64| {
            let there = cuts.iter().filter(|(_, cut)| index < cut.count());
            let pieces = there.map(|(item, cut)| Piece {
                item: *item,
                index,
                range: cut.range(index),
            });
            Family {
                pieces: pieces.collect(),
            }
        };
        (0..count).map(family).collect()
    };
    groups.iter().flat_map(of_group).collect()
}

/// A chunk of a family that was saved a moment ago.
struct Sibling<'t> {
    item: usize,
    raw: &'t [u8],
    id: ChunkId,
    /// Its record, if one may be relied on.
    entry: Option<Arc<IndexEntry>>,
}

/// What the encoder is told of a chunk's family.
pub(crate) struct FamilyTask<'t> {
    /// Ways to predict the chunk, best first.
    pub(crate) ways: Vec<LikelyWay<'t>>,
    /// Records of this save that are in no catalog yet.
    pub(crate) new_records: &'t [Arc<IndexEntry>],
    /// Records that restoring the family takes in any case.
    counted: &'t HashSet<ChunkId>,
    /// What else restoring the family may cost with this chunk.
    pub(crate) budget: u64,
    /// Chunks of the other checkpoint that were decoded for the family, or held.
    pub(crate) decoded: &'t RefCell<Decoded>,
}

/// A way to predict a chunk, with its inputs at hand.
pub(crate) struct LikelyWay<'t> {
    pub(crate) way: &'t Way,
    pub(crate) inputs: Vec<Input<'t>>,
    pub(crate) probe: &'t Probe,
}

/// An input of a prediction.
#[derive(Clone)]
pub(crate) enum Input<'t> {
    /// A chunk of this save.
    Sibling(Arc<IndexEntry>, &'t [u8]),
    /// A chunk of the other checkpoint.
    Other(ChunkId),
}

impl FamilyTask<'_> {
    /// The record of a chunk, also of those that are not written yet.
    pub(crate) fn record(
        &self,
        chunk: &ChunkId,
        others: impl Fn(&ChunkId) -> Option<Arc<IndexEntry>>,
    ) -> Option<Arc<IndexEntry>> {
        let new = self.new_records.iter().find(|e| e.chunk == *chunk);
        new.cloned().or_else(|| others(chunk))
    }

    /// What restoring the family costs more, if it takes these chunks as well.
    pub(crate) fn extra_cost(
        &self,
        chunks: &[ChunkId],
        others: impl Fn(&ChunkId) -> Option<Arc<IndexEntry>>,
    ) -> u64 {
        let closure = Costs::new(|id: &ChunkId| self.record(id, &others)).closure(chunks);
        let more = closure.iter().filter(|(id, _)| !self.counted.contains(id));
        more.map(|(_, own)| own).sum()
    }
}

impl Family {
    /// Saves its chunks, up to the writing of their records.
    pub(crate) fn save(
        &self,
        saver: &dyn SaveChunks,
        items: &[Item<'_>],
        decoder: &mut Decoder,
        buffers: &mut Vec<Vec<u8>>,
    ) -> Result<Vec<SavedChunk>> {
        let item = |piece: &Piece| {
            let lost = || Error::new(ErrorKind::InvalidInput, "piece", "a piece of no item");
            items.get(piece.item).ok_or_else(lost)
        };
        if let [piece] = self.pieces.as_slice() {
            let item = item(piece)?;
            buffers.resize_with(1, Vec::new);
            let Some(buffer) = buffers.first_mut() else {
                return Ok(Vec::new());
            };
            let raw = item.source.get(piece.range.clone(), buffer)?;
            return Ok(vec![
                saver.save(&item.column.task(piece.index, raw), decoder)?,
            ]);
        }
        buffers.resize_with(buffers.len().max(self.pieces.len()), Vec::new);
        let mut raws = Vec::new();
        for (piece, buffer) in self.pieces.iter().zip(buffers) {
            raws.push(item(piece)?.source.get(piece.range.clone(), buffer)?);
        }
        self.save_related(saver, items, &raws, decoder)
    }

    fn save_related(
        &self,
        saver: &dyn SaveChunks,
        items: &[Item<'_>],
        raws: &[&[u8]],
        decoder: &mut Decoder,
    ) -> Result<Vec<SavedChunk>> {
        let mut budget = saver
            .encoder()
            .bounds
            .budget(raws.iter().map(|raw| raw.len()).sum());
        let reserves = self.reserves(saver, items, raws);
        let mut to_come: u64 = reserves.iter().sum();
        let (mut saved, mut siblings) = (Vec::new(), Vec::<Sibling<'_>>::new());
        let (mut new_records, mut counted) = (Vec::new(), HashSet::new());
        let decoded = RefCell::default();
        let known = |id: &ChunkId| saver.encoder().bases.record(id);
        for ((piece, raw), reserve) in self.pieces.iter().zip(raws).zip(reserves) {
            let Some(item) = items.get(piece.item) else {
                continue;
            };
            to_come -= reserve;
            let mut task = item.column.task(piece.index, raw);
            task.family = Some(FamilyTask {
                ways: ways(piece, item, items, &siblings),
                new_records: &new_records,
                counted: &counted,
                budget: budget.saturating_sub(to_come),
                decoded: &decoded,
            });
            let chunk = saver.save(&task, decoder)?;
            let entry = match &chunk.record {
                Some((_, entry)) => Some(Arc::new(entry.clone())),
                None if saver.encoder().bases.is_usable(&chunk.id)? => known(&chunk.id),
                None => None,
            };
            if let Some(entry) = entry.as_ref().filter(|_| chunk.record.is_some()) {
                new_records.push(Arc::clone(entry));
            }
            let find = |id: &ChunkId| {
                let new = new_records.iter().find(|e| e.chunk == *id);
                new.cloned().or_else(|| known(id))
            };
            for (id, own) in Costs::new(find).closure(&[chunk.id]) {
                if counted.insert(id) {
                    budget = budget.saturating_sub(own);
                }
            }
            siblings.push(Sibling {
                item: piece.item,
                raw,
                id: chunk.id,
                entry,
            });
            saved.push(chunk);
        }
        for (_, raw) in decoded.into_inner() {
            saver.encoder().spare.give_shared(raw);
        }
        Ok(saved)
    }
}

impl Family {
    /// What each chunk is likely to need of the family's budget: as much as its parent's chain,
    /// which it goes on, or what it costs alone.
    fn reserves(&self, saver: &dyn SaveChunks, items: &[Item<'_>], raws: &[&[u8]]) -> Vec<u64> {
        let encoder = saver.encoder();
        let reserve = |(piece, raw): (&Piece, &&[u8])| {
            // Short bytes cost little more than the head of their record.
            let bare = codec::max_encoded_len(raw.len()) as u64;
            let share = encoder.bounds.budget(raw.len()).max(bare);
            let alone = (raw.len() as u64 * ALONE_COST_PERCENT / 100).clamp(bare, share);
            let column = items.get(piece.item).map(|item| &item.column);
            let parent = column.and_then(|column| column.parent_chunk(piece.index));
            let parent = parent.and_then(|id| encoder.bases.record(&id));
            // A prediction's inputs are the family's, and are counted with those.
            let chain = parent.filter(|entry| entry.inputs.len() == 1);
            chain.map_or(alone, |e| u64::from(e.cost).clamp(alone, share))
        };
        self.pieces.iter().zip(raws).map(reserve).collect()
    }
}

/// The ways to predict a piece whose inputs are all there.
fn ways<'t>(
    piece: &Piece,
    item: &'t Item<'_>,
    items: &[Item<'_>],
    siblings: &[Sibling<'t>],
) -> Vec<LikelyWay<'t>> {
    let input = |from: &Origin| match from {
        Origin::Now(item) => {
            let sibling = siblings.iter().find(|s| s.item == *item)?;
            let entry = sibling.entry.clone().filter(|e| e.chunk == sibling.id)?;
            Some(Input::Sibling(entry, sibling.raw))
        }
        Origin::Other(item) => {
            let column = &items.get(*item)?.column;
            column.parent_chunk(piece.index).map(Input::Other)
        }
    };
    let ways = item.column.ways.iter();
    ways.filter(|(_, probe)| probe.is_worth_another_try())
        .filter_map(|(way, probe)| {
            let inputs: Option<Vec<Input<'t>>> = way.inputs.iter().map(input).collect();
            Some(LikelyWay {
                way,
                inputs: inputs?,
                probe,
            })
        })
        .collect()
}
