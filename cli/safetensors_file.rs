//! safetensors headers: read from files and blobs, and made for parts of a checkpoint.
//!
//! The rules are those of the safetensors crate; only the header is ever held in memory.

use std::collections::BTreeMap;

use milepost_engine::{ByteSource, Dtype, Error, ErrorKind, Output, Result};
use safetensors::tensor::{Metadata, TensorInfo};
use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::files::InputFile;

/// The blob that holds a saved file's header, so that a restore is byte-identical.
pub(crate) const HEADER_BLOB: &str = "safetensors.header";

/// Bytes of the length before the header.
const LENGTH_BYTES: usize = 8;
/// Longest header that safetensors reads.
const HEADER_LEN_MAX: u64 = 100_000_000;

/// A header: its exact bytes, with the length before them, and what they say.
#[derive(Debug)]
pub(crate) struct Header {
    pub(crate) bytes: Vec<u8>,
    pub(crate) metadata: Metadata,
}

/// One tensor of a file.
#[derive(Debug)]
pub(crate) struct FileTensor {
    pub(crate) name: String,
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<u64>,
    /// Where its bytes start in the file.
    pub(crate) offset: u64,
    pub(crate) byte_len: u64,
}

impl Header {
    /// Reads the header of a file and holds the file's length against it.
    pub(crate) fn read(file: &InputFile) -> Result<Self> {
        let located = |e: Error| e.subject(file.path().display());
        if file.len() < LENGTH_BYTES as u64 {
            let why = if file.len() == 0 {
                "the file is empty"
            } else {
                "the file is too short to be a safetensors file"
            };
            return Err(located(bad_header(why)));
        }
        let mut length = [0; LENGTH_BYTES];
        file.read_at(0, &mut length)?;
        let len = u64::from_le_bytes(length);
        if len > HEADER_LEN_MAX {
            return Err(located(bad_header(
                "the file does not begin with the length of a safetensors header",
            )));
        }
        let data_at = LENGTH_BYTES as u64 + len;
        if data_at > file.len() {
            return Err(located(
                bad_header("the file ends within its header")
                    .differs(format!("at least {data_at} bytes"), file.len()),
            ));
        }
        let mut bytes = vec![0; usize::try_from(data_at).unwrap_or(usize::MAX)];
        file.read_at(0, &mut bytes)?;
        let header = Self::parse(bytes).map_err(located)?;
        header.require_len(file.len()).map_err(located)?;
        Ok(header)
    }

    /// Reads a header's bytes, the length before them included.
    pub(crate) fn parse(bytes: Vec<u8>) -> Result<Self> {
        let json = bytes.get(LENGTH_BYTES..).unwrap_or_default();
        let text = std::str::from_utf8(json).map_err(|_| bad_header("the header is no text"))?;
        if text.trim().is_empty() {
            return Err(bad_header("the header is empty"));
        }
        let metadata: Metadata = serde_json::from_str(text).map_err(|e| {
            let why = e.to_string();
            // Of an unknown type, the parser lists all that it knows.
            let why = why.split(", expected one of").next().unwrap_or_default();
            bad_header(format!("the header breaks the rules of safetensors: {why}"))
        })?;
        Ok(Self { bytes, metadata })
    }

    /// A header of these tensors, in the order that the safetensors crate writes them.
    pub(crate) fn canonical(
        outputs: &[Output],
        metadata: &BTreeMap<String, String>,
    ) -> Result<Self> {
        let mut sorted = outputs
            .iter()
            .map(|o| Ok((o.name.as_str(), Sized::new(o)?)))
            .collect::<Result<Vec<_>>>()?;
        // Descending alignment, then names: as the crate does when it serializes.
        sorted.sort_by(|(a_name, a), (b_name, b)| b.dtype.cmp(&a.dtype).then(a_name.cmp(b_name)));
        let mut offset = 0usize;
        let mut tensors = Vec::with_capacity(sorted.len());
        for (name, view) in sorted {
            let end = offset.saturating_add(view.byte_len);
            let info = TensorInfo {
                dtype: view.dtype,
                shape: view.shape,
                data_offsets: (offset, end),
            };
            tensors.push((name, info));
            offset = end;
        }
        let unwritable = |why: String| {
            Error::invalid(
                "output-header",
                format!("this cannot be a safetensors file: {why}"),
            )
        };
        let layout = Layout { metadata, tensors };
        let mut json = serde_json::to_vec(&layout).map_err(|e| unwritable(e.to_string()))?;
        json.resize(json.len().next_multiple_of(LENGTH_BYTES), b' ');
        let len = json.len() as u64;
        if len > HEADER_LEN_MAX {
            return Err(unwritable(
                "its header would be longer than 100 MB".to_owned(),
            ));
        }
        let bytes = [&len.to_le_bytes(), json.as_slice()].concat();
        Self::parse(bytes).map_err(|e| unwritable(e.to_string()))
    }

    /// Bytes of the whole file.
    pub(crate) fn file_len(&self) -> u64 {
        (self.bytes.len() as u64).saturating_add(self.metadata.data_len() as u64)
    }

