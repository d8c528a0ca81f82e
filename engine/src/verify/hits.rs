//! From damage to what it hits: chunk -> what is decoded from it -> tensors of checkpoints.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::error::{ErrorKind, Result};
use crate::format::manifest::Manifest;
use crate::id::{ChunkId, PackId};
use crate::store::Store;
use crate::store::history::{self, Place};
use crate::verify::graph::Graph;
use crate::verify::{Findings, Hit, Problem};

/// Code of the problem that a pack which checkpoints name is not there.
pub(super) const PACK_MISSING: &str = "pack-missing";

/// A checkpoint that is lost whole, with its manifest.
pub(super) fn unreadable(place: &Place) -> Hit {
    Hit {
        run: place.run.clone(),
        seq: place.seq,
        id: place.id,
        step: None,
        tensors: Vec::new(),
        blobs: Vec::new(),
    }
}

/// Every problem with what it hits. Manifests are read once more, only if there is a problem,
/// so that a sound store of any size is verified in bounded memory.
pub(super) fn problems(
    store: &Store,
    places: &[Place],
    graph: &Graph,
    findings: Findings,
) -> Result<Vec<Problem>> {
    let mut problems: Vec<Problem> = Vec::new();
    let mut causes: HashMap<ChunkId, Vec<usize>> = HashMap::new();
    let mut spread = |roots: &[ChunkId], problem: usize| {
        for chunk in graph.spread(roots.iter().copied()) {
            causes.entry(chunk).or_default().push(problem);
        }
    };
    // What was in a pack that cannot be read is not known; what is missing may have been.
    let missing: Vec<ChunkId> = graph.missing.iter().copied().collect();
    let mut packs: BTreeMap<usize, PackId> = BTreeMap::new();
    for (pack, error) in findings.packs {
        packs.insert(problems.len(), pack);
        spread(&missing, problems.len());
        problems.push(problem(error, None));
    }
    for (chunk, error) in findings.chunks {
        spread(&[chunk], problems.len());
        problems.push(problem(error, Some(chunk)));
    }
    if !causes.is_empty() {
        // Where another record makes the chunk, a restore takes that one: nothing is hit.
        let mut lost = HashMap::new();
        for (chunk, numbers) in causes {
            if !store.is_restorable(&chunk)? {
                lost.insert(chunk, numbers);
            }
        }
        let causes = lost;
        for place in places {
            match history::read_manifest(&*store.0.disk, place) {
                Ok(manifest) => add_hits(&mut problems, &causes, &packs, &manifest),
                // Removed meanwhile: nothing of it can be hit.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }
    drop_explained(&mut problems, &packs);
    problems.extend(findings.others.into_iter().map(|(error, hits)| Problem {
        error,
        chunk: None,
        hits,
    }));
    problems.sort_by(|a, b| place_of(a).cmp(&place_of(b)));
    Ok(problems)
}

/// Drops what a damaged or missing pack explains already: chunks missing from checkpoints that
/// the pack hits. Nor is a missing pack a problem if nobody misses what was in it.
fn drop_explained(problems: &mut Vec<Problem>, packs: &BTreeMap<usize, PackId>) {
    let hit_by_packs = packs.keys().filter_map(|number| problems.get(*number));
    let explained: BTreeSet<(String, u64)> = hit_by_packs
        .flat_map(|problem| &problem.hits)
        .map(|hit| (hit.run.clone(), hit.seq))
        .collect();
    problems.retain(|problem| match problem.error.code() {
        PACK_MISSING => !problem.hits.is_empty(),
        "chunk-missing" => {
            let hits = &mut problem.hits.iter();
            !hits.all(|hit| explained.contains(&(hit.run.clone(), hit.seq)))
        }
        _ => true,
    });
}

fn problem(error: crate::Error, chunk: Option<ChunkId>) -> Problem {
    Problem {
        error,
        chunk,
        hits: Vec::new(),
    }
}

fn place_of(problem: &Problem) -> (Option<&str>, Option<u64>, Option<ChunkId>) {
    let error = &problem.error;
    (error.in_file(), error.at_offset(), problem.chunk)
}

/// Adds one checkpoint to the problems that hit it.
fn add_hits(
    problems: &mut [Problem],
    causes: &HashMap<ChunkId, Vec<usize>>,
    packs: &BTreeMap<usize, PackId>,
    manifest: &Manifest,
) {
    let hinted: BTreeSet<PackId> = manifest.packs.iter().map(|hint| hint.pack).collect();
    let concerns = |number: &usize| packs.get(number).is_none_or(|pack| hinted.contains(pack));
    let hitting = |chunks: &[ChunkId]| -> BTreeSet<usize> {
        let found = chunks.iter().filter_map(|chunk| causes.get(chunk));
        found.flatten().copied().filter(concerns).collect()
    };
    let mut hits: BTreeMap<usize, Hit> = BTreeMap::new();
    let mut hit = |number: usize, into: fn(&mut Hit) -> &mut Vec<String>, name: &str| {
        let place = Place {
            run: manifest.placement.run.clone(),
            seq: manifest.placement.seq,
            id: manifest.id,
        };
        let hit = hits.entry(number).or_insert_with(|| Hit {
            step: Some(manifest.body.step),
            ..unreadable(&place)
        });
        into(hit).push(name.to_owned());
    };
    for (place, tensor) in manifest.body.tensors.iter().enumerate() {
        if manifest.is_dropped(place) {
            continue;
        }
        for number in hitting(&tensor.chunks) {
            hit(number, |hit| &mut hit.tensors, &tensor.name);
        }
    }
    for blob in &manifest.body.blobs {
        for number in hitting(&blob.chunks) {
            hit(number, |hit| &mut hit.blobs, &blob.name);
        }
    }
    for (number, hit) in hits {
        if let Some(problem) = problems.get_mut(number) {
            problem.hits.push(hit);
        }
    }
}
