//! Everything that is tested from outside: the engine's public API and the command line.

#![cfg(test)]

mod regression; // one test for each fault that was found, its story on top
mod cli; // the command: what it prints, what it refuses, how it exits
mod support; // states that look like training, stores on temporary folders, simulated disks

mod crash; // a power cut at any moment loses nothing that was acknowledged
mod disk; // every disk keeps the one contract
mod roundtrip; // whatever is saved comes back, bit for bit
