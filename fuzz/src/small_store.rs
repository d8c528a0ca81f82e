//! A small store with every kind of file and record, in memory.

use std::sync::Arc;

use milepost_engine::format::store_file::StoreSettings;
use milepost_engine::{Dtype, Durability, Full, Result, SaveOptions, Store, StoreOptions};

use crate::memory_disk::{Files, MemoryDisk};

/// Options that make a fuzz run repeatable and keep it on one thread.
#[must_use]
pub fn options() -> StoreOptions {
    StoreOptions {
        threads: 1,
        cache_bytes: 1 << 20,
        clock: || 1_700_000_000_000,
        ..StoreOptions::default()
    }
}

/// Settings with the smallest chunks.
#[must_use]
pub fn settings() -> StoreSettings {
    StoreSettings {
        uuid: [7; 16],
        chunk_len: 4096,
        ..StoreSettings::default()
    }
}

/// Three checkpoints: one full, one of deltas, one self-contained and relaxed; a tag, a blob.
///
/// # Errors
/// Never, unless the engine is broken.
pub fn files() -> Result<Files> {
    let disk = MemoryDisk::default();
    let store = Store::create_on(Arc::new(disk.clone()), settings(), options())?;
    let mut weights: Vec<u8> = (0..1600u16)
        .flat_map(|i| (f32::from(i) * 0.37).sin().to_le_bytes())
        .collect();
    for step in 0..3 {
        let mut options = SaveOptions::new("main");
        if step == 2 {
            options.full = Full::SelfContained;
            options.durability = Durability::Relaxed;
            options.tags = vec!["best".into()];
        }
        let mut draft = store.draft(options)?;
        draft
            .tensor("w", Dtype::F32, &[40, 40], &weights)?
            .tensor("zero", Dtype::BF16, &[3000], &[0; 6000])?
            .blob("rng", b"four score and seven years ago")?
            .metric("loss", 1.5 - f64::from(step))?
            .metadata("note", "small")?;
        draft.commit()?;
        weights.iter_mut().step_by(4).for_each(|low| *low ^= 1);
    }
    let mut files = disk.files().clone();
    files.retain(|path, _| !path.starts_with("txn/"));
    Ok(files)
}
