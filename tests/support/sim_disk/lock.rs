//! Locks of a simulated machine: on files, in memory, gone with the power.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use milepost_engine::store::disk::{Lock, LockMode};
use milepost_engine::{Error, ErrorKind, Result};

use super::Machine;
use super::state::InodeId;

/// A wait longer than this is a deadlock of the test.
const WAIT_MAX: Duration = Duration::from_secs(20);

/// Who holds what.
#[derive(Debug, Default)]
pub(super) struct Locks(HashMap<InodeId, Held>);

#[derive(Debug, Default)]
struct Held {
    shared: usize,
    exclusive: bool,
}

impl Locks {
    fn try_take(&mut self, id: InodeId, mode: LockMode) -> bool {
        let held = self.0.entry(id).or_default();
        let free = !held.exclusive && (mode == LockMode::Shared || held.shared == 0);
        match mode {
            LockMode::Shared if free => held.shared += 1,
            LockMode::Exclusive if free => held.exclusive = true,
            _ => {}
        }
        free
    }

    fn free(&mut self, id: InodeId, mode: LockMode) {
        let held = self.0.entry(id).or_default();
        match mode {
            LockMode::Shared => held.shared -= 1,
            LockMode::Exclusive => held.exclusive = false,
        }
    }
}

#[derive(Debug)]
struct SimLock {
    machine: Arc<Machine>,
    id: InodeId,
    mode: LockMode,
}

impl Lock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.machine.inner().locks.free(self.id, self.mode);
        self.machine.freed.notify_all();
    }
}

pub(super) fn take(
    machine: &Arc<Machine>,
    id: InodeId,
    mode: LockMode,
    wait: bool,
) -> Result<Option<Box<dyn Lock>>> {
    let mut inner = machine.inner();
    while !inner.locks.try_take(id, mode) {
        if !wait {
            return Ok(None);
        }
        let (again, timeout) = machine.freed.wait_timeout(inner, WAIT_MAX).unwrap();
        if timeout.timed_out() {
            return Err(Error::new(
                ErrorKind::Locked,
                "deadlock",
                "nobody frees this lock",
            ));
        }
        inner = again;
    }
    Ok(Some(Box::new(SimLock {
        machine: Arc::clone(machine),
        id,
        mode,
    })))
}
