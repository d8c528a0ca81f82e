//! A manifest's body (format-spec.md section 11.2): what a checkpoint holds, and nothing else.

use std::collections::BTreeMap;

use crate::chunking::Cut;
use crate::dtype::{self, Dtype};
use crate::error::{Error, ErrorKind, Result};
use crate::format::cursor::{Reader, Writer};
use crate::format::limits;
use crate::id::{CheckpointId, ChunkId};

/// One tensor: what it is and which chunks make it up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorEntry {
    /// The caller's name for it.
    pub name: String,
    /// Element type.
    pub dtype: Dtype,
    /// Dimensions; empty for a scalar.
    pub shape: Vec<u64>,
    /// Elements in every chunk but the last.
    pub chunk_elements: u64,
    /// Bytes in all.
    pub byte_len: u64,
    /// Its chunks, in order.
    pub chunks: Vec<ChunkId>,
}

impl TensorEntry {
    /// How its bytes are cut.
    #[must_use]
    pub fn cut(&self) -> Cut {
        Cut {
            total: self.byte_len,
            chunk: self.chunk_elements * self.dtype.bits() / 8,
        }
    }

    /// Whether chunks of the same number hold the same elements, of the same dtype.
    #[must_use]
    pub fn is_cut_like(&self, other: &Self) -> bool {
        self.dtype == other.dtype && self.cut() == other.cut()
    }
}

/// Named bytes that are no tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobEntry {
    /// The caller's name for it.
    pub name: String,
    /// Bytes in all.
    pub byte_len: u64,
    /// Bytes in every chunk but the last.
    pub chunk_len: u64,
    /// Its chunks, in order.
    pub chunks: Vec<ChunkId>,
}

impl BlobEntry {
    /// How its bytes are cut.
    #[must_use]
    pub fn cut(&self) -> Cut {
        Cut {
            total: self.byte_len,
            chunk: self.chunk_len,
        }
    }
}

/// What a checkpoint holds; its hash is the checkpoint's id.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Body {
    /// The checkpoint it continues, if any.
    pub parent: Option<CheckpointId>,
    /// The training step.
    pub step: u64,
    /// The caller's metadata.
    pub metadata: BTreeMap<String, String>,
    /// The caller's metrics, by name.
    pub metrics: BTreeMap<String, f64>,
    /// Tensors, sorted by name.
    pub tensors: Vec<TensorEntry>,
    /// Blobs, sorted by name.
    pub blobs: Vec<BlobEntry>,
}

impl Body {
    /// Bytes of all tensors and blobs.
    #[must_use]
    pub fn logical_bytes(&self) -> u64 {
        let tensors = self.tensors.iter().map(|t| t.byte_len);
        tensors
            .chain(self.blobs.iter().map(|b| b.byte_len))
            .fold(0, u64::saturating_add)
    }

    /// The tensor of that name.
    #[must_use]
    pub fn tensor(&self, name: &str) -> Option<&TensorEntry> {
        let at = self
            .tensors
            .binary_search_by(|t| t.name.as_str().cmp(name))
            .ok()?;
        self.tensors.get(at)
    }

    /// The blob of that name.
    #[must_use]
    pub fn blob(&self, name: &str) -> Option<&BlobEntry> {
        let at = self
            .blobs
            .binary_search_by(|b| b.name.as_str().cmp(name))
            .ok()?;
        self.blobs.get(at)
    }

    /// Every chunk id, tensors first, in order.
    pub fn chunks(&self) -> impl Iterator<Item = &ChunkId> {
        let tensors = self.tensors.iter().flat_map(|t| &t.chunks);
        tensors.chain(self.blobs.iter().flat_map(|b| &b.chunks))
    }

    /// How many chunks its tensors and blobs are cut into.
    ///
    /// # Errors
    /// `Limit` if they are more than a checkpoint may have.
    pub fn chunk_count(&self) -> Result<u64> {
        count_chunks(&self.tensors, &self.blobs)
    }

    /// The canonical bytes.
    ///
    /// # Errors
    /// `InvalidInput` or `Limit` if something does not fit the format.
    pub fn encode(&self) -> Result<Vec<u8>> {
        self.chunk_count()?;
        let mut w = Writer::new();
        match &self.parent {
            Some(parent) => w.u8(1).bytes(&parent.0),
            None => w.u8(0),
        };
        w.u64(self.step);
        w.count(self.metadata.len(), limits::ENTRIES_MAX)?;
        for (key, value) in &self.metadata {
            if value.len() > limits::VALUE_LEN_MAX {
                return Err(value_too_long().subject(format!("{key:?}")));
            }
            w.key(key)?
                .count(value.len(), u32::MAX)?
                .bytes(value.as_bytes());
        }
        w.count(self.metrics.len(), limits::ENTRIES_MAX)?;
        for (key, value) in &self.metrics {
            w.key(key)?.u64(value.to_bits());
        }
        w.count(self.tensors.len(), limits::ENTRIES_MAX)?;
        for t in &self.tensors {
            let rank = u8::try_from(t.shape.len())
                .ok()
                .filter(|r| usize::from(*r) <= limits::RANK_MAX);
            let Some(rank) = rank else {
                return Err(Error::new(
                    ErrorKind::Limit,
                    "rank",
                    "a tensor has too many dimensions",
                )
                .subject(format!("tensor {:?}", t.name)));
            };
            w.key(&t.name)?.u8(t.dtype.code()).u8(rank);
            t.shape.iter().for_each(|dim| {
                w.u64(*dim);
            });
            w.u64(t.chunk_elements);
        }
        w.count(self.blobs.len(), limits::ENTRIES_MAX)?;
        for b in &self.blobs {
            w.key(&b.name)?.u64(b.byte_len).u64(b.chunk_len);
        }
        for id in self.chunks() {
            w.bytes(&id.0);
        }
        Ok(w.finish())
    }

