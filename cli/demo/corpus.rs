//! The training text as tokens: the Declaration of Independence and the
//! Gettysburg Address, both in the public domain; one token per character.

use super::rng::SplitMix64;

const TEXT: &str = include_str!("text.txt");

/// Printable ASCII and the newline.
pub(super) const VOCABULARY: usize = 96;

pub(super) struct Corpus {
    tokens: Vec<u8>,
}

impl Corpus {
    pub(super) fn new() -> Self {
        Self {
            tokens: TEXT.bytes().map(token).collect(),
        }
    }

    /// Passages from random places, and the same passages one character on:
    /// what the network reads, and what it should answer.
    pub(super) fn batch(
        &self,
        passages: usize,
        length: usize,
        rng: &mut SplitMix64,
    ) -> (Vec<u8>, Vec<u8>) {
        let (mut tokens, mut targets) = (Vec::new(), Vec::new());
        for _ in 0..passages {
            let start = rng.below(self.tokens.len() - length);
            tokens.extend_from_slice(&self.tokens[start..start + length]);
            targets.extend_from_slice(&self.tokens[start + 1..start + 1 + length]);
        }
        (tokens, targets)
    }
}

/// The newline is token 0; printable characters follow in ASCII order.
fn token(byte: u8) -> u8 {
    byte.saturating_sub(b' ' - 1)
}

pub(super) fn character(token: u8) -> char {
    match token {
        0 => '\n',
        printable => char::from(printable + (b' ' - 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_spell_the_text() {
        let tokens = Corpus::new().tokens;
        assert!(tokens.iter().all(|&t| usize::from(t) < VOCABULARY));
        let spelled: String = tokens.into_iter().map(character).collect();
        assert_eq!(spelled, TEXT);
    }

    #[test]
    fn targets_are_the_next_characters() {
        let mut rng = SplitMix64::new(2);
        let (tokens, targets) = Corpus::new().batch(3, 8, &mut rng);
        assert_eq!((tokens.len(), targets.len()), (24, 24));
        for (tokens, targets) in tokens.chunks(8).zip(targets.chunks(8)) {
            assert_eq!(tokens[1..], targets[..7]);
        }
    }
}
