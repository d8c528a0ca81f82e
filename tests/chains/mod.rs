//! Chains stay within their bounds; what is equal is stored once; runs, tags and writers.

mod bounds; // cost, depth and periodic full checkpoints
mod family; // what is foretold from others
mod runs; // steps, forks, tags
mod sharing; // what is stored once, and what is not
mod writers; // several threads and processes at once, readers beside them