    /// Reads canonical bytes and checks every rule of section 11.2.
    ///
    /// # Errors
    /// `Corrupt`, `Unsupported` or `Limit`, by the rule that is broken.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut r = Reader::new(bytes, 0);
        let parent = match r.u8()? {
            0 => None,
            1 => Some(CheckpointId(r.array()?)),
            other => {
                return Err(Error::corrupt(
                    "body-parent",
                    "a manifest's parent flag is neither 0 nor 1",
                )
                .differs("0 or 1", other));
            }
        };
        let step = r.u64()?;
        let metadata = decode_map(&mut r, 7, |r| {
            let at = r.at();
            let len = r.u32()? as usize;
            if len > limits::VALUE_LEN_MAX {
                return Err(value_too_long().offset(at));
            }
            let text = std::str::from_utf8(r.bytes(len)?).ok();
            Ok(text
                .ok_or_else(|| Error::corrupt("utf8", "a metadata value is no UTF-8").offset(at))?
                .to_owned())
        })?;
        let metrics = decode_map(&mut r, 11, |r| Ok(f64::from_bits(r.u64()?)))?;
        let mut tensors = decode_tensors(&mut r)?;
        let mut blobs = decode_blobs(&mut r)?;
        read_chunk_ids(&mut r, &mut tensors, &mut blobs)?;
        r.finish()?;
        Ok(Self {
            parent,
            step,
            metadata,
            metrics,
            tensors,
            blobs,
        })
    }
}

fn value_too_long() -> Error {
    Error::new(
        ErrorKind::Limit,
        "metadata-value",
        "a metadata value is too long",
    )
}

