//! Layouts sparse and palette as no encoder has use for them: long gaps, no words and all words,
//! predictions below them, palettes of every size of index, values that come twice or never.

use std::path::Path;

use milepost_engine::Dtype;
use milepost_engine::format::body::TensorEntry;

use crate::make_golden::nothing;
use crate::make_golden::planted::{plant_by_hand, plant_format, record, single_chunk};
use crate::make_golden::state::{State, noise, noise_bytes};
use crate::support::golden::Expected;
use crate::support::hostile::{Codes, Record};

const RAW: u8 = 0;
const CONSTANT: u8 = 1;
const BASE: u8 = 1;
const CAST: u8 = 2;
const LINEAR: u8 = 3;
const ROTATE: u8 = 1;
const FLOAT_SUBTRACT: u8 = 2;
const XOR: u8 = 4;
const ROTATED_XOR: u8 = 5;

#[derive(Default)]
struct Store {
    records: Vec<Record>,
    tensors: Vec<TensorEntry>,
    state: State,
}

impl Store {
    fn add(&mut self, name: &str, dtype: Dtype, raw: &[u8], codes: &Codes, inputs: &[&[u8]]) {
        let depth = u8::try_from(inputs.len().min(1)).unwrap();
        self.records.push(record(raw, codes.bytes(), depth, inputs));
        self.tensors.push(single_chunk(name, dtype, raw));
        let elements = raw.len() as u64 * 8 / dtype.bits();
        self.state.tensor(name, dtype, &[elements], raw.to_vec());
    }

    /// Noise that stands alone, for others to be coded against.
    fn base(&mut self, name: &str, raw: &[u8]) {
        let codes = Codes {
            streams: vec![(RAW, raw.to_vec())],
            ..Codes::zeros(u32::try_from(raw.len()).unwrap())
        };
        self.add(name, Dtype::U8, raw, &codes, &[]);
    }
}

/// Words of so many bytes at these lanes.
fn sparse(words: &[(usize, u64)], lanes: usize, width: u8) -> Codes {
    let (mut gaps, mut next) = (Vec::new(), 0);
    for (lane, _) in words {
        let gap = lane - next;
        gaps.extend(vec![255; gap / 255]);
        gaps.push(u8::try_from(gap % 255).unwrap());
        next = lane + 1;
    }
    let count = |n: usize| u32::try_from(n).unwrap().to_le_bytes();
    let plane = |k: usize| {
        words
            .iter()
            .map(|(_, word)| word.to_le_bytes()[k])
            .collect()
    };
    let planes = (0..usize::from(width)).map(|k| (RAW, plane(k)));
    Codes {
        layout: 6,
        lane_width: width,
        params: [count(words.len()), count(gaps.len())].concat(),
        streams: [(RAW, gaps)].into_iter().chain(planes).collect(),
        ..Codes::zeros(u32::try_from(lanes).unwrap() * u32::from(width))
    }
}

fn halves(lanes: usize, words: &[(usize, u64)]) -> Vec<u8> {
    let mut raw = vec![0; lanes * 2];
    for (lane, word) in words {
        raw[lane * 2..lane * 2 + 2].copy_from_slice(&word.to_le_bytes()[..2]);
    }
    raw
}

fn add_sparse(store: &mut Store) {
    let gaps = [254, 255, 256, 0, 509, 510, 1];
    let mut words = Vec::new();
    for (gap, word) in gaps.into_iter().zip(noise(7)) {
        let before = words.last().map_or(0, |(lane, _)| lane + 1);
        words.push((before + gap, word & 0xffff));
    }
    let raw = halves(1950, &words);
    store.add("gaps", Dtype::U16, &raw, &sparse(&words, 1950, 2), &[]);
    let mut rotated = sparse(&words, 1950, 2);
    rotated.transform = ROTATE;
    let turned: Vec<(usize, u64)> = words
        .iter()
        .map(|(lane, word)| (*lane, (word >> 1 | word << 15) & 0xffff))
        .collect();
    let raw = halves(1950, &turned);
    store.add("rotated", Dtype::U16, &raw, &rotated, &[]);
    store.add("none", Dtype::U16, &[0; 600], &sparse(&[], 300, 2), &[]);
    let words: Vec<(usize, u64)> = (0..64).zip(noise(8).map(|w| w & 0xffff)).collect();
    let mut all = sparse(&words, 64, 2);
    all.streams[0] = (CONSTANT, vec![0]);
    store.add("all", Dtype::U16, &halves(64, &words), &all, &[]);
    // A stored word may be zero.
    let words = [(3, 0), (5, 9)];
    let raw = halves(10, &words);
    store.add("zero", Dtype::U16, &raw, &sparse(&words, 10, 2), &[]);
}

