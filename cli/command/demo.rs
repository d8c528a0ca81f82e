//! `milepost demo`: train, save, kill, resume, and prove that nothing was lost.

use std::path::{Path, PathBuf};

use clap::Args;
use milepost_engine::{Error, ErrorKind, SaveReport, Store, StoreSettings};
use serde::Serialize;

use crate::demo::keeper;
use crate::demo::resume::{self, SEED, Schedule};
use crate::demo::train::Trainer;
use crate::exit::{Outcome, Result};
use crate::files;
use crate::session::Session;
use crate::size;

/// See milepost at work: train a small network, save it as it learns, kill it, resume it.
///
/// Everything happens in a temporary folder that is removed at the end, in a few seconds.
#[derive(Args, Debug)]
pub(crate) struct Demo {
    /// Keep the stores in this folder, to try other commands on them.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,

    /// Steps to train; 20 checkpoints are saved on the way.
    #[arg(long, value_name = "N", default_value_t = 200, hide = true)]
    #[arg(value_parser = clap::value_parser!(u64).range(20..=100_000))]
    steps: u64,
}

/// The part of the demo that is killed and resumed.
#[derive(Args, Debug)]
pub(crate) struct DemoChild {
    #[arg(long)]
    root: PathBuf,
    #[arg(long)]
    steps: u64,
    #[arg(long)]
    every: u64,
}

const CHECKPOINTS: u64 = 20;
/// Characters that the trained network is asked for.
const SAMPLE_LEN: usize = 60;

#[derive(Serialize)]
struct DemoView {
    stores: Option<[String; 2]>,
    checkpoints: Vec<Row>,
    full_bytes: u64,
    stored_bytes: u64,
    ratio: f64,
    sample: String,
    killed_while_saving_step: u64,
    newest_step_after_kill: u64,
    resumed_at_step: u64,
    fingerprint: String,
    resumed_fingerprint: String,
    identical_checkpoints: usize,
    proved: bool,
}

/// One saved checkpoint.
#[derive(Serialize)]
struct Row {
    step: u64,
    loss: f32,
    id: String,
    kind: &'static str,
    full_bytes: u64,
    stored_bytes: u64,
    ratio_so_far: f64,
}

/// What the first training left.
struct First {
    rows: Vec<Row>,
    fingerprint: String,
    sample: String,
    tensors: usize,
}

pub(crate) fn run_child(args: &DemoChild, _: &Session) -> Result {
    let schedule = Schedule {
        steps: args.steps,
        every: args.every,
    };
    resume::live(&args.root, schedule)?;
    Ok(Outcome::Done)
}

pub(crate) fn run(args: &Demo, session: &Session) -> Result {
    let temporary;
    let folder: &Path = match &args.keep {
        Some(folder) => {
            files::make_folder(folder)?;
            folder
        }
        None => {
            temporary = tempfile::tempdir().map_err(|e| Error::io("make a folder", e))?;
            temporary.path()
        }
    };
    let every = args.steps / CHECKPOINTS;
    let schedule = Schedule {
        steps: every * CHECKPOINTS,
        every,
    };
    let (root, second_root) = (folder.join("uninterrupted"), folder.join("killed"));
    let first = train(&root, schedule, session)?;
    let (full_bytes, stored_bytes) = sums(&first.rows);
    let act_two = kill_and_resume(&second_root, schedule, session)?;
    let identical = prove(&root, &second_root, &first, &act_two, session)?;
    let view = DemoView {
        stores: args.keep.is_some().then(|| {
            [
                root.display().to_string(),
                second_root.display().to_string(),
            ]
        }),
        full_bytes,
        stored_bytes,
        ratio: size::ratio(full_bytes, stored_bytes),
        sample: first.sample,
        killed_while_saving_step: act_two.saving,
        newest_step_after_kill: act_two.newest,
        resumed_at_step: act_two.resumed,
        resumed_fingerprint: act_two.fingerprint,
        identical_checkpoints: identical,
        proved: true,
        checkpoints: first.rows,
        fingerprint: first.fingerprint,
    };
    if session.out.json {
        session.out.document(&view)?;
    } else {
        print_end(args, &root, session)?;
    }
    Ok(Outcome::Done)
}

/// A line for people.
fn say(session: &Session, text: impl AsRef<str>) -> Result<()> {
    if !session.out.json && !session.out.quiet {
        session.out.line(text)?;
    }
    Ok(())
}

fn train(root: &Path, schedule: Schedule, session: &Session) -> Result<First> {
    let settings = StoreSettings::default();
    let store = Store::create(root, settings, session.options_to_save())?;
    let mut trainer = Trainer::new(SEED);
    let tensors = trainer.tensors();
    let numbers: usize = tensors.iter().map(|(_, _, data)| data.len()).sum();
    let tensors = tensors.len();
    say(
        session,
        format!(
            "Act one: a small language model learns two old speeches for {} steps, on this computer.\n\
             Its whole state is {tensors} arrays of {numbers} numbers. It is saved every {} steps.\n",
            schedule.steps, schedule.every
        ),
    )?;
    say(
        session,
        line(["STEP", "LOSS", "A FULL SAVE", "STORED", "SMALLER SO FAR"]),
    )?;
    let mut rows: Vec<Row> = Vec::new();
    while trainer.step_count() < schedule.steps {
        session.require_running()?;
        let loss = trainer.step();
        if trainer.step_count().is_multiple_of(schedule.every) {
            let report = keeper::save(&store, &trainer, loss)?;
            let row = row(&rows, &report, loss);
            say(session, row.line())?;
            rows.push(row);
        }
    }
    let (full, stored) = sums(&rows);
    let sample = trainer.sample(SAMPLE_LEN);
    let sample = sample.split_whitespace().collect::<Vec<_>>().join(" ");
    say(
        session,
        format!(
            "\n{} as full files: {}. In milepost: {} ({:.2}x smaller), and each restores bit for bit.\n\
             The loss fell from {:.2} to {:.2}; now the model writes: {sample:?}\n",
            size::count(rows.len() as u64, "checkpoint"),
            size::bytes(full),
            size::bytes(stored),
            size::ratio(full, stored),
            rows.first().map_or(0.0, |r| r.loss),
            rows.last().map_or(0.0, |r| r.loss),
        ),
    )?;
    Ok(First {
        rows,
        fingerprint: format!("{:016x}", trainer.fingerprint()),
        sample,
        tensors,
    })
}

