//! The stores that every reader must restore.

use std::path::Path;

use milepost_engine::codec::transform::Transform;
use milepost_engine::codec::{self, Layout, Method, Workspace};
use milepost_engine::dtype::Lane;
use milepost_engine::format::body::Body;
use milepost_engine::format::placement::Durability;
use milepost_engine::{Dtype, Full, Level, PackId, SaveOptions};

use crate::make_golden::grids;
use crate::make_golden::planted::{
    no_pack, placement, plant, plant_by_hand, plant_format, plant_manifest, plant_records, record,
    single_chunk,
};
use crate::make_golden::state::{State, low, noise, noise_bytes, stepped, weights};
use crate::make_golden::{
    compacted, few, few_by_hand, predicted, related, rounded, thinned, touched,
};
use crate::make_golden::{create, nothing};
use crate::support::golden::Expected;
use crate::support::hostile::{Codes, Record};

/// Makes a store in a folder and says what must come out of it.
pub(crate) type Maker = fn(&Path) -> Expected;

/// Each good store and how it is made.
pub(crate) const STORES: [(&str, Maker); 16] = [
    ("smallest", smallest),
    ("dtypes", dtypes),
    ("encodings", encodings),
    ("forks-and-tags", forks_and_tags),
    ("two-packs", two_packs),
    ("power-cut", power_cut),
    ("many-chunks", many_chunks),
    ("grids", grids::make),
    ("thinned", thinned::make),
    ("compacted", compacted::make),
    ("predicted", predicted::make),
    ("few-values", few::make),
    ("few-by-hand", few_by_hand::make),
    ("related", related::make),
    ("touched", touched::make),
    ("rounded", rounded::make),
];

/// One full and one delta checkpoint of one tensor.
fn smallest(root: &Path) -> Expected {
    let store = create(root);
    let mut expected = nothing();
    let mut state = State::default();
    let mut bits = weights(1, 32);
    for step in 0..2 {
        state.floats("w", bits.iter().copied());
        let options = SaveOptions::new("main").step(step);
        expected.checkpoints.push(state.save(&store, options));
        bits.iter_mut().step_by(5).for_each(|b| *b += 3);
    }
    expected
}

/// Every dtype: a scalar, an empty tensor, an odd length; floats of every class.
fn dtypes(root: &Path) -> Expected {
    let store = create(root);
    let mut expected = nothing();
    let mut state = State::default();
    for step in 0..2u64 {
        for (seed, dtype) in (step..).zip(Dtype::ALL) {
            let name = dtype.name().to_lowercase();
            let bytes = |elements: u64| {
                let len = usize::try_from(elements * dtype.bits() / 8).unwrap();
                noise_bytes(seed, len)
            };
            let whole = if dtype.bits() >= 8 { 1 } else { 4 };
            let scalar: &[u64] = if whole == 1 { &[] } else { &[4] };
            state.tensor(&format!("{name}.scalar"), *dtype, scalar, bytes(whole));
            state.tensor(&format!("{name}.empty"), *dtype, &[3, 0], Vec::new());
            let odd = 7 * whole;
            state.tensor(&format!("{name}.odd"), *dtype, &[odd, 3], bytes(odd * 3));
        }
        let flipped = if step == 0 { 0 } else { 1 };
        let classes = [
            0,
            0x8000_0000,
            1,
            0x807f_ffff,
            0x7f80_0000,
            0xff80_0000,
            0x7fc0_0000,
            0x7f80_0001,
            0xffc1_2345,
            0x7fff_ffff,
            0x3f80_0000,
        ];
        state.floats("classes", classes.map(|bits| bits ^ flipped));
        let options = SaveOptions::new("main").step(step);
        expected.checkpoints.push(state.save(&store, options));
    }
    expected
}

/// What the encoder chooses on a run of weights, and every method and coder by hand.
fn encodings(root: &Path) -> Expected {
    let mut expected = chosen_encodings(root);
    let (records, state, tensors) = every_method();
    let found = plant_by_hand(root, &records, tensors, &state);
    expected.checkpoints.insert(0, found);
    expected
}

fn chosen_encodings(root: &Path) -> Expected {
    let store = create(root);
    let mut expected = nothing();
    let (mut w, mut counts) = (weights(2, 1500), vec![0u64; 200]);
    for step in 0..6u64 {
        let mut state = State::default();
        state.floats("adam.w", w.iter().copied());
        state.floats("constant", vec![0x3f80_0000; 1500]);
        let indexes = counts.iter().flat_map(|n| n.to_le_bytes()).collect();
        state.tensor("counts", Dtype::I64, &[200], indexes);
        state.tensor("noise", Dtype::U8, &[600], noise_bytes(step, 600));
        let text = "the same words again and again; ".repeat(30);
        state.blobs.insert("text".into(), text.into_bytes());
        let mut options = SaveOptions::new("chosen").step(step);
        options.level = Some(if step == 5 {
            Level::Archive
        } else {
            Level::Fast
        });
        expected.checkpoints.push(state.save(&store, options));
        w = if step % 2 == 0 {
            stepped(&w, 100 + step)
        } else {
            let sparse = |(i, b): (usize, &u32)| if i % 97 == 0 { b + 2 } else { *b };
            w.iter().enumerate().map(sparse).collect()
        };
        counts.iter_mut().step_by(3).for_each(|n| *n += step);
    }
    expected
}

