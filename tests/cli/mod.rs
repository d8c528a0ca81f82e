//! The command: what it prints, what it refuses, how it exits.

mod compaction;
mod deletion; // forget and gc: the plan and the deed
mod demo; // trains, kills, resumes and proves
mod files; // safetensors files come back byte for byte
mod help; // help of every command
mod output; // text and JSON of every command
mod quota;
mod salvage;
mod streams; // pipes, progress, colour, signals
mod verify; // damage is found and named
mod wrong_input; // one sentence, a hint, nothing half-written
