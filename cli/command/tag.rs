//! `milepost tag`: names for checkpoints.

use clap::Args;
use milepost_engine::{Error, ErrorKind, Store};
use serde::Serialize;

use crate::exit::{Outcome, Result};
use crate::session::Session;
use crate::table::{Align, Table};

/// Name a checkpoint, remove a name, or list the names.
#[derive(Args, Debug)]
pub(crate) struct Tag {
    /// The checkpoint to name.
    #[arg(value_name = "REV", requires = "name")]
    revision: Option<String>,

    /// The name; it is moved if another checkpoint has it.
    #[arg(value_name = "NAME")]
    name: Option<String>,

    /// Remove a name.
    #[arg(short, long, value_name = "NAME", conflicts_with_all = ["revision", "name"])]
    delete: Option<String>,

    /// Only say what would be done.
    #[arg(short = 'n', long)]
    dry_run: bool,
}

#[derive(Serialize)]
struct TagsView {
    tags: Vec<TagView>,
}

#[derive(Serialize)]
struct TagView {
    name: String,
    id: String,
}

#[derive(Serialize)]
struct ChangeView {
    action: &'static str,
    name: String,
    id: Option<String>,
    previous_id: Option<String>,
    done: bool,
}

pub(crate) fn run(args: &Tag, session: &Session) -> Result {
    let store = session.store()?;
    if let Some(name) = &args.delete {
        return delete(name, args.dry_run, &store, session);
    }
    match (&args.revision, &args.name) {
        (Some(revision), Some(name)) => set(revision, name, args.dry_run, &store, session),
        _ => list(&store, session),
    }
}

fn set(revision: &str, name: &str, dry_run: bool, store: &Store, session: &Session) -> Result {
    milepost_engine::format::name::check(name, "tag")?;
    let id = store.resolve(revision)?.id;
    let previous = store.tags()?.get(name).copied();
    if !dry_run {
        store.tag(name, &id)?;
    }
    let out = session.out;
    let verb = if dry_run { "would tag" } else { "tagged" };
    let moved = match previous {
        Some(old) if old != id => format!(", instead of {}", old.short()),
        _ => String::new(),
    };
    if out.json {
        out.document(&ChangeView {
            action: "set",
            name: name.to_owned(),
            id: Some(id.to_string()),
            previous_id: previous.map(|id| id.to_string()),
            done: !dry_run,
        })?;
    } else if !out.quiet {
        out.line(format!("{verb} {} as {name}{moved}", id.short()))?;
    }
    Ok(Outcome::Done)
}

fn delete(name: &str, dry_run: bool, store: &Store, session: &Session) -> Result {
    milepost_engine::format::name::check(name, "tag")?;
    let previous = store.tags()?.get(name).copied();
    if dry_run && previous.is_none() {
        let missing = format!("there is no tag {name:?}");
        return Err(Error::new(ErrorKind::NotFound, "tag", missing).into());
    }
    if !dry_run {
        store.untag(name)?;
    }
    let out = session.out;
    if out.json {
        out.document(&ChangeView {
            action: "delete",
            name: name.to_owned(),
            id: None,
            previous_id: previous.map(|id| id.to_string()),
            done: !dry_run,
        })?;
    } else if !out.quiet {
        let verb = if dry_run { "would remove" } else { "removed" };
        let of = previous.map(|id| format!(" of {}", id.short()));
        out.line(format!("{verb} tag {name}{}", of.unwrap_or_default()))?;
    }
    Ok(Outcome::Done)
}

fn list(store: &Store, session: &Session) -> Result {
    let tags = store.tags()?;
    let out = session.out;
    if out.json {
        let tags = tags.iter().map(|(name, id)| TagView {
            name: name.clone(),
            id: id.to_string(),
        });
        out.document(&TagsView {
            tags: tags.collect(),
        })?;
    } else if out.quiet {
        for name in tags.keys() {
            out.line(name)?;
        }
    } else if tags.is_empty() {
        out.line("no tags; set one with `milepost tag REV NAME`")?;
    } else {
        let mut table = Table::new([("TAG", Align::Left), ("ID", Align::Left)]);
        for (name, id) in &tags {
            table.row([name.clone(), id.short()]);
        }
        out.text(&table.render())?;
    }
    Ok(Outcome::Done)
}
