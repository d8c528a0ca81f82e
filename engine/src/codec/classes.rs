//! Classes (format-spec.md section 10.4.5): the leading bytes of words, parted by the exponent
//! of their base.
//!
//! How likely a value is to change, and by how much, depends on its size: a small weight of
//! bf16 moves where a large one stays. Each class of exponents has a stream with a distribution
//! of its own; where nearly all stay, only the gaps between those that move are stored.

use crate::codec::bits::{BitReader, BitWriter};
use crate::codec::leading::ESCAPE;
use crate::codec::nonzero;
use crate::codec::places::Places;
use crate::codec::transform::Transform;
use crate::codec::word::Word;
use crate::error::{Error, Result};

/// Most classes of a record.
pub(crate) const CLASSES_MAX: usize = 32;
/// Largest parameter of a Rice code.
pub(crate) const RICE_MAX: u8 = 15;

/// The keys of a class and how its words are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Class {
    /// Its least key; it ends where the next class begins.
    pub(crate) first_key: u8,
    /// Bits of each word that are stored raw.
    pub(crate) shift: u8,
    /// `None` for a byte for each word, else the Rice parameter of the gaps between words that
    /// are not zero.
    pub(crate) rice: Option<u8>,
}

/// The classes of a record, by key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Classes(pub(crate) Vec<Class>);

impl Classes {
    /// First key, shift and mode of each.
    pub(crate) fn to_params(&self) -> Vec<u8> {
        let class = |c: &Class| [c.first_key, c.shift, c.rice.map_or(0, |k| k + 1)];
        self.0.iter().flat_map(class).collect()
    }

    pub(crate) fn from_params(params: &[u8], width: usize) -> Result<Self> {
        let bad = || Error::corrupt("classes-params", "a record's classes break their rules");
        let (classes, rest) = params.as_chunks::<3>();
        if !rest.is_empty() || classes.is_empty() || classes.len() > CLASSES_MAX {
            return Err(bad());
        }
        let mut all: Vec<Class> = Vec::with_capacity(classes.len());
        for [first_key, shift, mode] in classes {
            let rice = mode.checked_sub(1);
            let in_order = match all.last() {
                None => *first_key == 0,
                Some(last) => last.first_key < *first_key,
            };
            let fits = usize::from(*shift) <= width * 8 - 8
                && rice.is_none_or(|k| k <= RICE_MAX && *shift == 0);
            if !in_order || !fits {
                return Err(bad());
            }
            all.push(Class {
                first_key: *first_key,
                shift: *shift,
                rice,
            });
        }
        Ok(Self(all))
    }

    /// Whether nearly all lanes are those of the base, and are found without their keys.
    pub(crate) fn is_patch(&self) -> bool {
        matches!(self.0.as_slice(), [Class { rice: Some(_), .. }])
    }

    /// Every class with its least and its largest key.
    pub(super) fn ranges(&self) -> impl Iterator<Item = (Class, u8, u8)> {
        let ends = self
            .0
            .iter()
            .skip(1)
            .map(|c| c.first_key - 1)
            .chain([u8::MAX]);
        self.0
            .iter()
            .zip(ends)
            .map(|(class, end)| (*class, class.first_key, end))
    }
}

/// The streams of a chunk.
#[derive(Default)]
pub(crate) struct Streams {
    /// The leading bytes of the dense classes, one class after the other.
    pub(crate) dense: Vec<Vec<u8>>,
    /// Gaps of the sparse classes.
    pub(crate) gaps: BitWriter,
    /// Leading bytes of the sparse classes that are not zero, less 1.
    pub(crate) values: Vec<u8>,
    pub(crate) low: BitWriter,
    /// Words whose leading bits do not fit a byte.
    pub(crate) escapes: Vec<u8>,
}

/// Splits residual words into streams.
pub(crate) fn split<W: Word>(words: &[W], base: &[u8], classes: &Classes, streams: &mut Streams) {
    streams.dense.clear();
    streams.escapes.clear();
    streams.values.clear();
    streams.low.clear();
    streams.gaps.clear();
    let places = Places::new::<W>(classes, base);
    let mut sorted = vec![W::ZERO; words.len()];
    places.sort(words, base, &mut sorted);
    let mut rest = sorted.as_slice();
    for (class, count) in classes.0.iter().zip(places.counts()) {
        let (of_class, behind) = rest.split_at(*count);
        rest = behind;
        match class.rice {
            Some(k) => split_sparse(of_class, k, streams),
            None => {
                let mut leading = Vec::with_capacity(of_class.len());
                split_dense(of_class, class.shift.into(), &mut leading, streams);
                streams.dense.push(leading);
            }
        }
    }
}

