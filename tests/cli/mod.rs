//! The command: what it prints, what it refuses, how it exits.

mod compaction;
mod deletion; // forget and gc: the plan and the deed
mod demo; // trains, kills, resumes and proves
mod files; // safetensors files come back byte for byte
mod help; // help of every command
mod like; // another's file against what is nearest
mod output; // text and JSON of every command
mod quota;
mod relations; // told by names, by flags, or not at all
mod salvage;
mod streams; // pipes, progress, colour, signals
mod subnormals; // a process that flushes them restores and saves the same bytes
mod verify; // damage is found and named
mod wrong_input; // one sentence, a hint, nothing half-written
