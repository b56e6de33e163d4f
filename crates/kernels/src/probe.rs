//! What the machine could do at most, for benchmarks to measure the distance to.

use crate::isa::{Level, level};

/// Runs `rounds` rounds of independent chains of fused multiply-adds that never leave the registers of
/// the active instruction set, and returns how many multiply-adds that were. The time this takes
/// is the machine's peak; nothing that touches memory can be faster.
pub fn fused_multiply_adds(rounds: u64) -> u64 {
    let lanes = match level() {
        // SAFETY: `level` reports an instruction set only after it detected it.
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => unsafe { avx512(rounds) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => unsafe { avx2(rounds) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Level::Fma => unsafe { scalar_fused(rounds) },
        _ => scalar(rounds),
    };
    rounds * CHAINS * lanes
}

/// As [`fused_multiply_adds`], on the tile unit, if the active instruction set has it.
pub fn tile_multiply_adds(rounds: u64) -> Option<u64> {
    #[cfg(target_arch = "x86_64")]
    if crate::isa::tiles() {
        return Some(crate::matmul::spin_tiles(rounds));
    }
    let _ = rounds;
    None
}

/// Chains in flight: two ports of latency four need eight, a few more hide the loop.
const CHAINS: u64 = 12;

macro_rules! chains {
    ($rounds:expr, $start:expr, $step:expr) => {{
        let mut chains = [$start; CHAINS as usize];
        let [a, b, c, d, e, f, g, h, i, j, k, l] = &mut chains;
        for _ in 0..$rounds {
            *a = $step(*a);
            *b = $step(*b);
            *c = $step(*c);
            *d = $step(*d);
            *e = $step(*e);
            *f = $step(*f);
            *g = $step(*g);
            *h = $step(*h);
            *i = $step(*i);
            *j = $step(*j);
            *k = $step(*k);
            *l = $step(*l);
        }
        std::hint::black_box(chains);
    }};
}

/// Factors just beside one, hidden from the compiler, so that the chains neither grow nor vanish.
fn factors() -> (f32, f32) {
    std::hint::black_box((1.000_000_1, -1e-7))
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn avx512(rounds: u64) -> u64 {
    use std::arch::x86_64::*;
    let (x, y) = factors();
    let (x, y) = (_mm512_set1_ps(x), _mm512_set1_ps(y));
    chains!(rounds, x, |v| _mm512_fmadd_ps(v, x, y));
    16
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2(rounds: u64) -> u64 {
    use std::arch::x86_64::*;
    let (x, y) = factors();
    let (x, y) = (_mm256_set1_ps(x), _mm256_set1_ps(y));
    chains!(rounds, x, |v| _mm256_fmadd_ps(v, x, y));
    8
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "fma")]
fn scalar_fused(rounds: u64) -> u64 {
    scalar(rounds)
}

#[inline(always)]
fn scalar(rounds: u64) -> u64 {
    let (x, y) = factors();
    chains!(rounds, x, |v: f32| v.mul_add(x, y));
    1
}