/// Against a base, and below predictions: the words 6 (+3) at lane 2, 5 (-3) at lane 300.
fn add_predicted(store: &mut Store) {
    let base = noise_bytes(9, 400 * 2);
    store.base("base", &base);
    let words = [(2, 6), (300, 5)];
    for (name, transform) in [("xor", XOR), ("rotated-xor", ROTATED_XOR)] {
        let mut codes = sparse(&words, 400, 2);
        (codes.predictor, codes.transform, codes.inputs) = (BASE, transform, 1);
        let mut raw = base.clone();
        for (lane, word) in words {
            let half = u16::try_from(word).unwrap();
            let turned = if transform == XOR {
                half
            } else {
                half.rotate_right(1)
            };
            let [low, high] = turned.to_le_bytes();
            raw[lane * 2] ^= low;
            raw[lane * 2 + 1] ^= high;
        }
        store.add(name, Dtype::U16, &raw, &codes, &[&base]);
    }
    let floats: Vec<u32> = (0..400u16).map(|i| f32::from(i + 1).to_bits()).collect();
    let wide: Vec<u8> = floats.iter().flat_map(|x| x.to_le_bytes()).collect();
    store.base("floats", &wide);
    let moved = |lane: usize, bits: u32| match lane {
        2 => bits + 3,
        300 => bits - 3,
        _ => bits,
    };
    // Half of each: the exponent is one less.
    let mut codes = sparse(&words, 400, 4);
    (codes.predictor, codes.transform, codes.inputs) = (LINEAR, FLOAT_SUBTRACT, 1);
    codes.params = [&0.5f64.to_le_bytes()[..], &codes.params].concat();
    let halved = floats.iter().map(|x| x - (1 << 23)).enumerate();
    let raw: Vec<u8> = halved
        .flat_map(|(lane, x)| moved(lane, x).to_le_bytes())
        .collect();
    store.add("linear", Dtype::F32, &raw, &codes, &[&wide]);
    // Small integers are exact in bf16: its upper half.
    let mut codes = sparse(&[(2, 6), (100, 5)], 128, 2);
    (codes.predictor, codes.transform, codes.inputs) = (CAST, FLOAT_SUBTRACT, 1);
    codes.params = [&[0][..], &codes.params].concat();
    let wide = &wide[..128 * 4];
    store.base("few-floats", wide);
    let cast = floats.iter().take(128).map(|x| x >> 16).enumerate();
    let lane = |(lane, x): (usize, u32)| {
        let half = moved(if lane == 100 { 300 } else { lane }, x);
        u16::try_from(half).unwrap().to_le_bytes()
    };
    let raw: Vec<u8> = cast.flat_map(lane).collect();
    store.add("cast", Dtype::BF16, &raw, &codes, &[wide]);
}

fn add_palettes(store: &mut Store) {
    for (count, bits, lanes) in [
        (1usize, 1, 50usize),
        (2, 1, 50),
        (3, 2, 50),
        (4, 2, 51),
        (5, 4, 51),
        (16, 4, 51),
        (17, 8, 51),
        // More values than lanes.
        (256, 8, 51),
    ] {
        let mut values: Vec<u64> = noise(100 + count as u64)
            .map(|w| w & 0xffff)
            .take(count)
            .collect();
        if count == 5 {
            values[4] = values[1];
        }
        let indices: Vec<usize> = (0..lanes).map(|lane| lane * 7 % count).collect();
        let per_byte = 8 / bits;
        let byte = |group: &[usize]| {
            let places = group.iter().enumerate();
            let byte = places.fold(0, |byte, (at, index)| byte | index << (at * bits));
            u8::try_from(byte).unwrap()
        };
        let packed: Vec<u8> = indices.chunks(per_byte).map(byte).collect();
        let entries = values.iter().flat_map(|v| v.to_le_bytes()[..2].to_vec());
        let codes = Codes {
            layout: 7,
            lane_width: 2,
            params: vec![u8::try_from(count - 1).unwrap()],
            streams: vec![
                (RAW, entries.collect()),
                if count == 1 {
                    (CONSTANT, vec![0])
                } else {
                    (RAW, packed)
                },
            ],
            ..Codes::zeros(u32::try_from(lanes * 2).unwrap())
        };
        let raw: Vec<u8> = indices
            .iter()
            .flat_map(|index| values[*index].to_le_bytes()[..2].to_vec())
            .collect();
        store.add(&format!("palette.{count}"), Dtype::U16, &raw, &codes, &[]);
    }
}

pub(crate) fn make(root: &Path) -> Expected {
    let mut expected = nothing();
    plant_format(root);
    let mut store = Store::default();
    add_sparse(&mut store);
    add_predicted(&mut store);
    add_palettes(&mut store);
    let Store {
        records,
        tensors,
        state,
    } = store;
    let found = plant_by_hand(root, &records, tensors, &state);
    expected.checkpoints.push(found);
    expected
}
