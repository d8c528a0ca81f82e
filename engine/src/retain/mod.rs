//! Retain: which checkpoints stay, and the dropping of the others, whole or in part.
//!
//! A plan is made first and can be shown; dropping does no more than the plan says. Space is
//! given back by a collection afterwards.

mod forget;
mod judge;
mod plan;
mod rules;

pub use forget::ForgetReport;
pub use judge::{Reason, Verdict, judge};
pub use plan::{Fate, Forget, ForgetPlan, Freed, Judged};
pub use rules::{Age, Goal, KeepBest, KeepRules};
