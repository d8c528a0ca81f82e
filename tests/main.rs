//! Everything that is tested from outside: the engine's public API and the command line.

mod support; // states that look like training, stores on temporary folders

mod compat; // golden stores: the good come back, the bad are refused, each for its reason
mod layers; // what each part must not know, read from the sources
mod make_golden; // makes golden stores, only when asked
mod regression; // one test for each fault that was found, its story on top
mod roundtrip; // whatever is saved comes back, bit for bit
mod spec; // format-spec.md says what the code does