    /// The file's tensors, in the order of their bytes.
    pub(crate) fn tensors(&self) -> Result<Vec<FileTensor>> {
        let data_at = self.bytes.len() as u64;
        let named = self.metadata.offset_keys().into_iter();
        named
            .filter_map(|name| {
                let info = self.metadata.info(&name)?.clone();
                Some((name, info))
            })
            .map(|(name, info)| {
                let dtype = Dtype::from_name(&info.dtype.to_string()).ok_or_else(|| {
                    Error::new(
                        ErrorKind::Unsupported,
                        "input-dtype",
                        format!("elements of type {} are not known", info.dtype),
                    )
                    .subject(format!("tensor {name:?}"))
                })?;
                let (start, end) = info.data_offsets;
                Ok(FileTensor {
                    name,
                    dtype,
                    shape: info.shape.iter().map(|dim| *dim as u64).collect(),
                    offset: data_at + start as u64,
                    byte_len: (end - start) as u64,
                })
            })
            .collect()
    }

    /// The header's own metadata, sorted.
    pub(crate) fn entries(&self) -> BTreeMap<&str, &str> {
        let entries = self.metadata.metadata().iter().flatten();
        entries.map(|(k, v)| (k.as_str(), v.as_str())).collect()
    }

    fn require_len(&self, found: u64) -> Result<()> {
        let expected = self.file_len();
        if expected == found {
            return Ok(());
        }
        let why = if found < expected {
            "the file ends before its tensors do"
        } else {
            "the file has bytes after its tensors"
        };
        Err(Error::invalid("input-length", why)
            .differs(format!("{expected} bytes"), found)
            .hint("it was cut short, is still being written, or is no safetensors file"))
    }
}

/// A header's JSON. The crate's own type writes metadata in random order; this one sorts it.
struct Layout<'a> {
    metadata: &'a BTreeMap<String, String>,
    tensors: Vec<(&'a str, TensorInfo)>,
}

impl Serialize for Layout<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if !self.metadata.is_empty() {
            map.serialize_entry("__metadata__", self.metadata)?;
        }
        for (name, info) in &self.tensors {
            map.serialize_entry(name, info)?;
        }
        map.end()
    }
}

/// An output as the safetensors crate sees it.
struct Sized {
    dtype: safetensors::Dtype,
    shape: Vec<usize>,
    byte_len: usize,
}

impl Sized {
    fn new(output: &Output) -> Result<Self> {
        let bad = |why: String| {
            Error::invalid("output-dtype", why).subject(format!("tensor {:?}", output.name))
        };
        let name = serde_json::Value::from(output.dtype.name());
        let dtype = serde_json::from_value(name).map_err(|_| {
            bad(format!("safetensors has no type {}", output.dtype.name()))
                .hint("leave it out with --include")
        })?;
        let size = |n: u64| usize::try_from(n).map_err(|_| bad("the tensor is too large".into()));
        Ok(Self {
            dtype,
            shape: output
                .shape
                .iter()
                .map(|dim| size(*dim))
                .collect::<Result<_>>()?,
            byte_len: size(output.bytes.end - output.bytes.start)?,
        })
    }
}

fn bad_header(why: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::invalid("input-header", why)
        .hint("milepost saves .safetensors files; convert other formats first")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(json: &str) -> Vec<u8> {
        [&(json.len() as u64).to_le_bytes(), json.as_bytes()].concat()
    }

    #[test]
    fn headers_with_holes_or_overlaps_are_refused() {
        let with = |offsets: &str| {
            let json = format!(r#"{{"a":{{"dtype":"U8","shape":[4],"data_offsets":{offsets}}}}}"#);
            Header::parse(framed(&json))
        };
        let good = with("[0,4]").unwrap();
        assert_eq!(good.file_len(), good.bytes.len() as u64 + 4);
        for bad in ["[1,5]", "[0,3]", "[4,0]", "[0,-1]", "[0]", "null"] {
            assert_eq!(with(bad).unwrap_err().code(), "input-header", "{bad}");
        }
    }

    #[test]
    fn a_canonical_header_is_what_the_crate_writes() {
        let output = |name: &str, dtype, len| Output {
            name: name.into(),
            dtype,
            shape: vec![len],
            bytes: 0..len * 4,
        };
        let outputs = [output("b", Dtype::F32, 2), output("a", Dtype::F32, 3)];
        let made = Header::canonical(&outputs, &BTreeMap::new()).unwrap();
        let zeros = [0u8; 12];
        let view = |len: usize| {
            safetensors::tensor::TensorView::new(
                safetensors::Dtype::F32,
                vec![len],
                &zeros[..len * 4],
            )
            .unwrap()
        };
        let file = safetensors::serialize([("b", view(2)), ("a", view(3))], None).unwrap();
        assert_eq!(made.bytes, file[..made.bytes.len()]);
        assert_eq!(made.file_len(), file.len() as u64);
    }
}
