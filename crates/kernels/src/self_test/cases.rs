//! One small case for every operator.

use crate::activation::Activation;
use crate::heads::Heads;
use crate::linear::Shape;
use crate::optimizer::{AdamW, Muon};
use crate::rope::{Direction, Table};
use crate::{
    Onto, activation, attention, clip, cross_entropy, elementwise, embedding, heads, linear, math, norm,
};
use crate::{digest, random, reference};

/// An operator's name, and whether it agrees with the reference.
type Case = (&'static str, fn() -> bool);

/// Every operator.
pub(super) const CASES: &[Case] = &[
    ("fma", fma_is_fused),
    ("math", elementary_functions),
    ("random", random_bits),
    ("linear::forward", linear_forward),
    ("linear::backward_input", linear_backward_input),
    ("linear::backward_weight", linear_backward_weight),
    ("linear::backward_bias", linear_bias),
    ("norm::rms_forward", rms_forward),
    ("norm::rms_backward", rms_backward),
    ("norm::layer_forward", layer_forward),
    ("norm::layer_backward", layer_backward),
    ("heads::rotate", rotate),
    ("heads::normalise_qk", normalise_qk),
    ("heads::normalise_qk_backward", normalise_qk_backward),
    ("attention::forward", attention_forward),
    ("attention::backward", attention_backward),
    ("attention::decode", attention_decode),
    ("activation::forward", activation_forward),
    ("activation::backward", activation_backward),
    ("activation::swiglu_forward", swiglu_forward),
    ("activation::swiglu_backward", swiglu_backward),
    ("cross_entropy", cross_entropy_and_gradient),
    ("embedding", embedding_backward),
    ("elementwise", elementwise_sums),
    ("optimizer::AdamW", adamw),
    ("optimizer::Muon", muon),
    ("clip", squares),
];

const ROWS: usize = 67;
const WIDTH: usize = 37;
const HEADS: Heads = Heads { query_heads: 4, kv_heads: 2, head_dim: 6 };
const CONTEXT: usize = 70;

fn values(seed: u64, count: usize) -> Vec<f32> {
    (0..count as u64).map(|i| (4.0 * random::uniform(seed, 0, i) - 2.0) as f32).collect()
}

/// Whether two ways of filling buffers, zero at first, leave the same bits.
fn agree<const N: usize>(
    sizes: [usize; N],
    fast: impl Fn(&mut [Vec<f32>; N]),
    slow: impl Fn(&mut [Vec<f32>; N]),
) -> bool {
    let zeros = sizes.map(|size| vec![0f32; size]);
    agree_from(zeros, fast, slow)
}

/// As [`agree`], from buffers already filled.
fn agree_from<const N: usize>(
    buffers: [Vec<f32>; N],
    fast: impl Fn(&mut [Vec<f32>; N]),
    slow: impl Fn(&mut [Vec<f32>; N]),
) -> bool {
    let (mut left, mut right) = (buffers.clone(), buffers);
    fast(&mut left);
    slow(&mut right);
    left.iter().flatten().map(|x| x.to_bits()).eq(right.iter().flatten().map(|x| x.to_bits()))
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
    let x: Vec<f32> = (1..600).map(|i| f32::from_bits(i * 3_000_001)).collect();
    pairs.iter().all(|(slice, one)| {
        agree_from([x.clone()], |[x]| slice(x), |[x]| x.iter_mut().for_each(|x| *x = one(*x)))
    })
}

/// Also what the random numbers and the tables are made of: f64 and `libm`.
fn random_bits() -> bool {
    let mut numbers: Vec<f32> = (0..64).map(|i| random::normal(1, 2, i) as f32).collect();
    let table = Table::new(64, 8, 10_000.0);
    numbers.extend((0..64).flat_map(|p| [table.cosines(p), table.sines(p)].concat()));
    digest::tensor(&[numbers.len()], &numbers)[..8] == NUMBERS_DIGEST
}

/// The first bytes of the digest that every machine must find.
const NUMBERS_DIGEST: [u8; 8] = [0xe5, 0xe6, 0x37, 0x51, 0xc2, 0x8c, 0xdc, 0x09];

fn linear_case() -> (Shape, Vec<f32>, Vec<f32>, Vec<f32>) {
    let shape = Shape { rows: 270, inputs: 19, outputs: 35 };
    let Shape { rows, inputs, outputs } = shape;
    (shape, values(2, rows * inputs), values(3, outputs * inputs), values(4, rows * outputs))
}

fn linear_forward() -> bool {
    let (shape, x, w, y) = linear_case();
    agree_from(
        [y],
        |[y]| linear::forward(shape, &x, &w, y, Onto::Value),
        |[y]| reference::linear::forward(shape, &x, &w, y, Onto::Value),
    )
}

fn linear_backward_input() -> bool {
    let (shape, x, w, dy) = linear_case();
    agree(
        [x.len()],
        |[dx]| linear::backward_input(shape, &dy, &w, dx, Onto::Zero),
        |[dx]| reference::linear::backward_input(shape, &dy, &w, dx, Onto::Zero),
    )
}

fn linear_backward_weight() -> bool {
    let (shape, x, w, dy) = linear_case();
    agree_from(
        [w],
        |[dw]| linear::backward_weight(shape, &dy, &x, dw, Onto::Value),
        |[dw]| reference::linear::backward_weight(shape, &dy, &x, dw, Onto::Value),
    )
}

fn linear_bias() -> bool {
    let (shape, _, _, y) = linear_case();
    agree_from(
        [y, values(5, shape.outputs)],
        |[y, bias]| {
            linear::add_bias(y, bias);
            linear::backward_bias(y, bias, Onto::Value);
        },
        |[y, bias]| {
            reference::linear::add_bias(y, bias);
            reference::linear::backward_bias(y, bias, Onto::Value);
        },
    )
}

fn rms_forward() -> bool {
    let (x, gain) = (values(6, ROWS * WIDTH), values(7, WIDTH));
    agree(
        [x.len(), ROWS],
        |[y, rstd]| norm::rms_forward(&x, &gain, 1e-5, y, rstd),
        |[y, rstd]| reference::norm::rms_forward(&x, &gain, 1e-5, y, rstd),
    )
}

fn rms_backward() -> bool {
    let (x, dy, gain, rstd) =
        (values(6, ROWS * WIDTH), values(8, ROWS * WIDTH), values(7, WIDTH), values(9, ROWS));
    agree(
        [x.len(), WIDTH],
        |[dx, dgain]| norm::rms_backward(&dy, &x, &gain, &rstd, dx, Onto::Value, dgain, Onto::Zero),
        |[dx, dgain]| {
            reference::norm::rms_backward(&dy, &x, &gain, &rstd, dx, Onto::Value, dgain, Onto::Zero)
        },
    )
}

fn layer_forward() -> bool {
    let (x, gain, bias) = (values(6, ROWS * WIDTH), values(7, WIDTH), values(8, WIDTH));
    agree(
        [x.len(), ROWS, ROWS],
        |[y, mean, rstd]| norm::layer_forward(&x, &gain, Some(&bias), 1e-5, y, mean, rstd),
        |[y, mean, rstd]| reference::norm::layer_forward(&x, &gain, Some(&bias), 1e-5, y, mean, rstd),
    )
}

fn layer_backward() -> bool {
    let (x, dy, gain) = (values(6, ROWS * WIDTH), values(8, ROWS * WIDTH), values(7, WIDTH));
    let (mean, rstd) = (values(9, ROWS), values(10, ROWS));
    let (on, to) = (Onto::Value, Onto::Zero);
    agree(
        [x.len(), WIDTH, WIDTH],
        |[dx, dgain, dbias]| {
            norm::layer_backward(&dy, &x, &gain, &mean, &rstd, dx, on, dgain, Some(dbias), to)
        },
        |[dx, dgain, dbias]| {
            reference::norm::layer_backward(&dy, &x, &gain, &mean, &rstd, dx, on, dgain, Some(dbias), to);
        },
    )
}

fn rotate() -> bool {
    let table = Table::new(CONTEXT + 3, HEADS.head_dim, 10_000.0);
    agree_from(
        [values(11, CONTEXT * HEADS.row_width())],
        |[qkv]| heads::rotate(HEADS, &table, qkv, CONTEXT, 3, Direction::Inverse),
        |[qkv]| reference::heads::rotate(HEADS, &table, qkv, CONTEXT, 3, Direction::Inverse),
    )
}

fn normalise_qk() -> bool {
    let (raw, q, k) =
        (values(11, ROWS * HEADS.row_width()), values(12, HEADS.head_dim), values(13, HEADS.head_dim));
    agree(
        [raw.len(), ROWS * HEADS.turning_heads()],
        |[normed, rstd]| heads::normalise_qk(HEADS, &raw, &q, &k, 1e-6, normed, rstd),
        |[normed, rstd]| reference::heads::normalise_qk(HEADS, &raw, &q, &k, 1e-6, normed, rstd),
    )
}

fn normalise_qk_backward() -> bool {
    let (raw, q, k) =
        (values(11, ROWS * HEADS.row_width()), values(12, HEADS.head_dim), values(13, HEADS.head_dim));
    let (rstd, onto) = (values(14, ROWS * HEADS.turning_heads()), Onto::Value);
    agree_from(
        [values(15, raw.len()), q.clone(), k.clone()],
        |[dqkv, dq, dk]| heads::normalise_qk_backward(HEADS, &raw, &q, &k, &rstd, dqkv, dq, dk, onto),
        |[dqkv, dq, dk]| {
            reference::heads::normalise_qk_backward(HEADS, &raw, &q, &k, &rstd, dqkv, dq, dk, onto)
        },
    )
}

fn attention_forward() -> bool {
    let qkv = values(16, CONTEXT * HEADS.row_width());
    agree(
        [CONTEXT * HEADS.query_width(), CONTEXT * HEADS.query_heads],
        |[z, lse]| attention::forward(HEADS, CONTEXT, &qkv, z, lse),
        |[z, lse]| reference::attention::forward(HEADS, CONTEXT, &qkv, z, lse),
    )
}

fn attention_backward() -> bool {
    let (qkv, dz) = (values(16, CONTEXT * HEADS.row_width()), values(17, CONTEXT * HEADS.query_width()));
    let (mut z, mut lse) = (dz.clone(), vec![0.0; CONTEXT * HEADS.query_heads]);
    reference::attention::forward(HEADS, CONTEXT, &qkv, &mut z, &mut lse);
    agree(
        [qkv.len()],
        |[dqkv]| attention::backward(HEADS, CONTEXT, &qkv, &z, &lse, &dz, dqkv),
        |[dqkv]| reference::attention::backward(HEADS, CONTEXT, &qkv, &z, &lse, &dz, dqkv),
    )
}

fn attention_decode() -> bool {
    let (keys, cached) = (values(18, CONTEXT * HEADS.kv_width()), values(19, CONTEXT * HEADS.kv_width()));
    let rows = values(20, 3 * HEADS.row_width());
    agree(
        [3 * HEADS.query_width()],
        |[z]| attention::decode(HEADS, &rows, &keys, &cached, z),
        |[z]| reference::attention::decode(HEADS, &rows, &keys, &cached, z),
    )
}

const ACTIVATIONS: [Activation; 3] = [Activation::Relu, Activation::Gelu, Activation::Silu];

fn activation_forward() -> bool {
    let x = values(21, 300);
    ACTIVATIONS.into_iter().all(|kind| {
        agree(
            [300],
            |[y]| activation::forward(kind, &x, y),
            |[y]| reference::activation::forward(kind, &x, y),
        )
    })
}

fn activation_backward() -> bool {
    let (x, dy) = (values(21, 300), values(22, 300));
    ACTIVATIONS.into_iter().all(|kind| {
        agree_from(
            [dy.clone()],
            |[d]| activation::backward(kind, &x, d),
            |[d]| reference::activation::backward(kind, &x, d),
        )
    })
}

fn swiglu_forward() -> bool {
    let x = values(23, 2 * ROWS * WIDTH);
    agree(
        [ROWS * WIDTH],
        |[out]| activation::swiglu_forward(&x, WIDTH, out),
        |[out]| reference::activation::swiglu_forward(&x, WIDTH, out),
    )
}

fn swiglu_backward() -> bool {
    let dout = values(24, ROWS * WIDTH);
    agree_from(
        [values(23, 2 * ROWS * WIDTH)],
        |[x]| activation::swiglu_backward(x, WIDTH, &dout),
        |[x]| reference::activation::swiglu_backward(x, WIDTH, &dout),
    )
}

fn cross_entropy_and_gradient() -> bool {
    let targets: Vec<u32> = (0..ROWS).map(|t| (t * 7 % WIDTH) as u32).collect();
    agree_from(
        [values(25, ROWS * WIDTH), vec![0.0; ROWS], vec![0.0; ROWS]],
        |[z, losses, fused]| {
            cross_entropy::losses(z, WIDTH, &targets, losses);
            cross_entropy::losses_and_gradient(z, WIDTH, &targets, 0.01, fused);
        },
        |[z, losses, fused]| {
            reference::cross_entropy::losses(z, WIDTH, &targets, losses);
            reference::cross_entropy::losses_and_gradient(z, WIDTH, &targets, 0.01, fused);
        },
    )
}

fn embedding_backward() -> bool {
    let ids: Vec<u32> = (0..ROWS).map(|t| (t * t % 11) as u32).collect();
    agree_from(
        [values(26, ROWS * WIDTH), values(27, 11 * WIDTH)],
        |[dy, table]| {
            embedding::backward(dy, WIDTH, &ids, table);
            embedding::backward_positions(dy, WIDTH, 11, table);
            embedding::forward(table, WIDTH, &ids, dy);
            embedding::add_positions(table, WIDTH, 10, 1, dy);
        },
        |[dy, table]| {
            reference::embedding::backward(dy, WIDTH, &ids, table);
            reference::embedding::backward_positions(dy, WIDTH, 11, table);
            reference::embedding::forward(table, WIDTH, &ids, dy);
            reference::embedding::add_positions(table, WIDTH, 10, 1, dy);
        },
    )
}

fn elementwise_sums() -> bool {
    let y = values(28, 300);
    agree_from(
        [values(29, 300), vec![0.0; 300]],
        |[x, out]| {
            elementwise::add_assign(x, &y);
            elementwise::add(x, &y, out);
            elementwise::add_scaled(x, 0.3, &y);
            elementwise::scale(x, 0.7);
        },
        |[x, out]| {
            reference::elementwise::add_assign(x, &y);
            reference::elementwise::add(x, &y, out);
            reference::elementwise::add_scaled(x, 0.3, &y);
            reference::elementwise::scale(x, 0.7);
        },
    )
}

fn adamw() -> bool {
    let settings = AdamW { lr: 1e-3, beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.1 };
    let (g, second) = (values(30, 300), values(31, 300).into_iter().map(f32::abs).collect());
    agree_from(
        [values(32, 300), values(33, 300), second],
        |[p, m, v]| settings.step(3, true, p, &g, m, v, 0.7),
        |[p, m, v]| reference::optimizer::adamw(&settings, 3, true, p, &g, m, v, 0.7),
    )
}

fn muon() -> bool {
    let settings = Muon { lr: 1e-2, momentum: 0.95, nesterov: true, weight_decay: 0.1 };
    [(17, 33), (35, 18)].into_iter().all(|shape| {
        let n = shape.0 * shape.1;
        let g = values(34, n);
        agree_from(
            [values(35, n), values(36, n)],
            |[p, m]| settings.step(shape, p, &g, m, 0.7),
            |[p, m]| reference::optimizer::muon(&settings, shape, p, &g, m, 0.7),
        )
    })
}

fn squares() -> bool {
    let x = values(37, 20_000);
    clip::sum_of_squares(&x).to_bits() == reference::clip::sum_of_squares(&x).to_bits()
        && clip::all_finite(&x)
}
