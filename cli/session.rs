//! What every command gets: the global flags, the store, the output, and whether to stop.

use std::error::Error as _;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use milepost_engine::{Error, ErrorKind, Store, StoreOptions};
use signal_hook::consts;

use crate::args::Global;
use crate::exit::{self, Result};
use crate::log;
use crate::output::Output;
use crate::progress::Progress;
use crate::report;

/// One run of the command.
pub(crate) struct Session {
    pub(crate) global: Global,
    pub(crate) out: Output,
    stop: Arc<AtomicBool>,
}

impl Session {
    /// Installs the log and the handlers of Ctrl-C.
    pub(crate) fn start(global: Global) -> Result<Self> {
        if global.json {
            report::use_json();
        }
        log::install(&global);
        let stop = Arc::new(AtomicBool::new(false));
        for signal in [consts::SIGINT, consts::SIGTERM, consts::SIGHUP] {
            // The second signal ends the process at once; this must be registered first.
            let second = signal_hook::flag::register_conditional_shutdown(
                signal,
                i32::from(exit::INTERRUPTED),
                Arc::clone(&stop),
            );
            second
                .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&stop)))
                .map_err(|e| Error::io("watch for signals", e))?;
        }
        let out = Output::new(global.json, global.quiet);
        Ok(Self { global, out, stop })
    }

    /// Opens the store that the flags name.
    pub(crate) fn store(&self) -> std::result::Result<Store, Error> {
        self.open(self.options())
    }

    /// As [`Self::store`], to save that many checkpoints one after the other.
    pub(crate) fn store_to_save(
        &self,
        saves: usize,
        quota: Option<u64>,
    ) -> std::result::Result<Store, Error> {
        let options = match saves {
            0 | 1 => self.options(),
            _ => self.options_to_save(),
        };
        self.open(StoreOptions { quota, ..options })
    }

    /// How this process uses a store: nothing is kept in memory for a next save, as the process
    /// ends before it.
    pub(crate) fn options(&self) -> StoreOptions {
        StoreOptions {
            cache_bytes: 0,
            ..self.options_to_save()
        }
    }

    /// How this process uses a store that it saves to several times.
    pub(crate) fn options_to_save(&self) -> StoreOptions {
        StoreOptions {
            threads: self.global.threads,
            reader: self.global.reader.into(),
            lock_timeout: self.global.lock_timeout.map(Duration::from_secs),
            ..StoreOptions::default()
        }
    }

    fn open(&self, options: StoreOptions) -> std::result::Result<Store, Error> {
        Store::open(&self.global.store, options).map_err(|error| self.explain(error))
    }

    /// Fails once the user wants to stop.
    pub(crate) fn require_running(&self) -> std::result::Result<(), Error> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(Error::new(
                ErrorKind::Interrupted,
                "interrupted",
                "interrupted",
            ));
        }
        Ok(())
    }

    /// Watches work of a few words, such as "save step 120".
    pub(crate) fn progress(&self, operation: &str) -> Progress {
        let mode = if self.global.quiet {
            crate::args::ProgressMode::None
        } else {
            self.global.progress
        };
        Progress::start(mode, operation, Arc::clone(&self.stop))
    }

    /// Says which folder it was, and that a file is no store either.
    fn explain(&self, error: Error) -> Error {
        let source = error.source().and_then(|e| e.downcast_ref::<io::Error>());
        let is_file = source.is_some_and(|e| e.kind() == io::ErrorKind::NotADirectory);
        let error = if is_file {
            Error::new(
                ErrorKind::NotFound,
                "no-store",
                "this is a file, not a store",
            )
        } else {
            error
        };
        if error.code() == "no-store" {
            return error
                .subject(self.global.store.display())
                .hint("make one with `milepost init`, or name one with --store");
        }
        error
    }
}
