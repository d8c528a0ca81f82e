//! SHA-256 (FIPS 180-4): an oracle for golden bytes that shares no code with the engine.

/// The first 32 bits of the fractional parts of the roots of the first primes.
fn prime_roots(count: usize, root: impl Fn(f64) -> f64) -> Vec<u32> {
    let is_prime = |n: &u32| (2..*n).all(|d| !n.is_multiple_of(d));
    let primes = (2u32..).filter(is_prime).take(count);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the fraction of a positive number times 2^32 fits 32 bits"
    )]
    let fraction = |p: u32| (root(f64::from(p)).fract() * f64::from(1u32 << 31) * 2.0) as u32;
    primes.map(fraction).collect()
}

fn compress(state: &mut [u32], block: &[u8], k: &[u32]) {
    let mut w: Vec<u32> = block
        .chunks_exact(4)
        .map(|b| b.iter().fold(0, |word, byte| word << 8 | u32::from(*byte)))
        .collect();
    for i in 16..64 {
        let (a, b) = (w[i - 15], w[i - 2]);
        let s0 = a.rotate_right(7) ^ a.rotate_right(18) ^ (a >> 3);
        let s1 = b.rotate_right(17) ^ b.rotate_right(19) ^ (b >> 10);
        w.push(
            w[i - 16]
                .wrapping_add(s0)
                .wrapping_add(w[i - 7])
                .wrapping_add(s1),
        );
    }
    let mut v = state.to_vec();
    for i in 0..64 {
        let (a, e) = (v[0], v[4]);
        let s1 = e.rotate_right(6) ^ e.rotate_right(11) ^ e.rotate_right(25);
        let choice = (e & v[5]) ^ (!e & v[6]);
        let t1 = [s1, choice, k[i], w[i]]
            .iter()
            .fold(v[7], |sum, n| sum.wrapping_add(*n));
        let s0 = a.rotate_right(2) ^ a.rotate_right(13) ^ a.rotate_right(22);
        let majority = (a & v[1]) ^ (a & v[2]) ^ (v[1] & v[2]);
        v.rotate_right(1);
        v[4] = v[4].wrapping_add(t1);
        v[0] = t1.wrapping_add(s0).wrapping_add(majority);
    }
    for (s, v) in state.iter_mut().zip(v) {
        *s = s.wrapping_add(v);
    }
}

/// The digest as 64 hex digits.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    let (mut state, k) = (prime_roots(8, f64::sqrt), prime_roots(64, f64::cbrt));
    let mut padded = bytes.to_vec();
    padded.push(0x80);
    padded.resize((bytes.len() + 9).next_multiple_of(64) - 8, 0);
    let bits = bytes.len() as u64 * 8;
    padded.extend(bits.to_le_bytes().iter().rev());
    for block in padded.chunks_exact(64) {
        compress(&mut state, block, &k);
    }
    state.iter().map(|word| format!("{word:08x}")).collect()
}

#[test]
fn published_vectors() {
    assert_eq!(
        sha256(b""),
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    );
    assert_eq!(
        sha256(b"abc"),
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    );
    assert_eq!(
        sha256(b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"
    );
}
