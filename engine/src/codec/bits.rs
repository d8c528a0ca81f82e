//! Bits packed from the least significant up, and Rice codes of them (Rice and Plaunt, 1971).

/// Bytes that one look may touch.
pub(crate) const LOOK_AHEAD: usize = 8;

/// Appends bits to bytes.
#[derive(Default)]
pub(crate) struct BitWriter {
    bytes: Vec<u8>,
    held: u64,
    held_bits: u32,
}

impl BitWriter {
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.held = 0;
        self.held_bits = 0;
    }

    /// The lowest `count` bits of `bits`, at most 56; the others are 0.
    #[inline(always)]
    pub(crate) fn push(&mut self, bits: u64, count: u32) {
        self.held |= bits << self.held_bits;
        let all = self.held_bits + count;
        if all < u64::BITS {
            self.held_bits = all;
            return;
        }
        self.bytes.extend_from_slice(&self.held.to_le_bytes());
        self.held = bits.checked_shr(u64::BITS - self.held_bits).unwrap_or(0);
        self.held_bits = all - u64::BITS;
    }

    /// As many ones as `number >> k`, a zero, and the lowest `k` bits of `number`.
    pub(crate) fn push_rice(&mut self, number: usize, k: u8) {
        let mut ones = number >> k;
        while ones >= 32 {
            self.push(0xffff_ffff, 32);
            ones -= 32;
        }
        let ones = u32::try_from(ones).unwrap_or(0);
        self.push((1 << ones) - 1, ones + 1);
        let low = number as u64 & ((1 << k) - 1);
        self.push(low, k.into());
    }

    /// The bytes; the last is filled with zeros.
    pub(crate) fn finish(&mut self) -> &[u8] {
        let held = self.held.to_le_bytes();
        let (held, _) = held.split_at(self.held_bits.div_ceil(8) as usize);
        self.bytes.extend_from_slice(held);
        self.held = 0;
        self.held_bits = 0;
        &self.bytes
    }
}

/// Reads bits from bytes; behind the end there are none.
pub(crate) struct BitReader<'a> {
    bytes: &'a [u8],
    bit: usize,
}

impl<'a> BitReader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, bit: 0 }
    }

    /// The next eight bytes, zeros behind the end.
    #[inline(always)]
    fn window(&self) -> u64 {
        let rest = self.bytes.get(self.bit / 8..).unwrap_or_default();
        let window = match rest.first_chunk::<LOOK_AHEAD>() {
            Some(window) => *window,
            None => {
                let mut window = [0; LOOK_AHEAD];
                for (to, from) in window.iter_mut().zip(rest) {
                    *to = *from;
                }
                window
            }
        };
        u64::from_le_bytes(window) >> (self.bit % 8)
    }

    /// The next `count` bits, at most 56; `None` if they are not there.
    #[inline(always)]
    pub(crate) fn take(&mut self, count: u32) -> Option<u64> {
        let bits = self.window() & ((1 << count) - 1);
        self.bit += count as usize;
        (self.bit <= self.bytes.len() * 8).then_some(bits)
    }

    /// A Rice code of a number that is at most `most`.
    #[inline(always)]
    pub(crate) fn take_rice(&mut self, k: u8, most: usize) -> Option<usize> {
        let window = self.window();
        let ones = window.trailing_ones();
        if ones >= 32 {
            return self.take_long_rice(k, most);
        }
        // With the longest remainder that is less than a window has for certain.
        let low = (window >> (ones + 1)) & ((1 << k) - 1);
        self.bit += ones as usize + 1 + usize::from(k);
        let number = (ones as usize) << k | usize::try_from(low).ok()?;
        (number <= most && self.bit <= self.bytes.len() * 8).then_some(number)
    }

    #[inline(never)]
    fn take_long_rice(&mut self, k: u8, most: usize) -> Option<usize> {
        let mut ones = 0;
        loop {
            let found = self.window().trailing_ones().min(32);
            ones += found as usize;
            self.bit += found as usize;
            if found < 32 {
                break;
            }
            if ones > most >> k {
                return None;
            }
        }
        self.bit += 1;
        let low = self.take(k.into())?;
        let number = ones.checked_shl(k.into())? | usize::try_from(low).ok()?;
        (number <= most).then_some(number)
    }

    /// How many bits are left.
    pub(crate) fn left(&self) -> usize {
        (self.bytes.len() * 8).saturating_sub(self.bit)
    }

    /// Whether all bytes were read, but for the last bits of the last.
    pub(crate) fn is_done(&self) -> bool {
        self.bit.div_ceil(8) == self.bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_every_size_come_back() {
        for k in 0..16 {
            let numbers: Vec<usize> = (0..200).map(|i| i * i * 7 % 5003).collect();
            let mut writer = BitWriter::default();
            for number in &numbers {
                writer.push_rice(*number, k);
                writer.push(*number as u64 & 7, 3);
            }
            let bytes = writer.finish().to_vec();
            let mut reader = BitReader::new(&bytes);
            for number in &numbers {
                assert_eq!(reader.take_rice(k, 5003), Some(*number), "k {k}");
                assert_eq!(reader.take(3), Some(*number as u64 & 7));
            }
            assert!(reader.is_done());
            assert!(reader.take(8).is_none());
        }
    }

    #[test]
    fn numbers_beyond_what_is_possible_and_short_streams_are_refused() {
        let mut writer = BitWriter::default();
        writer.push_rice(100, 2);
        let bytes = writer.finish().to_vec();
        assert_eq!(BitReader::new(&bytes).take_rice(2, 100), Some(100));
        assert_eq!(BitReader::new(&bytes).take_rice(2, 99), None);
        assert_eq!(BitReader::new(&[0xff; 4]).take_rice(0, 1000), None);
        assert_eq!(BitReader::new(&[0xff; 4]).take_rice(3, 10), None);
    }
}
