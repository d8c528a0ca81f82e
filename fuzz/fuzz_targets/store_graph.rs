//! A store of any packs, records and checkpoints behind right checksums: planning, collecting,
//! compacting and forgetting lose nothing that could be restored, and a plan's bytes are freed.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use milepost_engine::Store;
use milepost_fuzz::graph::Graph;
use milepost_fuzz::memory_disk::MemoryDisk;
use milepost_fuzz::small_store::options;
use milepost_fuzz::upkeep::Upkeep;

fuzz_target!(|input: (bool, Graph, Vec<Upkeep>)| {
    let (maps, graph, work) = input;
    let Ok(files) = graph.files() else { return };
    let disk = MemoryDisk::new(files, maps);
    let Ok(store) = Store::open_on(Arc::new(disk.clone()), options()) else {
        return;
    };
    for upkeep in work.iter().take(6) {
        upkeep.apply(&disk, &store, graph.is_sound());
    }
});