/// A chain that goes through every transform and layout, and records of every coder.
fn every_method() -> (
    Vec<Record>,
    State,
    Vec<milepost_engine::format::body::TensorEntry>,
) {
    let (mut records, mut state, mut tensors) = (Vec::new(), State::default(), Vec::new());
    let mut add = |name: &str, raw: &[u8], bytes: Vec<u8>, depth, inputs: &[&[u8]]| {
        records.push(record(raw, bytes, depth, inputs));
        state.floats(
            name,
            raw.chunks_exact(4)
                .map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])),
        );
        tensors.push(single_chunk(name, Dtype::F32, raw));
    };
    let lane = Lane {
        width: 4,
        float: true,
    };
    let mut workspace = Workspace::default();
    let mut base = noise_bytes(40, 512);
    let plain = Codes {
        streams: vec![(0, base.clone())],
        ..Codes::zeros(512)
    };
    add("00.raw", &base, plain.bytes(), 0, &[]);
    let pattern = Codes {
        lane_width: 4,
        streams: vec![(1, vec![1, 2, 3, 4, 5, 6, 7, 8])],
        ..Codes::zeros(512)
    };
    add(
        "01.constant",
        &[1, 2, 3, 4, 5, 6, 7, 8].repeat(64),
        pattern.bytes(),
        0,
        &[],
    );
    let deltas = Transform::ALL.into_iter().filter(|t| t.needs_base());
    let layouts = [Layout::Planes, Layout::Leading];
    let mut depth = 0;
    for (transform, layout) in deltas.flat_map(|t| layouts.map(|l| (t, l))) {
        depth += 1;
        let raw: Vec<u8> = base
            .chunks_exact(4)
            .zip(noise(u64::from(depth)))
            .flat_map(|(b, word)| {
                let bits = u32::from_le_bytes([b[0], b[1], b[2], b[3]]);
                (bits ^ (low(word) & 0x1ff) >> (word >> 60)).to_le_bytes()
            })
            .collect();
        let mut bytes = Vec::new();
        let method = Method { transform, layout };
        codec::encode(
            &raw,
            Some(&base),
            lane,
            method,
            Level::Fast,
            &mut workspace,
            &mut bytes,
        )
        .unwrap();
        let name = format!("{:02}.{}.{}", depth + 1, transform.name(), layout.name());
        add(&name, &raw, bytes, depth, &[&base]);
        base = raw;
    }
    (records, state, tensors)
}

/// Runs, a fork, tags, metadata, metrics of every class, blobs, a safetensors header.
fn forks_and_tags(root: &Path) -> Expected {
    let store = create(root);
    let mut expected = nothing();
    let mut state = State::default();
    let mut bits = weights(5, 64);
    for step in [10, 20] {
        state.floats("layer.0.weight", bits.iter().copied());
        state.floats("tied", bits.iter().copied());
        let header = br#"{"layer.0.weight":{"dtype":"F32","shape":[64],"data_offsets":[0,256]},"tied":{"dtype":"F32","shape":[64],"data_offsets":[256,512]},"__metadata__":{"format":"pt"}} "#;
        let mut head = (header.len() as u64).to_le_bytes().to_vec();
        head.extend_from_slice(header);
        state.blobs.insert("safetensors.header".into(), head);
        state.blobs.insert("rng".into(), noise_bytes(step, 100));
        state.blobs.insert("empty".into(), Vec::new());
        state.metadata.insert("format".into(), "pt".into());
        state
            .metadata
            .insert("note".into(), format!("step {step}\nsecond line"));
        state.metadata.insert("\u{e9}".into(), String::new());
        state.metrics.insert("loss".into(), 1.0 / step as f64);
        state
            .metrics
            .insert("nan".into(), f64::from_bits(0x7ff8_0000_dead_beef));
        state.metrics.insert("minus-zero".into(), -0.0);
        state.metrics.insert("infinity".into(), f64::INFINITY);
        let mut options = SaveOptions::new("main").step(step);
        options.tags = vec![format!("v{step}")];
        expected.checkpoints.push(state.save(&store, options));
        bits = stepped(&bits, step);
    }
    let first = expected.checkpoints[0].id.clone();
    let report = store.fork(&first, "side").unwrap();
    let mut forked = expected.checkpoints[0].clone();
    (forked.run, forked.seq) = (report.run.clone(), report.seq);
    (forked.id, forked.parent) = (report.id.to_string(), Some(first.clone()));
    expected.checkpoints.push(forked);
    state.metrics.clear();
    let mut options = SaveOptions::new("side").step(11);
    options.full = Full::Shared;
    expected.checkpoints.push(state.save(&store, options));
    store.tag("best", &report.id).unwrap();
    expected.tags = store
        .tags()
        .unwrap()
        .into_iter()
        .map(|(n, id)| (n, id.to_string()))
        .collect();
    assert_eq!(expected.tags["v10"], first);
    expected
}

