//! Digests of what operators gave when the profile was fixed. A change here is
//! a new profile: networks trained before could not be replayed.

use zoo_kernels::activation::{self, Activation};
use zoo_kernels::heads::{self, Heads};
use zoo_kernels::linear::{self, Shape};
use zoo_kernels::optimizer::{AdamW, Muon};
use zoo_kernels::rope::{Direction, Table};
use zoo_kernels::{Onto, Profile, attention, cross_entropy, digest, embedding, math, norm, random};

use crate::support::{ordinary, tokens, zeros};

/// The first eight bytes of the digest, as hexadecimal.
fn short(results: &[&[f32]]) -> String {
    let all = results.concat();
    digest::tensor(&[all.len()], &all)[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

fn assert_golden(cases: &[(&str, String, &str)]) {
    let changed: Vec<String> = cases
        .iter()
        .filter(|(_, found, expected)| found != expected)
        .map(|(name, found, expected)| format!("{name}: {found}, not {expected}"))
        .collect();
    assert!(changed.is_empty(), "the bits of the profile changed:\n{}", changed.join("\n"));
}

#[test]
fn functions_and_randomness() {
    let grid: Vec<f32> = (0..1 << 20).map(|i: u32| f32::from_bits(i.wrapping_mul(4093))).collect();
    // A NaN has no one bit pattern, so it is left out.
    let of = |function: fn(&mut [f32])| {
        let mut values = grid.clone();
        function(&mut values);
        values.iter_mut().filter(|x| x.is_nan()).for_each(|x| *x = 0.0);
        short(&[&values])
    };
    let numbers: Vec<f32> = (0..1000).map(|i| random::normal(1, 2, i) as f32).collect();
    let permutation = random::Permutation::new(1, 2, 1000);
    let places: Vec<f32> = (0..1000).map(|i| permutation.at(i) as f32).collect();
    let table = Table::new(2048, 64, 1e6);
    let turns: Vec<f32> = (0..2048).flat_map(|p| [table.cosines(p), table.sines(p)].concat()).collect();
    assert_golden(&[
        ("exp", of(math::exp_slice), "d32a9a9e115f3680"),
        ("log", of(math::log_slice), "c2714eb4f02fb593"),
        ("tanh", of(math::tanh_slice), "de172fd4505c972f"),
        ("sigmoid", of(math::sigmoid_slice), "b39c06e1b7c8e50f"),
        ("normal", short(&[&numbers]), "479e919a36f44702"),
        ("permutation", short(&[&places]), "817ed34ef608b9d4"),
        ("rope table", short(&[&turns]), "1393febcf3d17714"),
    ]);
}

#[test]
fn rows_and_losses() {
    let (rows, width) = (150, 72);
    let (x, dy, gain) = (ordinary(1, rows * width), ordinary(2, rows * width), ordinary(3, width));
    let (mut y, mut mean, mut rstd) = (zeros(x.len()), zeros(rows), zeros(rows));
    let (mut dx, mut dgain, mut dbias) = (zeros(x.len()), zeros(width), zeros(width));
    let onto = Onto::Zero;
    norm::rms_forward(&x, &gain, 1e-5, &mut y, &mut rstd);
    norm::rms_backward(&dy, &x, &gain, &rstd, &mut dx, onto, &mut dgain, onto);
    let rms = short(&[&y, &rstd, &dx, &dgain]);
    norm::layer_forward(&x, &gain, Some(&gain), 1e-5, &mut y, &mut mean, &mut rstd);
    norm::layer_backward(&dy, &x, &gain, &mean, &rstd, &mut dx, onto, &mut dgain, Some(&mut dbias), onto);
    let layer = short(&[&y, &mean, &rstd, &dx, &dgain, &dbias]);
    let activations = [Activation::Relu, Activation::Gelu, Activation::Silu].map(|kind| {
        let (mut dx, mut output) = (x.clone(), dy.clone());
        activation::forward(kind, &x, &mut y);
        activation::backward(kind, &mut dx, &mut output);
        assert_eq!(y, output, "{kind:?}: the backward pass gives the same output");
        [y.clone(), dx].concat()
    });
    let (mut out, mut gate_up) = (zeros(x.len() / 2), x.clone());
    activation::swiglu_forward(&x, width / 2, &mut out);
    let mut output = dy[..out.len()].to_vec();
    activation::swiglu_backward(&mut gate_up, width / 2, &mut output);
    assert_eq!(out, output, "swiglu: the backward pass gives the same output");
    let (ids, mut logits, mut losses) = (tokens(4, rows, width), x.clone(), zeros(rows));
    cross_entropy::losses_and_gradient(&mut logits, width, &ids, 0.01, &mut losses);
    let mut table = zeros(width * width);
    embedding::backward(&dy, width, &ids, &mut table);
    assert_golden(&[
        ("rms norm", rms, "717af4832886e40e"),
        ("layer norm", layer, "f5213e0c034542b3"),
        ("activations", short(&[&activations.concat()]), "1cbab9592f6c7cdf"),
        ("swiglu", short(&[&out, &gate_up]), "fd13bf313d9a357f"),
        ("cross-entropy", short(&[&logits, &losses]), "741f528a5dfe956d"),
        ("embedding", short(&[&table]), "0c9d33583fabbf2b"),
    ]);
}

#[test]
fn products_and_attention() {
    let shape = Shape { rows: 300, inputs: 40, outputs: 66 };
    let (x, w, dy) = (ordinary(1, 300 * 40), ordinary(2, 66 * 40), ordinary(3, 300 * 66));
    let (mut y, mut dx, mut dw, mut db) = (dy.clone(), x.clone(), w.clone(), zeros(66));
    linear::forward(Profile::F32Exact, shape, &x, &w, &mut y, Onto::Value);
    linear::backward_input(Profile::F32Exact, shape, &dy, &w, &mut dx, Onto::Zero);
    linear::backward_weight(Profile::F32Exact, shape, &dy, &x, &mut dw, Onto::Value);
    linear::backward_bias(&dy, &mut db, Onto::Zero);

    let heads = Heads { query_heads: 4, kv_heads: 2, head_dim: 16 };
    let (context, row) = (270, heads.row_width());
    let (raw, gain, table) = (ordinary(4, context * row), ordinary(5, 16), Table::new(context, 16, 1e4));
    let (mut qkv, mut rstd) = (zeros(raw.len()), zeros(context * heads.turning_heads()));
    heads::normalise_qk(heads, &raw, &gain, &gain, 1e-6, &mut qkv, &mut rstd);
    heads::rotate(heads, &table, &mut qkv, context, 0, Direction::Forward);
    let (mut z, mut lse) = (zeros(context * heads.query_width()), zeros(context * heads.query_heads));
    attention::forward(Profile::F32Exact, heads, context, &qkv, &mut z, &mut lse);
    let (dz, mut dqkv) = (ordinary(6, z.len()), zeros(qkv.len()));
    attention::backward(Profile::F32Exact, heads, context, &qkv, &z, &lse, &dz, &mut dqkv);
    let attention = short(&[&z, &lse, &dqkv]);
    let (mut dq, mut dk) = (zeros(16), zeros(16));
    heads::rotate(heads, &table, &mut dqkv, context, 0, Direction::Inverse);
    heads::normalise_qk_backward(heads, &raw, &gain, &gain, &rstd, &mut dqkv, &mut dq, &mut dk, Onto::Zero);
    assert_golden(&[
        ("linear", short(&[&y, &dx, &dw, &db]), "4b6414c77684cdf8"),
        ("attention", attention, "5c87276d1428024a"),
        ("qk norm and rotation", short(&[&qkv, &rstd, &dqkv, &dq, &dk]), "837efb483d80af26"),
    ]);
}

#[test]
fn optimisers() {
    let adamw = AdamW { lr: 1e-3, beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.1 };
    let muon = Muon { lr: 1e-2, momentum: 0.95, nesterov: true, weight_decay: 0.1 };
    let (mut p, mut m, mut v) = (ordinary(1, 600), zeros(600), zeros(600));
    let (mut matrix, mut momentum) = (ordinary(2, 600), zeros(600));
    for step in 1..=10 {
        let g = ordinary(2 + step, 600);
        adamw.step(step, true, &mut p, &g, &mut m, &mut v, 0.9);
        muon.step((20, 30), &mut matrix, &g, &mut momentum, 0.9);
    }
    assert_golden(&[
        ("adamw", short(&[&p, &m, &v]), "d6a99a93fd5fac9f"),
        ("muon", short(&[&matrix, &momentum]), "1f4910e069ad5f24"),
    ]);
}
