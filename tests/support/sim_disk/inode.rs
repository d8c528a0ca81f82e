//! The bytes of one simulated file: what readers see, and what a crash leaves.

use std::hash::{DefaultHasher, Hasher};
use std::sync::{Arc, OnceLock};

use crate::support::rng::Rng;

/// Bytes that a device writes whole or not at all.
pub(super) const SECTOR_LEN: usize = 512;

/// A file without its names.
#[derive(Clone, Debug, Default)]
pub(super) struct Inode {
    /// What readers see: the page cache.
    pub(super) cache: Arc<Vec<u8>>,
    /// What the device has.
    device: Arc<Vec<u8>>,
    /// Bytes before this one are clean: the kernel will not write them again.
    dirty_from: usize,
    /// Lengths since the last sync: the size may survive in any of them.
    lens: Vec<usize>,
    digest: OnceLock<u64>,
}

impl Inode {
    fn clean(bytes: Arc<Vec<u8>>) -> Self {
        Self {
            dirty_from: bytes.len(),
            cache: Arc::clone(&bytes),
            device: bytes,
            lens: Vec::new(),
            digest: OnceLock::new(),
        }
    }

    pub(super) fn append(&mut self, bytes: &[u8]) {
        self.lens.push(self.cache.len());
        Arc::make_mut(&mut self.cache).extend_from_slice(bytes);
        self.digest = OnceLock::new();
    }

    /// Whether nothing waits to be written: what a crash leaves is certain.
    pub(super) fn is_clean(&self) -> bool {
        self.dirty_from == self.cache.len()
    }

    /// Whether the device has what readers see.
    pub(super) fn is_settled(&self) -> bool {
        self.is_clean() && Arc::ptr_eq(&self.cache, &self.device)
    }

    /// A sync that works: dirty sectors reach the device. Those that an earlier, failed sync
    /// marked clean do not.
    pub(super) fn sync(&mut self) {
        if self.is_clean() {
            return;
        }
        self.device = if self.device.len() == self.dirty_from
            && self.device[..] == self.cache[..self.dirty_from]
        {
            Arc::clone(&self.cache)
        } else {
            Arc::new(self.seen_by_device())
        };
        self.settle();
    }

    /// A sync that fails: the device has got some of the dirty sectors, and the kernel marks all
    /// of them clean, so that no later sync writes them.
    pub(super) fn fail_sync(&mut self, rng: &mut Rng) {
        if !self.is_clean() {
            self.device = Arc::new(self.survivors(rng));
            self.settle();
        }
    }

    fn settle(&mut self) {
        self.dirty_from = self.cache.len();
        self.lens.clear();
        self.digest = OnceLock::new();
    }

    /// What reading gives once clean pages were dropped from memory.
    pub(super) fn uncached(&self) -> Arc<Vec<u8>> {
        if Arc::ptr_eq(&self.cache, &self.device) {
            return Arc::clone(&self.cache);
        }
        Arc::new(self.seen_by_device())
    }

    /// The device's bytes where clean, the cache's where dirty, in the cache's length.
    fn seen_by_device(&self) -> Vec<u8> {
        let mut bytes = self.device.to_vec();
        bytes.resize(self.cache.len(), 0);
        bytes[self.dirty_from..].copy_from_slice(&self.cache[self.dirty_from..]);
        bytes
    }

    /// The file after a crash, and whether it lost anything.
    pub(super) fn crash(&self, rng: &mut Rng) -> (Self, bool) {
        if self.is_clean() {
            let torn = self.cache != self.device;
            return (Self::clean(Arc::clone(&self.device)), torn);
        }
        let bytes = self.survivors(rng);
        let torn = bytes != *self.cache;
        (Self::clean(Arc::new(bytes)), torn)
    }

    /// Bytes that the device may have at a crash.
    fn survivors(&self, rng: &mut Rng) -> Vec<u8> {
        let mut bytes = self.device.to_vec();
        bytes.resize(self.surviving_len(rng), 0);
        // Whole files of zeros and whole files intact are common on real systems.
        let kept_percent = [100, 0, 50, 90][rng.below(4)];
        let garbled_percent = [0, 20, 50][rng.below(3)];
        let mut at = self.dirty_from;
        while at < bytes.len() {
            let end = (at / SECTOR_LEN * SECTOR_LEN + SECTOR_LEN).min(bytes.len());
            let sector = &mut bytes[at..end];
            if rng.percent(kept_percent) {
                sector.copy_from_slice(&self.cache[at..end]);
            } else if rng.percent(garbled_percent) {
                sector.copy_from_slice(&self.cache[at..end]);
                garble(sector, rng);
            }
            at = end;
        }
        bytes
    }

    fn surviving_len(&self, rng: &mut Rng) -> usize {
        let (least, most) = (self.device.len().min(self.dirty_from), self.cache.len());
        let len = match rng.below(4) {
            0 | 1 => most,
            2 => self.lens[rng.below(self.lens.len())],
            _ => least + rng.below(most - least + 1),
        };
        len.clamp(least, most)
    }

    /// A hash of what the device has; only meaningful after a crash, when nothing is dirty.
    pub(super) fn digest(&self) -> u64 {
        *self.digest.get_or_init(|| {
            let mut hasher = DefaultHasher::new();
            hasher.write(&self.device);
            hasher.finish()
        })
    }
}

/// Noise, a few flipped bits, or another sector's remains.
fn garble(sector: &mut [u8], rng: &mut Rng) {
    match rng.below(3) {
        0 => sector
            .iter_mut()
            .for_each(|b| *b = rng.next().to_le_bytes()[0]),
        1 => {
            for _ in 0..=rng.below(3) {
                let at = rng.below(sector.len());
                sector[at] ^= 1 << rng.below(8);
            }
        }
        _ => sector.fill(0xff),
    }
}
