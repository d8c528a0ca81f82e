//! Everything that is tested from outside: the engine's public API and the command line.
#![cfg(test)]

mod support; // states that look like training, stores on temporary folders, simulated disks

mod background; // saves in the background: order, failures, cancellation
mod chains; // bounds, sharing, runs, several writers at once
mod cli; // the command: what it prints, what it refuses, how it exits
mod compaction; // fewer and smaller packs, the same checkpoints
mod compat; // golden stores: the good come back, the bad are refused, each for its reason
mod corruption; // damage of every kind: an error of the right kind or the right bytes
mod crash; // a power cut at any moment loses nothing that was acknowledged
mod damage; // old damage stops nothing new
mod deletion; // forgetting, thinning, collecting
mod disk; // every disk keeps the one contract
mod errors; // the sentences of the main errors, word for word
mod fork; // a new run is made of what was named
mod layers; // what each part must not know, read from the sources
mod like; // a stranger is coded against what is nearest to it
mod listing; // a long history is listed from few files, and truly
mod make_golden; // makes golden stores, only when asked
mod open_files; // what a process holds open comes back to the disk
mod parts; // several writers of one checkpoint: all of it or nothing
mod properties; // any state, history and options: generated, shrunk when they fail
mod quota; // a limit to what the store takes
mod read_ahead; // what is far is fetched before it is needed
mod reference; // the Python reader, written from the specification alone, agrees
mod regression; // one test for each fault that was found, its story on top
mod roundtrip; // whatever is saved comes back, bit for bit
mod salvage; // what is intact of what is damaged
mod spec; // format-spec.md says what the code does
