//! Registries, test vectors and worked examples against the code.

use milepost_engine::codec::coder::Coder;
use milepost_engine::codec::transform::Transform;
use milepost_engine::codec::{self, Layout, Predictor, Workspace};
use milepost_engine::format::envelope::FileKind;
use milepost_engine::format::relations::{self, TensorRelation};
use milepost_engine::format::section;
use milepost_engine::{Dtype, Durability, Level, hash};

use crate::spec::document::{self, blocks, columns, hex, text};

fn code(code: u8) -> String {
    code.to_string()
}

#[test]
fn dtypes() {
    let known = Dtype::ALL.iter().map(|d| {
        let kind = if d.lane().float { "float" } else { "integer" };
        [
            code(d.code()),
            d.name().into(),
            d.bits().to_string(),
            d.lane().width.to_string(),
            kind.into(),
        ]
    });
    assert_eq!(columns::<5>("11.4 Dtypes"), known.collect::<Vec<_>>());
}

#[test]
fn predictors_transforms_layouts_and_coders() {
    let since_1_1_from = |first: u8, code: u8| if code < first { "1.0" } else { "1.1" }.to_owned();
    let since = || "1.0".to_owned();
    let known = Predictor::ALL.map(|p| {
        [
            code(p.code()),
            p.name().into(),
            match p.code() {
                9.. => "1.5".to_owned(),
                6.. => "1.4".to_owned(),
                code => since_1_1_from(2, code),
            },
            match (*p.inputs().start(), *p.inputs().end()) {
                (least, most) if least == most => least.to_string(),
                (least, most) => format!("{least} to {most}"),
            },
        ]
    });
    assert_eq!(columns::<4>("10.2 Predictors"), known);
    let needs = |t: Transform| if t.needs_base() { "yes" } else { "no" };
    let known = Transform::ALL.map(|t| [code(t.code()), t.name().into(), since(), needs(t).into()]);
    assert_eq!(columns::<4>("10.3 Transforms"), known);
    let known = Layout::ALL.map(|l| {
        let since = match l {
            Layout::Sparse | Layout::Palette => "1.2".to_owned(),
            _ => since_1_1_from(5, l.code()),
        };
        [code(l.code()), l.name().into(), since]
    });
    assert_eq!(columns::<3>("10.4 Layouts"), known);
    let known = Coder::ALL.map(|c| [code(c.code()), c.name().into(), since()]);
    assert_eq!(columns::<3>("10.5 Coders"), known);
}

#[test]
fn file_kinds_sections_relations_durability_and_levels() {
    let kinds = [
        FileKind::Store,
        FileKind::Pack,
        FileKind::Manifest,
        FileKind::Tag,
        FileKind::Cache,
    ];
    let known = kinds.map(|k| [format!("`{}`", k.code().escape_ascii())]);
    assert_eq!(columns::<1>("6.1 Kinds"), known);
    let known = [
        (section::BODY, "body", "yes"),
        (section::PLACEMENT, "placement", "yes"),
        (section::DROPPED, "dropped", "no"),
        (section::PACKS, "packs", "no"),
        (section::STATISTICS, "statistics", "no"),
        (section::RELATIONS, "relations", "no"),
    ];
    let known = known.map(|(k, name, needed)| [format!("{k:#010x}"), name.into(), needed.into()]);
    assert_eq!(columns::<3>("11.1.1 Section kinds"), known);
    let known = relations::KINDS.map(|(k, name, _)| [code(k), name.into()]);
    assert_eq!(columns::<2>("11.9.1 Kinds of relations"), known);
    let known = Durability::ALL.map(|d| [code(d.code()), d.name().into()]);
    assert_eq!(columns::<2>("11.3.1 Durability"), known);
    let known = Level::ALL.map(|l| [code(l.code()), l.name().into()]);
    assert_eq!(columns::<2>("5.3.1 Levels"), known);
}

