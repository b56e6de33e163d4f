//! How far a product may be from its exact sums, by the rules of `SPEC.md`.

use zoo_kernels::Profile;
use zoo_kernels::matmul::CHUNK;

/// Half the distance from 1 to the next f32, and to the next f64: the relative error of one rounding.
const ROUNDING_F32: f64 = 1.0 / (1u64 << 24) as f64;
const ROUNDING_F64: f64 = 1.0 / (1u64 << 53) as f64;

/// Terms of a block of the pair rule; each of its two chains has half of them.
const PAIR_BLOCK: usize = 32;

/// A bound: `|element - exact| <= relative (|start| + sum of |a b|) + absolute`.
///
/// By the standard model (N. Higham, *Accuracy and Stability of Numerical Algorithms*, 3.1) what passes through N roundings is known to a factor
/// of `1 + gamma(N)`, `gamma(N) = N u / (1 - N u)`, `u = 2^-24`. A term passes through those of its chain and through one for every chain that is
/// landed at or after its own, start value through the latter.
///
/// * *Chunk rule*: a chain has at most 256 fused multiply-adds. Subnormals are kept, so the model fails only where a multiply-add underflows, by at
///   most 2^-150; additions of f32 do not underflow.
/// * *Pair rule*: of operands rounded to bf16, which are what "exact" means there. A chain has 16 multiply-adds and one addition to the other chain.
///   Each of a block's 32 multiply-adds and two additions may flush a result below 2^-126, and the first may flush the start value.
///
/// Absolute errors grow by the roundings after them, to less than twice up to 2^23 of them.
///
/// A sum that overflows stays infinite or NaN to its end, so whatever is finite did not.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rounding {
    /// Of the sum of magnitudes.
    pub relative: f64,
    /// Beside it.
    pub absolute: f64,
}

impl Rounding {
    /// Of an element that is a sum of products with so many terms each, landed one after the other.
    pub fn of(profile: Profile, terms: impl Iterator<Item = usize>) -> Self {
        let (mut landings, mut chain, mut all) = (0, 0, 0);
        for terms in terms {
            let (block, longest) = match profile {
                Profile::F32Exact => (CHUNK, terms.min(CHUNK)),
                Profile::Bf16Exact => (PAIR_BLOCK, PAIR_BLOCK / 2 + 1),
            };
            landings += terms.div_ceil(block);
            chain = longest.max(chain);
            all += terms;
        }
        let absolute = match profile {
            Profile::F32Exact => all as f64 * 2.0 * ROUNDING_F32 * f64::from(f32::MIN_POSITIVE),
            Profile::Bf16Exact => (34 * landings + 1) as f64 * 2.0 * f64::from(f32::MIN_POSITIVE),
        };
        Self { relative: gamma(chain + landings, ROUNDING_F32), absolute }
    }
}

/// How far `count` roundings to f64 may lead away.
pub fn gamma_f64(count: usize) -> f64 {
    gamma(count, ROUNDING_F64)
}

/// Infinite where the model says nothing.
fn gamma(count: usize, unit: f64) -> f64 {
    let all = count as f64 * unit;
    if all < 1.0 { all / (1.0 - all) } else { f64::INFINITY }
}
