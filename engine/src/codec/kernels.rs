//! The codec's inner loops by name, for benchmarks: each beside what it reads and writes.

use crate::codec::coder::{Contexts, ZstdMode};
use crate::codec::histogram::Histogram;
use crate::codec::leading::{self, Shifts};
use crate::codec::transform::Transform;
use crate::codec::word::{Word, with_word};
use crate::codec::{Prediction, changed_lanes, planes, residual, sparse};
use crate::dtype::Lane;

const TRANSFORM: Transform = Transform::FloatSubtract;

/// A chunk, its base, and what one kernel makes for another.
pub struct Buffers {
    lane: Lane,
    raw: Vec<u8>,
    base: Vec<u8>,
    /// The chunk with few lanes changed.
    near: Vec<u8>,
    out: Vec<u8>,
    planes: Vec<u8>,
    shifts: Shifts,
    leading: leading::Streams,
    /// The low bits, with the zeros that a reader wants behind them.
    low: Vec<u8>,
    /// The plane of signs and exponents, and its frame.
    exponents: Vec<u8>,
    frame: Vec<u8>,
    contexts: Contexts,
}

/// Does its work once over all lanes.
pub type Kernel = fn(&mut Buffers);

/// What can be timed. All read every byte of a chunk, but the two of frames: those one plane.
pub const KERNELS: [(&str, Kernel); 12] = [
    ("copy", copy),
    ("compare with a base", compare),
    ("find one lane in a hundred", find_few),
    ("subtract and zigzag", subtract),
    ("subtract, split into planes", split_planes),
    ("merge planes, add", merge_planes),
    ("subtract, split off leading bits", split_leading),
    ("merge leading bits, add", merge_leading),
    ("predict from three inputs", predict),
    ("histogram", histogram),
    ("Huffman frame of the last plane", huffman),
    ("decode that frame", decode_huffman),
];

impl Buffers {
    /// Buffers for a chunk of 16-bit or 32-bit floats against a base of the same length.
    #[must_use]
    pub fn new(raw: Vec<u8>, base: Vec<u8>, width: usize) -> Self {
        let mut buffers = Self {
            lane: Lane { width, float: true },
            out: vec![0; raw.len()],
            planes: vec![0; raw.len()],
            shifts: with_word!(width, W => Shifts::learn(&words::<W>(&raw, &base), &base)),
            near: with_few_changes(&raw, width),
            raw,
            base,
            leading: leading::Streams::default(),
            low: Vec::new(),
            exponents: Vec::new(),
            frame: Vec::new(),
            contexts: Contexts::default(),
        };
        split_planes(&mut buffers);
        let last = buffers.planes.len() / width * (width - 1);
        buffers.exponents = buffers.planes.get(last..).unwrap_or_default().to_vec();
        split_leading(&mut buffers);
        buffers.low.clone_from(&buffers.leading.low);
        let with_zeros = buffers.low.len() + leading::look_ahead();
        buffers.low.resize(with_zeros, 0);
        huffman(&mut buffers);
        buffers
    }

    /// Bytes of the chunk, by which speeds are told.
    #[must_use]
    pub fn len(&self) -> usize {
        self.raw.len()
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.raw.is_empty()
    }
}

fn with_few_changes(raw: &[u8], width: usize) -> Vec<u8> {
    let mut near = raw.to_vec();
    let changed = near.chunks_mut(width).step_by(100);
    changed
        .flat_map(<[u8]>::first_mut)
        .for_each(|low| *low ^= 1);
    near
}

fn words<W: Word>(raw: &[u8], base: &[u8]) -> Vec<W> {
    let mut words = vec![W::ZERO; raw.len() / W::BYTES];
    residual::residuals(TRANSFORM, raw, base, &mut words);
    words
}

fn copy(b: &mut Buffers) {
    b.out.copy_from_slice(&b.raw);
}

fn compare(b: &mut Buffers) {
    std::hint::black_box(changed_lanes(&b.raw, &b.base, b.lane));
}

fn find_few(b: &mut Buffers) {
    let found = with_word!(b.lane.width, W => sparse::judge_patch::<W>(TRANSFORM, &b.near, &b.raw));
    debug_assert!(found.is_some());
    std::hint::black_box(found);
}

fn subtract(b: &mut Buffers) {
    fn run<W: Word>(b: &Buffers) {
        std::hint::black_box(words::<W>(&b.raw, &b.base));
    }
    with_word!(b.lane.width, W => run::<W>(b));
}

fn split_planes(b: &mut Buffers) {
    with_word!(b.lane.width, W => planes::split::<W>(TRANSFORM, &b.raw, &b.base, &mut b.planes));
}

fn merge_planes(b: &mut Buffers) {
    let lanes = (b.planes.len() / b.lane.width).max(1);
    let planes: Vec<&[u8]> = b.planes.chunks_exact(lanes).collect();
    with_word!(b.lane.width, W => planes::merge::<W>(TRANSFORM, &planes, &b.base, &mut b.out));
}

fn split_leading(b: &mut Buffers) {
    fn run<W: Word>(b: &mut Buffers) {
        let words = words::<W>(&b.raw, &b.base);
        leading::split(&words, &b.base, &b.shifts, &mut b.leading);
    }
    with_word!(b.lane.width, W => run::<W>(b));
}

fn merge_leading(b: &mut Buffers) {
    let streams = leading::StreamsView {
        leading: &b.leading.leading,
        low: &b.low,
        low_len: b.leading.low.len(),
        escapes: &b.leading.escapes,
    };
    let merged = with_word!(b.lane.width, W => {
        leading::merge::<W>(TRANSFORM, &streams, &b.base, &b.shifts, &mut b.out)
    });
    debug_assert!(merged.is_ok());
}

/// Of 32-bit floats: others are not predicted so.
fn predict(b: &mut Buffers) {
    let inputs: [&[u8]; 3] = [&b.base, &b.raw, &b.base];
    Prediction::Linear(vec![0.5, 0.25, 0.25]).predict(&inputs, &mut b.out);
}

fn histogram(b: &mut Buffers) {
    std::hint::black_box(Histogram::of(&b.raw));
}

fn huffman(b: &mut Buffers) {
    b.frame.clear();
    let made = b
        .contexts
        .compress(ZstdMode::Huffman, &b.exponents, usize::MAX, &mut b.frame);
    debug_assert!(made.is_ok());
}

fn decode_huffman(b: &mut Buffers) {
    let (out, _) = b.out.split_at_mut(b.exponents.len());
    let made = b.contexts.decompress(&b.frame, out);
    debug_assert!(made.is_ok());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What goes in comes out, so what is timed is the work and not an early return.
    #[test]
    fn kernels_do_their_work() {
        for width in [2usize, 4] {
            let lane = |i: u16| {
                let bits = (f32::from(i) * 0.37).sin().to_bits().to_le_bytes();
                bits.into_iter().skip(4 - width)
            };
            let raw: Vec<u8> = (0..5000).flat_map(lane).collect();
            let base: Vec<u8> = (1..5001).flat_map(lane).collect();
            let mut buffers = Buffers::new(raw.clone(), base, width);
            for name in ["copy", "merge planes, add", "merge leading bits, add"] {
                buffers.out.fill(0x55);
                let (_, run) = KERNELS.iter().find(|(known, _)| *known == name).unwrap();
                run(&mut buffers);
                assert!(buffers.out == raw, "{name}");
            }
            decode_huffman(&mut buffers);
            assert!(buffers.out.starts_with(&buffers.exponents));
            KERNELS.iter().for_each(|(_, run)| run(&mut buffers));
        }
    }
}
