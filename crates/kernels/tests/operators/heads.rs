use zoo_kernels::heads::{self, Heads};
use zoo_kernels::rope::{Direction, Table};

use crate::support::{BOTH, KINDS, agree, assert_bits, everywhere, ordinary, zeros};

/// Heads and the number of rows.
const SHAPES: [(Heads, usize); 6] = [
    (Heads { query_heads: 1, kv_heads: 1, head_dim: 2 }, 1),
    (Heads { query_heads: 2, kv_heads: 1, head_dim: 6 }, 65),
    (Heads { query_heads: 3, kv_heads: 3, head_dim: 34 }, 63),
    (Heads { query_heads: 4, kv_heads: 2, head_dim: 32 }, 300),
    (Heads { query_heads: 6, kv_heads: 2, head_dim: 64 }, 257),
    (Heads { query_heads: 1, kv_heads: 1, head_dim: 258 }, 130),
];

#[test]
fn rotation() {
    for ((heads, rows), kind) in SHAPES.into_iter().flat_map(|shape| KINDS.map(|kind| (shape, kind))) {
        for (context, start) in [(rows, 0), (rows.div_ceil(3), 0), (rows, 5)] {
            let table = Table::new(context + start, heads.head_dim, 10_000.0);
            for direction in [Direction::Forward, Direction::Inverse] {
                agree!(format!("{heads:?} {rows} rows from {start} {kind:?}");
                    qkv = kind.take(1, rows * heads.row_width());
                    heads::rotate(heads, &table, qkv, context, start, direction));
            }
        }
    }
}

#[test]
fn rows_at_positions_of_their_own_turn_as_the_rows_of_a_sequence_do() {
    for (heads, rows) in SHAPES {
        let table = Table::new(rows, heads.head_dim, 10_000.0);
        let before = ordinary(1, rows * heads.row_width());
        let positions: Vec<u32> = (0..rows).map(|row| ((row * 37 + 5) % rows) as u32).collect();
        let mut expected = before.clone();
        for (row, position) in expected.chunks_mut(heads.row_width()).zip(&positions) {
            let position = *position as usize;
            zoo_kernels::reference::heads::rotate(heads, &table, row, 1, position, Direction::Forward);
        }
        everywhere(|place| {
            let mut found = before.clone();
            heads::rotate_at(heads, &table, &mut found, &positions);
            assert_bits(&format!("{heads:?} {place}"), &found, &expected);
        });
    }
}

#[test]
fn rotating_back_restores_and_values_are_left_alone() {
    let heads = Heads { query_heads: 4, kv_heads: 2, head_dim: 32 };
    let table = Table::new(40, 32, 10_000.0);
    let before = ordinary(1, 40 * heads.row_width());
    let mut qkv = before.clone();
    heads::rotate(heads, &table, &mut qkv, 40, 0, Direction::Forward);
    for (row, before) in qkv.chunks(heads.row_width()).zip(before.chunks(heads.row_width())) {
        let values = heads.turning_heads() * heads.head_dim;
        assert_eq!(row[values..], before[values..]);
    }
    assert_ne!(qkv, before);
    heads::rotate(heads, &table, &mut qkv, 40, 0, Direction::Inverse);
    assert!(qkv.iter().zip(&before).all(|(a, b)| (a - b).abs() < 1e-5));
}

/// Rotary embedding's point: a score depends on the distance alone.
#[test]
fn scores_of_rotated_heads_depend_on_the_distance() {
    let heads = Heads { query_heads: 1, kv_heads: 1, head_dim: 16 };
    let table = Table::new(64, 16, 10_000.0);
    let row = ordinary(1, heads.row_width());
    let score = |q_position: usize, k_position: usize| {
        let turned = |position| {
            let mut row = row.clone();
            heads::rotate(heads, &table, &mut row, 1, position, Direction::Forward);
            row
        };
        let (q, k) = (turned(q_position), turned(k_position));
        q[..16].iter().zip(&k[16..32]).map(|(q, k)| f64::from(q * k)).sum::<f64>()
    };
    assert!((score(10, 3) - score(47, 40)).abs() < 1e-4);
    assert!((score(10, 3) - score(10, 4)).abs() > 1e-3);
}

#[test]
#[should_panic(expected = "beyond the table")]
fn a_position_beyond_the_table_is_refused() {
    let heads = Heads { query_heads: 1, kv_heads: 1, head_dim: 2 };
    heads::rotate(heads, &Table::new(4, 2, 1e4), &mut zeros(2 * 6), 2, 3, Direction::Forward);
}

#[test]
fn qk_norm_forward() {
    for ((heads, rows), kind) in SHAPES.into_iter().flat_map(|shape| KINDS.map(|kind| (shape, kind))) {
        let raw = kind.take(1, rows * heads.row_width());
        let (q_gain, k_gain) = (kind.take(2, heads.head_dim), kind.take(3, heads.head_dim));
        agree!(format!("{heads:?} {rows} rows {kind:?}");
            normed = zeros(raw.len()), rstd = zeros(rows * heads.turning_heads());
            heads::normalise_qk(heads, &raw, &q_gain, &k_gain, 1e-6, normed, rstd));
    }
}

#[test]
fn qk_norm_backward() {
    for ((heads, rows), kind) in SHAPES.into_iter().flat_map(|shape| KINDS.map(|kind| (shape, kind))) {
        let raw = kind.take(1, rows * heads.row_width());
        let (q_gain, k_gain) = (kind.take(2, heads.head_dim), kind.take(3, heads.head_dim));
        let rstd = ordinary(4, rows * heads.turning_heads());
        for onto in BOTH {
            agree!(format!("{heads:?} {rows} rows {kind:?} {onto:?}");
                dqkv = kind.take(5, raw.len()), dq = kind.take(6, heads.head_dim), dk = kind.take(7, heads.head_dim);
                heads::normalise_qk_backward(heads, &raw, &q_gain, &k_gain, &rstd, dqkv, dq, dk, onto));
        }
    }
}

#[test]
fn micro_batches_of_whole_chunks_give_the_gain_gradients_of_the_whole() {
    let heads = Heads { query_heads: 3, kv_heads: 1, head_dim: 10 };
    let (rows, row, turning) = (400, heads.row_width(), heads.turning_heads());
    let (raw, dy, gain) = (ordinary(1, rows * row), ordinary(2, rows * row), ordinary(3, 10));
    let rstd = ordinary(4, rows * turning);
    everywhere(|place| {
        let run = |dq: &mut [f32], dk: &mut [f32], from: usize, to: usize, onto| {
            let (raw, rstd) = (&raw[from * row..to * row], &rstd[from * turning..to * turning]);
            let mut dqkv = dy[from * row..to * row].to_vec();
            heads::normalise_qk_backward(heads, raw, &gain, &gain, rstd, &mut dqkv, dq, dk, onto);
        };
        let (mut whole, mut cut) = ([zeros(10), zeros(10)], [zeros(10), zeros(10)]);
        let [dq, dk] = &mut whole;
        run(dq, dk, 0, rows, BOTH[0]);
        let [dq, dk] = &mut cut;
        run(dq, dk, 0, 256, BOTH[0]);
        run(dq, dk, 256, rows, BOTH[1]);
        assert_eq!(whole, cut, "{place}");
    });
}
