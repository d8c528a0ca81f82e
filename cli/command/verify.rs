//! `milepost verify`: is every checkpoint whole?

use clap::Args;
use milepost_engine::{Error, Hit, Problem, ReadData, VerifyOptions, VerifyReport};
use serde::Serialize;

use crate::exit::{Outcome, Result};
use crate::output::one_line;
use crate::session::Session;
use crate::size;

/// Check that every checkpoint is whole, and name what is hit where it is not.
///
/// Checks every manifest, every pack's index and every record's checksum, and that each chunk
/// can be found. Changes nothing. Exits with 13 if something is damaged.
#[derive(Args, Debug)]
pub(crate) struct Verify {
    /// Only this checkpoint and what it needs.
    #[arg(value_name = "REV")]
    revision: Option<String>,

    /// Also decode and hash chunks: all, or a share of them such as 10%.
    #[arg(long, value_name = "N%", value_parser = parse_percent)]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "100%")]
    read_data: Option<u8>,
}

#[derive(Serialize)]
struct VerifyView {
    ok: bool,
    checkpoints: u64,
    packs: u64,
    records: u64,
    record_bytes: u64,
    chunks: u64,
    decoded_chunks: u64,
    decoded_bytes: u64,
    lost: u64,
    unneeded_packs: u64,
    unneeded_bytes: u64,
    problems: Vec<ProblemView>,
}

#[derive(Serialize)]
struct ProblemView {
    kind: &'static str,
    id: &'static str,
    message: String,
    file: Option<String>,
    offset: Option<u64>,
    chunk: Option<String>,
    checkpoints: Vec<HitView>,
}

#[derive(Serialize)]
struct HitView {
    run: String,
    seq: u64,
    step: Option<u64>,
    id: String,
    tensors: Vec<String>,
    blobs: Vec<String>,
}

pub(crate) fn run(args: &Verify, session: &Session) -> Result {
    if let Some(share) = args.revision.as_deref().filter(|r| r.ends_with('%')) {
        return Err(
            Error::invalid("usage", "a share of the data is no revision")
                .hint(format!("write it with an equals sign: --read-data={share}"))
                .into(),
        );
    }
    let store = session.store()?;
    let options = VerifyOptions {
        revision: args.revision.clone(),
        data: match args.read_data {
            None => ReadData::None,
            Some(100) => ReadData::All,
            Some(percent) => ReadData::Percent(percent),
        },
    };
    let progress = session.progress("verify");
    let report = store.verify(&options, &progress)?;
    progress.finish();
    let out = session.out;
    if out.json {
        out.document(&view(&report))?;
    } else if !out.quiet {
        out.text(&text(&report))?;
    }
    if report.problems.is_empty() {
        return Ok(Outcome::Done);
    }
    let mut hit: Vec<(&str, u64)> = report
        .problems
        .iter()
        .flat_map(|p| p.hits.iter().map(|h| (h.run.as_str(), h.seq)))
        .collect();
    hit.sort_unstable();
    hit.dedup();
    let found = size::count(report.problems.len() as u64, "problem");
    let spoilt = size::count(hit.len() as u64, "checkpoint");
    let error = Error::corrupt("damage-found", format!("{found} found; {spoilt} hit"));
    Err(error
        .hint("checkpoints that are not named are whole; copy or restore them before anything else")
        .into())
}

fn view(report: &VerifyReport) -> VerifyView {
    VerifyView {
        ok: report.problems.is_empty(),
        checkpoints: report.checkpoints,
        packs: report.packs,
        records: report.records,
        record_bytes: report.record_bytes,
        chunks: report.chunks,
        decoded_chunks: report.decoded_chunks,
        decoded_bytes: report.decoded_bytes,
        lost: report.lost,
        unneeded_packs: report.unneeded_packs,
        unneeded_bytes: report.unneeded_bytes,
        problems: report.problems.iter().map(problem_view).collect(),
    }
}

