//! Chunks that several steps of a plan take: decoded once, by one worker.

use std::collections::{HashMap, HashSet};

use crate::disjoint::Disjoint;
use crate::id::ChunkId;
use crate::restore::ahead::OnStep;

/// Steps that are kept together at most. A chunk that very many take, such as one of zeros, is
/// decoded again instead: one worker would have them all.
const TOGETHER_MAX: usize = 16;

/// Jobs that one worker does, in order.
pub(super) struct Group<J> {
    pub(super) jobs: Vec<J>,
    /// The chunks that more than one of them takes.
    pub(super) shared: HashSet<ChunkId>,
}

/// Jobs in groups, in the order of each group's first.
pub(super) fn groups<J: OnStep>(jobs: Vec<J>) -> Vec<Group<J>> {
    let mut takers: HashMap<ChunkId, Vec<usize>> = HashMap::new();
    let is_made = |job: &J| job.step().recipe.steps.len() > 1;
    for (number, job) in jobs.iter().enumerate().filter(|(_, job)| is_made(job)) {
        for record in &job.step().recipe.steps {
            takers.entry(record.chunk).or_default().push(number);
        }
    }
    for (number, job) in jobs.iter().enumerate().filter(|(_, job)| !is_made(job)) {
        if let Some(takers) = takers.get_mut(&job.step().recipe.chunk()) {
            takers.push(number);
        }
    }
    takers.retain(|_, takers| (2..=TOGETHER_MAX).contains(&takers.len()));
    let mut disjoint = Disjoint::new(jobs.len());
    for takers in takers.values() {
        takers
            .windows(2)
            .for_each(|pair| disjoint.join(pair[0], pair[1]));
    }
    let mut jobs: Vec<Option<J>> = jobs.into_iter().map(Some).collect();
    let mut take = |number: usize| jobs.get_mut(number).and_then(Option::take);
    let group = |set: Vec<usize>| {
        let jobs: Vec<J> = set.into_iter().filter_map(&mut take).collect();
        let mut shared = HashSet::new();
        if jobs.len() > 1 {
            let records = jobs.iter().flat_map(|job| &job.step().recipe.steps);
            shared.extend(records.map(|r| r.chunk).filter(|c| takers.contains_key(c)));
        }
        Group { jobs, shared }
    };
    disjoint.sets().into_iter().map(group).collect()
}