fn row(before: &[Row], report: &SaveReport, loss: f32) -> Row {
    let (full, stored) = sums(before);
    Row {
        step: report.step,
        loss,
        id: report.id.to_string(),
        kind: crate::view::kind(report.full),
        full_bytes: report.logical_bytes,
        stored_bytes: report.added_bytes,
        ratio_so_far: size::ratio(full + report.logical_bytes, stored + report.added_bytes),
    }
}

impl Row {
    fn line(&self) -> String {
        line([
            &self.step.to_string(),
            &format!("{:.3}", self.loss),
            &size::bytes(self.full_bytes),
            &size::bytes(self.stored_bytes),
            &format!("{:.2}x", self.ratio_so_far),
        ])
    }
}

/// Columns of fixed width: the lines are printed as the training goes.
fn line([step, loss, full, stored, ratio]: [&str; 5]) -> String {
    format!("{step:>6}  {loss:>6}  {full:>11}  {stored:>9}  {ratio:>14}")
}

fn sums(rows: &[Row]) -> (u64, u64) {
    let full = rows.iter().map(|r| r.full_bytes).sum();
    (full, rows.iter().map(|r| r.stored_bytes).sum())
}

/// What became of the second training.
struct ActTwo {
    saving: u64,
    newest: u64,
    resumed: u64,
    fingerprint: String,
}

fn kill_and_resume(root: &Path, schedule: Schedule, session: &Session) -> Result<ActTwo> {
    say(
        session,
        "Act two: another process trains the same model from the same start, and is killed while it saves.",
    )?;
    let store = Store::create(root, StoreSettings::default(), session.options())?;
    let saving = resume::kill_while_saving(root, schedule, schedule.steps / 2)?;
    session.require_running()?;
    let newest = store.newest(keeper::RUN)?.map_or(0, |summary| summary.step);
    let found = if newest < saving {
        "the half-saved checkpoint is nowhere to be seen"
    } else {
        "that save had just been completed"
    };
    say(
        session,
        format!(
            "  killed while saving step {saving}; the newest whole checkpoint is of step {newest}: {found}"
        ),
    )?;
    let (resumed, fingerprint) = resume::finish(root, schedule)?;
    session.require_running()?;
    say(
        session,
        format!(
            "  a new process resumed at step {resumed} and finished at step {}",
            schedule.steps
        ),
    )?;
    Ok(ActTwo {
        saving,
        newest,
        resumed,
        fingerprint,
    })
}

/// Holds both trainings against each other, bit for bit; the number of equal checkpoints.
fn prove(
    root: &Path,
    second_root: &Path,
    first: &First,
    act_two: &ActTwo,
    session: &Session,
) -> Result<usize> {
    let failed = |why: String| {
        Error::new(ErrorKind::Conflict, "demo-proof", why)
            .hint("this should never happen; please report it with the output above")
    };
    if first.fingerprint != act_two.fingerprint {
        return Err(failed("the resumed training ended in another state".into()).into());
    }
    if act_two.resumed != act_two.newest {
        return Err(failed("the training did not resume at the newest checkpoint".into()).into());
    }
    let one = Store::open(root, session.options())?;
    let two = Store::open(second_root, session.options())?;
    for row in &first.rows {
        let revision = format!("step:{}", row.step);
        let (a, b) = (one.checkpoint(&revision)?, two.checkpoint(&revision)?);
        let (x, y) = (&a.manifest().body, &b.manifest().body);
        // Chunk ids are hashes of the bytes: equal ids are equal tensors.
        if x.tensors != y.tensors || x.blobs != y.blobs || a.id() != b.id() {
            return Err(failed(format!("checkpoints of step {} differ", row.step)).into());
        }
    }
    say(
        session,
        format!(
            "  proof: the final states are equal, bit for bit (fingerprint {} twice);\n\
             \x20 all {} checkpoints of both trainings are identical in each of their {} arrays",
            first.fingerprint,
            first.rows.len(),
            first.tensors,
        ),
    )?;
    Ok(first.rows.len())
}

fn print_end(args: &Demo, root: &Path, session: &Session) -> Result<()> {
    if args.keep.is_none() {
        return say(
            session,
            "\nTo look around in such a store: milepost demo --keep DIR",
        );
    }
    let store = root.display();
    say(
        session,
        format!(
            "\nThe stores are kept. Try:\n\
             \x20 milepost -s {store} log\n\
             \x20 milepost -s {store} diff latest~1 latest\n\
             \x20 milepost -s {store} restore latest -o model.safetensors\n\
             \x20 milepost -s {store} verify --read-data"
        ),
    )
}
