//! Long work without the interpreter's lock, watched for signals and for progress.

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use milepost_engine::{Observer, Result};
use pyo3::prelude::*;

use crate::error::raise;
use crate::log;

/// Time between looks for signals.
const TICK: Duration = Duration::from_millis(50);

#[derive(Default)]
struct Watch {
    stop: AtomicBool,
    done: AtomicU64,
    total: AtomicU64,
}

impl Observer for Watch {
    fn advance(&self, done: u64, total: u64) {
        self.total.store(total, Ordering::Relaxed);
        // Threads report in any order.
        self.done.fetch_max(done, Ordering::Relaxed);
    }

    fn is_cancelled(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

impl Watch {
    /// Lets handlers of signals run, passes messages on and tells `progress` bytes done and total.
    fn look(&self, py: Python<'_>, progress: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        py.check_signals()?;
        log::pass_on(py)?;
        let total = self.total.load(Ordering::Relaxed);
        if let (Some(progress), true) = (progress, total > 0) {
            progress.call1((self.done.load(Ordering::Relaxed), total))?;
        }
        Ok(())
    }
}

/// Does `work`. A signal whose handler raises, or a `progress` that does, stops it; that
/// exception is then raised once nothing is half-done.
pub(crate) fn watched<T: Send>(
    py: Python<'_>,
    progress: Option<&Bound<'_, PyAny>>,
    work: impl FnOnce(&dyn Observer) -> Result<T> + Send,
) -> PyResult<T> {
    let watch = Watch::default();
    let callback = progress.map(|p| p.clone().unbind());
    let (ended, stopped) = py.detach(|| {
        thread::scope(|scope| {
            let (tell, told) = channel::<()>();
            let worker = scope.spawn(|| {
                // Dropped with the work's end, however it ends.
                let _tell = tell;
                work(&watch)
            });
            let mut stopped: Option<PyErr> = None;
            while told.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
                if stopped.is_some() {
                    continue;
                }
                stopped = Python::attach(|py| {
                    let callback = callback.as_ref().map(|c| c.bind(py));
                    watch.look(py, callback).err()
                });
                watch.stop.store(stopped.is_some(), Ordering::Relaxed);
            }
            (worker.join(), stopped)
        })
    });
    let result = ended.unwrap_or_else(|panic| resume_unwind(panic));
    if let Some(error) = stopped {
        if result.is_ok() {
            let note = "milepost: the work was done before it could be stopped";
            error.value(py).call_method1("add_note", (note,))?;
        }
        return Err(error);
    }
    let value = result.map_err(|error| raise(py, error));
    log::pass_on(py)?;
    if let (Ok(_), Some(progress)) = (&value, progress) {
        let total = watch.total.load(Ordering::Relaxed);
        progress.call1((total, total))?;
    }
    value
}
