//! Times the codec on one core: what tensors of one file take against the same of another.
//!
//! `cargo bench --bench codec -- OLD.safetensors NEW.safetensors [--chunk BYTES] [--repeats N]`
//! prints a line for each dtype: bytes, stored bytes alone and against the old file, and raw
//! GB/s of encoding (estimate included) and decoding. Nothing else should run beside it.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use milepost_engine::Level;
use milepost_engine::codec::{self, Form, Reference, Workspace};
use milepost_engine::dtype::Lane;
use safetensors::{Dtype, SafeTensors};

#[derive(Default)]
struct Sum {
    bytes: u64,
    stored: u64,
    encoding: Duration,
    decoding: Duration,
}

impl Sum {
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    fn line(&self, what: &str, repeats: u32) -> String {
        let speed = |time: Duration| {
            self.bytes as f64 * f64::from(repeats) / time.as_secs_f64().max(1e-9) / 1e9
        };
        format!(
            "{what:<16} {:>12} bytes, stored {:.4}, encode {:.2} GB/s, decode {:.2} GB/s",
            self.bytes,
            self.stored as f64 / self.bytes as f64,
            speed(self.encoding),
            speed(self.decoding),
        )
    }
}

fn lane(dtype: Dtype) -> Option<Lane> {
    let (width, float) = match dtype {
        Dtype::F64 => (8, true),
        Dtype::F32 => (4, true),
        Dtype::F16 | Dtype::BF16 => (2, true),
        _ => return None,
    };
    Some(Lane { width, float })
}

/// Encodes and decodes one chunk; returns stored bytes.
fn one(
    raw: &[u8],
    base: Option<&[u8]>,
    form: Form,
    (repeats, workspace): (u32, &mut Workspace),
    sum: &mut Sum,
) -> Result<(), String> {
    let (mut record, mut out) = (Vec::new(), vec![0; raw.len()]);
    let error = |e: milepost_engine::Error| e.to_string();
    let mut uses_base = false;
    for _ in 0..repeats {
        record.clear();
        let started = Instant::now();
        let estimate = match base {
            Some(base) => codec::estimate(raw, base, form),
            None => codec::estimate_alone(raw, form),
        };
        let reference = base.map(Reference::base);
        let encoding = codec::encode_estimated(
            raw,
            reference,
            form,
            &estimate,
            Level::Fast,
            workspace,
            &mut record,
        );
        uses_base = encoding.map_err(error)?.uses_base;
        sum.encoding += started.elapsed();
    }
    let inputs: Vec<&[u8]> = base.filter(|_| uses_base).into_iter().collect();
    for _ in 0..repeats {
        let started = Instant::now();
        codec::decode(&record, &inputs, &mut out, workspace).map_err(error)?;
        sum.decoding += started.elapsed();
    }
    sum.bytes += raw.len() as u64;
    sum.stored += record.len() as u64;
    if out == raw {
        Ok(())
    } else {
        Err("a chunk does not come back".into())
    }
}

fn read(path: &str) -> Result<Vec<u8>, String> {
    std::fs::read(Path::new(path)).map_err(|e| format!("{path}: {e}"))
}

fn main() -> Result<(), String> {
    let (mut files, mut chunk, mut repeats) = (Vec::new(), 256 << 10, 5u32);
    let mut words = std::env::args().skip(1).filter(|word| word != "--bench");
    while let Some(word) = words.next() {
        let mut number = || {
            words
                .next()
                .and_then(|n| n.parse::<u32>().ok())
                .ok_or("a number is missing")
        };
        match word.as_str() {
            "--chunk" => chunk = number()? as usize,
            "--repeats" => repeats = number()?,
            _ => files.push(word),
        }
    }
    let [old, new] = files.as_slice() else {
        return Err("name an old and a new safetensors file".into());
    };
    let (old, new) = (read(old)?, read(new)?);
    let parse = |bytes| SafeTensors::deserialize(bytes).map_err(|e| e.to_string());
    let (old, new) = (parse(&old)?, parse(&new)?);
    let mut workspace = Workspace::default();
    let mut sums: BTreeMap<String, Sum> = BTreeMap::new();
    for (name, tensor) in new.tensors() {
        let Some(lane) = lane(tensor.dtype()) else {
            continue;
        };
        let kind = if name.contains("exp_avg_sq") {
            " exp_avg_sq"
        } else if name.contains("exp_avg") {
            " exp_avg"
        } else {
            ""
        };
        let base = old.tensor(&name).ok();
        let base = base
            .map(|t| t.data())
            .filter(|b| b.len() == tensor.data().len());
        for (at, raw) in tensor.data().chunks(chunk).enumerate() {
            let base = base.and_then(|b| b.chunks(chunk).nth(at));
            let form = Form::from(lane);
            let what = format!("{:?}{kind}", tensor.dtype());
            one(
                raw,
                None,
                form,
                (repeats, &mut workspace),
                sums.entry(format!("{what} alone")).or_default(),
            )?;
            one(
                raw,
                base,
                form,
                (repeats, &mut workspace),
                sums.entry(format!("{what} delta")).or_default(),
            )?;
        }
    }
    for (what, sum) in &sums {
        println!("{}", sum.line(what, repeats));
    }
    Ok(())
}
