//! `milepost show`: everything about one checkpoint, or about one tensor of it.

use std::collections::BTreeMap;

use clap::Args;
use milepost_engine::{Checkpoint, ChunkReport, Store, Summary};
use serde::Serialize;

use crate::command::ls::{TensorView, shape, tensors};
use crate::exit::{Outcome, Result};
use crate::output::{Output, one_line};
use crate::session::Session;
use crate::size;
use crate::table::{Align, Table};
use crate::view::{CheckpointView, Tags, kind_with_depth};

/// Show everything about a checkpoint, or the chunks of one of its tensors.
#[derive(Args, Debug)]
pub(crate) struct Show {
    /// The checkpoint.
    #[arg(value_name = "REV")]
    revision: String,

    /// A tensor of it.
    #[arg(value_name = "TENSOR")]
    tensor: Option<String>,
}

#[derive(Serialize)]
struct ShowView<'c> {
    checkpoint: CheckpointView,
    chunks: u64,
    new_chunks: u64,
    metadata: BTreeMap<String, String>,
    blobs: Vec<BlobView>,
    packs: Vec<PackView>,
    tensors: Vec<TensorView<'c>>,
}

#[derive(Serialize)]
struct BlobView {
    name: String,
    bytes: u64,
    chunks: usize,
}

#[derive(Serialize)]
struct PackView {
    id: String,
    bytes: u64,
    present: bool,
}

#[derive(Serialize)]
struct TensorDetail<'c> {
    id: String,
    tensor: TensorView<'c>,
    chunks: Vec<ChunkView>,
}

#[derive(Serialize)]
struct ChunkView {
    id: String,
    raw_bytes: u32,
    stored_bytes: u32,
    encoding: String,
    depth: u8,
    restore_cost: u32,
    pack: String,
    offset: u64,
    inputs: Vec<String>,
}

pub(crate) fn run(args: &Show, session: &Session) -> Result {
    let store = session.store()?;
    let checkpoint = store.checkpoint(&args.revision)?;
    match &args.tensor {
        Some(name) => show_tensor(&checkpoint, name, session.out),
        None => show_checkpoint(&store, &checkpoint, session.out),
    }
}

fn show_tensor(checkpoint: &Checkpoint, name: &str, out: Output) -> Result {
    let chunks = checkpoint.tensor_chunks(name)?;
    if out.quiet && !out.json {
        for chunk in &chunks {
            out.line(chunk.id.to_string())?;
        }
        return Ok(Outcome::Done);
    }
    let Some(tensor) = tensors(checkpoint, None)?
        .into_iter()
        .find(|t| t.name == name)
    else {
        return Ok(Outcome::Done);
    };
    if out.json {
        out.document(&TensorDetail {
            id: checkpoint.id().to_string(),
            tensor,
            chunks: chunks.iter().map(chunk_view).collect(),
        })?;
        return Ok(Outcome::Done);
    }
    out.line(format!(
        "tensor {}: {} {}, {}, {}",
        one_line(name),
        tensor.dtype,
        shape(&tensor.shape),
        size::bytes(tensor.bytes),
        size::count(chunks.len() as u64, "chunk"),
    ))?;
    if let Some(relation) = &tensor.relation {
        let of: Vec<_> = relation.of.iter().map(|name| one_line(name)).collect();
        out.line(format!(
            "relation: {} of {}",
            relation.kind,
            of.join(" and ")
        ))?;
    }
    let mut table = Table::new([
        ("CHUNK", Align::Left),
        ("BYTES", Align::Right),
        ("STORED", Align::Right),
        ("DEPTH", Align::Right),
        ("ENCODING", Align::Left),
        ("INPUTS", Align::Left),
        ("PACK", Align::Left),
    ]);
    for chunk in &chunks {
        let inputs: Vec<String> = chunk.inputs.iter().map(|id| id.short()).collect();
        table.row([
            chunk.id.short(),
            size::bytes(chunk.raw_len.into()),
            size::bytes(chunk.stored_len.into()),
            chunk.depth.to_string(),
            chunk.encoding.clone(),
            inputs.join(","),
            format!("{} @ {}", chunk.pack.short(), chunk.offset),
        ]);
    }
    out.text(&table.render())?;
    Ok(Outcome::Done)
}

