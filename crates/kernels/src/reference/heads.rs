//! QK-norm and rotation.

use super::{block_rule, fma, norm};
use crate::heads::Heads;
use crate::onto::Onto;
use crate::rope::{Direction, Table};

/// Rotation of query and key heads.
pub fn rotate(
    heads: Heads,
    table: &Table,
    qkv: &mut [f32],
    context: usize,
    start_position: usize,
    direction: Direction,
) {
    let half = heads.head_dim / 2;
    for (row, values) in qkv.chunks_mut(heads.row_width()).enumerate() {
        let position = start_position + row % context;
        for h in 0..heads.query_heads + heads.kv_heads {
            let head = &mut values[h * heads.head_dim..][..heads.head_dim];
            for i in 0..half {
                let cosine = table.cosines(position)[i];
                let sine = match direction {
                    Direction::Forward => table.sines(position)[i],
                    Direction::Inverse => -table.sines(position)[i],
                };
                let (a, b) = (head[i], head[half + i]);
                head[i] = fma(a, cosine, -(b * sine));
                head[half + i] = fma(b, cosine, a * sine);
            }
        }
    }
}

/// RMS norm of query and key heads.
pub fn normalise_qk(
    heads: Heads,
    raw: &[f32],
    q_gain: &[f32],
    k_gain: &[f32],
    eps: f32,
    normed: &mut [f32],
    rstd: &mut [f32],
) {
    normed.copy_from_slice(raw);
    for (t, h) in turning(heads, raw.len()) {
        let (at, gain) = place(heads, t, h, q_gain, k_gain);
        let rstd = &mut rstd[t * heads.turning_heads() + h..][..1];
        norm::rms_forward(&raw[at..][..heads.head_dim], gain, eps, &mut normed[at..][..heads.head_dim], rstd);
    }
}

/// Gradient of [`normalise_qk`].
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
    let (dim, turning_heads) = (heads.head_dim, heads.turning_heads());
    let tokens = raw.len() / heads.row_width();
    for i in 0..dim {
        // Heads ascend within a token, tokens within the chain.
        let step = |mut chain: f32, t: usize, of: std::ops::Range<usize>| {
            for h in of {
                let at = t * heads.row_width() + h * dim + i;
                chain = fma(dqkv[at], raw[at] * rstd[t * turning_heads + h], chain);
            }
            chain
        };
        let queries = |chain, t| step(chain, t, 0..heads.query_heads);
        let keys = |chain, t| step(chain, t, heads.query_heads..turning_heads);
        dq_gain[i] = block_rule(onto.start(dq_gain[i]), tokens, queries);
        dk_gain[i] = block_rule(onto.start(dk_gain[i]), tokens, keys);
    }
    for (t, h) in turning(heads, raw.len()) {
        let (at, gain) = place(heads, t, h, q_gain, k_gain);
        let rstd = &rstd[t * turning_heads + h..][..1];
        let dy = dqkv[at..][..dim].to_vec();
        let dx = &mut dqkv[at..][..dim];
        norm::rms_backward(
            &dy,
            &raw[at..][..dim],
            gain,
            rstd,
            dx,
            Onto::Zero,
            &mut vec![0.0; dim],
            Onto::Zero,
        );
    }
}

/// Every (token, head) that is normalised, in order.
fn turning(heads: Heads, values: usize) -> impl Iterator<Item = (usize, usize)> {
    let tokens = values / heads.row_width();
    (0..tokens).flat_map(move |t| (0..heads.turning_heads()).map(move |h| (t, h)))
}

/// Where a head begins, and its gain.
fn place<'a>(heads: Heads, t: usize, h: usize, q_gain: &'a [f32], k_gain: &'a [f32]) -> (usize, &'a [f32]) {
    (t * heads.row_width() + h * heads.head_dim, if h < heads.query_heads { q_gain } else { k_gain })
}
