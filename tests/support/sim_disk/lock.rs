//! Locks of a simulated machine: on files, in memory, gone with the power.

use std::collections::HashMap;
use std::sync::Arc;

use milepost_engine::store::disk::{Lock, LockMode};

use super::Machine;
use super::state::InodeId;

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
    }
}

/// `None` if another holds it.
pub(super) fn take(machine: &Arc<Machine>, id: InodeId, mode: LockMode) -> Option<Box<dyn Lock>> {
    let taken = machine.inner().locks.try_take(id, mode);
    taken.then(|| {
        Box::new(SimLock {
            machine: Arc::clone(machine),
            id,
            mode,
        }) as Box<dyn Lock>
    })
}
