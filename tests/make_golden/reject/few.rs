//! Few values and few changes: layouts sparse and palette.

use super::files::case;
use super::{Build, Case};
use crate::support::hostile::Codes;

/// Four lanes of which the second is not that of the input.
fn sparse(b: &mut Build, bend: fn(&mut Codes)) {
    let mut codes = Codes {
        lane_width: 4,
        layout: 6,
        params: vec![1, 0, 0, 0, 1, 0, 0, 0],
        streams: vec![
            (0, vec![1]),
            (0, vec![2]),
            (0, vec![0]),
            (0, vec![0]),
            (0, vec![0]),
        ],
        ..Codes::same_as_input(16)
    };
    bend(&mut codes);
    b.delta(&codes);
}

/// Four lanes that have three values.
fn palette(b: &mut Build, bend: fn(&mut Codes)) {
    let mut codes = Codes {
        lane_width: 4,
        layout: 7,
        params: vec![2],
        streams: vec![(0, vec![0; 12]), (0, vec![0b10_01_00_01])],
        ..Codes::zeros(16)
    };
    bend(&mut codes);
    b.alone(&codes);
}

pub(super) const CASES: &[Case] = &[
    case!("sparse-streams-few", "R53", "corrupt" / "record-streams" at "restore",
    "layout sparse with a stream too few", |b| sparse(b, |c| {
        c.streams.pop();
    })),
    case!("sparse-params-short", "R73", "corrupt" / "sparse-params" at "restore",
    "the counts of layout sparse are cut", |b| sparse(b, |c| {
        c.params.pop();
    })),
    case!("sparse-words-many", "R73", "corrupt" / "sparse-params" at "restore",
        "five words of four lanes", |b| sparse(b, |c| c.params = vec![5, 0, 0, 0, 5, 0, 0, 0])),
    case!("sparse-gaps-few", "R73", "corrupt" / "sparse-params" at "restore",
        "fewer gaps than words", |b| sparse(b, |c| c.params[4] = 0)),
    case!("sparse-gaps-many", "R73", "corrupt" / "sparse-params" at "restore",
        "more gaps than lanes allow", |b| sparse(b, |c| c.params[4] = 2)),
    case!("sparse-gap-beyond", "R74", "corrupt" / "sparse-gaps" at "restore",
        "a gap leads behind the last lane", |b| sparse(b, |c| c.streams[0].1 = vec![4])),
    case!("sparse-gaps-length", "R54", "corrupt" / "raw-stream" at "restore",
        "raw gaps of another length", |b| sparse(b, |c| c.streams[0].1.push(0))),
    case!("palette-values-length", "R54", "corrupt" / "raw-stream" at "restore",
        "raw values of another length", |b| palette(b, |c| c.streams[0].1.truncate(8))),
    case!("sparse-gap-open", "R74", "corrupt" / "sparse-gaps" at "restore",
        "the last gap does not end", |b| sparse(b, |c| c.streams[0].1 = vec![255])),
    case!("palette-transform", "R52", "corrupt" / "record-rule" at "restore",
        "a palette of rotated lanes", |b| palette(b, |c| c.transform = 1)),
    case!("palette-streams-few", "R53", "corrupt" / "record-streams" at "restore",
    "layout palette with a stream too few", |b| palette(b, |c| {
        c.streams.pop();
    })),
    case!("palette-params-long", "R75", "corrupt" / "palette-params" at "restore",
        "two bytes of parameters", |b| palette(b, |c| c.params.push(0))),
    case!("palette-params-none", "R75", "corrupt" / "palette-params" at "restore",
        "no parameters", |b| palette(b, |c| c.params.clear())),
    case!("palette-index", "R76", "corrupt" / "palette-index" at "restore",
        "an index of 3 among three values", |b| palette(b, |c| c.streams[1].1 = vec![0b11])),
];