/// Chunks with records in several packs, hints that are stale in every way, a relaxed save.
fn two_packs(root: &Path) -> Expected {
    plant_format(root);
    let raws: Vec<Vec<u8>> = (60..64).map(|seed| noise_bytes(seed, 64)).collect();
    let [w, y, z, x] = raws.as_slice() else {
        unreachable!()
    };
    // x needs y, less deep: at depth 0 in `shallow`, at depth 2 in `deep`.
    let first = plant_records(root, &[on(x, y, 1)]);
    let deep = plant_records(root, &[alone(w), on(z, w, 1), on(y, z, 2)]);
    let shallow = plant_records(root, &[alone(y)]);
    let again = plant_records(root, &[alone(x), on(w, x, 3)]);
    let checkpoints = [
        (
            "every-pack-hinted",
            vec![first, deep, again],
            Durability::Durable,
        ),
        (
            "input-too-deep-in-hints",
            vec![first, deep],
            Durability::Durable,
        ),
        ("hinted-pack-missing", vec![no_pack()], Durability::Durable),
        (
            "delta-from-another-pack",
            vec![first, deep, shallow],
            Durability::Durable,
        ),
        ("no-hints", vec![], Durability::Durable),
        ("relaxed", vec![no_pack(), first], Durability::Relaxed),
    ];
    let mut expected = nothing();
    for (step, (run, hints, durability)) in (0u64..).zip(checkpoints) {
        let mut state = State::default();
        let named = [("w", w), ("x", x), ("y", y), ("z", z)];
        for (name, raw) in named {
            state.tensor(name, Dtype::U8, &[64], raw.clone());
        }
        let body = Body {
            step,
            tensors: named
                .map(|(name, raw)| single_chunk(name, Dtype::U8, raw))
                .to_vec(),
            ..Body::default()
        };
        let id = plant_manifest(root, body, placement(run, 1, durability), hints);
        expected
            .checkpoints
            .push(state.expected((run, 1, step), id, None));
    }
    expected.checkpoints.sort_by(|a, b| a.run.cmp(&b.run));
    expected
}

/// What power cuts left of relaxed saves lies beside what a checkpoint needs: a pack with a whole
/// index and a damaged record, a pack whose record lacks its input, half a pack, no pack at all.
fn power_cut(root: &Path) -> Expected {
    plant_format(root);
    let (x, y, lost) = (
        noise_bytes(70, 64),
        noise_bytes(71, 64),
        noise_bytes(72, 64),
    );
    let damaged = plant_records(root, &[alone(&x)]);
    let path = format!("packs/{:02x}/{}.pack", damaged.pack.0[0], damaged.pack);
    let mut file = std::fs::read(root.join(&path)).unwrap();
    file[60] ^= 1;
    plant(root, &path, &file);
    plant_records(root, &[on(&x, &lost, 1), alone(&noise_bytes(73, 16))]);
    plant_records(root, &[on(&x, &y, 2), alone(&y)]);
    for (folder, file) in [(0, &file[..100]), (1, b"")] {
        plant(
            root,
            &format!("packs/{folder:02x}/{}.pack", PackId([folder; 32])),
            file,
        );
    }
    let mut state = State::default();
    state.tensor("x", Dtype::U8, &[64], x.clone());
    let body = Body {
        tensors: vec![single_chunk("x", Dtype::U8, &x)],
        ..Body::default()
    };
    let hints = vec![no_pack()];
    let id = plant_manifest(root, body, placement("main", 1, Durability::Durable), hints);
    let mut expected = nothing();
    expected
        .checkpoints
        .push(state.expected(("main", 1, 0), id, None));
    expected
}

/// A record of raw bytes that needs nothing.
fn alone(raw: &[u8]) -> Record {
    let len = u32::try_from(raw.len()).unwrap();
    let codes = Codes {
        streams: vec![(0, raw.to_vec())],
        ..Codes::zeros(len)
    };
    record(raw, codes.bytes(), 0, &[])
}

/// A record of 64 raw bytes, by exclusive or with a base.
fn on(raw: &[u8], base: &[u8], depth: u8) -> Record {
    let xor = raw.iter().zip(base).map(|(a, b)| a ^ b).collect();
    let codes = Codes {
        streams: vec![(0, xor)],
        ..Codes::same_as_input(64)
    };
    record(raw, codes.bytes(), depth, &[base])
}

/// A tensor and a blob of many chunks with a short last one.
fn many_chunks(root: &Path) -> Expected {
    let store = create(root);
    let mut state = State::default();
    let words = (0..1024u32 * 60 + 17).map(|i| 0x3f80_0000 + i / 1024);
    state.floats("steps", words);
    let blob = (0..4096u32 * 9 + 5).map(|i| i.div_euclid(4096).to_le_bytes()[0]);
    state.blobs.insert("pages".into(), blob.collect());
    let mut expected = nothing();
    expected
        .checkpoints
        .push(state.save(&store, SaveOptions::new("main")));
    expected
}
