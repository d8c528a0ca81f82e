//! Where and how a checkpoint was saved (format-spec.md sections 11.3, 11.5 and 11.6): outside its id.

use crate::error::{Error, Result};
use crate::format::cursor::{Reader, Writer};
use crate::format::limits;
use crate::format::name;
use crate::id::PackId;

/// What a save waited for before it returned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Durability {
    /// Nothing: whole or gone after a power cut, never wrong.
    Relaxed,
    /// The device has everything.
    #[default]
    Durable,
    /// As `Durable`, and every record was decoded and read back.
    Verified,
}

impl Durability {
    /// Every level, in the order of their codes.
    pub const ALL: [Self; 3] = [Self::Relaxed, Self::Durable, Self::Verified];

    /// The code on disk.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Relaxed => 0,
            Self::Durable => 1,
            Self::Verified => 2,
        }
    }

    /// The name people type.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Relaxed => "relaxed",
            Self::Durable => "durable",
            Self::Verified => "verified",
        }
    }
}

/// Run, order, time and sizes of a save.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// The run it belongs to.
    pub run: String,
    /// Its place in the run: 1 for the first, then ascending.
    pub seq: u64,
    /// Milliseconds since 1970-01-01T00:00:00Z by the writer's clock; for people only.
    pub time_ms: u64,
    /// Whether every chunk is stored at depth 0.
    pub full: bool,
    /// Depth of its deepest record.
    pub depth: u8,
    /// Bytes of its tensors and blobs.
    pub logical_bytes: u64,
    /// Bytes of the packs that the save wrote.
    pub added_bytes: u64,
    /// Restore cost in raw bytes read (section 12.3).
    pub restore_cost: u64,
    /// Chunks of the checkpoint.
    pub chunks: u64,
    /// Chunks that the save had to store.
    pub new_chunks: u64,
    /// What the save waited for.
    pub durability: Durability,
    /// The boot it was saved in: within it even a relaxed save is whole.
    pub boot: [u8; 16],
}

impl Placement {
    /// Its bytes.
    ///
    /// # Errors
    /// `InvalidInput` if the run's name is not allowed.
    pub fn encode(&self) -> Result<Vec<u8>> {
        name::check(&self.run, "run")?;
        let mut w = Writer::new();
        w.key(&self.run)?
            .u64(self.seq)
            .u64(self.time_ms)
            .u8(u8::from(self.full))
            .u8(self.depth);
        w.u64(self.logical_bytes)
            .u64(self.added_bytes)
            .u64(self.restore_cost);
        w.u64(self.chunks)
            .u64(self.new_chunks)
            .u8(self.durability.code())
            .bytes(&self.boot);
        Ok(w.finish())
    }

    /// Reads its bytes; more may follow in later minor versions.
    ///
    /// # Errors
    /// `Corrupt` if a field is missing or breaks its rule.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut r = Reader::new(bytes, 0);
        let run = r.key()?;
        name::check(run, "run").map_err(|e| Error::corrupt("run-name", e.to_string()))?;
        let (seq, time_ms) = (r.u64()?, r.u64()?);
        let full = match r.u8()? {
            0 => false,
            1 => true,
            other => {
                return Err(
                    Error::corrupt("placement", "a manifest's kind is neither 0 nor 1")
                        .differs("0 or 1", other),
                );
            }
        };
        Ok(Self {
            run: run.to_owned(),
            seq,
            time_ms,
            full,
            depth: r.u8()?,
            logical_bytes: r.u64()?,
            added_bytes: r.u64()?,
            restore_cost: r.u64()?,
            chunks: r.u64()?,
            new_chunks: r.u64()?,
            durability: decode_durability(r.u8()?)?,
            boot: r.array()?,
        })
    }
}

fn decode_durability(code: u8) -> Result<Durability> {
    Durability::ALL
        .into_iter()
        .find(|d| d.code() == code)
        .ok_or_else(|| {
            Error::corrupt("placement", "a manifest's durability is not 0, 1 or 2")
                .differs("0 to 2", code)
        })
}

/// A pack that a restore opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackHint {
    /// Its id.
    pub pack: PackId,
    /// Its length in bytes.
    pub len: u64,
}

/// The bytes of a hints section.
///
/// # Errors
/// `Limit` if there are too many.
pub fn encode_hints(hints: &[PackHint]) -> Result<Vec<u8>> {
    let mut w = Writer::new();
    w.count(hints.len(), limits::RECORDS_MAX)?;
    for hint in hints {
        w.bytes(&hint.pack.0).u64(hint.len);
    }
    Ok(w.finish())
}

