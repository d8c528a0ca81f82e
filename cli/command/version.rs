//! `milepost version`: which version this is, and which format it writes.

use clap::Args;
use milepost_engine::format::envelope::{VERSION_MAJOR, VERSION_MINOR};
use serde::Serialize;

use crate::exit::{Outcome, Result};
use crate::session::Session;

/// Print the version of the program and of the store's format.
#[derive(Args, Debug)]
pub(crate) struct Version {}

#[derive(Serialize)]
struct VersionView {
    version: &'static str,
    format: String,
}

pub(crate) fn run(_: &Version, session: &Session) -> Result {
    let view = VersionView {
        version: env!("CARGO_PKG_VERSION"),
        format: format!("{VERSION_MAJOR}.{VERSION_MINOR}"),
    };
    let out = session.out;
    if out.json {
        out.document(&view)?;
    } else {
        out.line(format!(
            "milepost {} (format {})",
            view.version, view.format
        ))?;
    }
    Ok(Outcome::Done)
}
