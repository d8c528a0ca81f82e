//! Tags, and what a tag or a run may be called.

use std::collections::BTreeMap;

use crate::error::{Error, ErrorKind, Result};
use crate::format::name;
use crate::id::CheckpointId;
use crate::progress::Unobserved;
use crate::store::Store;
use crate::store::history;
use crate::store::tags;

impl Store {
    /// Every tag and the checkpoint it names.
    ///
    /// # Errors
    /// If the storage refuses.
    pub fn tags(&self) -> Result<BTreeMap<String, CheckpointId>> {
        tags::list(&*self.0.disk)
    }

    /// Names a checkpoint; a tag of that name is moved. Durable when it returns.
    ///
    /// # Errors
    /// `InvalidInput` if the name is not allowed, `NotFound` if there is no such checkpoint.
    pub fn tag(&self, name: &str, id: &CheckpointId) -> Result<()> {
        self.require_tag_name(name)?;
        let txn = self.begin(&Unobserved)?;
        let place = self.checkpoint_by_id(id)?.place();
        // While it is held, nobody can drop the checkpoint.
        let _ordered = self.lock_run(&place.run, &Unobserved)?;
        self.checkpoint_at(&place)?;
        tags::write(&*self.0.disk, txn.id, name, id)
    }

    /// Holds that a tag may have this name: a revision must not come to mean something else.
    pub(crate) fn require_tag_name(&self, name: &str) -> Result<()> {
        name::check(name, "tag")?;
        require_no_word(name, "tag")?;
        if history::has_run(&*self.0.disk, name)? {
            return Err(name_taken("run", name));
        }
        Ok(())
    }

    /// Holds that a run may have this name, as [`Store::require_tag_name`].
    pub(crate) fn require_run_name(&self, name: &str) -> Result<()> {
        name::check(name, "run")?;
        if history::has_run(&*self.0.disk, name)? {
            return Ok(());
        }
        require_no_word(name, "run")?;
        match self.tags()?.contains_key(name) {
            true => Err(name_taken("tag", name)),
            false => Ok(()),
        }
    }

    /// Removes a tag. Durable when it returns.
    ///
    /// # Errors
    /// `NotFound` if there is no such tag.
    pub fn untag(&self, name: &str) -> Result<()> {
        let _txn = self.begin(&Unobserved)?;
        tags::remove(&*self.0.disk, name)
    }
}

/// `latest` is a word of revisions.
fn require_no_word(name: &str, what: &str) -> Result<()> {
    if name != "latest" {
        return Ok(());
    }
    let why = format!("no {what} can be called \"latest\": it names the newest checkpoint");
    Err(Error::invalid("name-reserved", why).hint("choose another name"))
}

fn name_taken(what: &str, name: &str) -> Error {
    let why = format!("there is a {what} {name:?}: the name would mean two checkpoints");
    Error::new(ErrorKind::Conflict, "name-taken", why).hint("choose another name")
}
