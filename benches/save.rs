//! Times saves of states that are held in memory, in one process, as training does them.
//!
//! `cargo bench --bench save -- --folder DIR [--threads N] [--repeats N] [--cache-mib N]
//! [--durability relaxed|durable|verified] [--budget-milli N] [--few N] FILE.safetensors...` makes
//! a store in a folder of `DIR`, saves every file as the next step of one run, and prints a line of
//! JSON for each: raw bytes, stored bytes, the seconds and the processor seconds of every repeat.
//! With `--few`, so many states follow in each of which one value in a hundred changes.

use std::path::PathBuf;
use std::time::Instant;

use milepost_engine::{Dtype, Durability, SaveOptions, Store, StoreOptions, StoreSettings};
use safetensors::SafeTensors;

struct Args {
    folder: PathBuf,
    threads: usize,
    repeats: usize,
    durability: Durability,
    budget_milli: u32,
    cache_bytes: u64,
    few: u64,
    files: Vec<PathBuf>,
}

fn parse() -> Result<Args, String> {
    let mut args = Args {
        folder: std::env::temp_dir(),
        threads: 0,
        repeats: 5,
        durability: Durability::Durable,
        budget_milli: StoreSettings::default().restore_budget_milli,
        cache_bytes: StoreOptions::default().cache_bytes,
        few: 0,
        files: Vec::new(),
    };
    let mut words = std::env::args().skip(1).filter(|word| word != "--bench");
    while let Some(word) = words.next() {
        if !word.starts_with("--") {
            args.files.push(word.into());
            continue;
        }
        let value = words.next().ok_or(format!("{word} needs a value"))?;
        let number = || value.parse().map_err(|_| format!("{value} is no number"));
        match word.as_str() {
            "--folder" => args.folder = value.into(),
            "--threads" => args.threads = number()?,
            "--repeats" => args.repeats = number()?,
            "--budget-milli" => args.budget_milli = value.parse().map_err(|_| "no number")?,
            "--few" => args.few = number()? as u64,
            "--cache-mib" => args.cache_bytes = (number()? as u64) << 20,
            "--durability" => {
                args.durability = match value.as_str() {
                    "relaxed" => Durability::Relaxed,
                    "durable" => Durability::Durable,
                    "verified" => Durability::Verified,
                    _ => return Err(format!("{value} is no durability")),
                };
            }
            _ => return Err(format!("{word} is not known")),
        }
    }
    if args.files.is_empty() {
        return Err("name safetensors files".into());
    }
    Ok(args)
}

/// The same file with the low bits of one value in a hundred changed, anywhere.
fn with_few_changes(file: &[u8], seed: u64) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let state = SafeTensors::deserialize(file)?;
    let mut changed = file.to_vec();
    let mut random = seed;
    for (_, tensor) in state.tensors() {
        let start = tensor.data().as_ptr().addr() - file.as_ptr().addr();
        let width = (tensor.dtype().bitsize() / 8).max(1);
        for at in (0..tensor.data().len()).step_by(width) {
            // Knuth's numbers for linear congruence.
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let [.., low, chance, _] = (random >> 8).to_le_bytes();
            if u64::from(chance) * 256 + u64::from(low) < 655 {
                changed[start + at] ^= low | 1;
            }
        }
    }
    Ok(changed)
}

/// Seconds that this process had the processors for.
#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn processor_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// What one file took in every repeat.
#[derive(Default)]
struct Times {
    raw: u64,
    stored: u64,
    seconds: Vec<f64>,
    processor: Vec<f64>,
}

/// Saves every file, in order, into a store that is made and removed again.
fn save_all(
    args: &Args,
    states: &[SafeTensors<'_>],
    times: &mut [Times],
) -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir_in(&args.folder)?;
    let settings = StoreSettings {
        restore_budget_milli: args.budget_milli,
        ..StoreSettings::default()
    };
    let options = StoreOptions {
        threads: args.threads,
        cache_bytes: args.cache_bytes,
        ..StoreOptions::default()
    };
    let store = Store::create(&folder.path().join("store"), settings, options)?;
    for (state, times) in states.iter().zip(times) {
        let (started, processor) = (Instant::now(), processor_seconds());
        let mut draft = store.draft(SaveOptions::new("main").durability(args.durability))?;
        let tensors = state.tensors();
        for (name, tensor) in &tensors {
            let dtype = Dtype::from_name(&tensor.dtype().to_string());
            let shape: Vec<u64> = tensor.shape().iter().map(|n| *n as u64).collect();
            draft.tensor(
                name,
                dtype.ok_or("an unknown dtype")?,
                &shape,
                tensor.data(),
            )?;
        }
        draft.infer_relations();
        let report = draft.commit()?;
        times.seconds.push(started.elapsed().as_secs_f64());
        times.processor.push(processor_seconds() - processor);
        times.raw = tensors.iter().map(|(_, t)| t.data().len() as u64).sum();
        times.stored = report.added_bytes;
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args = parse()?;
    let read = |file: &PathBuf| std::fs::read(file).map_err(|e| format!("{}: {e}", file.display()));
    let mut files = args.files.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    for seed in 0..args.few {
        let last = files.last().ok_or("a file to change")?;
        files.push(with_few_changes(last, seed)?);
    }
    let states = files.iter().map(|bytes| SafeTensors::deserialize(bytes));
    let states = states.collect::<Result<Vec<_>, _>>()?;
    let mut times: Vec<Times> = states.iter().map(|_| Times::default()).collect();
    for _ in 0..args.repeats {
        save_all(&args, &states, &mut times)?;
    }
    let names = args.files.iter().map(|file| file.display().to_string());
    let changed = (0..args.few).map(|n| format!("few values changed, {}", n + 1));
    for (file, times) in names.chain(changed).zip(times) {
        let line = serde_json::json!({
            "file": file,
            "raw_bytes": times.raw,
            "stored_bytes": times.stored,
            "seconds": times.seconds,
            "processor_seconds": times.processor,
        });
        println!("{line}");
    }
    Ok(())
}
