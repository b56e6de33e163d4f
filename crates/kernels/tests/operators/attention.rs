use zoo_kernels::bf16::{self, Bf16};
use zoo_kernels::heads::Heads;
use zoo_kernels::{Profile, attention};

use crate::support::{KINDS, Numbers, agree, assert_bits, everywhere, ordinary, zeros};

const fn heads(query_heads: usize, kv_heads: usize, head_dim: usize) -> Heads {
    Heads { query_heads, kv_heads, head_dim }
}

/// Heads, context and sequences.
const SHAPES: [(Heads, usize, usize); 12] = [
    (heads(1, 1, 2), 1, 1),
    (heads(1, 1, 16), 2, 3),
    (heads(2, 1, 6), 7, 2),
    (heads(2, 2, 33), 15, 1),
    (heads(4, 2, 16), 16, 2),
    (heads(3, 1, 17), 64, 2),
    (heads(6, 2, 32), 65, 1),
    (heads(4, 1, 8), 130, 1),
    (heads(2, 1, 64), 255, 1),
    (heads(2, 1, 15), 257, 1),
    (heads(1, 1, 7), 530, 1),
    (heads(2, 1, 258), 66, 1),
];

/// Every shape with every kind of numbers in every profile.
fn cases() -> impl Iterator<Item = ((Heads, usize, usize), Numbers, Profile)> {
    SHAPES.into_iter().flat_map(|shape| {
        KINDS.into_iter().flat_map(move |kind| Profile::ALL.map(|profile| (shape, kind, profile)))
    })
}

#[test]
fn forward() {
    for ((heads, context, sequences), kind, profile) in cases() {
        let tokens = context * sequences;
        let qkv = kind.take(1, tokens * heads.row_width());
        agree!(format!("{profile} {heads:?} {context} {kind:?}");
            z = zeros(tokens * heads.query_width()), lse = zeros(tokens * heads.query_heads);
            attention::forward(profile, heads, context, &qkv, z, lse));
    }
}

#[test]
fn backward() {
    for ((heads, context, sequences), kind, profile) in cases() {
        let tokens = context * sequences;
        let qkv = kind.take(1, tokens * heads.row_width());
        let dz = kind.take(2, tokens * heads.query_width());
        let (mut z, mut lse) = (zeros(dz.len()), zeros(tokens * heads.query_heads));
        zoo_kernels::reference::attention::forward(profile, heads, context, &qkv, &mut z, &mut lse);
        agree!(format!("{profile} {heads:?} {context} {kind:?}"); dqkv = kind.take(3, qkv.len());
            attention::backward(profile, heads, context, &qkv, &z, &lse, &dz, dqkv));
    }
}

#[test]
fn decode() {
    for ((heads, n, _), kind, profile) in cases() {
        let (keys, values) = (kind.take(1, n * heads.kv_width()), kind.take(2, n * heads.kv_width()));
        for m in [1, n.div_ceil(3), n] {
            let rows = kind.take(3, m * heads.row_width());
            agree!(format!("{profile} {m} of {n} {heads:?} {kind:?}"); z = zeros(m * heads.query_width());
                attention::decode(profile, heads, &rows, &keys, &values, z));
        }
    }
}

/// A reader that generates sees exactly what training saw.
#[test]
fn decoding_with_a_cache_gives_the_bits_of_the_forward_pass() {
    for ((heads, context, _), profile) in
        SHAPES.into_iter().flat_map(|shape| Profile::ALL.map(|profile| (shape, profile)))
    {
        let row = heads.row_width();
        let qkv = ordinary(1, context * row);
        let column = |from: usize| -> Vec<f32> {
            qkv.chunks(row).flat_map(|row| row[from..from + heads.kv_width()].to_vec()).collect()
        };
        let (keys, values) = (column(heads.query_width()), column(heads.query_width() + heads.kv_width()));
        everywhere(|place| {
            let (mut z, mut lse) = (zeros(context * heads.query_width()), zeros(context * heads.query_heads));
            attention::forward(profile, heads, context, &qkv, &mut z, &mut lse);
            for (from, to) in
                [(0, context), (context - 1, context), (context / 2, context), (0, context.div_ceil(2))]
            {
                let mut decoded = zeros((to - from) * heads.query_width());
                let cached = to * heads.kv_width();
                attention::decode(
                    profile,
                    heads,
                    &qkv[from * row..to * row],
                    &keys[..cached],
                    &values[..cached],
                    &mut decoded,
                );
                let expected = &z[from * heads.query_width()..to * heads.query_width()];
                assert_bits(
                    &format!("{profile} {heads:?} {from}..{to} of {context} {place}"),
                    &decoded,
                    expected,
                );
            }
        });
    }
}

#[test]
fn a_nan_is_never_hidden() {
    let heads = heads(2, 1, 4);
    for column in 0..heads.row_width() {
        let mut qkv = ordinary(1, 20 * heads.row_width());
        qkv[19 * heads.row_width() + column] = f32::NAN;
        everywhere(|place| {
            let (mut z, mut lse) = (zeros(20 * heads.query_width()), zeros(20 * heads.query_heads));
            attention::forward(Profile::F32Exact, heads, 20, &qkv, &mut z, &mut lse);
            assert!(z[19 * heads.query_width()..].iter().any(|z| z.is_nan()), "column {column} {place}");
        });
    }
}

#[test]
fn queries_keys_and_values_in_bf16_give_the_bits_of_f32() {
    let profile = Profile::Bf16Exact;
    for ((heads, context, sequences), kind) in
        SHAPES.into_iter().flat_map(|shape| KINDS.map(|kind| (shape, kind)))
    {
        let tokens = context * sequences;
        let qkv = kind.take(1, tokens * heads.row_width());
        let dz = kind.take(2, tokens * heads.query_width());
        everywhere(|place| {
            let mut rounded = vec![Bf16::default(); qkv.len()];
            bf16::round_all(&qkv, &mut rounded);
            let run = |in_bf16: bool| {
                let (mut z, mut lse) = (zeros(dz.len()), zeros(tokens * heads.query_heads));
                let mut dqkv = zeros(qkv.len());
                if in_bf16 {
                    attention::forward(profile, heads, context, &rounded[..], &mut z, &mut lse);
                    attention::backward(profile, heads, context, &rounded[..], &z, &lse, &dz, &mut dqkv);
                } else {
                    attention::forward(profile, heads, context, &qkv, &mut z, &mut lse);
                    attention::backward(profile, heads, context, &qkv, &z, &lse, &dz, &mut dqkv);
                }
                [z, lse, dqkv]
            };
            for (found, expected) in run(true).iter().zip(&run(false)) {
                assert_bits(&format!("{heads:?} {context} {kind:?} {place}"), found, expected);
            }
        });
    }
}
