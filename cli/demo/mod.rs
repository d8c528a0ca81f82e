//! The demo: a small real network, trained in this process, and its checkpoints.

pub(crate) mod keeper;
pub(crate) mod resume;
pub(crate) mod train;

mod adamw;
mod attention;
mod block;
mod corpus;
mod exp;
mod linear;
mod matmul;
mod mlp;
mod model;
mod norm;
mod parameter;
mod rng;
mod softmax;
