//! Revisions: the words people use for a checkpoint, to the checkpoint.

use std::collections::HashMap;
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::format::manifest::Manifest;
use crate::id::CheckpointId;
use crate::restore::Checkpoint;
use crate::store::Store;
use crate::store::history::{self, Place, Summary};
use crate::store::tags;

/// Times that what was found may be forgotten before it is opened.
const RETRIES: usize = 16;
/// Fewest digits of an id's prefix.
const PREFIX_LEN_MIN: usize = 4;

/// What a revision names.
struct Found {
    place: Place,
    /// Its manifest, if finding it took reading that.
    manifest: Option<Arc<Manifest>>,
}

impl Found {
    fn at(place: Place) -> Self {
        let manifest = None;
        Self { place, manifest }
    }
}

impl From<(Arc<Summary>, Option<Manifest>)> for Found {
    fn from((summary, manifest): (Arc<Summary>, Option<Manifest>)) -> Self {
        Self {
            place: summary.place(),
            manifest: manifest.map(Arc::new),
        }
    }
}

impl Store {
    /// The checkpoint that a revision names: `latest`, a run, `RUN@latest`, `step:N`,
    /// `RUN@step:N`, a tag, an id or its first digits; `~N` behind any of them goes to the
    /// N-th parent.
    ///
    /// # Errors
    /// `NotFound` if it names none, `InvalidInput` if it names several or is no revision.
    pub fn checkpoint(&self, revision: &str) -> Result<Checkpoint> {
        self.open_found(|| self.find(revision))
    }

    /// The checkpoint with that id.
    ///
    /// # Errors
    /// `NotFound` if there is none.
    pub fn checkpoint_by_id(&self, id: &CheckpointId) -> Result<Checkpoint> {
        self.open_found(|| {
            let place = self.place_of(id)?;
            Ok(Found::at(place.ok_or_else(|| not_found(&id.to_string()))?))
        })
    }

