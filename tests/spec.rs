//! `format-spec.md` says what the code does: constants, registries, limits, examples, the hex
//! dump, the conformance files and every section that the code cites.

mod appendices;
mod constants;
mod document;
mod references;
mod registries;
