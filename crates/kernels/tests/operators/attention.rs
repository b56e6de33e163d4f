use zoo_kernels::attention::{Cached, PAGE};
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

/// A sequence: its positions, its pages, its keys and its values in order.
type Written = (usize, Vec<u32>, Vec<f32>, Vec<f32>);

/// Sequences whose keys and values lie in pages of one memory, in a scattered order.
struct Paged {
    heads: Heads,
    sequences: Vec<Written>,
    keys: Vec<f32>,
    values: Vec<f32>,
}

impl Paged {
    /// Sequences of these lengths; what no position fills holds NaN, which nothing may read.
    fn new(heads: Heads, kind: Numbers, lengths: &[usize]) -> Self {
        let mut left: Vec<u32> =
            (0..lengths.iter().map(|length| length.div_ceil(PAGE)).sum::<usize>() as u32).collect();
        let memory = vec![f32::NAN; left.len() * heads.kv_width() * PAGE];
        let mut paged = Self { heads, sequences: Vec::new(), keys: memory.clone(), values: memory };
        for (seed, &length) in (10..).zip(lengths) {
            let count = length.div_ceil(PAGE);
            let pages = (0..count).map(|i| left.swap_remove(i * 7 % left.len())).collect();
            let of = |stream: u64| kind.take(2 * seed + stream, length * heads.kv_width());
            paged.sequences.push((length, pages, of(0), of(1)));
        }
        paged
    }

    /// The last `rows` positions of each sequence as a batch; keys and values are those of the sequence.
    fn batch(&self, kind: Numbers, rows: &[usize]) -> Vec<f32> {
        let (width, kv_width) = (self.heads.query_width(), self.heads.kv_width());
        let mut qkv = kind.take(3, rows.iter().sum::<usize>() * self.heads.row_width());
        let mut batch = qkv.chunks_mut(self.heads.row_width());
        for ((length, _, keys, values), rows) in self.sequences.iter().zip(rows) {
            for at in length - rows..*length {
                let row = batch.next().expect("a row for every position");
                row[width..width + kv_width].copy_from_slice(&keys[at * kv_width..][..kv_width]);
                row[width + kv_width..].copy_from_slice(&values[at * kv_width..][..kv_width]);
            }
        }
        qkv
    }

    fn cached(&self, rows: &[usize]) -> Vec<Cached<'_>> {
        let sequences = self.sequences.iter().zip(rows);
        sequences
            .map(|((positions, pages, ..), &rows)| Cached { rows, positions: *positions, pages })
            .collect()
    }

    /// Stores everything in pieces of `piece` positions.
    fn fill(&mut self, piece: usize) {
        for at in 0..self.sequences.len() {
            let one =
                Self { sequences: vec![self.sequences[at].clone()], keys: vec![], values: vec![], ..*self };
            let (length, pages, keys, values) = &one.sequences[0];
            for from in (0..*length).step_by(piece) {
                let positions = (from + piece).min(*length);
                let part = |all: &[f32]| all[..positions * self.heads.kv_width()].to_vec();
                let sequences = vec![(positions, pages.clone(), part(keys), part(values))];
                let part = Self { sequences, keys: vec![], values: vec![], heads: self.heads };
                let rows = [positions - from];
                let qkv = part.batch(Numbers::Ordinary, &rows);
                attention::store(self.heads, &qkv, &part.cached(&rows), &mut self.keys, &mut self.values);
            }
        }
    }

    /// What the reference says of the same rows, sequence after sequence.
    fn expected(&self, profile: Profile, qkv: &[f32], rows: &[usize]) -> Vec<f32> {
        let mut qkv = qkv;
        let each = self.sequences.iter().zip(rows).map(|((_, _, keys, values), &rows)| {
            let (own, rest) = qkv.split_at(rows * self.heads.row_width());
            qkv = rest;
            let mut z = zeros(rows * self.heads.query_width());
            zoo_kernels::reference::attention::decode(profile, self.heads, own, keys, values, &mut z);
            z
        });
        each.collect::<Vec<_>>().concat()
    }
}

#[test]
fn decoding_from_pages_gives_the_bits_of_the_reference_in_every_batch() {
    for ((heads, context, _), kind, profile) in cases() {
        let lengths = [context, 1, context.div_ceil(2), context.min(17)];
        let mut paged = Paged::new(heads, kind, &lengths);
        paged.fill(5);
        for rows in [[1, 1, 1, 1], [context, 1, 1, 1], [context.min(3), 1, context.div_ceil(2), 1]] {
            let qkv = paged.batch(kind, &rows);
            let expected = paged.expected(profile, &qkv, &rows);
            everywhere(|place| {
                let mut z = zeros(expected.len());
                let (keys, values) = (&paged.keys, &paged.values);
                attention::decode(profile, heads, &qkv, &paged.cached(&rows), keys, values, &mut z);
                assert_bits(&format!("{profile} {heads:?} {rows:?} {kind:?} {place}"), &z, &expected);
            });
        }
    }
}

/// A reader that generates sees exactly what training saw.
#[test]
fn decoding_with_a_cache_gives_the_bits_of_the_forward_pass() {
    for ((heads, context, _), profile) in
        SHAPES.into_iter().flat_map(|shape| Profile::ALL.map(|profile| (shape, profile)))
    {
        let mut paged = Paged::new(heads, Numbers::Ordinary, &[context]);
        paged.fill(context);
        let qkv = paged.batch(Numbers::Ordinary, &[context]);
        everywhere(|place| {
            let (mut z, mut lse) = (zeros(context * heads.query_width()), zeros(context * heads.query_heads));
            attention::forward(profile, heads, context, &qkv, &mut z, &mut lse);
            for rows in [context, 1, context.div_ceil(2)] {
                let mut decoded = zeros(rows * heads.query_width());
                let qkv = &qkv[(context - rows) * heads.row_width()..];
                let (keys, values) = (&paged.keys, &paged.values);
                attention::decode(profile, heads, qkv, &paged.cached(&[rows]), keys, values, &mut decoded);
                let expected = &z[(context - rows) * heads.query_width()..];
                assert_bits(&format!("{profile} {heads:?} {rows} of {context} {place}"), &decoded, expected);
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
