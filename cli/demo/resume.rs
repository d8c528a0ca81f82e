//! A second training in a process of its own: killed in the middle, then resumed.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Stdio};

use milepost_engine::{Error, ErrorKind, Result, Store, StoreOptions};

use super::keeper;
use super::train::Trainer;
use crate::program;

/// The seed of both trainings.
pub(crate) const SEED: u64 = 20_261_123;

/// How long to train, and how often to save.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    pub(crate) steps: u64,
    pub(crate) every: u64,
}

/// The child's life: resumes from what the store has, trains, saves, and tells its parent.
///
/// Lines on standard output: `resumed STEP`, `saving STEP`, `saved STEP`, `done FINGERPRINT`.
pub(crate) fn live(root: &Path, schedule: Schedule) -> Result<()> {
    let store = Store::open(root, StoreOptions::default())?;
    let mut trainer = Trainer::new(SEED);
    if store.newest(keeper::RUN)?.is_some() {
        keeper::resume(&store.checkpoint("latest")?, &mut trainer)?;
    }
    tell(&format!("resumed {}", trainer.step_count()))?;
    while trainer.step_count() < schedule.steps {
        let loss = trainer.step();
        let step = trainer.step_count();
        if step.is_multiple_of(schedule.every) {
            tell(&format!("saving {step}"))?;
            keeper::save(&store, &trainer, loss)?;
            tell(&format!("saved {step}"))?;
        }
    }
    tell(&format!("done {:016x}", trainer.fingerprint()))
}

/// A parent that is gone ends the child.
fn tell(line: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")
        .and_then(|()| out.flush())
        .map_err(|e| Error::io("tell the parent process", e))
}

/// Starts a child that trains into the store in `root`.
fn start(root: &Path, schedule: Schedule) -> Result<Child> {
    program::anew()?
        .arg("demo-child")
        .arg("--root")
        .arg(root)
        .args(["--steps", &schedule.steps.to_string()])
        .args(["--every", &schedule.every.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| Error::io("start a child process", e))
}

/// Lets a child train and kills it while it saves the first checkpoint from step `at` on.
/// Returns the step that it was saving.
pub(crate) fn kill_while_saving(root: &Path, schedule: Schedule, at: u64) -> Result<u64> {
    let mut child = start(root, schedule)?;
    let mut saving = None;
    for line in lines(&mut child) {
        saving = number(&line?, "saving ").filter(|step| *step >= at);
        if saving.is_some() {
            break;
        }
    }
    // SIGKILL: the process gets no chance to tidy up.
    child.kill().map_err(|e| Error::io("kill the child", e))?;
    child
        .wait()
        .map_err(|e| Error::io("wait for the child", e))?;
    saving.ok_or_else(|| child_failed("the child ended before it could be killed"))
}

/// Lets a child resume and finish. Returns the step it resumed at, and its fingerprint.
pub(crate) fn finish(root: &Path, schedule: Schedule) -> Result<(u64, String)> {
    let mut child = start(root, schedule)?;
    let (mut resumed, mut fingerprint) = (None, None);
    for line in lines(&mut child) {
        let line = line?;
        resumed = resumed.or(number(&line, "resumed "));
        if let Some(text) = line.strip_prefix("done ") {
            fingerprint = Some(text.to_owned());
        }
    }
    let status = child
        .wait()
        .map_err(|e| Error::io("wait for the child", e))?;
    match (resumed, fingerprint) {
        (Some(resumed), Some(fingerprint)) if status.success() => Ok((resumed, fingerprint)),
        _ => Err(child_failed("the child that resumed did not finish")),
    }
}

fn lines(child: &mut Child) -> impl Iterator<Item = Result<String>> + use<> {
    let lines = child.stdout.take().map(|out| BufReader::new(out).lines());
    let lines = lines.into_iter().flatten();
    lines.map(|line| line.map_err(|e| Error::io("listen to the child", e)))
}

fn number(line: &str, prefix: &str) -> Option<u64> {
    line.strip_prefix(prefix)?.parse().ok()
}

fn child_failed(why: &'static str) -> Error {
    Error::new(ErrorKind::Io, "demo-child", why)
}
