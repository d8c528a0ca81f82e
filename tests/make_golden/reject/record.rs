//! Heads, streams, coders.

use super::files::case;
use super::{A, Build, Case, frame, put};
use crate::support::hostile::Codes;

/// The sound record of `a`, with other codes or streams.
fn alone(b: &mut Build, bend: fn(&mut Codes)) {
    let mut codes = Codes {
        lane_width: 4,
        streams: vec![(0, A.to_vec())],
        ..Codes::zeros(16)
    };
    bend(&mut codes);
    b.alone(&codes);
}

/// A sound record of 16 zero differences to `a`, with other codes or streams.
fn delta(b: &mut Build, bend: fn(&mut Codes)) {
    let mut codes = Codes {
        lane_width: 4,
        ..Codes::same_as_input(16)
    };
    bend(&mut codes);
    b.delta(&codes);
}

/// The same by leading bits: keys below 0x7f keep 4 bits raw, the others none.
fn leading(b: &mut Build, bend: fn(&mut Codes)) {
    let mut codes = Codes {
        lane_width: 4,
        layout: 2,
        params: vec![0, 4, 0x7f, 0],
        streams: vec![(1, vec![0]), (0, vec![]), (0, vec![])],
        ..Codes::same_as_input(16)
    };
    bend(&mut codes);
    b.delta(&codes);
}

/// Four lanes in two rows of two; every term and difference is nothing.
const GRID: Grid = Grid {
    row_len: 2,
    column: 0,
    level: 0,
    weight: 0,
    unit: 0,
    turn: 4,
};

struct Grid {
    row_len: u32,
    column: u32,
    level: u64,
    weight: u16,
    unit: u8,
    turn: u8,
}

impl Grid {
    fn params(&self) -> Vec<u8> {
        let mut params = self.row_len.to_le_bytes().to_vec();
        params.extend(self.column.to_le_bytes());
        params.extend(self.level.to_le_bytes());
        params.extend(self.weight.to_le_bytes());
        params.extend([self.unit, self.turn]);
        params
    }
}

fn grid(b: &mut Build, grid: &Grid, bend: fn(&mut Codes)) {
    let mut codes = Codes {
        lane_width: 4,
        transform: 1,
        layout: 3,
        params: grid.params(),
        streams: vec![(1, vec![0]); 6],
        ..Codes::zeros(16)
    };
    bend(&mut codes);
    b.alone(&codes);
}

/// The same by two classes: all keys but 0xff have a byte each; 0xff has gaps, and no lanes.
fn classes(b: &mut Build, bend: fn(&mut Codes)) {
    let mut codes = Codes {
        lane_width: 4,
        layout: 5,
        params: vec![0, 0, 0, 0xff, 0, 1],
        streams: vec![
            (0, vec![0; 4]),
            (0, vec![0]),
            (0, vec![]),
            (0, vec![]),
            (0, vec![]),
        ],
        ..Codes::same_as_input(16)
    };
    bend(&mut codes);
    b.delta(&codes);
}

/// Four lanes that one input makes, times a half.
fn linear(b: &mut Build, bend: fn(&mut Codes)) {
    let mut codes = Codes {
        lane_width: 4,
        predictor: 3,
        params: 0.5f64.to_le_bytes().to_vec(),
        ..Codes::same_as_input(16)
    };
    bend(&mut codes);
    b.delta(&codes);
}

/// Four lanes that several inputs, all of them `a`, make by a predictor: none was touched.
fn untouched(b: &mut Build, (predictor, inputs, params): (u8, u8, &[u8]), bend: fn(&mut Codes)) {
    let mut codes = Codes {
        lane_width: 4,
        predictor,
        inputs,
        params: params.to_vec(),
        ..Codes::same_as_input(16)
    };
    bend(&mut codes);
    b.delta(&codes);
    let input = b.records[1].inputs[0];
    b.records[1].inputs = vec![input; codes.inputs.into()];
}

