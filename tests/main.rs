//! Everything that is tested from outside: the engine's public API and the command line.
#![expect(
    clippy::unwrap_used,
    reason = "a test that meets what it does not expect ends there"
)]

mod support; // states that look like training, stores on temporary folders

mod chains; // bounds, sharing, runs, several writers at once
mod corruption; // damage of every kind: an error of the right kind or the right bytes
mod errors; // the sentences of the main errors, word for word
mod properties; // any state, history and options: generated, shrunk when they fail
mod regression; // one test for each fault that was found, its story on top
mod roundtrip; // whatever is saved comes back, bit for bit
