//! Times restores into memory, for the benchmark scripts.
//!
//! `cargo bench --bench restore -- STORE [--threads N] [--repeats N] [--cold] [--pread]
//! [--only GLOB] REV...` prints a line of JSON for each revision: bytes, records, the restore cost
//! by the store's own model, and the seconds of every repeat, with those of opening the store and
//! planning. Buffers are allocated and touched before the clock starts. `--cold` drops the store's
//! files from the page cache before each repeat, `--pread` reads packs instead of mapping them,
//! `--only` restores the tensors whose names match.

use std::path::{Path, PathBuf};
use std::time::Instant;

use milepost_engine::{ReaderMode, Selection, Store, StoreOptions, Unobserved};

struct Args {
    store: PathBuf,
    threads: usize,
    repeats: usize,
    cold: bool,
    pread: bool,
    only: Option<String>,
    revisions: Vec<String>,
}

fn parse() -> Result<Args, String> {
    let mut args = Args {
        store: PathBuf::new(),
        threads: 0,
        repeats: 7,
        cold: false,
        pread: false,
        only: None,
        revisions: Vec::new(),
    };
    let mut words = std::env::args().skip(1);
    let number = |words: &mut dyn Iterator<Item = String>| {
        words
            .next()
            .and_then(|n| n.parse().ok())
            .ok_or("a number is missing")
    };
    while let Some(word) = words.next() {
        match word.as_str() {
            "--bench" => {}
            "--cold" => args.cold = true,
            "--pread" => args.pread = true,
            "--only" => args.only = Some(words.next().ok_or("a glob is missing")?),
            "--threads" => args.threads = number(&mut words)?,
            "--repeats" => args.repeats = number(&mut words)?,
            _ if args.store.as_os_str().is_empty() => args.store = word.into(),
            _ => args.revisions.push(word),
        }
    }
    if args.store.as_os_str().is_empty() {
        return Err("name a store and revisions".into());
    }
    if args.revisions.is_empty() {
        args.revisions.push("latest".into());
    }
    Ok(args)
}

/// Asks the kernel to forget every file of the store.
#[expect(
    clippy::disallowed_methods,
    reason = "the benchmark handles the store's files itself"
)]
fn drop_from_cache(folder: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            drop_from_cache(&path)?;
        } else {
            let file = std::fs::File::options().read(true).open(&path)?;
            rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
        }
    }
    Ok(())
}

fn time_one(args: &Args, revision: &str) -> Result<serde_json::Value, Box<dyn std::error::Error>> {
    let (mut seconds, mut planning) = (Vec::new(), Vec::new());
    let mut facts = serde_json::Value::Null;
    let mut buffers: Vec<Vec<u8>> = Vec::new();
    let selection = match &args.only {
        Some(glob) => Selection::globs(&[glob])?,
        None => Selection::all(),
    };
    for _ in 0..args.repeats {
        if args.cold {
            drop_from_cache(&args.store)?;
        }
        let options = StoreOptions {
            threads: args.threads,
            reader: match args.pread {
                true => ReaderMode::Pread,
                false => ReaderMode::Auto,
            },
            ..StoreOptions::default()
        };
        let started = Instant::now();
        let checkpoint = Store::open(&args.store, options)?.checkpoint(revision)?;
        let (_, plan) = checkpoint.plan(&selection)?;
        let planned = started.elapsed().as_secs_f64();
        planning.push(planned);
        if buffers.is_empty() {
            let len = |n: &u64| usize::try_from(*n).unwrap_or(usize::MAX);
            buffers = plan.outputs.iter().map(|n| vec![1; len(n)]).collect();
        }
        let mut targets: Vec<&mut [u8]> = buffers.iter_mut().map(|b| &mut b[..]).collect();
        let started = Instant::now();
        checkpoint.restore_into(&plan, &mut targets, &Unobserved)?;
        seconds.push(planned + started.elapsed().as_secs_f64());
        facts = serde_json::json!({
            "revision": revision,
            "bytes": plan.output_bytes(),
            "read_bytes": plan.read_bytes(),
            "records": plan.records(),
            "restore_cost": checkpoint.manifest().placement.restore_cost,
        });
    }
    facts["seconds"] = seconds.into();
    facts["planning_seconds"] = planning.into();
    Ok(facts)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args = parse()?;
    for revision in &args.revisions {
        println!("{}", time_one(&args, revision)?);
    }
    Ok(())
}
