//! A damaged store is refused with an error of the right kind, or read right; never a panic,
//! a hang or wrong bytes.

mod bits; // single bits, and exactly what each hits
mod fixture; // the small store, what it holds, how it is read back
mod hidden; // folders that are links or have other names, before who writes and removes
mod hostile; // well-sealed files whose content lies
mod hostile_bodies; // the same for manifests, tags and the FORMAT file
mod places; // files swapped, missing, replaced by folders, links and FIFOs
mod sweep; // every prefix and every flipped byte of every file
