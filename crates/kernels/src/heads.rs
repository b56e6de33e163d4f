//! The rows of an attention projection, `[q heads | k heads | v heads]`, and
//! what is done to their heads before attention: QK-norm and rotation.

use rayon::prelude::*;

use crate::multiversion::multiversion;
use crate::norm::{TOKEN_BLOCK, add_blocks, rms_gradient, rms_projection, rms_row};
use crate::onto::Onto;
use crate::parallel::rows_per_task;
use crate::rope::{Direction, Table, rotate_head};

/// How many heads of which width a projection's row holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// Number of query heads, a multiple of `kv_heads`.
    pub query_heads: usize,
    /// Number of key heads, and of value heads.
    pub kv_heads: usize,
    /// Width of one head.
    pub head_dim: usize,
}

impl Heads {
    /// Values in one row: all query, key and value heads.
    pub fn row_width(&self) -> usize {
        (self.query_heads + 2 * self.kv_heads) * self.head_dim
    }

    /// Values of the query heads in a row; also the width of attention's output.
    pub fn query_width(&self) -> usize {
        self.query_heads * self.head_dim
    }

    /// Values of the key heads in a row, and of the value heads.
    pub fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// Query heads that share one key head.
    pub fn group(&self) -> usize {
        self.query_heads / self.kv_heads
    }

    /// Heads that are normalised and rotated: queries and keys.
    pub fn turning_heads(&self) -> usize {
        self.query_heads + self.kv_heads
    }

    /// Rows of a buffer of projections.
    fn rows(&self, projection: &[f32]) -> usize {
        assert!(self.row_width() > 0, "a projection has heads");
        assert_eq!(projection.len() % self.row_width(), 0, "a projection has whole rows");
        projection.len() / self.row_width()
    }
}

/// Rotates the query and key heads of every row of `qkv` in place. Row `r` is
/// at position `start_position + r mod context`.
///
/// # Panics
/// If a position lies beyond the table.
pub fn rotate(
    heads: Heads,
    table: &Table,
    qkv: &mut [f32],
    context: usize,
    start_position: usize,
    direction: Direction,
) {
    let rows = heads.rows(qkv);
    assert_eq!(table.head_dim(), heads.head_dim, "the table is for heads of another width");
    let last = start_position + context.min(rows);
    assert!(last <= table.context(), "position {last} is beyond the table of {}", table.context());
    let task = rows_per_task(rows, heads.row_width());
    qkv.par_chunks_mut(task * heads.row_width()).enumerate().for_each(|(i, qkv)| {
        rotate_rows(heads, table, qkv, i * task, context, start_position, direction.sign());
    });
}

/// Rotates the query and key heads of every row of `qkv` in place; row `r` is at `positions[r]`.
///
/// # Panics
/// If a position lies beyond the table.
pub fn rotate_at(heads: Heads, table: &Table, qkv: &mut [f32], positions: &[u32]) {
    assert_eq!(heads.rows(qkv), positions.len(), "one position for every row");
    assert_eq!(table.head_dim(), heads.head_dim, "the table is for heads of another width");
    let last = positions.iter().max().map_or(0, |last| *last as usize + 1);
    assert!(last <= table.context(), "position {last} is beyond the table of {}", table.context());
    let task = rows_per_task(positions.len(), heads.row_width());
    let rows = qkv.par_chunks_mut(task * heads.row_width()).zip(positions.par_chunks(task));
    rows.for_each(|(qkv, positions)| rotate_rows_at(heads, table, qkv, positions));
}

/// RMS-normalises every query head by `q_gain` and every key head by `k_gain`
/// (`head_dim` each), as Qwen3 does; value heads are copied. `rstd` receives
/// 1 / rms, rows x (query heads, then key heads).
pub fn normalise_qk(
    heads: Heads,
    raw: &[f32],
    q_gain: &[f32],
    k_gain: &[f32],
    eps: f32,
    normed: &mut [f32],
    rstd: &mut [f32],
) {
    let rows = check_qk(heads, raw, q_gain, k_gain, rstd);
    assert_eq!(normed.len(), raw.len(), "both projections have one shape");
    let (width, turning) = (heads.row_width(), heads.turning_heads());
    let task = rows_per_task(rows, width);
    (raw.par_chunks(task * width), normed.par_chunks_mut(task * width), rstd.par_chunks_mut(task * turning))
        .into_par_iter()
        .for_each(|(raw, normed, rstd)| normalise_rows(heads, raw, q_gain, k_gain, eps, normed, rstd));
}

