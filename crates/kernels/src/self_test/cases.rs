//! One small case for every operator.

use crate::activation::Activation;
use crate::attention::{self, Cached, PAGE};
use crate::heads::Heads;
use crate::linear::Shape;
use crate::matmul::{View, ViewMut};
use crate::optimizer::{AdamW, Muon};
use crate::reference::matmul::Matrix;
use crate::rope::{Direction, Table};
use crate::{Onto, Profile, digest, elementwise, math, matmul, random, reference};

/// An operator's name, and whether it agrees with the reference.
type Case = (&'static str, fn() -> bool);

/// Every operator.
pub(super) const CASES: &[Case] = &[
    ("fma", fma_is_fused),
    ("math", elementary_functions),
    ("random and rope", f64_functions),
    ("linear, f32-exact", || linear_layer(Profile::F32Exact)),
    ("linear, bf16-exact", || linear_layer(Profile::Bf16Exact)),
    ("matmul, bf16-exact, at the least normal number", flushing),
    ("norm::rms", rms_norm),
    ("norm::layer", layer_norm),
    ("heads", rotation_and_qk_norm),
    ("attention, f32-exact", || attention(Profile::F32Exact)),
    ("attention, bf16-exact", || attention(Profile::Bf16Exact)),
    ("attention::decode, f32-exact", || decoding(Profile::F32Exact)),
    ("attention::decode, bf16-exact", || decoding(Profile::Bf16Exact)),
    ("activation", activations),
    ("activation::swiglu", swiglu),
    ("cross_entropy", losses),
    ("embedding", embeddings),
    ("elementwise", sums),
    ("optimizer::AdamW", adamw),
    ("optimizer::Muon", muon),
    ("clip", squares),
];

const ROWS: usize = 67;
const WIDTH: usize = 37;
const HEADS: Heads = Heads { query_heads: 4, kv_heads: 2, head_dim: 6 };
const CONTEXT: usize = 70;
const EPS: f32 = 1e-5;

fn values(seed: u64, count: usize) -> Vec<f32> {
    (0..count as u64).map(|i| (4.0 * random::uniform(seed, 0, i) - 2.0) as f32).collect()
}

fn zeros(count: usize) -> Vec<f32> {
    vec![0.0; count]
}

/// Whether two ways of working on the same buffers leave the same bits.
fn agree<const N: usize>(
    buffers: [Vec<f32>; N],
    fast: impl Fn(&mut [Vec<f32>; N]),
    slow: impl Fn(&mut [Vec<f32>; N]),
) -> bool {
    let (mut left, mut right) = (buffers.clone(), buffers);
    fast(&mut left);
    slow(&mut right);
    left.iter().flatten().map(|x| x.to_bits()).eq(right.iter().flatten().map(|x| x.to_bits()))
}

/// Calls operators, one after the other, and their references with the same
/// arguments, and compares the buffers.
macro_rules! agree {
    ($($buffer:ident = $initial:expr),+; $($module:ident::$operator:ident($($argument:expr),* $(,)?));+ $(;)?) => {
        agree(
            [$($initial),+],
            |[$($buffer),+]| { $(crate::$module::$operator($($argument),*);)+ },
            |[$($buffer),+]| { $(reference::$module::$operator($($argument),*);)+ },
        )
    };
}

/// The sum's last bit depends on bits of the product that rounding would drop.
fn fma_is_fused() -> bool {
    let cases = [
        (1.0 + f32::EPSILON, 1.0 - f32::EPSILON, -1.0),
        (f32::MIN_POSITIVE, 0.75, -f32::MIN_POSITIVE),
        (1.5, f32::MAX, -f32::MAX),
        (16_777_215.0, 16_777_213.0, 0.5),
        (1e-30, 1e-30, f32::from_bits(1)),
    ];
    let random = values(1, 300);
    let random = random.chunks_exact(3).map(|v| (v[0], v[1], v[2] * 1e-6));
    cases.into_iter().chain(random).all(|(a, b, c)| {
        let [a, b, c] = [a, b, c].map(std::hint::black_box::<f32>);
        let mut sum = [c];
        elementwise::add_scaled(&mut sum, a, &[b]);
        let exact = libm::fmaf(a, b, c).to_bits();
        a.mul_add(b, c).to_bits() == exact && sum[0].to_bits() == exact
    })
}

fn elementary_functions() -> bool {
    type Pair = (fn(&mut [f32]), fn(f32) -> f32);
    let pairs: [Pair; 5] = [
        (math::exp_slice, math::exp),
        (math::log_slice, math::log),
        (math::tanh_slice, math::tanh),
        (math::sigmoid_slice, math::sigmoid),
        (math::rsqrt_slice, math::rsqrt),
    ];
    // Positive numbers of every size, subnormals included.
    let x: Vec<f32> = (1..600).map(|i| f32::from_bits(i * 3_000_001)).collect();
    pairs
        .iter()
        .all(|(slice, one)| agree([x.clone()], |[x]| slice(x), |[x]| x.iter_mut().for_each(|x| *x = one(*x))))
}

/// What is computed in f64 by `libm`, against what every machine must find.
fn f64_functions() -> bool {
    let mut numbers: Vec<f32> = (0..64).map(|i| random::normal(1, 2, i) as f32).collect();
    let table = Table::new(64, 8, 10_000.0);
    numbers.extend((0..64).flat_map(|p| [table.cosines(p), table.sines(p)].concat()));
    digest::tensor(&[numbers.len()], &numbers)[..8] == [0xe5, 0xe6, 0x37, 0x51, 0xc2, 0x8c, 0xdc, 0x09]
}

fn linear_layer(profile: Profile) -> bool {
    let shape = Shape { rows: 270, inputs: 19, outputs: 35 };
    let (x, w, dy) = (values(2, 270 * 19), values(3, 35 * 19), values(4, 270 * 35));
    agree!(y = dy.clone(), dx = zeros(270 * 19), dw = w.clone(), db = values(5, 35);
        linear::forward(profile, shape, &x, &w, y, Onto::Value);
        linear::backward_input(profile, shape, &dy, &w, dx, Onto::Zero);
        linear::backward_weight(profile, shape, &dy, &x, dw, Onto::Value);
        linear::add_bias(y, db);
        linear::backward_bias(&dy, db, Onto::Value))
}

/// Sums just below the least normal number, where hardware that flushes before rounding, or rounds to a
/// subnormal first, would give something else: 2^-126 less a fraction of 2^-150.
fn flushing() -> bool {
    const FRACTIONS: [f32; 8] = [0.25, 0.5, 0.625, 0.75, 0.875, 1.0, 1.25, 2.0];
    let power = |exponent: i32| f64::from(exponent).exp2() as f32;
    // Column j: the landed value or the first product is 2^-126, the next takes the fraction away.
    let (n, k) = (2 * FRACTIONS.len(), 4);
    let mut b = vec![0.0; k * n];
    let mut c = vec![0.0; n];
    for (j, fraction) in FRACTIONS.into_iter().enumerate() {
        b[2 * n + j] = -fraction * power(-70);
        c[j] = f32::MIN_POSITIVE;
        b[FRACTIONS.len() + j] = power(-46);
        b[2 * n + FRACTIONS.len() + j] = -fraction * power(-70);
    }
    let a = [power(-80), 0.0, power(-80), 0.0];
    let profile = Profile::Bf16Exact;
    agree(
        [c],
        |[c]| {
            let (a, b) = (View::row_major(&a, 1, k), View::row_major(&b, k, n));
            matmul::matmul(profile, a, b, ViewMut::row_major(c, 1, n), Onto::Value);
        },
        |[c]| {
            let (a, b) = (Matrix::row_major(&a, 1, k), Matrix::row_major(&b, k, n));
            reference::matmul::matmul(profile, a, b, c, n, Onto::Value);
        },
    )
}

fn rms_norm() -> bool {
    let (x, dy, gain) = (values(6, ROWS * WIDTH), values(7, ROWS * WIDTH), values(8, WIDTH));
    agree!(y = zeros(ROWS * WIDTH), rstd = zeros(ROWS), dx = values(9, ROWS * WIDTH), dgain = zeros(WIDTH);
        norm::rms_forward(&x, &gain, EPS, y, rstd);
        norm::rms_backward(&dy, &x, &gain, rstd, dx, Onto::Value, dgain, Onto::Zero))
}

fn layer_norm() -> bool {
    let (x, dy, gain) = (values(6, ROWS * WIDTH), values(7, ROWS * WIDTH), values(8, WIDTH));
    agree!(y = zeros(ROWS * WIDTH), mean = zeros(ROWS), rstd = zeros(ROWS),
        dx = zeros(ROWS * WIDTH), dgain = gain.clone(), dbias = zeros(WIDTH);
        norm::layer_forward(&x, &gain, Some(&gain), EPS, y, mean, rstd);
        norm::layer_backward(&dy, &x, &gain, mean, rstd, dx, Onto::Zero, dgain, Some(dbias), Onto::Value))
}

fn rotation_and_qk_norm() -> bool {
    let table = Table::new(ROWS + 3, HEADS.head_dim, 10_000.0);
    let raw = values(10, ROWS * HEADS.row_width());
    let (q, k) = (values(11, HEADS.head_dim), values(12, HEADS.head_dim));
    agree!(qkv = zeros(raw.len()), rstd = zeros(ROWS * HEADS.turning_heads()), dq = zeros(6), dk = zeros(6);
        heads::normalise_qk(HEADS, &raw, &q, &k, EPS, qkv, rstd);
        heads::rotate(HEADS, &table, qkv, ROWS, 3, Direction::Inverse);
        heads::normalise_qk_backward(HEADS, &raw, &q, &k, rstd, qkv, dq, dk, Onto::Value))
}

fn attention(profile: Profile) -> bool {
    let (qkv, dz) = (values(13, CONTEXT * HEADS.row_width()), values(14, CONTEXT * HEADS.query_width()));
    agree!(z = zeros(dz.len()), lse = zeros(CONTEXT * HEADS.query_heads), dqkv = zeros(qkv.len());
        attention::forward(profile, HEADS, CONTEXT, &qkv, z, lse);
        attention::backward(profile, HEADS, CONTEXT, &qkv, z, lse, &dz, dqkv))
}

fn decoding(profile: Profile) -> bool {
    const NEW: usize = 3;
    let qkv = values(15, CONTEXT * HEADS.row_width());
    let pages: Vec<u32> = (0..CONTEXT.div_ceil(PAGE) as u32).rev().collect();
    let mut keys = zeros(pages.len() * HEADS.kv_width() * PAGE);
    let mut cached = keys.clone();
    let all = Cached { rows: CONTEXT, positions: CONTEXT, pages: &pages };
    attention::store(HEADS, &qkv, &[all], &mut keys, &mut cached);
    [1, NEW, CONTEXT].into_iter().all(|rows| {
        let new = &qkv[(CONTEXT - rows) * HEADS.row_width()..];
        let column = |from: usize| -> Vec<f32> {
            qkv.chunks(HEADS.row_width())
                .flat_map(|row| &row[from..from + HEADS.kv_width()])
                .copied()
                .collect()
        };
        let (k, v) = (column(HEADS.query_width()), column(HEADS.query_width() + HEADS.kv_width()));
        agree(
            [zeros(rows * HEADS.query_width())],
            |[z]| attention::decode(profile, HEADS, new, &[Cached { rows, ..all }], &keys, &cached, z),
            |[z]| reference::attention::decode(profile, HEADS, new, &k, &v, z),
        )
    })
}

fn activations() -> bool {
    let x = values(18, 300);
    [Activation::Relu, Activation::Gelu, Activation::Silu].into_iter().all(|kind| {
        agree!(y = zeros(300), dx = x.clone(), dy = values(19, 300);
            activation::forward(kind, &x, y);
            activation::backward(kind, dx, dy))
    })
}

fn swiglu() -> bool {
    agree!(x = values(20, 2 * ROWS * WIDTH), out = zeros(ROWS * WIDTH);
        activation::swiglu_forward(x, WIDTH, out);
        activation::swiglu_backward(x, WIDTH, out))
}

fn losses() -> bool {
    let targets: Vec<u32> = (0..ROWS).map(|t| (t * 7 % WIDTH) as u32).collect();
    agree!(z = values(21, ROWS * WIDTH), losses = zeros(ROWS), fused = zeros(ROWS);
        cross_entropy::losses(z, WIDTH, &targets, losses);
        cross_entropy::losses_and_gradient(z, WIDTH, &targets, 0.01, fused))
}

fn embeddings() -> bool {
    let ids: Vec<u32> = (0..ROWS).map(|t| (t * t % 11) as u32).collect();
    agree!(dy = values(22, ROWS * WIDTH), table = values(23, 11 * WIDTH);
        embedding::backward(dy, WIDTH, &ids, table);
        embedding::backward_positions(dy, WIDTH, 11, table);
        embedding::forward(table, WIDTH, &ids, dy);
        embedding::add_positions(table, WIDTH, 10, 1, dy))
}

fn sums() -> bool {
    let y = values(24, 300);
    agree!(x = values(25, 300), out = zeros(300);
        elementwise::add_assign(x, &y);
        elementwise::add(x, &y, out);
        elementwise::add_scaled(x, 0.3, &y);
        elementwise::scale(x, 0.7))
}

fn adamw() -> bool {
    let settings = AdamW { lr: 1e-3, beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.1 };
    let (g, second) = (values(26, 300), values(27, 300).into_iter().map(f32::abs).collect());
    agree(
        [values(28, 300), values(29, 300), second],
        |[p, m, v]| settings.step(3, true, p, &g, m, v, 0.7),
        |[p, m, v]| reference::optimizer::adamw(&settings, 3, true, p, &g, m, v, 0.7),
    )
}

fn muon() -> bool {
    let settings = Muon { lr: 1e-2, momentum: 0.95, nesterov: true, weight_decay: 0.1 };
    [(17, 33), (35, 18)].into_iter().all(|shape| {
        let n = shape.0 * shape.1;
        let g = values(30, n);
        agree(
            [values(31, n), values(32, n)],
            |[p, m]| settings.step(shape, p, &g, m, 0.7),
            |[p, m]| reference::optimizer::muon(&settings, shape, p, &g, m, 0.7),
        )
    })
}

fn squares() -> bool {
    let x = values(33, 20_000);
    let expected = reference::clip::sum_of_squares(&x);
    crate::clip::sum_of_squares(&x).to_bits() == expected.to_bits() && crate::clip::all_finite(&x)
}