#[test]
fn the_example_of_relations_is_what_is_written() {
    let adam = TensorRelation {
        tensor: 2,
        kind: relations::ADAM,
        of: vec![0, 1],
    };
    let bytes = relations::encode_relations(&[adam]).unwrap();
    let digits: Vec<String> = bytes.iter().map(|b| format!("{b:02x}")).collect();
    assert!(document::section("11.9 Relations").contains(&digits.join(" ")));
}

#[test]
fn ids_and_checksums_of_the_vectors() {
    let tables = document::tables(&document::section("7. Identifiers"));
    let vectors = &tables[1].rows;
    assert_eq!(vectors.len(), 6);
    for row in vectors {
        let input = if row[1] == "(no bytes)" {
            Vec::new()
        } else {
            hex(&row[1])
        };
        let found = match row[0].as_str() {
            "chunk" => hash::chunk_id(&input).to_string(),
            "pack" => hash::pack_id(&input).to_string(),
            "checkpoint" => hash::checkpoint_id(&input).to_string(),
            "crc32" => format!("{:08x}", hash::crc32(&input)),
            other => panic!("{other}"),
        };
        assert_eq!(found, row[2], "{}", row[0]);
    }
    let empty = milepost_engine::format::body::Body::default()
        .encode()
        .unwrap();
    assert_eq!(
        empty, [0; 25],
        "the fourth vector is a body that holds nothing"
    );
}

#[test]
fn every_worked_record_decodes_to_its_output() {
    let records = blocks(&text(), "record");
    assert!(records.len() >= 16);
    let (mut predictors, mut transforms) = (Predictor::ALL.map(|p| (p.code(), 0)), [0; 6]);
    let (mut layouts, mut coders) = ([0; 8], [0; 3]);
    for (_, lines) in &records {
        let part = |number: usize, name| hex(lines[number].strip_prefix(name).unwrap());
        let (record, output) = (part(0, "record"), part(lines.len() - 1, "output"));
        let inputs = (1..lines.len() - 1).map(|number| part(number, "input"));
        let inputs: Vec<Vec<u8>> = inputs.filter(|i| !i.is_empty()).collect();
        let inputs: Vec<&[u8]> = inputs.iter().map(Vec::as_slice).collect();
        let mut out = vec![0x55; output.len()];
        codec::decode(&record, &inputs, &mut out, &mut Workspace::default()).unwrap();
        assert_eq!(out, output, "{lines:?}");
        let head = milepost_engine::format::record::decode_head(&record).unwrap();
        let predictor = predictors
            .iter_mut()
            .find(|(code, _)| *code == head.predictor);
        predictor.unwrap().1 += 1;
        transforms[usize::from(head.transform)] += 1;
        layouts[usize::from(head.layout)] += 1;
        head.streams
            .iter()
            .for_each(|s| coders[usize::from(s.coder)] += 1);
    }
    let all = predictors.iter().map(|(_, n)| n).chain(&transforms);
    let all = all.chain(&layouts).chain(&coders);
    assert!(
        all.clone().all(|n| *n > 0),
        "{predictors:?} {transforms:?} {layouts:?} {coders:?}"
    );
}

/// Every code of the MUST-reject list is one that the engine has, every kind one that it knows.
#[test]
fn every_rejection_has_a_code_of_the_engine() {
    let mut sources = String::new();
    for path in crate::layers::sources("engine/src") {
        sources += &std::fs::read_to_string(path).unwrap();
    }
    let rows = columns::<4>("16.2 MUST-reject");
    for (number, [rule, _, kind, codes]) in (1..).zip(&rows) {
        assert_eq!(*rule, format!("R{number}"));
        assert!(
            ["corrupt", "unsupported", "limit"].contains(&kind.as_str()),
            "{kind}"
        );
        for code in codes.split(", ").filter(|c| !c.contains(' ')) {
            assert!(sources.contains(&format!("\"{code}\"")), "{rule}: {code}");
        }
    }
}
