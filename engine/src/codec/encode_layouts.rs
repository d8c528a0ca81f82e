//! Lanes to each layout's streams (format-spec.md section 10.4).

use crate::codec::assemble::StreamSet;
use crate::codec::choose::{self, Learnt, Method};
use crate::codec::classes::{self, Classes};
use crate::codec::encode::Encoding;
use crate::codec::grid::Levels;
use crate::codec::grid_fit::Fit;
use crate::codec::leading::{self, Shifts};
use crate::codec::palette::{self, PaletteFit};
use crate::codec::sparse::{self, Parted};
use crate::codec::word::Word;
use crate::codec::{Layout, Prediction, Workspace, planes, residual};
use crate::dtype::Lane;
use crate::error::Result;
use crate::format::store_file::Level;

/// What is encoded, and against what.
#[derive(Clone, Copy)]
pub(super) struct Chunk<'a> {
    pub(super) raw: &'a [u8],
    pub(super) base: &'a [u8],
    /// What makes the base, from how many inputs.
    pub(super) made: (&'a Prediction, usize),
    pub(super) lane: Lane,
    pub(super) level: Level,
}

pub(super) fn encode_words<W: Word>(
    chunk: Chunk<'_>,
    learnt: Option<&Learnt>,
    method: Method,
    workspace: &mut Workspace,
    out: &mut Vec<u8>,
) -> Result<Encoding> {
    let plain = |transform| Method {
        transform,
        layout: Layout::Planes,
    };
    let lanes = chunk.raw.len() / W::BYTES;
    match (method.layout, learnt) {
        // Leading bits need a base to learn their shifts by.
        (Layout::Leading, _) if W::BYTES > 1 && !chunk.base.is_empty() => {
            encode_leading::<W>(chunk, method, workspace, out)
        }
        (Layout::Classes, Some(Learnt::Classes(fit))) => {
            encode_classes::<W>(chunk, &fit.classes, method, workspace, out)
        }
        (Layout::Grid | Layout::GridDelta, Some(Learnt::Grid(fit))) => {
            encode_grid::<W>(chunk, fit, method, workspace, out)
        }
        (Layout::Sparse, Some(Learnt::Sparse(fit))) if fit.parted.lanes == lanes => {
            encode_sparse::<W>(chunk, &fit.parted, method, workspace, out)
        }
        (Layout::Sparse, _) => {
            let words = residuals_in::<W>(&mut workspace.words, method, chunk.raw, chunk.base);
            let parted = sparse::part(words);
            encode_sparse::<W>(chunk, &parted, method, workspace, out)
        }
        (Layout::Palette, Some(Learnt::Palette(fit))) => {
            encode_palette::<W>(chunk, fit, method, workspace, out)
        }
        _ => encode_planes::<W>(chunk, plain(method.transform), workspace, out),
    }
}

fn encode_planes<W: Word>(
    chunk: Chunk<'_>,
    method: Method,
    workspace: &mut Workspace,
    out: &mut Vec<u8>,
) -> Result<Encoding> {
    let Chunk {
        raw,
        base,
        made,
        lane,
        level,
    } = chunk;
    let plans = choose::plane_plans(lane, method.transform, raw, base, level);
    let Workspace {
        planes,
        streams,
        contexts,
        ..
    } = workspace;
    planes.resize(raw.len(), 0);
    planes::split::<W>(method.transform, raw, base, planes);
    let mut set = StreamSet::new(level, contexts, streams);
    for (plane, plan) in planes.chunks_exact(raw.len() / W::BYTES).zip(plans) {
        set.push(plane, plan)?;
    }
    set.finish(raw.len(), lane, method, made, &[], out)
}

/// The residuals of a chunk's lanes, in memory that is used again.
fn residuals_in<'w, W: Word>(
    memory: &'w mut Vec<u64>,
    method: Method,
    raw: &[u8],
    base: &[u8],
) -> &'w mut [W] {
    memory.resize(raw.len().div_ceil(8), 0);
    let (words, _) = bytemuck::cast_slice_mut::<u64, W>(memory).split_at_mut(raw.len() / W::BYTES);
    residual::residuals(method.transform, raw, base, words);
    words
}

fn encode_leading<W: Word>(
    chunk: Chunk<'_>,
    method: Method,
    workspace: &mut Workspace,
    out: &mut Vec<u8>,
) -> Result<Encoding> {
    let Chunk {
        raw,
        base,
        made,
        lane,
        level,
    } = chunk;
    let Workspace {
        words,
        leading: split,
        streams,
        contexts,
        ..
    } = workspace;
    let words = residuals_in::<W>(words, method, raw, base);
    let shifts = Shifts::learn(words, base);
    leading::split(words, base, &shifts, split);
    let mut set = StreamSet::new(level, contexts, streams);
    set.push(&split.leading, choose::symbol_plan(&split.leading, level))?;
    set.push_raw(&split.low);
    set.push_raw(&split.escapes);
    set.finish(raw.len(), lane, method, made, &shifts.to_params(), out)
}