fn adagrad(b: &mut Build, bend: fn(&mut Codes)) {
    untouched(b, (8, 3, &[&[0][..], &100f64.to_le_bytes()].concat()), bend);
}

fn sparse_adam(b: &mut Build, bend: fn(&mut Codes)) {
    let step = [1f32, -0.001, 1.0, 0.0].map(f32::to_le_bytes);
    untouched(b, (7, 4, &step.concat()), bend);
}

fn zstd(b: &mut Build, bend: fn(&mut Vec<u8>)) {
    let mut codes = Codes {
        lane_width: 4,
        ..Codes::zeros(16)
    };
    let mut stored = frame(&A);
    bend(&mut stored);
    codes.streams = vec![(2, stored)];
    b.alone(&codes);
}

pub(super) const CASES: &[Case] = &[
    case!("record-crc", "R47", "corrupt" / "record-checksum" at "restore",
        "a bit of a record is flipped", |b| b.bend_pack = |f| f[60] ^= 1),
    case!("record-raw-limit", "R48", "limit" / "record-limits" at "restore",
        "a record's head says that it makes 4 GiB",
        |b| put(&mut b.records[0].bytes, 8, u32::MAX.to_le_bytes())),
    case!("record-params-limit", "R48", "limit" / "record-limits" at "restore",
        "a record's head says that it has 4097 bytes of params",
        |b| put(&mut b.records[0].bytes, 6, 4097u16.to_le_bytes())),
    case!("record-params-short", "R1", "corrupt" / "truncated" at "restore",
        "a record ends within its params",
        |b| put(&mut b.records[0].bytes, 6, 100u16.to_le_bytes())),
    case!("record-streams-short", "R1", "corrupt" / "truncated" at "restore",
        "a record ends within its table of streams", |b| b.records[0].bytes[5] = 200),
    case!("record-length", "R49", "corrupt" / "record-length" at "restore",
        "a byte follows a record's last stream", |b| b.records[0].bytes.push(0)),
    case!("record-length-short", "R49", "corrupt" / "record-length" at "restore",
        "a record's last stream is cut short", |b| b.records[0].bytes.truncate(31)),
    case!("predictor", "R50", "unsupported" / "encoding" at "restore",
        "a record has predictor 9", |b| alone(b, |c| c.predictor = 9)),
    case!("transform", "R50", "unsupported" / "encoding" at "restore",
        "a record has transform 9", |b| alone(b, |c| c.transform = 9)),
    case!("layout", "R50", "unsupported" / "encoding" at "restore",
        "a record has layout 9", |b| alone(b, |c| c.layout = 9)),
    case!("coder", "R51", "unsupported" / "coder" at "restore",
        "a stream has coder 3", |b| alone(b, |c| c.streams[0].0 = 3)),
    case!("head-raw-len", "R52", "corrupt" / "record-rule" at "restore",
        "a record's head and index entry differ in raw_len", |b| alone(b, |c| c.raw_len = 12)),
    case!("head-lanes", "R52", "corrupt" / "record-rule" at "restore",
        "a chunk of 15 bytes has lanes of 4", super::Build::with_odd_lanes),
    case!("head-lane-width", "R52", "corrupt" / "record-rule" at "restore",
        "a record has lanes of 16 bytes", |b| alone(b, |c| c.lane_width = 16)),
    case!("head-lane-zero", "R52", "corrupt" / "record-rule" at "restore",
        "a record has lanes of no bytes", |b| alone(b, |c| c.lane_width = 0)),
    case!("head-inputs", "R52", "corrupt" / "record-rule" at "restore",
        "a record's head names an input and its index entry none",
        |b| alone(b, |c| c.inputs = 1)),
    case!("predictor-inputs", "R52", "corrupt" / "record-rule" at "restore",
    "predictor none with an input", |b| delta(b, |c| {
        c.predictor = 0;
        c.transform = 0;
    })),
    case!("transform-needs-base", "R52", "corrupt" / "record-rule" at "restore",
        "transform xor with predictor none", |b| alone(b, |c| c.transform = 4)),
    case!("transform-needs-none", "R52", "corrupt" / "record-rule" at "restore",
        "transform identity with predictor base", |b| delta(b, |c| c.transform = 0)),
    case!("params-unclaimed", "R52", "corrupt" / "record-rule" at "restore",
        "layout whole with params", |b| alone(b, |c| c.params = vec![0, 0])),
    case!("streams-none", "R53", "corrupt" / "record-streams" at "restore",
        "layout whole without a stream", |b| alone(b, |c| c.streams.clear())),
    case!("streams-planes", "R53", "corrupt" / "record-streams" at "restore",
    "layout planes with two streams for lanes of four bytes", |b| alone(b, |c| {
        c.layout = 1;
        c.streams = vec![(1, vec![0]); 2];
    })),
    case!("raw-short", "R54", "corrupt" / "raw-stream" at "restore",
        "a raw stream is a byte short", |b| alone(b, |c| c.streams[0].1.truncate(15))),
    case!("raw-plane-long", "R54", "corrupt" / "raw-stream" at "restore",
    "a raw plane has a byte too many", |b| alone(b, |c| {
        c.layout = 1;
        c.streams = vec![(0, vec![1; 5]), (1, vec![0]), (1, vec![0]), (1, vec![0])];
    })),
    case!("constant-empty", "R55", "corrupt" / "constant-pattern" at "restore",
        "a constant of no bytes", |b| alone(b, |c| c.streams = vec![(1, vec![])])),
    case!("constant-divides", "R55", "corrupt" / "constant-pattern" at "restore",
        "a constant of 3 bytes in 16", |b| alone(b, |c| c.streams = vec![(1, vec![1; 3])])),
    case!("constant-long", "R55", "corrupt" / "constant-pattern" at "restore",
        "a constant of 17 bytes", |b| alone(b, |c| c.streams = vec![(1, vec![1; 17])])),
    case!("zstd-trailing", "R56", "corrupt" / "zstd-frame" at "restore",
        "a byte follows a frame", |b| zstd(b, |f| f.push(0))),
    case!("zstd-two-frames", "R56", "corrupt" / "zstd-frame" at "restore",
        "an empty frame follows a frame",
        |b| zstd(b, |f| f.extend(frame(&[])))),
    case!("zstd-skippable", "R56", "corrupt" / "zstd-frame" at "restore",
    "a skippable frame comes before a frame", |b| zstd(b, |f| {
        f.splice(0..0, *b"\x50\x2a\x4d\x18\x01\0\0\0x");
    })),
    case!("zstd-short", "R56", "corrupt" / "zstd-frame" at "restore",
        "a frame decodes to 15 bytes of 16", |b| zstd(b, |f| *f = frame(&A[..15]))),
    case!("zstd-long", "R56", "corrupt" / "zstd-frame" at "restore",
        "a frame decodes to 17 bytes of 16", |b| zstd(b, |f| *f = frame(&[5; 17]))),
    case!("zstd-cut", "R56", "corrupt" / "zstd-frame" at "restore",
        "a frame ends within its block", |b| zstd(b, |f| f.truncate(f.len() - 1))),
    case!("zstd-dictionary", "R56", "corrupt" / "zstd-frame" at "restore",
    "a frame needs a dictionary", |b| zstd(b, |f| {
        f[4] |= 1;
        f.insert(5, 7);
    })),
    case!("zstd-checksum", "R56", "corrupt" / "zstd-frame" at "restore",
    "a frame's own checksum is wrong", |b| zstd(b, |f| {
        f[4] |= 4;
        f.extend([0; 4]);
    })),
    case!("leading-narrow", "R52", "corrupt" / "record-rule" at "restore",
        "layout leading with lanes of one byte", |b| leading(b, |c| c.lane_width = 1)),
    case!("leading-alone", "R52", "corrupt" / "record-rule" at "restore",
    "layout leading without a base", |b| alone(b, |c| {
        c.layout = 2;
        c.params = vec![0, 0];
        c.streams = vec![(1, vec![0]), (0, vec![]), (0, vec![])];
    })),
    case!("leading-streams", "R53", "corrupt" / "record-streams" at "restore",
        "layout leading with two streams", |b| leading(b, |c| c.streams.truncate(2))),
    case!("leading-params-none", "R57", "corrupt" / "leading-params" at "restore",
        "no shifts", |b| leading(b, |c| c.params.clear())),
    case!("leading-params-odd", "R57", "corrupt" / "leading-params" at "restore",
        "half a pair of key and shift", |b| leading(b, |c| c.params.push(0x80))),
    case!("leading-params-first", "R57", "corrupt" / "leading-params" at "restore",
        "the first key is not 0", |b| leading(b, |c| c.params[0] = 1)),
    case!("leading-params-order", "R57", "corrupt" / "leading-params" at "restore",
        "a key occurs twice", |b| leading(b, |c| c.params[2] = 0)),
    case!("leading-params-shift", "R57", "corrupt" / "leading-params" at "restore",
        "a shift of 25 in lanes of 32 bits", |b| leading(b, |c| c.params[1] = 25)),
    case!("leading-low-coder", "R58", "corrupt" / "leading-coder" at "restore",
        "the low bits are a constant", |b| leading(b, |c| c.streams[1] = (1, vec![0]))),
    case!("leading-low-left", "R59", "corrupt" / "leading-streams" at "restore",
        "a byte of low bits is left over", |b| leading(b, |c| c.streams[1].1.push(0))),
    case!("leading-low-short", "R59", "corrupt" / "leading-streams" at "restore",
        "low bits are missing", |b| leading(b, |c| c.params = vec![0, 4])),
    case!("leading-escape-missing", "R59", "corrupt" / "leading-streams" at "restore",
        "an escape is missing", |b| leading(b, |c| c.streams[0].1 = vec![255])),
    case!("leading-escape-left", "R59", "corrupt" / "leading-streams" at "restore",
        "an escape is left over", |b| leading(b, |c| c.streams[2].1 = vec![0; 4])),
    case!("leading-escape-half", "R59", "corrupt" / "leading-streams" at "restore",
        "half an escape is left over", |b| leading(b, |c| c.streams[2].1 = vec![0; 2])),
    case!("grid-transform", "R52", "corrupt" / "record-rule" at "restore",
        "layout grid with transform identity", |b| grid(b, &GRID, |c| c.transform = 0)),
    case!("grid-narrow", "R52", "corrupt" / "record-rule" at "restore",
    "layout grid with lanes of one byte", |b| grid(b, &GRID, |c| {
        c.lane_width = 1;
        c.streams.truncate(3);
    })),
    case!("grid-base", "R52", "corrupt" / "record-rule" at "restore",
    "layout grid with a base", |b| delta(b, |c| {
        c.transform = 1;
        c.layout = 3;
        c.params = GRID.params();
        c.streams = vec![(1, vec![0]); 6];
    })),
    case!("grid-delta-alone", "R52", "corrupt" / "record-rule" at "restore",
        "layout grid-delta without a base", |b| grid(b, &GRID, |c| c.layout = 4)),
    case!("grid-streams", "R53", "corrupt" / "record-streams" at "restore",
        "layout grid without a stream of terms",
        |b| grid(b, &GRID, |c| c.streams.truncate(5))),
    case!("grid-terms-short", "R54", "corrupt" / "raw-stream" at "restore",
        "layout grid with three terms of four",
        |b| grid(b, &GRID, |c| c.streams[5] = (0, vec![0; 3]))),
    case!("grid-params-short", "R1", "corrupt" / "truncated" at "restore",
        "layout grid with 19 bytes of params",
        |b| grid(b, &GRID, |c| c.params.truncate(19))),
    case!("grid-params-long", "R66", "corrupt" / "grid-params" at "restore",
        "layout grid with 21 bytes of params", |b| grid(b, &GRID, |c| c.params.push(0))),
    case!("grid-column", "R66", "corrupt" / "grid-params" at "restore",
        "lane 0 lies behind its row's end", |b| grid(b, &Grid { column: 2, ..GRID }, |_| ())),
    case!("grid-row-empty", "R66", "corrupt" / "grid-params" at "restore",
        "rows of no lanes", |b| grid(b, &Grid { row_len: 0, ..GRID }, |_| ())),
    case!("grid-terms", "R66", "corrupt" / "grid-params" at "restore",
        "more terms than lanes", |b| grid(b, &Grid { row_len: 4, ..GRID }, |_| ())),
    case!("grid-level", "R66", "corrupt" / "grid-params" at "restore",
        "a level of 33 bits for lanes of 32",
        |b| grid(b, &Grid { level: 1 << 32, ..GRID }, |_| ())),
    case!("grid-weight", "R66", "corrupt" / "grid-params" at "restore",
        "layout grid with a weight", |b| grid(b, &Grid { weight: 1, ..GRID }, |_| ())),
    case!("grid-unit", "R66", "corrupt" / "grid-params" at "restore",
        "terms shifted by 32 bits in lanes of 32",
        |b| grid(b, &Grid { unit: 32, ..GRID }, |_| ())),
    case!("grid-turn", "R66", "corrupt" / "grid-params" at "restore",
        "differences rotated by 9 bits", |b| grid(b, &Grid { turn: 9, ..GRID }, |_| ())),
    case!("grid-low", "R67", "corrupt" / "grid-overflow" at "restore",
        "a low part of five bits beside an overflow of four",
        |b| grid(b, &GRID, |c| c.streams[0] = (1, vec![16]))),
    case!("grid-overflow", "R67", "corrupt" / "grid-overflow" at "restore",
        "an overflow of five bits beside a low part of four",
        |b| grid(b, &GRID, |c| c.streams[4] = (1, vec![16]))),
    case!("classes-alone", "R52", "corrupt" / "record-rule" at "restore",
    "layout classes without a base", |b| alone(b, |c| {
        c.layout = 5;
        c.params = vec![0, 0, 0];
        c.streams = vec![(0, vec![0; 4]), (0, vec![]), (0, vec![]), (0, vec![]), (0, vec![])];
    })),
    case!("classes-streams-few", "R53", "corrupt" / "record-streams" at "restore",
    "layout classes with a stream too few", |b| classes(b, |c| {
        c.streams.pop();
    })),
    case!("classes-none", "R69", "corrupt" / "classes-params" at "restore",
        "no classes", |b| classes(b, |c| c.params.clear())),
    case!("classes-first", "R69", "corrupt" / "classes-params" at "restore",
        "the first class begins at key 1", |b| classes(b, |c| c.params[0] = 1)),
    case!("classes-order", "R69", "corrupt" / "classes-params" at "restore",
        "two classes begin at one key", |b| classes(b, |c| c.params[3] = 0)),
    case!("classes-shift", "R69", "corrupt" / "classes-params" at "restore",
        "a shift of 25 in lanes of 32 bits", |b| classes(b, |c| c.params[1] = 25)),
    case!("classes-sparse-shift", "R69", "corrupt" / "classes-params" at "restore",
        "a sparse class with a shift", |b| classes(b, |c| c.params[4] = 1)),
    case!("classes-mode", "R69", "corrupt" / "classes-params" at "restore",
        "a Rice parameter of 16", |b| classes(b, |c| c.params[5] = 17)),
    case!("classes-gaps-coder", "R70", "corrupt" / "classes-coder" at "restore",
        "the gaps are a constant", |b| classes(b, |c| c.streams[1].0 = 1)),
    case!("classes-gap-beyond", "R71", "corrupt" / "classes-streams" at "restore",
        "a gap leads behind the end of its class",
        |b| classes(b, |c| c.streams[1].1 = vec![0b0111_1111])),
    case!("classes-gaps-left", "R71", "corrupt" / "classes-streams" at "restore",
        "a byte of gaps is left over", |b| classes(b, |c| c.streams[1].1.push(0))),
    case!("classes-escape-missing", "R71", "corrupt" / "classes-streams" at "restore",
        "an escape is missing", |b| classes(b, |c| c.streams[0].1[1] = 255)),
    case!("classes-low-left", "R71", "corrupt" / "classes-streams" at "restore",
        "a byte of low bits is left over", |b| classes(b, |c| c.streams[3].1.push(0))),
    case!("predictor-params-short", "R52", "corrupt" / "record-rule" at "restore",
        "predictor linear with half a coefficient",
        |b| linear(b, |c| c.params.truncate(4))),
    case!("predictor-params-long", "R52", "corrupt" / "record-rule" at "restore",
        "predictor linear with a byte too many", |b| linear(b, |c| c.params.push(0))),
    case!("predictor-lane", "R52", "corrupt" / "record-rule" at "restore",
        "predictor linear with lanes of two bytes", |b| linear(b, |c| c.lane_width = 2)),
    case!("predictor-input-length", "R52", "corrupt" / "record-rule" at "restore",
    "predictor cast with an input as long as the chunk", |b| linear(b, |c| {
        c.predictor = 2;
        c.lane_width = 2;
        c.params = vec![0];
    })),
    case!("coefficient-infinite", "R72", "corrupt" / "predictor-params" at "restore",
        "an infinite coefficient",
        |b| linear(b, |c| c.params = f64::INFINITY.to_le_bytes().to_vec())),
    case!("coefficient-nan", "R72", "corrupt" / "predictor-params" at "restore",
        "a coefficient that is no number",
        |b| linear(b, |c| c.params = f64::NAN.to_le_bytes().to_vec())),
    case!("coefficient-large", "R72", "corrupt" / "predictor-params" at "restore",
        "a coefficient of 2 to the 201st",
        |b| linear(b, |c| c.params = 2f64.powi(201).to_le_bytes().to_vec())),
    case!("coefficient-small", "R72", "corrupt" / "predictor-params" at "restore",
        "a subnormal coefficient",
        |b| linear(b, |c| c.params = 5e-324f64.to_le_bytes().to_vec())),
    case!("sum-neither-way", "R72", "corrupt" / "predictor-params" at "restore",
        "a sum of squares told neither forward nor backward", |b| adagrad(b, |c| c.params[0] = 2)),
    case!("sum-rate-large", "R72", "corrupt" / "predictor-params" at "restore",
        "a sum of squares with a rate of 2 to the -201st", |b| adagrad(b, |c| {
        c.params.truncate(1);
        c.params.extend(2f64.powi(201).to_le_bytes());
    })),
    case!("sum-params-short", "R52", "corrupt" / "record-rule" at "restore",
        "a sum of squares with seven bytes of a rate",
        |b| adagrad(b, |c| c.params.truncate(8))),
    case!("sparse-adam-inputs", "R52", "corrupt" / "record-rule" at "restore",
        "predictor sparse-adam with three inputs", |b| sparse_adam(b, |c| c.inputs = 3)),
    case!("sparse-adam-step-small", "R72", "corrupt" / "predictor-params" at "restore",
        "predictor sparse-adam with a subnormal step", |b| sparse_adam(b, |c| {
        c.params[4..8].copy_from_slice(&1e-40f32.to_le_bytes());
    })),
];
