//! Coders: one stream of bytes to stored bytes and back (format-spec.md section 10.5).

use zstd::zstd_safe::{self, CCtx, CParameter, DCtx, DParameter, ParamSwitch};

use crate::error::{Error, ErrorKind, Result};
use crate::format::limits;

/// How a stream is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Coder {
    /// As it is.
    Raw,
    /// A pattern of 1 to 16 bytes that repeats to the stream's end.
    Constant,
    /// One zstd frame (RFC 8878).
    Zstd,
}

impl Coder {
    /// Every coder, in the order of the registry.
    pub const ALL: [Self; 3] = [Self::Raw, Self::Constant, Self::Zstd];

    /// The code on disk.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Raw => 0,
            Self::Constant => 1,
            Self::Zstd => 2,
        }
    }

    /// The name in the registry.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Constant => "constant",
            Self::Zstd => "zstd",
        }
    }

    /// The coder of a code on disk.
    ///
    /// # Errors
    /// `Unsupported` if this version knows none of that code.
    pub fn from_code(code: u8) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|c| c.code() == code)
            .ok_or_else(|| {
                Error::new(
                    ErrorKind::Unsupported,
                    "coder",
                    format!("stream coder {code} is not known"),
                )
                .hint("upgrade milepost")
            })
    }
}

/// Longest pattern of the constant coder.
pub const PATTERN_LEN_MAX: usize = 16;

/// How a zstd frame is made; a reader need not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ZstdMode {
    /// Literals only, Huffman coded: best for exponent planes, and fastest.
    Huffman,
    /// A compression level with match finding.
    Level(i32),
}

/// The zstd level whose match finder steps over the whole block, which leaves only literals.
const LITERALS_ONLY_LEVEL: i32 = -131_072;

/// One thread's zstd contexts, made on first use and kept.
#[derive(Default)]
pub struct Contexts {
    huffman: Option<CCtx<'static>>,
    level: Option<(i32, CCtx<'static>)>,
    decoder: Option<DCtx<'static>>,
}

impl Contexts {
    /// Appends a zstd frame of `raw` to `out`; `false`, and `out` as it was, if the frame
    /// would not be shorter than `at_most`.
    pub(crate) fn compress(
        &mut self,
        mode: ZstdMode,
        raw: &[u8],
        at_most: usize,
        out: &mut Vec<u8>,
    ) -> Result<bool> {
        let context = match mode {
            ZstdMode::Huffman => match &mut self.huffman {
                Some(context) => context,
                none => none.insert(literals_only()?),
            },
            ZstdMode::Level(level) => match &mut self.level {
                Some((held, context)) if *held == level => context,
                slot => &mut slot.insert((level, at_level(level)?)).1,
            },
        };
        let start = out.len();
        let bound = zstd_safe::compress_bound(raw.len());
        out.resize(start + bound, 0);
        let (_, target) = out.split_at_mut(start);
        let written = context.compress2(target, raw).map_err(encoder_failed)?;
        let kept = written < at_most;
        out.truncate(if kept { start + written } else { start });
        Ok(kept)
    }

    /// Decodes exactly one frame into exactly `out`.
    pub(crate) fn decompress(&mut self, frame: &[u8], out: &mut [u8]) -> Result<()> {
        let bad = |what: &str| {
            Error::corrupt(
                "zstd-frame",
                format!("a zstd frame cannot be decoded: {what}"),
            )
        };
        let frame_len = zstd_safe::find_frame_compressed_size(frame)
            .map_err(|code| bad(zstd_safe::get_error_name(code)))?;
        if frame_len != frame.len() {
            return Err(bad("bytes follow it"));
        }
        let context = match &mut self.decoder {
            Some(context) => context,
            none => none.insert(decoder()?),
        };
        let written = context
            .decompress(out, frame)
            .map_err(|code| bad(zstd_safe::get_error_name(code)))?;
        if written != out.len() {
            return Err(bad("it is too short").differs(out.len(), written));
        }
        Ok(())
    }
}

fn encoder_failed(code: usize) -> Error {
    let reason = zstd_safe::get_error_name(code);
    Error::new(
        ErrorKind::Io,
        "zstd-encoder",
        format!("the zstd encoder failed: {reason}"),
    )
}

fn literals_only() -> Result<CCtx<'static>> {
    let mut context = at_level(LITERALS_ONLY_LEVEL)?;
    context
        .set_parameter(CParameter::LiteralCompressionMode(ParamSwitch::Enable))
        .map_err(encoder_failed)?;
    Ok(context)
}

