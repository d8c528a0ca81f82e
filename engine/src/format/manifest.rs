//! A checkpoint's manifest as a whole (format-spec.md section 11): sections to values.
//!
//! Compression of sections is the caller's: `format` holds no codec.

use crate::error::{Error, Result};
use crate::format::body::Body;
use crate::format::placement::{self, PackHint, Placement, TensorStatistics};
use crate::format::relations::{self, TensorRelation};
use crate::format::section::{self, Section};
use crate::hash;
use crate::id::{CheckpointId, ChunkId};

/// Everything a manifest says.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    /// The hash of the body.
    pub id: CheckpointId,
    /// What the checkpoint holds.
    pub body: Body,
    /// Where, when and how it was saved.
    pub placement: Placement,
    /// The tensors of the body that are not kept any more, by their places, ascending.
    pub dropped: Vec<u32>,
    /// The packs that a restore opens; empty if the section is missing.
    pub packs: Vec<PackHint>,
    /// In the order of the body's tensors; empty if the section is missing.
    pub statistics: Vec<TensorStatistics>,
    /// Which tensors were made from which, by their places, ascending.
    pub relations: Vec<TensorRelation>,
}

/// Compresses a section's bytes, or says that raw is better.
pub type Compress<'f> = dyn Fn(&[u8]) -> Option<Vec<u8>> + 'f;
/// Decompresses a zstd frame to exactly that many bytes.
pub type Decompress<'f> = dyn Fn(&[u8], u32) -> Result<Vec<u8>> + 'f;

impl Manifest {
    /// Computes the id of a body and makes the manifest of it.
    ///
    /// # Errors
    /// As [`Body::encode`].
    pub fn new(
        body: Body,
        placement: Placement,
        packs: Vec<PackHint>,
        statistics: Vec<TensorStatistics>,
    ) -> Result<Self> {
        let id = hash::checkpoint_id(&body.encode()?);
        Ok(Self {
            id,
            body,
            placement,
            dropped: Vec::new(),
            packs,
            statistics,
            relations: Vec::new(),
        })
    }

    /// Whether a tensor of the body is not kept any more.
    #[must_use]
    pub fn is_dropped(&self, tensor: usize) -> bool {
        u32::try_from(tensor).is_ok_and(|place| self.dropped.binary_search(&place).is_ok())
    }

    /// The names of the tensors that are not kept any more.
    pub fn dropped_names(&self) -> impl Iterator<Item = &str> {
        let tensor = |place: &u32| self.body.tensors.get(*place as usize);
        let tensors = self.dropped.iter().filter_map(tensor);
        tensors.map(|t| t.name.as_str())
    }

    /// The chunks that restoring it takes: those of the tensors that are kept, then of the blobs.
    pub fn needed_chunks(&self) -> impl Iterator<Item = &ChunkId> {
        let tensors = self.body.tensors.iter().enumerate();
        let kept = tensors.filter(|(place, _)| !self.is_dropped(*place));
        let blobs = self.body.blobs.iter().flat_map(|b| &b.chunks);
        kept.flat_map(|(_, t)| &t.chunks).chain(blobs)
    }

    /// The file's bytes.
    ///
    /// # Errors
    /// `InvalidInput` or `Limit` if something does not fit the format.
    pub fn encode(&self, compress: &Compress<'_>) -> Result<Vec<u8>> {
        let mut kinds = vec![
            (section::BODY, self.body.encode()?),
            (section::PLACEMENT, self.placement.encode()?),
            (section::PACKS, placement::encode_hints(&self.packs)?),
        ];
        if !self.dropped.is_empty() {
            kinds.push((section::DROPPED, placement::encode_dropped(&self.dropped)?));
        }
        if !self.statistics.is_empty() {
            kinds.push((
                section::STATISTICS,
                placement::encode_statistics(&self.statistics)?,
            ));
        }
        if !self.relations.is_empty() {
            kinds.push((
                section::RELATIONS,
                relations::encode_relations(&self.relations)?,
            ));
        }
        let packed: Vec<Option<Vec<u8>>> = kinds.iter().map(|(_, raw)| compress(raw)).collect();
        let mut sections = Vec::new();
        for ((kind, raw), packed) in kinds.iter().zip(&packed) {
            let raw_len = u32::try_from(raw.len()).unwrap_or(u32::MAX);
            sections.push(match packed {
                Some(stored) => Section {
                    kind: *kind,
                    coder: section::CODER_ZSTD,
                    raw_len,
                    stored,
                },
                None => Section {
                    kind: *kind,
                    coder: section::CODER_RAW,
                    raw_len,
                    stored: raw,
                },
            });
        }
        section::encode_file(&mut sections)
    }

    /// Reads a file's bytes; the id is computed, so the caller can hold it against the name.
    ///
    /// # Errors
    /// `Corrupt`, `Unsupported` or `Limit`, by the rule that is broken.
    pub fn decode(file: &[u8], decompress: &Decompress<'_>) -> Result<Self> {
        let sections = section::decode_file(file)?;
        let raw = |kind: u32| -> Result<Option<Vec<u8>>> {
            let Some(s) = sections.iter().find(|s| s.kind == kind) else {
                return Ok(None);
            };
            let raw = match s.coder {
                section::CODER_RAW => s.stored.to_vec(),
                section::CODER_ZSTD => decompress(s.stored, s.raw_len)?,
                other => {
                    return Err(Error::corrupt(
                        "section-coder",
                        "a manifest section has an unknown coder",
                    )
                    .differs("0 or 1", other));
                }
            };
            if raw.len() != s.raw_len as usize {
                return Err(Error::corrupt(
                    "section-length",
                    "a manifest section has another length",
                )
                .differs(s.raw_len, raw.len()));
            }
            Ok(Some(raw))
        };
        let missing =
            || Error::corrupt("section-missing", "a manifest lacks a section it must have");
        let body_bytes = raw(section::BODY)?.ok_or_else(missing)?;
        let placement = Placement::decode(&raw(section::PLACEMENT)?.ok_or_else(missing)?)?;
        let body = Body::decode(&body_bytes)?;
        let packs = raw(section::PACKS)?.map_or(Ok(vec![]), |b| placement::decode_hints(&b))?;
        let dropped = raw(section::DROPPED)?
            .map(|b| placement::decode_dropped(&b, body.tensors.len()))
            .transpose()?;
        let statistics = raw(section::STATISTICS)?
            .map(|b| placement::decode_statistics(&b))
            .transpose()?;
        if statistics
            .as_ref()
            .is_some_and(|s| s.len() != body.tensors.len())
        {
            return Err(Error::corrupt(
                "statistics",
                "a manifest's statistics are not one for each tensor",
            ));
        }
        let relations = raw(section::RELATIONS)?
            .map(|b| relations::decode_relations(&b, body.tensors.len()))
            .transpose()?;
        Ok(Self {
            id: hash::checkpoint_id(&body_bytes),
            body,
            placement,
            dropped: dropped.unwrap_or_default(),
            packs,
            statistics: statistics.unwrap_or_default(),
            relations: relations.unwrap_or_default(),
        })
    }
}
