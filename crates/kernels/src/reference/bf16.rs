//! The pair rule: products of the profile `bf16-exact`.

use crate::bf16::{round, widen};

/// Elements of k in one block of the rule.
pub const BLOCK: usize = 32;

/// The pair rule: `start` plus the products of `a(i)` and `b(i)`, both rounded to bf16. In blocks of 32,
/// which +0 fills up, even elements form one chain and odd ones another; their sum is added to the result.
pub fn pair_rule(start: f32, k: usize, a: impl Fn(usize) -> f32, b: impl Fn(usize) -> f32) -> f32 {
    let rounded = |value: f32| widen(round(value));
    let element = |i: usize| if i < k { (rounded(a(i)), rounded(b(i))) } else { (0.0, 0.0) };
    let mut sum = start;
    for first in (0..k).step_by(BLOCK) {
        let (mut even, mut odd) = (0.0, 0.0);
        for i in (first..first + BLOCK).step_by(2) {
            let ((a, b), (c, d)) = (element(i), element(i + 1));
            even = fma(a, b, even);
            odd = fma(c, d, odd);
        }
        sum = add(sum, add(even, odd));
    }
    sum
}

/// `a b + c`, rounded once; tiny results and a subnormal `c` are flushed to zero of their sign.
/// `a` and `b` must be values of bf16, neither subnormal.
pub fn fma(a: f32, b: f32, c: f32) -> f32 {
    let c = flush(c);
    let rounded = a.mul_add(b, c);
    if rounded.abs() == f32::MIN_POSITIVE && rounds_up_from_tiny(f64::from(a) * f64::from(b), f64::from(c)) {
        return zero_of(rounded);
    }
    flush(rounded)
}

/// `a + b`, rounded once; subnormal operands and tiny results are flushed to zero of their sign. (A sum
/// of two f32 below the least normal number is exact, so nothing rounds up to it.)
pub fn add(a: f32, b: f32) -> f32 {
    flush(flush(a) + flush(b))
}

/// A subnormal becomes zero of its sign.
fn flush(x: f32) -> f32 {
    if x.is_subnormal() { zero_of(x) } else { x }
}

fn zero_of(x: f32) -> f32 {
    0.0f32.copysign(x)
}

/// Whether `|p + c|`, which f32 rounds to 2^-126, is tiny: rounded to 24 bits with an unbounded exponent
/// it would stay below, which means that it is below 2^-126 - 2^-151.
fn rounds_up_from_tiny(p: f64, c: f64) -> bool {
    let edge = f64::from(f32::MIN_POSITIVE) - (-151f64).exp2();
    // The sum and what rounding it to f64 lost (Knuth's two-sum); both with the sign of the result.
    let sum = p + c;
    let part = sum - p;
    let lost = (p - (sum - part)) + (c - part);
    let (sum, lost) = (sum.abs(), if sum < 0.0 { -lost } else { lost });
    sum < edge || (sum == edge && lost < 0.0)
}
