//! Everything that is tested from outside: the engine's public API and the command line.

mod support; // states that look like training, stores on temporary folders

mod regression; // one test for each fault that was found, its story on top
mod cli; // the command: what it prints, what it refuses, how it exits
mod roundtrip; // whatever is saved comes back, bit for bit
