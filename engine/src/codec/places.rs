//! Words sorted by class and back (format-spec.md section 10.4.5).

use crate::codec::classes::{CLASSES_MAX, Classes};
use crate::codec::word::Word;

/// Where the words of each class lie, once they are sorted by class.
pub(crate) struct Places {
    of_key: [u8; 256],
    starts: [usize; CLASSES_MAX],
    counts: Vec<usize>,
}

impl Places {
    pub(crate) fn new<W: Word>(classes: &Classes, base: &[u8]) -> Self {
        let mut of_key = [0; 256];
        for (class, (_, least, _)) in (0u8..).zip(classes.ranges()) {
            of_key
                .get_mut(usize::from(least)..)
                .unwrap_or_default()
                .fill(class);
        }
        let counts = if classes.0.len() == 1 {
            vec![base.len() / W::BYTES]
        } else {
            count_classes::<W>(&of_key, classes.0.len(), base)
        };
        let mut starts = [0; CLASSES_MAX];
        let mut next = 0;
        for (start, count) in starts.iter_mut().zip(&counts) {
            *start = next;
            next += count;
        }
        Self {
            of_key,
            starts,
            counts,
        }
    }

    /// How many words each class has.
    pub(crate) fn counts(&self) -> &[usize] {
        &self.counts
    }

    /// Calls `visit` with every lane and the place of its word among the sorted ones.
    #[inline(always)]
    fn each<W: Word>(&self, base: &[u8], mut visit: impl FnMut(usize, usize)) {
        let mut next = self.starts;
        for (lane, b) in base.chunks_exact(W::BYTES).enumerate() {
            let class = usize::from(self.of_key[usize::from(W::load(b).key())]);
            let next = &mut next[class % CLASSES_MAX];
            visit(lane, *next);
            *next += 1;
        }
    }

    /// Sorts words by class.
    pub(super) fn sort<W: Word>(&self, words: &[W], base: &[u8], sorted: &mut [W]) {
        if self.counts.len() == 1 {
            sorted.copy_from_slice(words);
            return;
        }
        self.each::<W>(base, |lane, place| {
            if let (Some(word), Some(slot)) = (words.get(lane), sorted.get_mut(place)) {
                *slot = *word;
            }
        });
    }

    /// Undoes [`Self::sort`].
    pub(super) fn unsort<W: Word>(&self, sorted: &[W], base: &[u8], words: &mut [W]) {
        if self.counts.len() == 1 {
            words.copy_from_slice(sorted);
            return;
        }
        self.each::<W>(base, |lane, place| {
            if let (Some(slot), Some(word)) = (words.get_mut(lane), sorted.get(place)) {
                *slot = *word;
            }
        });
    }
}

/// Two tables, so that equal keys in a row do not wait for each other.
fn count_classes<W: Word>(of_key: &[u8; 256], classes: usize, base: &[u8]) -> Vec<usize> {
    let mut tables = [[0u32; 256]; 2];
    let [even, odd] = &mut tables;
    let mut pairs = base.chunks_exact(2 * W::BYTES);
    for pair in &mut pairs {
        let (a, b) = pair.split_at(W::BYTES);
        even[usize::from(W::load(a).key())] += 1;
        odd[usize::from(W::load(b).key())] += 1;
    }
    for last in pairs.remainder().chunks_exact(W::BYTES) {
        even[usize::from(W::load(last).key())] += 1;
    }
    let mut counts = vec![0; classes];
    for ((class, a), b) in of_key.iter().zip(even).zip(odd) {
        if let Some(count) = counts.get_mut(usize::from(*class)) {
            *count += (*a + *b) as usize;
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::classes::Class;

    #[test]
    fn sorting_is_stable_and_undone() {
        let class = |first_key| Class {
            first_key,
            shift: 0,
            rice: None,
        };
        let classes = Classes([0, 10, 99, 200].map(class).to_vec());
        let keys: Vec<u8> = (0..201u8).map(|i| i.wrapping_mul(37)).collect();
        // An f32 whose exponent is the key.
        let base = keys
            .iter()
            .flat_map(|key| (u32::from(*key) << 23).to_le_bytes());
        let base: Vec<u8> = base.collect();
        let places = Places::new::<u32>(&classes, &base);
        let words: Vec<u32> = (0..201).collect();
        let (mut sorted, mut back) = (vec![0; 201], vec![0; 201]);
        places.sort(&words, &base, &mut sorted);
        let class_of = |word: &u32| {
            let key = keys[*word as usize];
            classes.0.iter().filter(|c| c.first_key <= key).count()
        };
        let mut expected = words.clone();
        expected.sort_by_key(|word| (class_of(word), *word));
        assert_eq!(sorted, expected);
        places.unsort(&sorted, &base, &mut back);
        assert_eq!(back, words);
    }
}