/// Reads a hints section.
///
/// # Errors
/// `Corrupt` if it is cut short or has trailing bytes.
pub fn decode_hints(bytes: &[u8]) -> Result<Vec<PackHint>> {
    let mut r = Reader::new(bytes, 0);
    let count = r.count(limits::RECORDS_MAX, 40)?;
    let hints = (0..count)
        .map(|_| {
            Ok(PackHint {
                pack: PackId(r.array()?),
                len: r.u64()?,
            })
        })
        .collect::<Result<Vec<_>>>()?;
    r.finish()?;
    Ok(hints)
}

/// The bytes of a section of dropped tensors: their places in the body.
///
/// # Errors
/// `Limit` if there are too many.
pub fn encode_dropped(dropped: &[u32]) -> Result<Vec<u8>> {
    let mut w = Writer::new();
    w.count(dropped.len(), limits::ENTRIES_MAX)?;
    for place in dropped {
        w.u32(*place);
    }
    Ok(w.finish())
}

/// Reads a section of dropped tensors of a body with so many.
///
/// # Errors
/// `Corrupt` if it is empty, not strictly ascending, or names a tensor that is not there.
pub fn decode_dropped(bytes: &[u8], tensors: usize) -> Result<Vec<u32>> {
    let mut r = Reader::new(bytes, 0);
    let count = r.count(limits::ENTRIES_MAX, 4)?;
    let dropped = (0..count).map(|_| r.u32()).collect::<Result<Vec<_>>>()?;
    r.finish()?;
    let ascends = dropped.is_sorted_by(|a, b| a < b);
    let within = dropped
        .last()
        .is_some_and(|last| (*last as usize) < tensors);
    if ascends && within {
        return Ok(dropped);
    }
    Err(Error::corrupt(
        "dropped",
        "a manifest's dropped tensors break their rule",
    ))
}

/// What a save measured of one tensor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TensorStatistics {
    /// Bytes its new records take.
    pub stored_bytes: u64,
    /// Its chunks that the store did not hold yet.
    pub new_chunks: u64,
    /// Elements whose bits differ from the parent's; all of them where there is no such tensor.
    pub changed_elements: u64,
}

/// The bytes of a statistics section, in the order of the body's tensors.
///
/// # Errors
/// `Limit` if there are too many.
pub fn encode_statistics(statistics: &[TensorStatistics]) -> Result<Vec<u8>> {
    let mut w = Writer::new();
    w.count(statistics.len(), limits::ENTRIES_MAX)?;
    for s in statistics {
        w.u64(s.stored_bytes)
            .u64(s.new_chunks)
            .u64(s.changed_elements);
    }
    Ok(w.finish())
}

/// Reads a statistics section.
///
/// # Errors
/// `Corrupt` if it is cut short or has trailing bytes.
pub fn decode_statistics(bytes: &[u8]) -> Result<Vec<TensorStatistics>> {
    let mut r = Reader::new(bytes, 0);
    let count = r.count(limits::ENTRIES_MAX, 24)?;
    let statistics = (0..count)
        .map(|_| {
            Ok(TensorStatistics {
                stored_bytes: r.u64()?,
                new_chunks: r.u64()?,
                changed_elements: r.u64()?,
            })
        })
        .collect::<Result<Vec<_>>>()?;
    r.finish()?;
    Ok(statistics)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips() {
        let placement = Placement {
            run: "main".into(),
            seq: 3,
            full: true,
            depth: 2,
            ..Default::default()
        };
        assert_eq!(
            Placement::decode(&placement.encode().unwrap()).unwrap(),
            placement
        );
        let hints = [PackHint {
            pack: PackId([5; 32]),
            len: 99,
        }];
        assert_eq!(decode_hints(&encode_hints(&hints).unwrap()).unwrap(), hints);
        let dropped = [0, 3, 4];
        let bytes = encode_dropped(&dropped).unwrap();
        assert_eq!(decode_dropped(&bytes, 5).unwrap(), dropped);
        assert!(decode_dropped(&bytes, 4).is_err());
        for bad in [&[][..], &[3, 3], &[4, 3]] {
            assert!(decode_dropped(&encode_dropped(bad).unwrap(), 9).is_err());
        }
        let statistics = [TensorStatistics {
            stored_bytes: 1,
            new_chunks: 2,
            changed_elements: 3,
        }];
        assert_eq!(
            decode_statistics(&encode_statistics(&statistics).unwrap()).unwrap(),
            statistics
        );
    }

    #[test]
    fn a_run_name_from_a_file_is_checked() {
        let mut bytes = Placement {
            run: "main".into(),
            ..Default::default()
        }
        .encode()
        .unwrap();
        bytes[2..6].copy_from_slice(b"../x");
        assert!(Placement::decode(&bytes).is_err());
    }
}
