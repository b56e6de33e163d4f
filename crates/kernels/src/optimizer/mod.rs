//! Optimisers: [`AdamW`] for every tensor, [`Muon`] for matrices, [`Sgd`] for who wants no state.
//!
//! Settings are f64 and enter each formula once, rounded to f32 after whatever
//! can be computed beforehand. A step's result depends on the settings, the
//! step number and the tensors, on nothing else.

mod adamw;
mod muon;
mod sgd;

pub use adamw::AdamW;
pub use muon::{Muon, NORM_EPS, QUINTIC, STEPS};
pub use sgd::Sgd;

/// `base^exponent` by binary exponentiation: multiplications only, in one order.
pub(crate) fn power(base: f64, mut exponent: u64) -> f64 {
    let (mut result, mut square) = (1.0, base);
    while exponent > 0 {
        if exponent & 1 == 1 {
            result *= square;
        }
        square *= square;
        exponent >>= 1;
    }
    result
}

#[cfg(test)]
mod tests {
    use super::power;

    #[test]
    fn powers_agree_with_repeated_multiplication() {
        for base in [0.9f64, 0.95, 0.999, 1.0, 0.0] {
            for exponent in [0u64, 1, 2, 3, 10, 1000] {
                let expected = (0..exponent).fold(1.0, |p, _| p * base);
                assert!((power(base, exponent) - expected).abs() <= 1e-12 * expected, "{base}^{exponent}");
            }
        }
        assert_eq!(power(0.9, u64::MAX), 0.0);
    }
}
