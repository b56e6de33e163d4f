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

#[cfg(test)]
mod tests {
    use zoo_kernels::bf16::Bf16;
    use zoo_kernels::matmul::{View, ViewMut, matmul};
    use zoo_kernels::{Onto, random};

    use super::*;

    /// Numbers around `2^exponent`, over so many binades; of one sign if they are `positive`.
    fn numbers(seed: u64, count: usize, (exponent, binades): (i32, u64), positive: bool) -> Vec<f32> {
        let number = |index| {
            let size = exponent + (random::bits(seed, 1, index) % binades) as i32;
            let value = random::normal(seed, 0, index) * libm::exp2(f64::from(size));
            (if positive { value.abs() } else { value }) as f32
        };
        (0..count as u64).map(number).collect()
    }

    #[test]
    fn no_element_is_further_from_its_exact_sum_than_the_bound() {
        const COLUMNS: usize = 50;
        for profile in Profile::ALL {
            let operand = |x: f32| match profile {
                Profile::F32Exact => f64::from(x),
                Profile::Bf16Exact => f64::from(Bf16::of(x).to_f32()),
            };
            for (terms, sizes) in [1, 31, 33, 256, 257, 1000].into_iter().zip([
                (0, 1),
                (-10, 20),
                (-75, 20),
                (-64, 3),
                (-128, 2),
                (0, 1),
            ]) {
                for positive in [false, true] {
                    let a = numbers(1, terms, sizes, positive);
                    let b = numbers(2, terms * COLUMNS, sizes, positive);
                    let start = numbers(3, COLUMNS, (2 * sizes.0, 3), positive);
                    let mut c = start.clone();
                    let (row, matrix) = (View::row_major(&a, 1, terms), View::row_major(&b, terms, COLUMNS));
                    matmul(profile, row, matrix, ViewMut::row_major(&mut c, 1, COLUMNS), Onto::Value);
                    let bound = Rounding::of(profile, [terms].into_iter());
                    assert!(bound.relative < 2e-5, "{bound:?}");
                    for column in 0..COLUMNS {
                        let first = f64::from(start[column]);
                        let (exact, size) = (0..terms).fold((first, first.abs()), |(sum, size), at| {
                            let product = operand(a[at]) * operand(b[at * COLUMNS + column]);
                            (sum + product, size + product.abs())
                        });
                        // The f64 of this test rounds as well.
                        let most = bound.relative * size * (1.0 + 1e-6) + bound.absolute;
                        let error = (f64::from(c[column]) - exact).abs();
                        assert!(
                            error <= most,
                            "{profile}, {terms} terms of {sizes:?}: {error:e}, not {most:e}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn the_bound_follows_the_rules_of_the_profiles() {
        let unit = ROUNDING_F32;
        let roundings =
            |profile, terms: &[usize]| (Rounding::of(profile, terms.iter().copied()).relative / unit).round();
        assert_eq!(roundings(Profile::F32Exact, &[100]), 101.0);
        assert_eq!(roundings(Profile::F32Exact, &[600]), 259.0);
        assert_eq!(roundings(Profile::F32Exact, &[64, 64, 6]), 67.0);
        assert_eq!(roundings(Profile::Bf16Exact, &[100]), 21.0);
        assert_eq!(roundings(Profile::Bf16Exact, &[64, 6]), 20.0);
    }
}