fn at_level(level: i32) -> Result<CCtx<'static>> {
    let mut context = CCtx::try_create().ok_or_else(|| encoder_failed(0))?;
    context
        .set_parameter(CParameter::CompressionLevel(level))
        .map_err(encoder_failed)?;
    Ok(context)
}

fn decoder() -> Result<DCtx<'static>> {
    let mut context = DCtx::try_create().ok_or_else(|| encoder_failed(0))?;
    context
        .set_parameter(DParameter::WindowLogMax(limits::ZSTD_WINDOW_LOG_MAX))
        .map_err(encoder_failed)?;
    Ok(context)
}

/// Fills `out` with the repeated pattern.
pub(crate) fn fill_constant(pattern: &[u8], out: &mut [u8]) -> Result<()> {
    if pattern.is_empty()
        || pattern.len() > PATTERN_LEN_MAX
        || !out.len().is_multiple_of(pattern.len())
    {
        return Err(Error::corrupt(
            "constant-pattern",
            "a constant stream's pattern has a bad length",
        )
        .differs(
            "a divisor of the stream's length, at most 16",
            pattern.len(),
        ));
    }
    if let [byte] = pattern {
        out.fill(*byte);
    } else {
        out.chunks_exact_mut(pattern.len())
            .for_each(|piece| piece.copy_from_slice(pattern));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_modes_round_trip_and_refuse_other_lengths() {
        let raw: Vec<u8> = (0..5000u32)
            .map(|i| u8::try_from(i * i % 37).unwrap())
            .collect();
        let mut contexts = Contexts::default();
        for mode in [ZstdMode::Huffman, ZstdMode::Level(1)] {
            let mut frame = Vec::new();
            assert!(
                contexts
                    .compress(mode, &raw, raw.len(), &mut frame)
                    .unwrap()
            );
            let mut out = vec![0; raw.len()];
            contexts.decompress(&frame, &mut out).unwrap();
            assert_eq!(out, raw);
            assert!(
                contexts
                    .decompress(&frame, &mut vec![0; raw.len() + 1])
                    .is_err()
            );
            assert!(
                contexts
                    .decompress(&frame, &mut vec![0; raw.len() - 1])
                    .is_err()
            );
            frame.push(0);
            assert!(contexts.decompress(&frame, &mut out).is_err());
        }
    }

    #[test]
    fn literals_only_beats_a_level_on_skewed_literals() {
        // An exponent plane: skewed, without repeats.
        let mut state = 1u64;
        let raw: Vec<u8> = (0..65_536)
            .map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                u8::try_from(100 + (state >> 40).count_ones()).unwrap()
            })
            .collect();
        let mut contexts = Contexts::default();
        let mut len = |mode| {
            let mut frame = Vec::new();
            contexts
                .compress(mode, &raw, raw.len(), &mut frame)
                .unwrap();
            frame.len()
        };
        assert!(len(ZstdMode::Huffman) < len(ZstdMode::Level(1)));
    }

    #[test]
    fn constant_patterns_must_divide() {
        let mut out = [0; 6];
        fill_constant(&[1, 2, 3], &mut out).unwrap();
        assert_eq!(out, [1, 2, 3, 1, 2, 3]);
        assert!(fill_constant(&[1, 2, 3, 4], &mut out).is_err());
        assert!(fill_constant(&[], &mut out).is_err());
        assert!(fill_constant(&[0; 17], &mut [0; 17]).is_err());
    }
}
