//! Elementary functions from fma, +, -, *, / and sqrt alone.
//!
//! IEEE 754 fixes the bits of those six, so these functions agree on every
//! machine; the platform's own do not. Subnormals are kept, and NaN in gives
//! NaN out. The errors given are the greatest against f64 over every seventh
//! f32, in units in the last place (ulp) of the result.

use rayon::prelude::*;

use crate::multiversion::multiversion;
use crate::parallel::elements_per_task;

/// Adding this rounds a small f32 to an integer, ties to even, and leaves that
/// integer in the low bits of the sum.
const ROUND: f32 = 12_582_912.0;

/// ln 2 in two parts; the first has nine significant bits, so that its product
/// with an exponent is exact.
const LN_2_HIGH: f32 = 0.693_359_4;
const LN_2_LOW: f32 = -2.121_944_4e-4;

/// e to the power `x`: error below 1 ulp, also where the result is subnormal; 0
/// below -103.98, infinity above 88.73.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    // At the ends the result is already 0 and infinity. NaN passes.
    let x = if x < -104.0 { -104.0 } else { x };
    let x = if x > 89.0 { 89.0 } else { x };
    // exp x = 2^n exp r, |r| <= ln 2 / 2. 2^n is the product of two powers, of
    // half_n and of the rest, because one alone would leave the normal range.
    // Both sums carry the exponent bias in their low bits.
    let half_n = x.mul_add(0.5 * std::f32::consts::LOG2_E, ROUND + 127.0);
    let biased_n = x.mul_add(std::f32::consts::LOG2_E, ROUND + 254.0);
    let power = f32::from_bits(half_n.to_bits() << 23);
    let rest = f32::from_bits(biased_n.to_bits().wrapping_sub(half_n.to_bits()) << 23);
    let n = biased_n - (ROUND + 254.0);
    let r = n.mul_add(-LN_2_LOW, n.mul_add(-LN_2_HIGH, x));
    // Minimax for (exp r - 1 - r) / r^2.
    let mut p = 1.381_459_9e-3f32;
    p = p.mul_add(r, 8.368_717e-3);
    p = p.mul_add(r, 4.166_839e-2);
    p = p.mul_add(r, 0.166_665_21);
    p = p.mul_add(r, 0.499_999_94);
    let exp_r_minus_1 = p.mul_add(r * r, r);
    exp_r_minus_1.mul_add(power, power) * rest
}

/// Natural logarithm: error below 0.81 ulp; minus infinity at 0, NaN below.
#[inline(always)]
pub fn log(x: f32) -> f32 {
    // Subnormals are brought into the normal range first.
    let subnormal = x < f32::MIN_POSITIVE;
    let normal = if subnormal { x * 8_388_608.0 } else { x };
    let bits = normal.to_bits();
    // x = 2^e (1 + m), with 1 + m in [sqrt 1/2, sqrt 2).
    let fraction = f32::from_bits((bits & 0x007f_ffff) | 0x3f00_0000);
    let small = fraction < std::f32::consts::FRAC_1_SQRT_2;
    let m = if small { fraction + fraction - 1.0 } else { fraction - 1.0 };
    let e = (bits >> 23) as i32 - 126 - i32::from(small) - if subnormal { 23 } else { 0 };
    let e = e as f32;
    let z = m * m;
    let mut p = 7.037_683_6e-2f32;
    p = p.mul_add(m, -0.115_146_1);
    p = p.mul_add(m, 0.116_769_984);
    p = p.mul_add(m, -0.124_201_41);
    p = p.mul_add(m, 0.142_493_23);
    p = p.mul_add(m, -0.166_680_57);
    p = p.mul_add(m, 0.200_007_14);
    p = p.mul_add(m, -0.249_999_94);
    p = p.mul_add(m, 0.333_333_3);
    let tail = e.mul_add(LN_2_LOW, p * m * z);
    let tail = z.mul_add(-0.5, tail);
    let result = e.mul_add(LN_2_HIGH, m + tail);
    let at_limits = if x == 0.0 {
        f32::NEG_INFINITY
    } else if x > 0.0 {
        f32::INFINITY
    } else {
        f32::NAN
    };
    if x > 0.0 && x < f32::INFINITY { result } else { at_limits }
}

/// Hyperbolic tangent: error below 1.4 ulp. Keeps the sign of zero.
#[inline(always)]
pub fn tanh(x: f32) -> f32 {
    let a = x.abs();
    let z = a * a;
    let mut p = -5.704_988_7e-3f32;
    p = p.mul_add(z, 2.063_908_8e-2);
    p = p.mul_add(z, -5.373_971_6e-2);
    p = p.mul_add(z, 0.133_314_42);
    p = p.mul_add(z, -0.333_332_8);
    let near_zero = (p * z).mul_add(a, a);
    let elsewhere = 1.0 - 2.0 / (exp(a + a) + 1.0);
    let result = if a < 0.625 { near_zero } else { elsewhere };
    result.copysign(x)
}

/// 1 / (1 + exp -x): error below 2.5 ulp above -87; 0 below -88.73, where the
/// exact value is subnormal.
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// 1 / sqrt x, each operation rounded: error below 1.5 ulp.
#[inline(always)]
pub fn rsqrt(x: f32) -> f32 {
    1.0 / x.sqrt()
}

/// Replaces every value by its [`exp()`].
pub fn exp_slice(x: &mut [f32]) {
    in_tasks(x, exp_task);
}

/// Replaces every value by its [`log()`].
pub fn log_slice(x: &mut [f32]) {
    in_tasks(x, log_task);
}

/// Replaces every value by its [`tanh()`].
pub fn tanh_slice(x: &mut [f32]) {
    in_tasks(x, tanh_task);
}

/// Replaces every value by its [`sigmoid()`].
pub fn sigmoid_slice(x: &mut [f32]) {
    in_tasks(x, sigmoid_task);
}

/// Replaces every value by its [`rsqrt()`].
pub fn rsqrt_slice(x: &mut [f32]) {
    in_tasks(x, rsqrt_task);
}

fn in_tasks(x: &mut [f32], task: fn(&mut [f32])) {
    let elements = elements_per_task(x.len(), 16);
    x.par_chunks_mut(elements).for_each(task);
}

multiversion! {
    fn exp_task(x: &mut [f32]) {
        for x in x { *x = exp(*x); }
    }
    fn log_task(x: &mut [f32]) {
        for x in x { *x = log(*x); }
    }
    fn tanh_task(x: &mut [f32]) {
        for x in x { *x = tanh(*x); }
    }
    fn sigmoid_task(x: &mut [f32]) {
        for x in x { *x = sigmoid(*x); }
    }
    fn rsqrt_task(x: &mut [f32]) {
        for x in x { *x = rsqrt(*x); }
    }
}
