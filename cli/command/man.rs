//! `milepost man`: manual pages.

use std::path::PathBuf;

use clap::{Args, CommandFactory};
use clap_mangen::Man as Page;
use milepost_engine::Error;
use serde::Serialize;

use crate::args::Cli;
use crate::exit::{Outcome, Result};
use crate::files;
use crate::session::Session;

/// Print the manual page, or write one page for each command to a folder.
#[derive(Args, Debug)]
pub(crate) struct Man {
    /// The folder to write to; made if there is none.
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
}

#[derive(Serialize)]
struct ManView {
    /// The page, unless pages were written to a folder.
    page: Option<String>,
    files: Vec<String>,
}

pub(crate) fn run(args: &Man, session: &Session) -> Result {
    let mut command = Cli::command();
    command.build();
    let out = session.out;
    let Some(folder) = &args.output else {
        let page = String::from_utf8_lossy(&render(command)?).into_owned();
        if out.json {
            out.document(&ManView {
                page: Some(page),
                files: Vec::new(),
            })?;
        } else {
            out.text(&page)?;
        }
        return Ok(Outcome::Done);
    };
    files::make_folder(folder)?;
    let mut written = Vec::new();
    let verbs = command.get_subcommands().filter(|c| !c.is_hide_set());
    let verbs: Vec<clap::Command> = verbs.cloned().collect();
    for page in std::iter::once(command).chain(verbs) {
        let name = page.get_display_name().unwrap_or("milepost").to_owned();
        let path = folder.join(format!("{name}.1"));
        files::write(&path, &render(page)?)?;
        written.push(path.display().to_string());
    }
    if out.json {
        out.document(&ManView {
            page: None,
            files: written,
        })?;
    } else if !out.quiet {
        for path in &written {
            out.line(path)?;
        }
    }
    Ok(Outcome::Done)
}

fn render(command: clap::Command) -> std::result::Result<Vec<u8>, Error> {
    let mut page = Vec::new();
    let rendered = Page::new(command).render(&mut page);
    rendered.map_err(|e| Error::io("make a manual page", e))?;
    Ok(page)
}
