//! `milepost ls`: the tensors of a checkpoint.

use clap::Args;
use milepost_engine::format::placement::TensorStatistics;
use milepost_engine::{Checkpoint, Selection, dtype};
use serde::Serialize;

use crate::exit::{Outcome, Result};
use crate::session::Session;
use crate::size;
use crate::table::{Align, Table};

/// List the tensors of a checkpoint.
///
/// STORED is what saving it had to store of a tensor, CHANGED the share of its elements that
/// differ from the checkpoint before.
#[derive(Args, Debug)]
pub(crate) struct Ls {
    /// The checkpoint.
    #[arg(value_name = "REV")]
    revision: String,

    /// Only tensors whose names match, such as 'model.*'.
    #[arg(value_name = "GLOB")]
    glob: Option<String>,
}

/// One tensor of a checkpoint.
#[derive(Serialize)]
pub(crate) struct TensorView<'c> {
    pub(crate) name: String,
    pub(crate) dtype: &'static str,
    pub(crate) shape: Vec<u64>,
    pub(crate) bytes: u64,
    pub(crate) chunks: usize,
    /// Unknown if the checkpoint was saved without statistics, as the next two.
    pub(crate) stored_bytes: Option<u64>,
    pub(crate) new_chunks: Option<u64>,
    pub(crate) changed_elements: Option<u64>,
    pub(crate) elements: u64,
    /// Whether it cannot be restored any more.
    pub(crate) dropped: bool,
    /// What it was said to have been made from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) relation: Option<RelationView<'c>>,
}

/// How a tensor came from others.
#[derive(Serialize)]
pub(crate) struct RelationView<'c> {
    pub(crate) kind: &'static str,
    pub(crate) of: Vec<&'c str>,
}

#[derive(Serialize)]
struct LsView<'c> {
    id: String,
    tensors: Vec<TensorView<'c>>,
}

pub(crate) fn run(args: &Ls, session: &Session) -> Result {
    let store = session.store()?;
    let checkpoint = store.checkpoint(&args.revision)?;
    let tensors = tensors(&checkpoint, args.glob.as_deref())?;
    let out = session.out;
    if out.json {
        let id = checkpoint.id().to_string();
        out.document(&LsView { id, tensors })?;
    } else if out.quiet {
        for tensor in &tensors {
            out.line(crate::output::one_line(&tensor.name))?;
        }
    } else {
        out.text(&table(&tensors))?;
        let bytes = tensors.iter().map(|t| t.bytes).sum();
        let count = size::count(tensors.len() as u64, "tensor");
        out.line(format!("{count}, {}", size::bytes(bytes)))?;
    }
    Ok(Outcome::Done)
}

/// The tensors that match, sorted by name.
pub(crate) fn tensors<'c>(
    checkpoint: &'c Checkpoint,
    glob: Option<&str>,
) -> Result<Vec<TensorView<'c>>> {
    let manifest = checkpoint.manifest();
    let picked: Option<Vec<String>> = match glob {
        None => None,
        Some(glob) => {
            let outputs = checkpoint.select(&Selection::globs(&[glob])?)?;
            Some(outputs.into_iter().map(|o| o.name).collect())
        }
    };
    let wanted = |name: &String| {
        picked
            .as_ref()
            .is_none_or(|p| p.binary_search(name).is_ok())
    };
    let numbered = manifest.body.tensors.iter().enumerate();
    let views = numbered.filter(|(_, t)| wanted(&t.name)).map(|(i, t)| {
        let statistics: Option<&TensorStatistics> = manifest.statistics.get(i);
        TensorView {
            name: t.name.clone(),
            dtype: t.dtype.name(),
            shape: t.shape.clone(),
            bytes: t.byte_len,
            chunks: t.chunks.len(),
            stored_bytes: statistics.map(|s| s.stored_bytes),
            new_chunks: statistics.map(|s| s.new_chunks),
            changed_elements: statistics.map(|s| s.changed_elements),
            elements: dtype::elements(&t.shape).unwrap_or_default(),
            dropped: manifest.is_dropped(i),
            relation: manifest
                .relation_of(i)
                .map(|(kind, of)| RelationView { kind, of }),
        }
    });
    Ok(views.collect())
}

/// Tensors as people read them.
pub(crate) fn table(tensors: &[TensorView<'_>]) -> String {
    let mut table = Table::new([
        ("NAME", Align::Left),
        ("DTYPE", Align::Left),
        ("SHAPE", Align::Left),
        ("BYTES", Align::Right),
        ("STORED", Align::Right),
        ("CHANGED", Align::Right),
    ]);
    for t in tensors {
        let changed = t.changed_elements;
        let changed = changed.map(|n| size::share(n.min(t.elements), t.elements));
        table.row([
            t.name.clone(),
            t.dtype.to_owned(),
            shape(&t.shape),
            size::bytes(t.bytes),
            match t.dropped {
                true => "dropped".to_owned(),
                false => t.stored_bytes.map(size::bytes).unwrap_or_default(),
            },
            changed.unwrap_or_default(),
        ]);
    }
    table.render()
}

/// "[768, 768]".
pub(crate) fn shape(shape: &[u64]) -> String {
    let dims: Vec<String> = shape.iter().map(u64::to_string).collect();
    format!("[{}]", dims.join(", "))
}