fn encode_classes<W: Word>(
    chunk: Chunk<'_>,
    classes: &Classes,
    method: Method,
    workspace: &mut Workspace,
    out: &mut Vec<u8>,
) -> Result<Encoding> {
    let Chunk {
        raw,
        base,
        made,
        lane,
        level,
    } = chunk;
    let Workspace {
        words,
        classes: split,
        streams,
        contexts,
        ..
    } = workspace;
    let words = residuals_in::<W>(words, method, raw, base);
    classes::split(words, base, classes, split);
    let mut set = StreamSet::new(level, contexts, streams);
    for symbols in &split.dense {
        match symbols.as_slice() {
            [] => set.push_raw(symbols),
            _ => set.push(symbols, choose::symbol_plan(symbols, level))?,
        }
    }
    set.push_raw(split.gaps.finish());
    match split.values.as_slice() {
        [] => set.push_raw(&[]),
        values => set.push(values, choose::symbol_plan(values, level))?,
    }
    set.push_raw(split.low.finish());
    set.push_raw(&split.escapes);
    let encoding = set.finish(raw.len(), lane, method, made, &classes.to_params(), out)?;
    Ok(Encoding {
        is_patch: classes.is_patch(),
        ..encoding
    })
}

fn encode_grid<W: Word>(
    chunk: Chunk<'_>,
    fit: &Fit,
    method: Method,
    workspace: &mut Workspace,
    out: &mut Vec<u8>,
) -> Result<Encoding> {
    let Chunk {
        raw,
        base,
        made,
        lane,
        level,
    } = chunk;
    let Workspace {
        planes,
        streams,
        contexts,
        ..
    } = workspace;
    let lanes = raw.len() / W::BYTES;
    // One plane more, for what the top byte of a difference does not hold.
    planes.resize(raw.len() + lanes, 0);
    let (words, overflow) = planes.split_at_mut(raw.len());
    Levels::<W>::new(fit.grid, &fit.terms, lanes).split(raw, base, words);
    fit.grid.part(words.split_at_mut(lanes).0, overflow);
    let mut set = StreamSet::new(level, contexts, streams);
    for plane in planes.chunks_exact(lanes).chain([fit.terms.as_slice()]) {
        set.push(plane, choose::symbol_plan(plane, level))?;
    }
    set.finish(raw.len(), lane, method, made, &fit.grid.to_params(), out)
}

fn encode_sparse<W: Word>(
    chunk: Chunk<'_>,
    parted: &Parted,
    method: Method,
    workspace: &mut Workspace,
    out: &mut Vec<u8>,
) -> Result<Encoding> {
    let Chunk {
        raw,
        made,
        lane,
        level,
        ..
    } = chunk;
    let Workspace {
        streams, contexts, ..
    } = workspace;
    let mut set = StreamSet::new(level, contexts, streams);
    if parted.words == 0 {
        (0..=W::BYTES).for_each(|_| set.push_raw(&[]));
    } else {
        for stream in [parted.gaps.as_slice()].into_iter().chain(parted.planes()) {
            set.push(stream, choose::symbol_plan(stream, level))?;
        }
    }
    let params = parted.counts().to_params();
    let encoding = set.finish(raw.len(), lane, method, made, &params, out)?;
    Ok(Encoding {
        is_patch: parted.counts().is_patch(parted.lanes),
        ..encoding
    })
}

fn encode_palette<W: Word>(
    chunk: Chunk<'_>,
    fit: &PaletteFit,
    method: Method,
    workspace: &mut Workspace,
    out: &mut Vec<u8>,
) -> Result<Encoding> {
    let Chunk {
        raw,
        made,
        lane,
        level,
        ..
    } = chunk;
    let Workspace {
        streams, contexts, ..
    } = workspace;
    let last = fit.entries.len().saturating_sub(1);
    let params = [u8::try_from(last).unwrap_or(u8::MAX)];
    let bytes = |entry: &u64| entry.to_le_bytes().into_iter().take(W::BYTES);
    let entries: Vec<u8> = fit.entries.iter().flat_map(bytes).collect();
    let Some(packed) = palette::pack::<W>(raw, &fit.entries) else {
        return encode_planes::<W>(
            chunk,
            Method {
                layout: Layout::Planes,
                ..method
            },
            workspace,
            out,
        );
    };
    let mut set = StreamSet::new(level, contexts, streams);
    set.push(&entries, choose::symbol_plan(&entries, level))?;
    set.push(&packed, choose::symbol_plan(&packed, level))?;
    set.finish(raw.len(), lane, method, made, &params, out)
}
