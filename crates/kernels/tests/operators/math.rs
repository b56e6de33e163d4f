use zoo_kernels::math;

use crate::support::everywhere;

type Slice = fn(&mut [f32]);
type One = fn(f32) -> f32;
type Exact = fn(f64) -> f64;

struct Function {
    name: &'static str,
    slice: Slice,
    one: One,
    exact: Exact,
    domain: std::ops::RangeInclusive<f32>,
    /// The greatest error documented, in ulp.
    error: f64,
}

const fn function(
    name: &'static str,
    slice: Slice,
    one: One,
    exact: Exact,
    low: f32,
    high: f32,
    error: f64,
) -> Function {
    Function { name, slice, one, exact, domain: low..=high, error }
}

const TINIEST: f32 = f32::from_bits(1);

const FUNCTIONS: [Function; 5] = [
    function("exp", math::exp_slice, math::exp, libm::exp, -104.0, 88.7, 1.0),
    function("log", math::log_slice, math::log, libm::log, TINIEST, f32::MAX, 0.81),
    function("tanh", math::tanh_slice, math::tanh, libm::tanh, -20.0, 20.0, 1.4),
    function(
        "sigmoid",
        math::sigmoid_slice,
        math::sigmoid,
        |x| 1.0 / (1.0 + libm::exp(-x)),
        -87.0,
        100.0,
        2.5,
    ),
    function("rsqrt", math::rsqrt_slice, math::rsqrt, |x| 1.0 / x.sqrt(), TINIEST, f32::MAX, 1.5),
];

/// A grid over all of f32: both signs, subnormals, infinities and NaN.
fn grid(stride: u32) -> Vec<f32> {
    (0..=u32::MAX / stride).map(|i| f32::from_bits(i * stride)).collect()
}

#[test]
fn every_instruction_set_gives_the_same_bits() {
    let x = grid(20_011);
    for Function { name, slice, one, .. } in FUNCTIONS {
        let expected: Vec<f32> = x.iter().map(|x| one(*x)).collect();
        everywhere(|place| {
            let mut found = x.clone();
            slice(&mut found);
            crate::support::assert_bits(&format!("{name} {place}"), &found, &expected);
        });
    }
}

#[test]
fn errors_stay_below_those_documented() {
    for Function { name, slice, exact, domain, error: bound, .. } in FUNCTIONS {
        let x: Vec<f32> = grid(1009).into_iter().filter(|x| domain.contains(x)).collect();
        let mut found = x.clone();
        slice(&mut found);
        for (x, found) in x.iter().zip(found) {
            let expected = exact(f64::from(*x));
            let magnitude = expected.abs().max(f64::from(f32::MIN_POSITIVE));
            let ulp = (magnitude.log2().floor() - 23.0).exp2();
            let error = (f64::from(found) - expected).abs() / ulp;
            assert!(error < bound, "{name} {x:e}: {found:e} is {error} ulp off {expected:e}");
        }
    }
}

#[test]
fn limits() {
    let (inf, nan, minus_zero) = (f32::INFINITY, f32::NAN, -0.0f32);
    let cases: [(&str, One, f32, f32); 25] = [
        ("exp", math::exp, nan, nan),
        ("exp", math::exp, inf, inf),
        ("exp", math::exp, -inf, 0.0),
        ("exp", math::exp, 0.0, 1.0),
        ("exp", math::exp, minus_zero, 1.0),
        ("exp", math::exp, 88.73, inf),
        ("exp", math::exp, -103.97, f32::from_bits(1)),
        ("exp", math::exp, -103.98, 0.0),
        ("log", math::log, nan, nan),
        ("log", math::log, inf, inf),
        ("log", math::log, 0.0, -inf),
        ("log", math::log, minus_zero, -inf),
        ("log", math::log, -1.0, nan),
        ("log", math::log, -inf, nan),
        ("log", math::log, 1.0, 0.0),
        ("tanh", math::tanh, nan, nan),
        ("tanh", math::tanh, inf, 1.0),
        ("tanh", math::tanh, -inf, -1.0),
        ("tanh", math::tanh, minus_zero, minus_zero),
        ("tanh", math::tanh, f32::from_bits(1), f32::from_bits(1)),
        ("sigmoid", math::sigmoid, nan, nan),
        ("sigmoid", math::sigmoid, inf, 1.0),
        ("sigmoid", math::sigmoid, -inf, 0.0),
        ("sigmoid", math::sigmoid, 0.0, 0.5),
        ("rsqrt", math::rsqrt, 0.0, inf),
    ];
    for (name, function, x, expected) in cases {
        crate::support::assert_bits(&format!("{name} {x}"), &[function(x)], &[expected]);
    }
}