/// A counted list of keys in strictly ascending order, each with a value.
fn decode_map<V>(
    r: &mut Reader<'_>,
    entry_len: usize,
    mut value: impl FnMut(&mut Reader<'_>) -> Result<V>,
) -> Result<BTreeMap<String, V>> {
    let count = r.count(limits::ENTRIES_MAX, entry_len)?;
    let mut map = BTreeMap::new();
    let mut last = "";
    for _ in 0..count {
        let at = r.at();
        let key = r.key()?;
        require_ascending(last, key, at)?;
        last = key;
        map.insert(key.to_owned(), value(r)?);
    }
    Ok(map)
}

fn require_ascending(last: &str, next: &str, at: u64) -> Result<()> {
    if last < next {
        return Ok(());
    }
    Err(Error::corrupt(
        "name-order",
        "names in a manifest are not sorted or not unique",
    )
    .offset(at))
}

fn decode_tensors(r: &mut Reader<'_>) -> Result<Vec<TensorEntry>> {
    let count = r.count(limits::ENTRIES_MAX, 13)?;
    let mut tensors: Vec<TensorEntry> = Vec::with_capacity(count);
    for _ in 0..count {
        let at = r.at();
        let name = r.key()?;
        require_ascending(tensors.last().map_or("", |t| &t.name), name, at)?;
        let dtype = Dtype::from_code(r.u8()?).map_err(|e| e.offset(at))?;
        let rank = usize::from(r.u8()?);
        if rank > limits::RANK_MAX {
            return Err(
                Error::new(ErrorKind::Limit, "rank", "a tensor has too many dimensions").offset(at),
            );
        }
        let shape = (0..rank).map(|_| r.u64()).collect::<Result<Vec<_>>>()?;
        let chunk_elements = r.u64()?;
        let wrong = |e: Error| Error::corrupt(e.code(), e.to_string()).offset(at);
        let byte_len = dtype
            .byte_len(dtype::elements(&shape).map_err(wrong)?)
            .map_err(wrong)?;
        let chunk_bits = chunk_elements.checked_mul(dtype.bits());
        let fits = chunk_bits
            .is_some_and(|b| b > 0 && b % 8 == 0 && b / 8 <= u64::from(limits::CHUNK_LEN_MAX));
        if !fits {
            return Err(
                Error::corrupt("chunk-size", "a tensor's chunk size breaks the rules").offset(at),
            );
        }
        tensors.push(TensorEntry {
            name: name.to_owned(),
            dtype,
            shape,
            chunk_elements,
            byte_len,
            chunks: Vec::new(),
        });
    }
    Ok(tensors)
}

fn decode_blobs(r: &mut Reader<'_>) -> Result<Vec<BlobEntry>> {
    let count = r.count(limits::ENTRIES_MAX, 19)?;
    let mut blobs: Vec<BlobEntry> = Vec::with_capacity(count);
    for _ in 0..count {
        let at = r.at();
        let name = r.key()?;
        require_ascending(blobs.last().map_or("", |b| &b.name), name, at)?;
        let (byte_len, chunk_len) = (r.u64()?, r.u64()?);
        if chunk_len == 0 || chunk_len > u64::from(limits::CHUNK_LEN_MAX) {
            return Err(
                Error::corrupt("chunk-size", "a blob's chunk size breaks the rules").offset(at),
            );
        }
        blobs.push(BlobEntry {
            name: name.to_owned(),
            byte_len,
            chunk_len,
            chunks: Vec::new(),
        });
    }
    Ok(blobs)
}

fn count_chunks(tensors: &[TensorEntry], blobs: &[BlobEntry]) -> Result<u64> {
    let counts = tensors
        .iter()
        .map(|t| t.cut().count())
        .chain(blobs.iter().map(|b| b.cut().count()));
    let count = counts.fold(0, u64::saturating_add);
    if count > limits::CHUNK_REFS_MAX {
        return Err(Error::new(
            ErrorKind::Limit,
            "chunk-refs",
            "a checkpoint has too many chunks",
        )
        .differs(format!("at most {}", limits::CHUNK_REFS_MAX), count));
    }
    Ok(count)
}

/// The ids that follow the tables: exactly as many as the lengths above call for.
fn read_chunk_ids(
    r: &mut Reader<'_>,
    tensors: &mut [TensorEntry],
    blobs: &mut [BlobEntry],
) -> Result<()> {
    let needed = count_chunks(tensors, blobs)?;
    if needed * ChunkId::LEN as u64 != r.left() as u64 {
        return Err(Error::corrupt(
            "chunk-ids",
            "a manifest's chunk ids do not match its tensors",
        )
        .offset(r.at())
        .differs(format!("{needed} ids"), format!("{} bytes", r.left())));
    }
    let mut take = |count: u64| {
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        let bytes = r.bytes(count.saturating_mul(ChunkId::LEN))?;
        let (ids, _) = bytes.as_chunks();
        Ok::<_, Error>(ids.iter().map(|id| ChunkId(*id)).collect())
    };
    for t in tensors {
        t.chunks = take(t.cut().count())?;
    }
    for b in blobs {
        b.chunks = take(b.cut().count())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn sample() -> Body {
        let tensor = |name: &str, dtype, shape: &[u64], byte_len, chunks| TensorEntry {
            name: name.into(),
            dtype,
            shape: shape.to_vec(),
            chunk_elements: 64,
            byte_len,
            chunks,
        };
        Body {
            parent: Some(CheckpointId([4; 32])),
            step: 120,
            metadata: BTreeMap::from([("lr".into(), "1e-3".into())]),
            metrics: BTreeMap::from([("loss".into(), f64::NAN)]),
            tensors: vec![
                tensor(
                    "a",
                    Dtype::F32,
                    &[3, 30],
                    360,
                    vec![ChunkId([1; 32]), ChunkId([2; 32])],
                ),
                tensor("b", Dtype::F4, &[0, u64::MAX], 0, vec![]),
                tensor("c", Dtype::I64, &[], 8, vec![ChunkId([3; 32])]),
            ],
            blobs: vec![BlobEntry {
                name: "rng".into(),
                byte_len: 5,
                chunk_len: 64,
                chunks: vec![ChunkId([9; 32])],
            }],
        }
    }

    #[test]
    fn bytes_are_canonical_both_ways() {
        let bytes = sample().encode().unwrap();
        let back = Body::decode(&bytes).unwrap();
        assert_eq!(back.encode().unwrap(), bytes);
        assert_eq!(back.tensors, sample().tensors);
        assert!(back.metrics["loss"].is_nan());
        assert_eq!(back.logical_bytes(), 373);
    }

    #[test]
    fn every_prefix_is_refused_and_no_flip_panics() {
        let good = sample().encode().unwrap();
        for len in 0..good.len() {
            assert!(Body::decode(&good[..len]).is_err(), "prefix {len}");
        }
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            if let Ok(body) = Body::decode(&bad) {
                assert_eq!(body.encode().unwrap(), bad, "what is accepted is canonical");
            }
        }
    }

    #[test]
    fn unsorted_tensors_are_refused() {
        let mut body = sample();
        body.tensors.swap(0, 1);
        assert_eq!(
            Body::decode(&body.encode().unwrap()).unwrap_err().code(),
            "name-order"
        );
    }
}