    /// Opens what is found. It may be forgotten between the two, and be there once more, or
    /// another may be meant by now.
    fn open_found(&self, find: impl Fn() -> Result<Found>) -> Result<Checkpoint> {
        self.close_removed_packs();
        for _ in 0..RETRIES {
            let found = find()?;
            if let Some(manifest) = found.manifest {
                return Ok(self.checkpoint_of(manifest));
            }
            match self.checkpoint_at(&found.place) {
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    self.0.history.forget(&found.place);
                }
                opened => return opened,
            }
        }
        self.checkpoint_at(&find()?.place)
    }

    /// The newest whole checkpoint of a run, if it has one.
    ///
    /// # Errors
    /// If the storage refuses.
    pub fn newest(&self, run: &str) -> Result<Option<Arc<Summary>>> {
        Ok(self.newest_read(run)?.map(|(summary, _)| summary))
    }

    /// As [`Store::newest`], with its manifest if that had to be read.
    pub(crate) fn newest_read(
        &self,
        run: &str,
    ) -> Result<Option<(Arc<Summary>, Option<Manifest>)>> {
        let disk = &*self.0.disk;
        for place in history::newest_first(disk, run)? {
            match self.0.history.look_up(disk, &place) {
                Ok(found) => return Ok(Some(found)),
                Err(error) if is_passed_over(error.kind()) => {
                    tracing::warn!(%error, "a damaged checkpoint is passed over for the one before it");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Where the manifest of a revision lies.
    ///
    /// # Errors
    /// As [`Store::checkpoint`].
    pub fn resolve(&self, revision: &str) -> Result<Place> {
        Ok(self.find(revision)?.place)
    }

    fn find(&self, revision: &str) -> Result<Found> {
        let (base, back) = split_ancestor(revision)?;
        let found = self.find_base(base)?;
        match back {
            0 => Ok(found),
            _ => Ok(Found::at(self.ancestor(revision, found.place, back)?)),
        }
    }

    /// So many parents back.
    fn ancestor(&self, revision: &str, mut place: Place, back: u32) -> Result<Place> {
        let disk = &*self.0.disk;
        if back > 16 {
            self.0.history.load_cache(disk);
        }
        let mut places: HashMap<CheckpointId, Vec<Place>> = HashMap::new();
        for found in history::all_places(disk)? {
            places.entry(found.id).or_default().push(found);
        }
        for _ in 0..back {
            let summary = self.0.history.summary(&*self.0.disk, &place)?;
            let parent = summary.parent.ok_or_else(|| {
                not_found(revision).hint(format!("{} is the first of its line", summary.id.short()))
            })?;
            let of_parent = places.get(&parent).cloned().unwrap_or_default();
            place = self.best_of(of_parent).ok_or_else(|| {
                not_found(revision).hint(format!("parent {} is not kept any more", parent.short()))
            })?;
        }
        Ok(place)
    }

    fn find_base(&self, word: &str) -> Result<Found> {
        if let Some((run, rest)) = word.split_once('@') {
            return match rest.strip_prefix("step:") {
                Some(step) => self.at_step(Some(run), step, word).map(Found::at),
                None if rest == "latest" => self.find_newest(run, word),
                None => Err(bad_revision(word)),
            };
        }
        if let Some(step) = word.strip_prefix("step:") {
            return self.at_step(None, step, word).map(Found::at);
        }
        if word == "latest" {
            return self.latest(word);
        }
        if crate::format::name::is_valid(word) {
            if let Some(id) = tags::read(&*self.0.disk, word)? {
                let dangling = || not_found(word).hint("the tag's checkpoint is not kept any more");
                return Ok(Found::at(self.place_of(&id)?.ok_or_else(dangling)?));
            }
            if history::runs(&*self.0.disk)?.iter().any(|run| run == word) {
                if let Some(newest) = self.newest_read(word)? {
                    return Ok(newest.into());
                }
                if history::has_run(&*self.0.disk, word)? {
                    return Err(not_found(word));
                }
            }
        }
        self.by_prefix(word).map(Found::at)
    }

    fn find_newest(&self, run: &str, word: &str) -> Result<Found> {
        let newest = self.newest_read(run)?;
        Ok(newest.ok_or_else(|| not_found(word))?.into())
    }

    /// The newest checkpoint of the run that was saved to last.
    fn latest(&self, word: &str) -> Result<Found> {
        let mut newest = None;
        for run in history::runs(&*self.0.disk)? {
            let found = self.newest_read(&run)?;
            let time = |found: &Option<(Arc<Summary>, Option<Manifest>)>| {
                let placement = found.as_ref().map(|(summary, _)| &summary.placement);
                placement.map(|p| (p.time_ms, p.seq))
            };
            if time(&found) > time(&newest) {
                newest = found;
            }
        }
        let newest =
            newest.ok_or_else(|| not_found(word).hint("the store has no checkpoint yet"))?;
        Ok(newest.into())
    }

    fn at_step(&self, run: Option<&str>, step: &str, word: &str) -> Result<Place> {
        let step: u64 = step.parse().map_err(|_| bad_revision(word))?;
        let listing = self.list(run)?;
        let of_step: Vec<_> = listing
            .checkpoints
            .iter()
            .filter(|s| s.step == step)
            .collect();
        // A fork's first checkpoint is the one that it was forked at once more.
        let is_copy = |s: &Summary| of_step.iter().any(|other| s.parent == Some(other.id));
        let mut found = of_step.iter().filter(|s| !is_copy(s));
        let Some(first) = found.next() else {
            return Err(match listing.damaged.first() {
                Some(damaged) => maybe_damaged(word, &damaged.place, listing.damaged.len()),
                None => not_found(word),
            });
        };
        match found.next() {
            Some(other) => Err(
                ambiguous(word, &[first.place(), other.place()]).hint_instead(format!(
                    "say which run: {}@step:{step}",
                    first.placement.run
                )),
            ),
            None => Ok(first.place()),
        }
    }

    /// A checkpoint's place.
    fn place_of(&self, id: &CheckpointId) -> Result<Option<Place>> {
        Ok(self.best_of(self.places_where(|found| found == id)?))
    }

    /// Of several places of one checkpoint, as after a copy, the first whose manifest is whole:
    /// a relaxed save that a power cut took apart must not hide one that was saved again.
    fn best_of(&self, places: Vec<Place>) -> Option<Place> {
        let is_whole = |place: &&Place| self.0.history.summary(&*self.0.disk, place).is_ok();
        let whole = match places.as_slice() {
            [_, _, ..] => places.iter().find(is_whole).cloned(),
            _ => None,
        };
        whole.or_else(|| places.into_iter().next())
    }

    fn by_prefix(&self, word: &str) -> Result<Place> {
        let hex = word
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if !hex || !(PREFIX_LEN_MIN..=64).contains(&word.len()) {
            return Err(self.unknown(word));
        }
        let found = self.places_where(|id| id.to_string().starts_with(word))?;
        match found.as_slice() {
            [] => Err(self.unknown(word)),
            [first, rest @ ..] if rest.iter().all(|p| p.id == first.id) => {
                self.best_of(found).ok_or_else(|| self.unknown(word))
            }
            several => Err(ambiguous(word, several)),
        }
    }

    fn places_where(&self, matches: impl Fn(&CheckpointId) -> bool) -> Result<Vec<Place>> {
        let mut found = Vec::new();
        for run in history::runs(&*self.0.disk)? {
            found.extend(
                history::places(&*self.0.disk, &run)?
                    .into_iter()
                    .filter(|p| matches(&p.id)),
            );
        }
        Ok(found)
    }

    /// Says what there is instead.
    fn unknown(&self, word: &str) -> Error {
        let runs = self.runs().unwrap_or_default();
        let tags = self.tags().unwrap_or_default();
        let names: Vec<&str> = runs
            .iter()
            .map(String::as_str)
            .chain(tags.keys().map(String::as_str))
            .take(8)
            .collect();
        let hint = if names.is_empty() {
            "the store has no checkpoint yet".to_owned()
        } else {
            format!(
                "runs and tags here: {}; also `latest`, `step:N`, or an id's first digits",
                names.join(", ")
            )
        };
        not_found(word).hint(hint)
    }
}

/// Whether a manifest that cannot be read is as good as not there. What a power cut left of a
/// relaxed save may also hold counts above every limit.
pub(crate) fn is_passed_over(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::Corrupt | ErrorKind::NotFound | ErrorKind::Limit
    )
}

fn split_ancestor(revision: &str) -> Result<(&str, u32)> {
    match revision.split_once('~') {
        None => Ok((revision, 0)),
        Some((base, "")) => Ok((base, 1)),
        Some((base, back)) => Ok((base, back.parse().map_err(|_| bad_revision(revision))?)),
    }
}

fn not_found(revision: &str) -> Error {
    Error::new(
        ErrorKind::NotFound,
        "revision",
        format!("no checkpoint is called {revision:?}"),
    )
}

/// A step is in the manifest, so that of a damaged one is not known.
fn maybe_damaged(revision: &str, place: &Place, count: usize) -> Error {
    Error::corrupt(
        "revision-damaged",
        format!("no checkpoint that can be read is called {revision:?}"),
    )
    .subject(format!(
        "checkpoint {} of run {}",
        place.id.short(),
        place.run
    ))
    .hint(format!(
        "{count} cannot be read, and this one or another of them may be meant: `milepost verify` \
         says what is wrong"
    ))
}

fn bad_revision(revision: &str) -> Error {
    Error::invalid("revision-syntax", format!("{revision:?} is no revision"))
        .hint("say `latest`, RUN, RUN@latest, step:N, RUN@step:N, a tag, or an id's first digits; add ~N for a parent")
}

fn ambiguous(revision: &str, places: &[Place]) -> Error {
    let named: Vec<String> = places
        .iter()
        .take(4)
        .map(|p| format!("{} in run {}", p.id.short(), p.run))
        .collect();
    Error::invalid(
        "revision-ambiguous",
        format!("{revision:?} names several checkpoints"),
    )
    .hint(format!("among them {}", named.join(", ")))
}
