//! Upkeep of a store: forget, gc, compact, verify.

use std::collections::BTreeSet;

use milepost_engine::retain::{Age, KeepBest};
use milepost_engine::{
    CompactOptions, CompactReport, Error, Forget, ForgetPlan, GcOptions, GcReport, KeepRules,
    ReadData, VerifyOptions, VerifyReport,
};
use pyo3::prelude::*;

use crate::error::raise;
use crate::reports::SummaryView;
use crate::store::NativeStore;
use crate::watch::watched;

/// Which checkpoints stay.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct RulesRequest {
    last: Option<u64>,
    every: Option<u64>,
    within: Option<String>,
    tags: BTreeSet<String>,
    best: Vec<String>,
}

impl RulesRequest {
    /// The engine's rules.
    pub(crate) fn rules(self) -> Result<KeepRules, Error> {
        let best = self.best.iter().map(|text| KeepBest::parse(text));
        Ok(KeepRules {
            last: self.last,
            every: self.every,
            within: self.within.as_deref().map(Age::parse).transpose()?,
            tags: self.tags,
            best: best.collect::<Result<_, _>>()?,
        })
    }
}

/// What to forget.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct ForgetRequest {
    revisions: Vec<String>,
    rules: RulesRequest,
    runs: Vec<String>,
    drop: Vec<String>,
    collect: bool,
    wait: bool,
    dry_run: bool,
}

/// What was forgotten, or would be.
#[derive(IntoPyObject)]
pub(crate) struct ForgetView {
    gone: Vec<SummaryView>,
    thinned: Vec<SummaryView>,
    kept: u64,
    tags: Vec<String>,
    freed_bytes: u64,
}

impl From<&ForgetPlan> for ForgetView {
    fn from(plan: &ForgetPlan) -> Self {
        let gone: Vec<SummaryView> = plan
            .going()
            .map(|j| SummaryView::from(&*j.checkpoint))
            .collect();
        let thinned = plan
            .thinned()
            .map(|(j, _)| SummaryView::from(&*j.checkpoint));
        Self {
            kept: (plan.judged.len() - gone.len()) as u64,
            gone,
            thinned: thinned.collect(),
            tags: plan.tags.keys().cloned().collect(),
            freed_bytes: plan
                .freed
                .manifest_bytes
                .saturating_add(plan.freed.pack_bytes),
        }
    }
}

/// What a collection did.
#[derive(IntoPyObject)]
pub(crate) struct GcView {
    checkpoints: u64,
    packs: u64,
    removed_packs: u64,
    removed_bytes: u64,
    idle_bytes: u64,
}

impl From<GcReport> for GcView {
    fn from(report: GcReport) -> Self {
        Self {
            checkpoints: report.checkpoints,
            packs: report.packs,
            removed_packs: report.removed_packs,
            removed_bytes: report.removed_bytes,
            idle_bytes: report.idle_bytes,
        }
    }
}

/// What a compaction did.
#[derive(IntoPyObject)]
pub(crate) struct CompactView {
    rewritten_packs: u64,
    rewritten_bytes: u64,
    new_packs: u64,
    new_bytes: u64,
    removed_bytes: u64,
}

impl From<CompactReport> for CompactView {
    fn from(report: CompactReport) -> Self {
        Self {
            rewritten_packs: report.rewritten_packs,
            rewritten_bytes: report.rewritten_bytes,
            new_packs: report.new_packs,
            new_bytes: report.new_bytes,
            removed_bytes: report.collected.removed_bytes,
        }
    }
}

/// One thing that is wrong.
#[derive(IntoPyObject)]
pub(crate) struct ProblemView {
    message: String,
    code: &'static str,
    file: Option<String>,
    checkpoints: Vec<String>,
    tensors: Vec<String>,
}

/// What a verification found.
#[derive(IntoPyObject)]
pub(crate) struct VerifyView {
    checkpoints: u64,
    packs: u64,
    records: u64,
    record_bytes: u64,
    chunks: u64,
    decoded_chunks: u64,
    decoded_bytes: u64,
    problems: Vec<ProblemView>,
}

impl From<VerifyReport> for VerifyView {
    fn from(report: VerifyReport) -> Self {
        let problems = report.problems.iter().map(|problem| {
            let hits = || problem.hits.iter();
            let tensors: BTreeSet<String> = hits().flat_map(|h| h.tensors.clone()).collect();
            ProblemView {
                message: problem.error.to_string(),
                code: problem.error.code(),
                file: problem.error.in_file().map(str::to_owned),
                checkpoints: hits().map(|h| h.id.to_string()).collect(),
                tensors: tensors.into_iter().collect(),
            }
        });
        Self {
            checkpoints: report.checkpoints,
            packs: report.packs,
            records: report.records,
            record_bytes: report.record_bytes,
            chunks: report.chunks,
            decoded_chunks: report.decoded_chunks,
            decoded_bytes: report.decoded_bytes,
            problems: problems.collect(),
        }
    }
}

/// Forgets by name or by rule, and collects afterwards if asked to.
#[pyfunction]
pub(crate) fn forget(
    py: Python<'_>,
    native: &NativeStore,
    request: ForgetRequest,
) -> PyResult<ForgetView> {
    let forget = Forget {
        revisions: request.revisions,
        rules: request.rules.rules().map_err(|e| raise(py, e))?,
        runs: request.runs,
        drop: request.drop,
        ..Forget::default()
    };
    let plan = watched(py, None, |observer| {
        let plan = native.store.plan_forget(&forget, observer)?;
        if !request.dry_run && !plan.is_empty() {
            native.store.forget(&plan, observer)?;
            if request.collect {
                native.store.gc(&gc_options(request.wait), observer)?;
            }
        }
        Ok(plan)
    })?;
    Ok(ForgetView::from(&plan))
}

fn gc_options(wait: bool) -> GcOptions {
    match wait {
        true => GcOptions::default(),
        false => GcOptions::at_once(),
    }
}

/// Removes packs that no checkpoint needs.
#[pyfunction]
pub(crate) fn gc(
    py: Python<'_>,
    native: &NativeStore,
    dry_run: bool,
    wait: bool,
) -> PyResult<GcView> {
    let options = GcOptions {
        dry_run,
        ..gc_options(wait)
    };
    let report = watched(py, None, |observer| native.store.gc(&options, observer))?;
    Ok(GcView::from(report))
}

/// Rewrites packs so that they hold what is needed and little else.
#[pyfunction]
pub(crate) fn compact(
    py: Python<'_>,
    native: &NativeStore,
    dry_run: bool,
    reencode: bool,
) -> PyResult<CompactView> {
    let options = CompactOptions {
        dry_run,
        reencode,
        ..CompactOptions::default()
    };
    let report = watched(py, None, |observer| {
        native.store.compact(&options, observer)
    })?;
    Ok(CompactView::from(report))
}

/// Verifies everything, or one checkpoint; `percent` of the data is decoded and hashed.
#[pyfunction]
#[pyo3(signature = (native, revision, percent, progress=None))]
pub(crate) fn verify(
    py: Python<'_>,
    native: &NativeStore,
    revision: Option<String>,
    percent: u8,
    progress: Option<Bound<'_, PyAny>>,
) -> PyResult<VerifyView> {
    let data = match percent {
        0 => ReadData::None,
        1..100 => ReadData::Percent(percent),
        _ => ReadData::All,
    };
    let options = VerifyOptions { revision, data };
    let report = watched(py, progress.as_ref(), |observer| {
        native.store.verify(&options, observer)
    })?;
    Ok(VerifyView::from(report))
}
