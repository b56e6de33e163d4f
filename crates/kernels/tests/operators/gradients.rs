//! Whether the gradients specified are those of the functions specified: along
//! a random direction, against a central difference.

use zoo_kernels::activation::{self, Activation};
use zoo_kernels::heads::{self, Heads};
use zoo_kernels::rope::{Direction, Table};
use zoo_kernels::{Onto, Profile, attention, cross_entropy, norm};

use crate::support::{ordinary, tokens, zeros};

/// Checks `gradient` of `loss` at `x`.
fn check(what: &str, x: &[f32], gradient: &[f32], loss: impl Fn(&[f32]) -> f64) {
    let step = 2e-3f32;
    for seed in 100..104 {
        let direction = ordinary(seed, x.len());
        let at = |sign: f32| -> f64 {
            let moved: Vec<f32> = x.iter().zip(&direction).map(|(x, d)| x + sign * step * d).collect();
            loss(&moved)
        };
        let slope = (at(1.0) - at(-1.0)) / f64::from(2.0 * step);
        let predicted: f64 =
            gradient.iter().zip(&direction).map(|(g, d)| f64::from(*g) * f64::from(*d)).sum();
        let size = gradient.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
        assert!(
            (slope - predicted).abs() < 3e-3 * size.max(0.1),
            "{what}: slope {slope}, gradient {predicted}"
        );
    }
}

/// The loss is a fixed random combination of the outputs.
fn weigh(y: &[f32], weights: &[f32]) -> f64 {
    y.iter().zip(weights).map(|(y, w)| f64::from(*y) * f64::from(*w)).sum()
}

#[test]
fn of_the_norms() {
    let (rows, width) = (5, 24);
    let (x, gain, dy) = (ordinary(1, rows * width), ordinary(2, width), ordinary(3, rows * width));
    let rms = |x: &[f32], gain: &[f32]| {
        let (mut y, mut rstd) = (zeros(x.len()), zeros(rows));
        norm::rms_forward(x, gain, 1e-5, &mut y, &mut rstd);
        (weigh(&y, &dy), rstd)
    };
    let (mut dx, mut dgain, mut dbias) = (zeros(x.len()), zeros(width), zeros(width));
    norm::rms_backward(&dy, &x, &gain, &rms(&x, &gain).1, &mut dx, Onto::Zero, &mut dgain, Onto::Zero);
    check("rms x", &x, &dx, |x| rms(x, &gain).0);
    check("rms gain", &gain, &dgain, |gain| rms(&x, gain).0);

    let bias = ordinary(4, width);
    let layer = |x: &[f32], gain: &[f32], bias: &[f32]| {
        let (mut y, mut mean, mut rstd) = (zeros(x.len()), zeros(rows), zeros(rows));
        norm::layer_forward(x, gain, Some(bias), 1e-5, &mut y, &mut mean, &mut rstd);
        (weigh(&y, &dy), mean, rstd)
    };
    let (_, mean, rstd) = layer(&x, &gain, &bias);
    let onto = Onto::Zero;
    norm::layer_backward(&dy, &x, &gain, &mean, &rstd, &mut dx, onto, &mut dgain, Some(&mut dbias), onto);
    check("layer x", &x, &dx, |x| layer(x, &gain, &bias).0);
    check("layer gain", &gain, &dgain, |gain| layer(&x, gain, &bias).0);
    check("layer bias", &bias, &dbias, |bias| layer(&x, &gain, bias).0);
}

#[test]
fn of_qk_norm_and_rotation() {
    let heads = Heads { query_heads: 3, kv_heads: 1, head_dim: 8 };
    let rows = 6;
    let (raw, dy) = (ordinary(1, rows * heads.row_width()), ordinary(2, rows * heads.row_width()));
    let (q_gain, k_gain) = (ordinary(3, 8), ordinary(4, 8));
    let table = Table::new(rows, 8, 10_000.0);
    let run = |raw: &[f32], q_gain: &[f32], k_gain: &[f32]| {
        let (mut y, mut rstd) = (zeros(raw.len()), zeros(rows * heads.turning_heads()));
        heads::normalise_qk(heads, raw, q_gain, k_gain, 1e-6, &mut y, &mut rstd);
        heads::rotate(heads, &table, &mut y, rows, 0, Direction::Forward);
        (weigh(&y, &dy), rstd)
    };
    let rstd = run(&raw, &q_gain, &k_gain).1;
    let (mut dqkv, mut dq, mut dk) = (dy.clone(), zeros(8), zeros(8));
    heads::rotate(heads, &table, &mut dqkv, rows, 0, Direction::Inverse);
    heads::normalise_qk_backward(
        heads,
        &raw,
        &q_gain,
        &k_gain,
        &rstd,
        &mut dqkv,
        &mut dq,
        &mut dk,
        Onto::Zero,
    );
    check("qk rows", &raw, &dqkv, |raw| run(raw, &q_gain, &k_gain).0);
    check("q gain", &q_gain, &dq, |gain| run(&raw, gain, &k_gain).0);
    check("k gain", &k_gain, &dk, |gain| run(&raw, &q_gain, gain).0);
}

#[test]
fn of_attention() {
    let heads = Heads { query_heads: 4, kv_heads: 2, head_dim: 8 };
    let (context, tokens) = (12, 24);
    let qkv = ordinary(1, tokens * heads.row_width());
    let dz = ordinary(2, tokens * heads.query_width());
    let run = |qkv: &[f32]| {
        let (mut z, mut lse) = (zeros(dz.len()), zeros(tokens * heads.query_heads));
        attention::forward(Profile::F32Exact, heads, context, qkv, &mut z, &mut lse);
        (z, lse)
    };
    let (z, lse) = run(&qkv);
    let mut dqkv = zeros(qkv.len());
    attention::backward(Profile::F32Exact, heads, context, &qkv, &z, &lse, &dz, &mut dqkv);
    check("attention", &qkv, &dqkv, |qkv| weigh(&run(qkv).0, &dz));
}

#[test]
fn of_the_feed_forward_block() {
    let (x, dy) = (ordinary(1, 200), ordinary(2, 200));
    for kind in [Activation::Relu, Activation::Gelu, Activation::Silu] {
        // A kink has no gradient: keep away from it.
        let x: Vec<f32> = x.iter().map(|x| x + 0.1 * x.signum()).collect();
        let mut dx = x.clone();
        activation::backward(kind, &mut dx, &mut dy.clone());
        check(&format!("{kind:?}"), &x, &dx, |x| {
            let mut y = zeros(200);
            activation::forward(kind, x, &mut y);
            weigh(&y, &dy)
        });
    }
    let dout = &dy[..100];
    let mut dx = x.clone();
    activation::swiglu_backward(&mut dx, 20, &mut dout.to_vec());
    check("swiglu", &x, &dx, |x| {
        let mut out = zeros(100);
        activation::swiglu_forward(x, 20, &mut out);
        weigh(&out, dout)
    });
}

#[test]
fn of_the_loss() {
    let (rows, vocab) = (6, 30);
    let (z, targets) = (ordinary(1, rows * vocab), tokens(2, rows, vocab));
    let (mut dz, mut losses) = (z.clone(), zeros(rows));
    cross_entropy::losses_and_gradient(&mut dz, vocab, &targets, 0.5, &mut losses);
    check("loss", &z, &dz, |z| {
        let mut losses = zeros(rows);
        cross_entropy::losses(z, vocab, &targets, &mut losses);
        0.5 * losses.iter().map(|loss| f64::from(*loss)).sum::<f64>()
    });
}
