//! Randomness as a function of its place: `(seed, stream, index)`. There is no
//! generator, hence no state to lose and no order of calls to keep.
//!
//! A stream is one purpose. Two purposes on one stream see the same numbers.

use std::f64::consts::TAU;

const MULTIPLIERS: [u32; 2] = [0xd251_1f53, 0xcd9e_8d57];
const WEYL: [u32; 2] = [0x9e37_79b9, 0xbb67_ae85];
const ROUNDS: usize = 10;

/// Philox4x32-10 (Salmon et al., SC 2011) of a counter under a key.
pub fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..ROUNDS {
        let a = u64::from(MULTIPLIERS[0]) * u64::from(counter[0]);
        let b = u64::from(MULTIPLIERS[1]) * u64::from(counter[2]);
        counter = [
            (b >> 32) as u32 ^ counter[1] ^ key[0],
            b as u32,
            (a >> 32) as u32 ^ counter[3] ^ key[1],
            a as u32,
        ];
        key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
    }
    counter
}

/// Four random words: the counter is the index (low words first), then the
/// stream; the key is the seed.
pub fn words(seed: u64, stream: u64, index: u64) -> [u32; 4] {
    let halves = |x: u64| [x as u32, (x >> 32) as u32];
    let ([i0, i1], [s0, s1]) = (halves(index), halves(stream));
    philox([i0, i1, s0, s1], halves(seed))
}

/// [`words`] of `LANES` indices from `index` on, first words first: written so that the compiler
/// computes them side by side.
#[inline(always)]
pub(crate) fn philox_lanes<const LANES: usize>(seed: u64, stream: u64, index: u64) -> [[u32; LANES]; 4] {
    let mut counter = [
        std::array::from_fn(|lane| (index + lane as u64) as u32),
        std::array::from_fn(|lane| ((index + lane as u64) >> 32) as u32),
        [stream as u32; LANES],
        [(stream >> 32) as u32; LANES],
    ];
    let mut key = [seed as u32, (seed >> 32) as u32];
    for _ in 0..ROUNDS {
        let [c0, c1, c2, c3] = &mut counter;
        for lane in 0..LANES {
            let a = u64::from(MULTIPLIERS[0]) * u64::from(c0[lane]);
            let b = u64::from(MULTIPLIERS[1]) * u64::from(c2[lane]);
            c0[lane] = (b >> 32) as u32 ^ c1[lane] ^ key[0];
            c1[lane] = b as u32;
            c2[lane] = (a >> 32) as u32 ^ c3[lane] ^ key[1];
            c3[lane] = a as u32;
        }
        key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
    }
    counter
}

/// 128 random bits.
fn block(seed: u64, stream: u64, index: u64) -> [u64; 2] {
    let out = words(seed, stream, index);
    let join = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    [join(out[0], out[1]), join(out[2], out[3])]
}

/// 64 random bits.
pub fn bits(seed: u64, stream: u64, index: u64) -> u64 {
    block(seed, stream, index)[0]
}

/// A number in [0, 1), a multiple of 2^-53.
pub fn uniform(seed: u64, stream: u64, index: u64) -> f64 {
    unit(bits(seed, stream, index))
}

/// A number from the standard normal distribution (Box and Muller, 1958, in
/// f64 with the `libm` crate).
pub fn normal(seed: u64, stream: u64, index: u64) -> f64 {
    let [a, b] = block(seed, stream, index);
    // 1 - u lies in (0, 1], where the logarithm is finite.
    let radius = libm::sqrt(-2.0 * libm::log(1.0 - unit(a)));
    radius * libm::cos(TAU * unit(b))
}

/// The upper 53 bits as a number in [0, 1).
fn unit(bits: u64) -> f64 {
    const STEP: f64 = 1.0 / (1u64 << 53) as f64;
    (bits >> 11) as f64 * STEP
}

/// A random permutation of `0..len`, computed element by element: a balanced
/// Feistel network over the next power of four, walked until it lands inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permutation {
    seed: u64,
    stream: u64,
    len: u64,
    half_bits: u32,
}

impl Permutation {
    /// Rounds of the network; three make a pseudorandom permutation of a large
    /// domain (Luby and Rackoff, 1988), small domains need more.
    const ROUNDS: u64 = 8;

