//! The FORMAT file (format-spec.md section 5.3): what a store is and how it bounds its chains.

use std::collections::BTreeMap;

use crate::error::{Error, ErrorKind, Result};
use crate::format::cursor::{Reader, Writer};
use crate::format::envelope::{self, FileKind, WRITER_FLAGS_KNOWN};
use crate::format::limits;
use crate::hash::crc32;

/// How hard the writer tries to make records small.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Level {
    /// As fast as a disk: the default.
    #[default]
    Fast,
    /// Tries every transform in full.
    Balanced,
    /// As small as it goes, at any cost of time.
    Archive,
}

impl Level {
    /// Every level, in the order of their codes.
    pub const ALL: [Self; 3] = [Self::Fast, Self::Balanced, Self::Archive];

    /// The code on disk.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Fast => 0,
            Self::Balanced => 1,
            Self::Archive => 2,
        }
    }

    /// The name people type.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fast => "fast",
            Self::Balanced => "balanced",
            Self::Archive => "archive",
        }
    }
}

/// What is fixed when a store is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreSettings {
    /// Random name of the store.
    pub uuid: [u8; 16],
    /// Bytes of a chunk of new tensors.
    pub chunk_len: u32,
    /// Restore budget, in thousandths of one raw full checkpoint.
    pub restore_budget_milli: u32,
    /// Deepest record that a writer may store.
    pub depth_max: u8,
    /// Every how many checkpoints of a run all chunks are stored at depth 0; 0 for by budget.
    pub full_every: u32,
    /// Default effort.
    pub level: Level,
    /// Named settings that readers need not know, such as keep rules.
    pub attributes: BTreeMap<String, String>,
}

/// Chunk size where the caller names none.
pub const CHUNK_LEN_DEFAULT: u32 = 256 << 10;
/// Restore budget where the caller names none.
pub const RESTORE_BUDGET_MILLI_DEFAULT: u32 = 2000;
/// Depth limit where the caller names none.
pub const DEPTH_MAX_DEFAULT: u8 = 64;

impl Default for StoreSettings {
    fn default() -> Self {
        Self {
            uuid: [0; 16],
            chunk_len: CHUNK_LEN_DEFAULT,
            restore_budget_milli: RESTORE_BUDGET_MILLI_DEFAULT,
            depth_max: DEPTH_MAX_DEFAULT,
            full_every: 0,
            level: Level::Fast,
            attributes: BTreeMap::new(),
        }
    }
}

impl StoreSettings {
    /// The file's bytes.
    ///
    /// # Errors
    /// `InvalidInput` if a setting is out of its range.
    pub fn encode(&self) -> Result<Vec<u8>> {
        self.check()?;
        let mut w = Writer::new();
        w.bytes(&envelope::encode(FileKind::Store))
            .bytes(&self.uuid);
        w.u32(self.chunk_len)
            .u32(self.restore_budget_milli)
            .u32(self.full_every);
        w.u8(self.depth_max).u8(self.level.code()).u16(0);
        w.count(self.attributes.len(), limits::ENTRIES_MAX)?;
        for (key, value) in &self.attributes {
            w.key(key)?.key(value)?;
        }
        let crc = crc32(w.as_slice());
        w.u32(crc);
        if w.len() as u64 > limits::SMALL_FILE_LEN_MAX {
            return Err(
                Error::invalid("setting", "the attributes of a store are too long")
                    .differs(format!("at most {}", limits::SMALL_FILE_LEN_MAX), w.len()),
            );
        }
        Ok(w.finish())
    }

    /// Reads the file's bytes. A store that newer writers have made readable but not writable
    /// is told by the second value: whether this version may add to it.
    ///
    /// # Errors
    /// `Corrupt` or `Unsupported`, by the rule that is broken.
    pub fn decode(file: &[u8]) -> Result<(Self, bool)> {
        let mut r = Reader::new(file, 0);
        let envelope = envelope::decode(&mut r, FileKind::Store)?;
        let sealed = file
            .len()
            .checked_sub(4)
            .and_then(|at| file.split_at_checked(at));
        let crc_matches = sealed.is_some_and(|(body, crc)| crc == crc32(body).to_le_bytes());
        if !crc_matches {
            return Err(Error::corrupt(
                "format-checksum",
                "the store's FORMAT file fails its checksum",
            ));
        }
        let uuid = r.array()?;
        let (chunk_len, restore_budget_milli, full_every) = (r.u32()?, r.u32()?, r.u32()?);
        let (depth_max, level, reserved) = (r.u8()?, r.u8()?, r.u16()?);
        let level = Level::ALL.into_iter().find(|l| l.code() == level);
        let count = r.count(limits::ENTRIES_MAX, 6)?;
        let mut attributes = BTreeMap::new();
        for _ in 0..count {
            let at = r.at();
            let (key, value) = (r.key()?, r.key()?);
            if attributes
                .last_key_value()
                .is_some_and(|(last, _): (&String, _)| last.as_str() >= key)
            {
                return Err(
                    Error::corrupt("name-order", "attributes of a store are not sorted").offset(at),
                );
            }
            attributes.insert(key.to_owned(), value.to_owned());
        }
        r.u32()?;
        r.finish()?;
        let Some(level) = level.filter(|_| reserved == 0) else {
            return Err(Error::corrupt(
                "format-field",
                "a field of the FORMAT file breaks its rule",
            ));
        };
        let settings = Self {
            uuid,
            chunk_len,
            restore_budget_milli,
            depth_max,
            full_every,
            level,
            attributes,
        };
        settings
            .check()
            .map_err(|e| Error::corrupt(e.code(), e.to_string()))?;
        Ok((settings, envelope.writer_flags & !WRITER_FLAGS_KNOWN == 0))
    }

    fn check(&self) -> Result<()> {
        let chunk_ok = (limits::CHUNK_LEN_SETTING_MIN..=limits::CHUNK_LEN_SETTING_MAX)
            .contains(&self.chunk_len);
        if !chunk_ok {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "setting",
                "the chunk size is out of range",
            )
            .differs("4 KiB to 16 MiB", self.chunk_len));
        }
        if !(1000..=1_000_000).contains(&self.restore_budget_milli) {
            return Err(
                Error::invalid("setting", "the restore budget is out of range")
                    .differs("1 to 1000", f64::from(self.restore_budget_milli) / 1000.0),
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_and_refuses_every_flip() {
        let mut settings = StoreSettings::default();
        settings.attributes.insert("keep.last".into(), "5".into());
        let good = settings.encode().unwrap();
        assert_eq!(StoreSettings::decode(&good).unwrap(), (settings, true));
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(StoreSettings::decode(&bad).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        for settings in [
            StoreSettings {
                chunk_len: 1,
                ..Default::default()
            },
            StoreSettings {
                restore_budget_milli: 999,
                ..Default::default()
            },
        ] {
            assert_eq!(
                settings.encode().unwrap_err().kind(),
                ErrorKind::InvalidInput
            );
        }
    }
}
