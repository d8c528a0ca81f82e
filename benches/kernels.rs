//! The codec's inner loops beside a copy of as many bytes, on one core.
//!
//! `cargo bench --bench kernels`: GB/s of the chunk's bytes, for 32-bit and 16-bit floats in
//! chunks of 256 KiB, as they are by default.

use divan::Bencher;
use divan::counter::BytesCount;
use milepost_engine::codec::kernels::{Buffers, KERNELS};

const CHUNK_LEN: usize = 256 << 10;

fn main() {
    divan::main();
}

/// Weights, or the same after a step of training: most move by a few units of their last places.
fn weights(width: usize, step: f32) -> Vec<u8> {
    let mut state = 1u64;
    let mut noise = move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        f32::from(u16::try_from(state >> 48).unwrap_or_default()) / 65_536.0 - 0.5
    };
    let mut lane = || {
        // A sum of uniform values is close to normal.
        let value = (noise() + noise() + noise() + noise()) * 0.04;
        let moved = value + step * noise() * 1e-4;
        moved.to_bits().to_le_bytes().into_iter().skip(4 - width)
    };
    (0..CHUNK_LEN / width).flat_map(|_| lane()).collect()
}

fn names() -> impl Iterator<Item = &'static str> {
    KERNELS.iter().map(|(name, _)| *name)
}

fn run(bencher: Bencher<'_, '_>, name: &str, width: usize) {
    let Some((_, kernel)) = KERNELS.iter().find(|(known, _)| *known == name) else {
        return;
    };
    let mut buffers = Buffers::new(weights(width, 1.0), weights(width, 0.0), width);
    let bencher = bencher.counter(BytesCount::new(buffers.len()));
    bencher.bench_local(|| kernel(&mut buffers));
}

#[divan::bench(args = names())]
fn floats_of_32_bits(bencher: Bencher<'_, '_>, name: &str) {
    run(bencher, name, 4);
}

#[divan::bench(args = names().filter(|name| !name.starts_with("predict")))]
fn floats_of_16_bits(bencher: Bencher<'_, '_>, name: &str) {
    run(bencher, name, 2);
}
