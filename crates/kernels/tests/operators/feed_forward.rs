use zoo_kernels::activation::{self, Activation};

use crate::support::{KINDS, agree, everywhere, zeros};

const ACTIVATIONS: [Activation; 3] = [Activation::Relu, Activation::Gelu, Activation::Silu];

#[test]
fn activations_and_their_gradients() {
    for len in [1, 2, 7, 15, 16, 17, 255, 256, 257, 300, 100_003] {
        for (kind, activation) in KINDS.into_iter().flat_map(|kind| ACTIVATIONS.map(|a| (kind, a))) {
            let x = kind.take(1, len);
            agree!(format!("{activation:?} of {len} {kind:?}"); y = zeros(len); activation::forward(activation, &x, y));
            agree!(format!("{activation:?} of {len} {kind:?}"); x = x.clone(), dy = kind.take(2, len);
                activation::backward(activation, x, dy));
        }
    }
}

#[test]
fn swiglu_and_its_gradient() {
    for (rows, hidden) in
        [(1, 1), (2, 7), (3, 15), (5, 16), (7, 17), (65, 255), (300, 256), (129, 300), (1000, 33)]
    {
        for kind in KINDS {
            let (x, dout) = (kind.take(1, 2 * rows * hidden), kind.take(2, rows * hidden));
            agree!(format!("{rows} x {hidden} {kind:?}"); out = zeros(rows * hidden);
                activation::swiglu_forward(&x, hidden, out));
            agree!(format!("{rows} x {hidden} {kind:?}"); x = x.clone(), dout = dout.clone();
                activation::swiglu_backward(x, hidden, dout));
        }
    }
}

#[test]
fn activations_are_close_to_their_definitions() {
    let x: Vec<f32> = (-3000..=3000).map(|i| i as f32 * 0.01).collect();
    let argument = |x: f64| (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
    let gelu = |x: f64| 0.5 * x * (1.0 + libm::tanh(argument(x)));
    let silu = |x: f64| x / (1.0 + libm::exp(-x));
    let definitions: [(Activation, &dyn Fn(f64) -> f64); 3] =
        [(Activation::Relu, &|x| x.max(0.0)), (Activation::Gelu, &gelu), (Activation::Silu, &silu)];
    for (kind, definition) in definitions {
        let mut y = zeros(x.len());
        activation::forward(kind, &x, &mut y);
        for (x, y) in x.iter().zip(&y) {
            let expected = definition(f64::from(*x));
            assert!(
                (f64::from(*y) - expected).abs() <= 1e-6 * expected.abs().max(1.0),
                "{kind:?} {x}: {y} {expected}"
            );
        }
    }
}

#[test]
fn a_nan_is_never_hidden() {
    everywhere(|place| {
        for kind in ACTIVATIONS {
            let mut y = zeros(33);
            activation::forward(kind, &[f32::NAN; 33], &mut y);
            assert!(y.iter().all(|y| y.is_nan()), "{kind:?} {place}");
        }
        let mut out = zeros(3);
        activation::swiglu_forward(&[f32::NAN, 1.0, 0.0, 1.0, f32::NAN, f32::NAN], 3, &mut out);
        assert!(out.iter().all(|y| y.is_nan()), "swiglu {place}");
    });
}