fn problem_view(problem: &Problem) -> ProblemView {
    let error = &problem.error;
    ProblemView {
        kind: error.kind().name(),
        id: error.code(),
        message: error.to_string(),
        file: error.in_file().map(str::to_owned),
        offset: error.at_offset(),
        chunk: problem.chunk.map(|chunk| chunk.to_string()),
        checkpoints: problem.hits.iter().map(hit_view).collect(),
    }
}

fn hit_view(hit: &Hit) -> HitView {
    HitView {
        run: hit.run.clone(),
        seq: hit.seq,
        step: hit.step,
        id: hit.id.to_string(),
        tensors: hit.tensors.clone(),
        blobs: hit.blobs.clone(),
    }
}

/// Problems that are told in full; `--json` tells all.
const SHOWN_MAX: usize = 50;
/// Names that are told of each checkpoint.
const NAMES_MAX: usize = 4;

fn text(report: &VerifyReport) -> String {
    let mut text = String::new();
    for problem in report.problems.iter().take(SHOWN_MAX) {
        text.push_str(&format!(
            "damaged: {}\n",
            one_line(&problem.error.to_string())
        ));
        if problem.hits.is_empty() {
            text.push_str("  hits no checkpoint: not needed, or stored once more\n");
        }
        for hit in &problem.hits {
            text.push_str(&hit_line(hit));
        }
    }
    if let Some(more) = report
        .problems
        .len()
        .checked_sub(SHOWN_MAX)
        .filter(|n| *n > 0)
    {
        text.push_str(&format!("and {more} more; --json tells all\n"));
    }
    let data = if report.decoded_chunks > 0 {
        let (n, bytes) = (report.decoded_chunks, size::bytes(report.decoded_bytes));
        format!("; decoded and hashed {} ({bytes})", size::count(n, "chunk"))
    } else {
        String::new()
    };
    let verdict = if report.problems.is_empty() {
        "ok"
    } else {
        "damaged"
    };
    if report.lost > 0 {
        text.push_str(&format!(
            "{} lost to a power cut: `milepost forget --damaged` clears away what is left\n",
            size::count(report.lost, "relaxed save"),
        ));
    }
    if report.unneeded_packs > 0 {
        text.push_str(&format!(
            "{} ({}) that no checkpoint needs: `milepost gc` frees them\n",
            size::count(report.unneeded_packs, "pack"),
            size::bytes(report.unneeded_bytes),
        ));
    }
    text.push_str(&format!(
        "{verdict}: checked {}, {}, {} ({}){data}\n",
        size::count(report.checkpoints, "checkpoint"),
        size::count(report.packs, "pack"),
        size::count(report.records, "record"),
        size::bytes(report.record_bytes),
    ));
    text
}

fn hit_line(hit: &Hit) -> String {
    let id = hit.id.short();
    let Some(step) = hit.step else {
        return format!(
            "  hits checkpoint {id} (number {} of run {})\n",
            hit.seq, hit.run
        );
    };
    let named = |what: &str, names: &[String]| {
        let shown: Vec<String> = names.iter().take(NAMES_MAX).map(|n| one_line(n)).collect();
        let more = names.len().saturating_sub(NAMES_MAX);
        let more = if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        let count = size::count(names.len() as u64, what);
        format!("{count}: {}{more}", shown.join(", "))
    };
    let mut parts = Vec::new();
    if !hit.tensors.is_empty() {
        parts.push(named("tensor", &hit.tensors));
    }
    if !hit.blobs.is_empty() {
        parts.push(named("blob", &hit.blobs));
    }
    format!(
        "  hits step {step} of run {} ({id}), {}\n",
        hit.run,
        parts.join("; ")
    )
}

fn parse_percent(text: &str) -> std::result::Result<u8, String> {
    let number = text.strip_suffix('%').unwrap_or(text);
    let percent = number.parse().ok().filter(|n| (1..=100).contains(n));
    percent.ok_or_else(|| "write a share from 1% to 100%".into())
}