fn chunk_view(chunk: &ChunkReport) -> ChunkView {
    ChunkView {
        id: chunk.id.to_string(),
        raw_bytes: chunk.raw_len,
        stored_bytes: chunk.stored_len,
        encoding: chunk.encoding.clone(),
        depth: chunk.depth,
        restore_cost: chunk.restore_cost,
        pack: chunk.pack.to_string(),
        offset: chunk.offset,
        inputs: chunk.inputs.iter().map(ToString::to_string).collect(),
    }
}

fn show_checkpoint(store: &Store, checkpoint: &Checkpoint, out: Output) -> Result {
    let summary = checkpoint.summary()?;
    if out.quiet && !out.json {
        out.line(summary.id.to_string())?;
        return Ok(Outcome::Done);
    }
    let manifest = checkpoint.manifest();
    let body = &manifest.body;
    let packs = checkpoint.packs().into_iter().map(|pack| PackView {
        id: pack.id.to_string(),
        bytes: pack.len,
        present: pack.present,
    });
    let blobs = body.blobs.iter().map(|blob| BlobView {
        name: blob.name.clone(),
        bytes: blob.byte_len,
        chunks: blob.chunks.len(),
    });
    let view = ShowView {
        checkpoint: CheckpointView::new(&summary, &Tags::new(&store.tags()?)),
        chunks: manifest.placement.chunks,
        new_chunks: manifest.placement.new_chunks,
        metadata: body.metadata.clone(),
        blobs: blobs.collect(),
        packs: packs.collect(),
        tensors: tensors(checkpoint, None)?,
    };
    if out.json {
        out.document(&view)?;
    } else {
        out.text(&text(&view, &summary))?;
    }
    Ok(Outcome::Done)
}

fn text(view: &ShowView<'_>, summary: &Summary) -> String {
    let c = &view.checkpoint;
    let logical = c.logical_bytes;
    let times = size::ratio(c.restore_cost, logical);
    let mut lines = vec![
        format!("checkpoint {}", c.id),
        format!("run        {} (number {})", c.run, c.seq),
        format!("step       {}", c.step),
        format!(
            "time       {} ({})",
            c.time,
            size::age(summary.placement.time_ms)
        ),
        format!("parent     {}", c.parent.as_deref().unwrap_or("none")),
        format!(
            "kind       {}",
            kind_with_depth(summary.placement.full, c.depth)
        ),
        format!("durability {}", c.durability),
        format!("logical    {}", size::bytes(logical)),
        format!("added      {}", size::bytes(c.added_bytes)),
        format!(
            "restore    costs {times:.2} times reading {}",
            size::bytes(logical)
        ),
        format!(
            "chunks     {}, {} of them new",
            view.chunks, view.new_chunks
        ),
    ];
    if c.dropped_tensors > 0 {
        let all = size::count(c.tensors, "tensor");
        lines.push(format!(
            "thinned    {} of {all} dropped: they cannot be restored",
            c.dropped_tensors
        ));
    }
    if !c.tags.is_empty() {
        lines.push(format!("tags       {}", c.tags.join(", ")));
    }
    for (name, value) in &c.metrics {
        lines.push(format!("metric     {} = {value}", one_line(name)));
    }
    for (key, value) in &view.metadata {
        lines.push(format!(
            "metadata   {} = {}",
            one_line(key),
            one_line(value)
        ));
    }
    for blob in &view.blobs {
        lines.push(format!(
            "blob       {} ({})",
            one_line(&blob.name),
            size::bytes(blob.bytes)
        ));
    }
    for pack in &view.packs {
        let missing = if pack.present { "" } else { ", MISSING" };
        lines.push(format!(
            "pack       {} ({}{missing})",
            pack.id,
            size::bytes(pack.bytes)
        ));
    }
    let table = crate::command::ls::table(&view.tensors);
    lines.join("\n") + "\n\n" + &table
}