/// Gradient of [`normalise_qk`]. `dqkv` holds the gradient with respect to the
/// normed rows and receives the one with respect to the raw rows; those of the
/// gains are summed in token order, heads ascending within a token, in blocks
/// of 64 tokens.
#[expect(clippy::too_many_arguments, reason = "an operator's operands, each once")]
pub fn normalise_qk_backward(
    heads: Heads,
    raw: &[f32],
    q_gain: &[f32],
    k_gain: &[f32],
    rstd: &[f32],
    dqkv: &mut [f32],
    dq_gain: &mut [f32],
    dk_gain: &mut [f32],
    onto: Onto,
) {
    let rows = check_qk(heads, raw, q_gain, k_gain, rstd);
    assert_eq!(dqkv.len(), raw.len(), "a projection and its gradient have one shape");
    assert!(
        dq_gain.len() == heads.head_dim && dk_gain.len() == heads.head_dim,
        "a gain's gradient is one head wide"
    );
    let chunk = TOKEN_BLOCK * heads.row_width();
    let blocks = rows.div_ceil(TOKEN_BLOCK);
    let mut q_sums = vec![0f32; blocks * heads.head_dim];
    let mut k_sums = vec![0f32; blocks * heads.head_dim];
    (
        raw.par_chunks(chunk),
        rstd.par_chunks(TOKEN_BLOCK * heads.turning_heads()),
        dqkv.par_chunks_mut(chunk),
        q_sums.par_chunks_mut(heads.head_dim),
        k_sums.par_chunks_mut(heads.head_dim),
    )
        .into_par_iter()
        .with_min_len(rows_per_task(blocks, chunk))
        .for_each(|(raw, rstd, dqkv, dq_gain, dk_gain)| {
            backward_block(heads, raw, q_gain, k_gain, rstd, dqkv, dq_gain, dk_gain);
        });
    add_blocks(dq_gain, onto, &q_sums);
    add_blocks(dk_gain, onto, &k_sums);
}

fn check_qk(heads: Heads, raw: &[f32], q_gain: &[f32], k_gain: &[f32], rstd: &[f32]) -> usize {
    let rows = heads.rows(raw);
    assert!(q_gain.len() == heads.head_dim && k_gain.len() == heads.head_dim, "a gain is one head wide");
    assert_eq!(rstd.len(), rows * heads.turning_heads(), "one 1 / rms for every query and key head");
    rows
}

multiversion! {
    fn rotate_rows_at(heads: Heads, table: &Table, qkv: &mut [f32], positions: &[u32]) {
        for (row, &position) in qkv.chunks_exact_mut(heads.row_width()).zip(positions) {
            let position = position as usize;
            let (cosines, sines) = (table.cosines(position), table.sines(position));
            for head in row.chunks_exact_mut(heads.head_dim).take(heads.turning_heads()) {
                rotate_head(head, cosines, sines, Direction::Forward.sign());
            }
        }
    }

    fn rotate_rows(
        heads: Heads, table: &Table, qkv: &mut [f32], first_row: usize, context: usize, start: usize, sign: f32,
    ) {
        for (i, row) in qkv.chunks_exact_mut(heads.row_width()).enumerate() {
            let position = start + (first_row + i) % context;
            let (cosines, sines) = (table.cosines(position), table.sines(position));
            for head in row.chunks_exact_mut(heads.head_dim).take(heads.turning_heads()) {
                rotate_head(head, cosines, sines, sign);
            }
        }
    }

    fn normalise_rows(
        heads: Heads, raw: &[f32], q_gain: &[f32], k_gain: &[f32], eps: f32, normed: &mut [f32], rstd: &mut [f32],
    ) {
        let (width, turning) = (heads.row_width(), heads.turning_heads());
        let rows = raw.chunks_exact(width).zip(normed.chunks_exact_mut(width));
        for ((raw, normed), rstd) in rows.zip(rstd.chunks_exact_mut(turning)) {
            let pairs = raw.chunks_exact(heads.head_dim).zip(normed.chunks_exact_mut(heads.head_dim));
            for (h, ((raw, normed), rstd)) in pairs.zip(rstd).enumerate() {
                let gain = if h < heads.query_heads { q_gain } else { k_gain };
                *rstd = rms_row(raw, gain, eps, normed);
            }
            let values = turning * heads.head_dim;
            normed[values..].copy_from_slice(&raw[values..]);
        }
    }

    /// At most a block of rows; the gains' gradients are the block's own, zero
    /// at the start.
    fn backward_block(
        heads: Heads, raw: &[f32], q_gain: &[f32], k_gain: &[f32], rstd: &[f32], dqkv: &mut [f32],
        dq_gain: &mut [f32], dk_gain: &mut [f32],
    ) {
        let (width, turning, dim) = (heads.row_width(), heads.turning_heads(), heads.head_dim);
        let rows = raw.chunks_exact(width).zip(dqkv.chunks_exact_mut(width));
        for ((raw, dqkv), rstd) in rows.zip(rstd.chunks_exact(turning)) {
            let pairs = raw.chunks_exact(dim).zip(dqkv.chunks_exact_mut(dim));
            for (h, ((raw, gradient), &rstd)) in pairs.zip(rstd).enumerate() {
                let query = h < heads.query_heads;
                let (gain, dgain) = if query { (q_gain, &mut *dq_gain) } else { (k_gain, &mut *dk_gain) };
                let (raw, gradient) = (&raw[..dim], &mut gradient[..dim]);
                let (gain, dgain) = (&gain[..dim], &mut dgain[..dim]);
                let projection = rms_projection(gradient, raw, gain, rstd);
                for i in 0..dim {
                    let dy = gradient[i];
                    // Onto +0, as the norm itself: -0 does not survive.
                    gradient[i] = 0.0 + rms_gradient(dy, raw[i], gain[i], rstd, projection);
                    dgain[i] = dy.mul_add(raw[i] * rstd, dgain[i]);
                }
            }
        }
    }
}
