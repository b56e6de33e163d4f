use zoo_kernels::Profile;
use zoo_kernels::bf16::{round, widen};
use zoo_kernels::matmul::{Eight, VECTORS, View, sketch};

use crate::support::{KINDS, everywhere, ordinary};

/// What a sketch is, in plain loops.
fn specified(
    a: impl Fn(usize, usize) -> f32,
    rounded: bool,
    x: &[Eight],
    sums: &mut [Eight],
    squares: &mut [f64],
) {
    let value = |i, j| f64::from(if rounded { widen(round(a(i, j))) } else { a(i, j) });
    for (i, (sum, square)) in sums.iter_mut().zip(squares).enumerate() {
        for (j, x) in x.iter().enumerate() {
            for vector in 0..VECTORS {
                sum[vector] += value(i, j) * x[vector];
            }
        }
        for first in (0..x.len()).step_by(64) {
            let mut lanes = [0.0; VECTORS];
            for j in first..x.len().min(first + 64) {
                lanes[(j - first) % VECTORS] += value(i, j) * value(i, j);
            }
            *square += lanes.iter().fold(0.0, |sum, lane| sum + lane);
        }
    }
}

#[test]
fn a_sketch_has_the_same_bits_everywhere_at_any_strides() {
    for (rows, cols) in [(1, 1), (3, 5), (4, 64), (5, 65), (13, 200), (9, 0), (0, 7)] {
        for (kind, strides) in KINDS.into_iter().zip([(cols + 3, 1), (1, rows)]) {
            let length = rows.max(1) * strides.0.max(1) + cols * strides.1 + 1;
            let data = kind.take(1, length);
            let x: Vec<Eight> = ordinary(2, cols * VECTORS)
                .as_chunks::<VECTORS>()
                .0
                .iter()
                .map(|eight| eight.map(f64::from))
                .collect();
            for profile in [None, Some(Profile::F32Exact), Some(Profile::Bf16Exact)] {
                let start = || (vec![[0.5; VECTORS]; rows], vec![0.25; rows]);
                let (mut sums, mut squares) = start();
                let at = |i: usize, j: usize| data[i * strides.0 + j * strides.1];
                specified(at, profile == Some(Profile::Bf16Exact), &x, &mut sums, &mut squares);
                everywhere(|place| {
                    let (mut found, mut found_squares) = start();
                    let view = View::strided(&data, rows, cols, strides.0, strides.1);
                    sketch(view, profile, &x, &mut found, &mut found_squares);
                    assert!(
                        found == sums && found_squares == squares,
                        "{place}: {rows} x {cols}, {strides:?}"
                    );
                });
            }
        }
    }
}