fn push_word<W: Word>(word: W, bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(word.to_u64().to_le_bytes().split_at(W::BYTES).0);
}

/// One byte for each word, the bits below it, and the words that do not fit.
fn split_dense<W: Word>(words: &[W], shift: u32, leading: &mut Vec<u8>, streams: &mut Streams) {
    let top = |word: &W| (word.to_u64() >> shift).min(ESCAPE.into()).to_le_bytes()[0];
    leading.extend(words.iter().map(top));
    if shift == 0 && !leading.contains(&ESCAPE) {
        return;
    }
    let low_mask = (1u64 << shift) - 1;
    for (word, leading) in words.iter().zip(leading.iter()) {
        if *leading == ESCAPE {
            push_word(*word, &mut streams.escapes);
        } else if shift > 0 {
            streams.low.push(word.to_u64() & low_mask, shift);
        }
    }
}

/// The gaps between words that are not zero, the last up to the end, and those words.
fn split_sparse<W: Word>(words: &[W], k: u8, streams: &mut Streams) {
    let mut next = 0;
    nonzero::each(words, |at, word| {
        streams.gaps.push_rice(at - next, k);
        let leading = word.to_u64().min(ESCAPE.into()).to_le_bytes()[0];
        streams.values.push(leading - 1);
        if leading == ESCAPE {
            push_word(word, &mut streams.escapes);
        }
        next = at + 1;
    });
    streams.gaps.push_rice(words.len() - next, k);
}

/// What the decoder found of one class.
pub(crate) enum Found<'a> {
    /// The leading byte of each word.
    Dense(&'a [u8]),
    /// The places of the words that are not zero, among those of the class.
    Sparse(Vec<u32>),
}

/// Reads where in a sparse class of `len` words those lie that are not zero.
pub(crate) fn read_gaps(gaps: &mut BitReader<'_>, k: u8, len: usize) -> Result<Vec<u32>> {
    // Each takes a bit and its remainder.
    let most = gaps.left() / (usize::from(k) + 1);
    let (mut at, mut places) = (0, Vec::with_capacity(most.min(len)));
    loop {
        at += gaps.take_rice(k, len - at).ok_or_else(overrun)?;
        if at == len {
            return Ok(places);
        }
        places.push(u32::try_from(at).map_err(|_| overrun())?);
        at += 1;
    }
}

/// The streams that all classes share, read forward.
pub(crate) struct Shared<'a> {
    pub(crate) values: &'a [u8],
    pub(crate) low: BitReader<'a>,
    pub(crate) escapes: &'a [u8],
}

impl Shared<'_> {
    fn escape<W: Word>(&mut self) -> Option<W> {
        let (escape, rest) = self.escapes.split_at_checked(W::BYTES)?;
        self.escapes = rest;
        Some(W::load(escape))
    }

    /// The next word of a dense class.
    #[inline(always)]
    fn word<W: Word>(&mut self, leading: u8, shift: u32) -> Option<W> {
        if leading == ESCAPE {
            return self.escape();
        }
        let low = if shift == 0 { 0 } else { self.low.take(shift)? };
        Some(W::from_u64(u64::from(leading) << shift | low))
    }

    /// The next word of a sparse class that is not zero.
    fn value<W: Word>(&mut self) -> Option<W> {
        let (value, rest) = self.values.split_first()?;
        self.values = rest;
        let leading = value.checked_add(1)?;
        if leading == ESCAPE {
            return self.escape();
        }
        Some(W::from_u64(leading.into()))
    }

    fn is_done(&self) -> bool {
        self.values.is_empty() && self.low.is_done() && self.escapes.is_empty()
    }
}

/// Takes the base and changes the few lanes that differ.
pub(crate) fn patch<W: Word>(
    transform: Transform,
    places: &[u32],
    base: &[u8],
    mut shared: Shared<'_>,
    out: &mut [u8],
) -> Result<()> {
    out.copy_from_slice(base);
    for place in places {
        let start = *place as usize * W::BYTES;
        let lane = out.get_mut(start..start + W::BYTES).ok_or_else(overrun)?;
        let word: W = shared.value().ok_or_else(overrun)?;
        transform.inverse(word, W::load(lane)).store(lane);
    }
    if shared.is_done() {
        Ok(())
    } else {
        Err(overrun())
    }
}