    /// The permutation of `0..len` that seed and stream name. It uses the
    /// stream's bits: give it one of its own.
    ///
    /// # Panics
    /// If `len` is 0.
    pub fn new(seed: u64, stream: u64, len: u64) -> Self {
        assert!(len > 0, "a permutation needs something to permute");
        let bits = u64::BITS - (len - 1).leading_zeros();
        Self { seed, stream, len, half_bits: bits.div_ceil(2).max(1) }
    }

    /// Number of elements. Never 0.
    #[expect(clippy::len_without_is_empty, reason = "a permutation is never empty")]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Where element `i` goes.
    ///
    /// # Panics
    /// If `i` is not below the length.
    pub fn at(&self, i: u64) -> u64 {
        assert!(i < self.len, "element {i} of a permutation of {}", self.len);
        // The network permutes a domain less than four times `len`. Following
        // it from inside must come back inside: at worst to `i` itself.
        let mut x = self.network(i);
        while x >= self.len {
            x = self.network(x);
        }
        x
    }

    fn network(&self, x: u64) -> u64 {
        let mask = (1u64 << self.half_bits) - 1;
        let (mut left, mut right) = (x >> self.half_bits, x & mask);
        for round in 0..Self::ROUNDS {
            // A half has at most 32 bits, so rounds never share an index.
            let mixed = left ^ bits(self.seed, self.stream, round << 32 | right) & mask;
            (left, right) = (right, mixed);
        }
        left << self.half_bits | right
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The known answers published with the algorithm (Random123, kat_vectors).
    #[test]
    fn philox_gives_its_known_answers() {
        let known = [
            ([0; 4], [0; 2], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
            ([u32::MAX; 4], [u32::MAX; 2], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]),
            (
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0],
                [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
            ),
        ];
        for (counter, key, expected) in known {
            assert_eq!(philox(counter, key), expected);
        }
    }

    #[test]
    fn seed_stream_and_index_each_change_the_bits() {
        let here = bits(1, 2, 3);
        for other in [bits(0, 2, 3), bits(1, 0, 3), bits(1, 2, 0), bits(1 << 32, 2, 3), bits(1, 2, 3 << 32)] {
            assert_ne!(here, other);
        }
    }

    #[test]
    fn uniform_and_normal_have_their_moments() {
        let n = 200_000u64;
        let moments = |f: fn(u64, u64, u64) -> f64| {
            let values: Vec<f64> = (0..n).map(|i| f(7, 1, i)).collect();
            let mean = values.iter().sum::<f64>() / n as f64;
            let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n as f64;
            (mean, variance)
        };
        let (mean, variance) = moments(uniform);
        assert!((mean - 0.5).abs() < 0.003 && (variance - 1.0 / 12.0).abs() < 0.001, "{mean} {variance}");
        let (mean, variance) = moments(normal);
        assert!(mean.abs() < 0.01 && (variance - 1.0).abs() < 0.015, "{mean} {variance}");
    }

    #[test]
    fn a_permutation_hits_every_element_once() {
        for len in (1..70).chain([255, 256, 257, 1000, 4095, 4096, 4097, 65_537]) {
            let permutation = Permutation::new(3, 4, len);
            let mut seen = vec![false; len as usize];
            for i in 0..len {
                let to = permutation.at(i) as usize;
                assert!(!std::mem::replace(&mut seen[to], true), "length {len}: {to} twice");
            }
        }
    }

    #[test]
    fn permutations_of_three_elements_are_equally_frequent() {
        let mut counts = std::collections::BTreeMap::new();
        for seed in 0..6000 {
            let p = Permutation::new(seed, 0, 3);
            *counts.entry([p.at(0), p.at(1), p.at(2)]).or_insert(0u32) += 1;
        }
        assert_eq!(counts.len(), 6);
        assert!(counts.values().all(|count| (850..1150).contains(count)), "{counts:?}");
    }

    #[test]
    fn the_longest_permutation_stays_inside() {
        let p = Permutation::new(1, 2, u64::MAX);
        assert_ne!(p.at(0), p.at(u64::MAX - 1));
    }
}