/// Puts the residual words of all classes in their places; both `sorted` and `words` have one for
/// each lane, and `sorted` is zero before.
pub(crate) fn merge<W: Word>(
    classes: &Classes,
    found: &[Found<'_>],
    (places, base): (&Places, &[u8]),
    mut shared: Shared<'_>,
    (sorted, words): (&mut [W], &mut [W]),
) -> Result<()> {
    let mut rest = &mut *sorted;
    for ((class, count), found) in classes.0.iter().zip(places.counts()).zip(found) {
        let (of_class, behind) = rest.split_at_mut(*count);
        rest = behind;
        let done = match found {
            Found::Dense(leading) => fill(leading, class.shift.into(), &mut shared, of_class),
            Found::Sparse(places) => fill_sparse(places, &mut shared, of_class),
        };
        done.ok_or_else(overrun)?;
    }
    places.unsort(sorted, base, words);
    if shared.is_done() {
        Ok(())
    } else {
        Err(overrun())
    }
}

fn fill<W: Word>(
    leading: &[u8],
    shift: u32,
    shared: &mut Shared<'_>,
    words: &mut [W],
) -> Option<()> {
    if shift == 0 && !leading.contains(&ESCAPE) {
        for (word, leading) in words.iter_mut().zip(leading) {
            *word = W::from_u64(u64::from(*leading));
        }
        return Some(());
    }
    for (word, leading) in words.iter_mut().zip(leading) {
        *word = shared.word(*leading, shift)?;
    }
    Some(())
}

fn fill_sparse<W: Word>(places: &[u32], shared: &mut Shared<'_>, words: &mut [W]) -> Option<()> {
    for place in places {
        *words.get_mut(*place as usize)? = shared.value()?;
    }
    Some(())
}

fn overrun() -> Error {
    Error::corrupt(
        "classes-streams",
        "a record's gaps, values, low bits or escapes do not fit its classes",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_params_are_refused() {
        let two = Classes(vec![
            Class {
                first_key: 0,
                shift: 3,
                rice: None,
            },
            Class {
                first_key: 100,
                shift: 0,
                rice: Some(2),
            },
        ]);
        assert_eq!(two.to_params(), [0, 3, 0, 100, 0, 3]);
        assert_eq!(Classes::from_params(&two.to_params(), 2).unwrap(), two);
        let many: Vec<u8> = (0..33).flat_map(|key| [key, 0, 0]).collect();
        assert!(Classes::from_params(&many[..96], 2).is_ok());
        for hostile in [
            &[][..],
            &[0, 0],
            &[0, 0, 0, 1],
            &[1, 0, 0],
            &[0, 9, 0],
            &[0, 0, 17],
            &[0, 1, 1],
            &[0, 0, 0, 0, 0, 0],
            &[0, 0, 0, 5, 0, 0, 4, 0, 0],
            &many,
        ] {
            assert!(Classes::from_params(hostile, 2).is_err(), "{hostile:?}");
        }
    }

    #[test]
    fn gaps_must_fit_their_class() {
        let mut gaps = BitWriter::default();
        for gap in [2, 0, 5] {
            gaps.push_rice(gap, 1);
        }
        let bytes = gaps.finish().to_vec();
        let read = |len| read_gaps(&mut BitReader::new(&bytes), 1, len);
        assert_eq!(read(9).unwrap(), [2, 3]);
        assert!(read(8).is_err(), "the last gap leads behind the end");
        assert!(read(300).is_err(), "the gaps end early");
    }

    #[test]
    fn streams_must_be_used_up() {
        let classes = Classes(vec![Class {
            first_key: 0,
            shift: 2,
            rice: None,
        }]);
        let places = Places::new::<u16>(&classes, &[0; 6]);
        let merge = |leading: &[u8], low: &[u8], escapes: &[u8]| {
            let shared = Shared {
                values: &[],
                low: BitReader::new(low),
                escapes,
            };
            let (mut sorted, mut words) = ([0u16; 3], [0; 3]);
            let found = [Found::Dense(leading)];
            let rooms = (&mut sorted[..], &mut words[..]);
            merge(&classes, &found, (&places, &[0; 6]), shared, rooms).map(|()| words)
        };
        assert_eq!(
            merge(&[1, ESCAPE, 2], &[0b1110], &[7, 1]).unwrap(),
            [6, 263, 11]
        );
        assert!(
            merge(&[1, ESCAPE, 2], &[0b1110], &[7]).is_err(),
            "half an escape"
        );
        assert!(
            merge(&[1, ESCAPE, 2], &[0b1110], &[7, 1, 2]).is_err(),
            "too many escapes"
        );
        assert!(merge(&[1, ESCAPE, 2], &[], &[7, 1]).is_err(), "no low bits");
        assert!(
            merge(&[1, ESCAPE, 2], &[0, 0], &[7, 1]).is_err(),
            "too many low bits"
        );
    }
}
