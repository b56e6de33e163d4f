//! Attention over cached keys and values, which lie in pages of [`PAGE`] positions.
//!
//! A page holds, head after head, its keys as `[head_dim][PAGE]` and, apart from them, its values as
//! `[PAGE][head_dim]`. One query then reads keys as vectors of positions and values as vectors of elements, both
//! as they lie: nothing is transposed or packed while a text is written token by token.

use std::cell::RefCell;

use rayon::prelude::*;

use super::forward::{attend, divide, exponentials, with_scratch};
use super::{SharedRows, scale};
use crate::heads::Heads;
use crate::matmul::{CHUNK, View, ViewMut};
use crate::multiversion::multiversion;
use crate::profile::Profile;

/// Positions of a page: a vector of 512 bits.
pub const PAGE: usize = 16;

/// Most new positions of a sequence that are computed one by one; more are worth packing keys and values for.
const ONE_BY_ONE_MAX: usize = 4;

/// Multiply-adds below which a second thread costs more than it brings.
const SERIAL_WORK: usize = 1 << 17;

/// One sequence of a batch.
#[derive(Clone, Copy, Debug)]
pub struct Cached<'a> {
    /// Its rows in the batch: its last positions.
    pub rows: usize,
    /// Its positions, those of its rows included.
    pub positions: usize,
    /// The pages of its positions, in order.
    pub pages: &'a [u32],
}

/// Copies the keys and values of the batch's rows into their pages.
///
/// * `qkv`: `[rows of all sequences, heads.row_width()]`, keys already rotated
/// * `keys`, `values`: whole pages, each `heads.kv_width() * PAGE` long
///
/// # Panics
/// If the lengths do not match, or a page lies outside.
pub fn store(heads: Heads, qkv: &[f32], sequences: &[Cached], keys: &mut [f32], values: &mut [f32]) {
    check(heads, qkv, sequences, keys, values);
    let (dim, width) = (heads.head_dim, heads.query_width());
    let mut rows = qkv.chunks_exact(heads.row_width());
    for sequence in sequences {
        for position in sequence.positions - sequence.rows..sequence.positions {
            let row = rows.next().expect("the lengths were checked");
            let (key_row, value_row) = row[width..].split_at(heads.kv_width());
            let (page, slot) = (sequence.pages[position / PAGE], position % PAGE);
            for head in 0..heads.kv_heads {
                let at = head_offset(heads, page, head);
                let (key, value) = (&key_row[head * dim..][..dim], &value_row[head * dim..][..dim]);
                for (to, key) in keys[at..][..dim * PAGE].chunks_exact_mut(PAGE).zip(key) {
                    to[slot] = *key;
                }
                values[at + slot * dim..][..dim].copy_from_slice(value);
            }
        }
    }
}

/// Attention of the batch's rows over the pages of their sequences, which hold their own keys and values too
/// ([`store`]); the bits are those of [`super::forward`], whatever else is in the batch.
///
/// * `qkv`: `[rows of all sequences, heads.row_width()]`
/// * `z`: `[rows of all sequences, query_heads * head_dim]`, written
///
/// # Panics
/// As [`store`].
pub fn decode(
    profile: Profile,
    heads: Heads,
    qkv: &[f32],
    sequences: &[Cached],
    keys: &[f32],
    values: &[f32],
    z: &mut [f32],
) {
    check(heads, qkv, sequences, keys, values);
    assert_eq!(z.len() / heads.query_width(), qkv.len() / heads.row_width(), "lengths do not match");
    let starts: Vec<usize> = sequences
        .iter()
        .scan(0, |next, sequence| Some(std::mem::replace(next, *next + sequence.rows)))
        .collect();
    let z = SharedRows(z.as_mut_ptr());
    let task = |task: usize| {
        let (sequence, kv_head) = (task / heads.kv_heads, task % heads.kv_heads);
        let job = Job { profile, heads, sequence: sequences[sequence], kv_head, keys, values };
        let (first, rows) = (starts[sequence], job.sequence.rows);
        let qkv = &qkv[first * heads.row_width()..][..rows * heads.row_width()];
        for query_head in kv_head * heads.group()..(kv_head + 1) * heads.group() {
            // SAFETY: this task alone writes these rows and these heads, inside z by the lengths checked above.
            let z = unsafe {
                let corner = z.at(first * heads.query_width() + query_head * heads.head_dim);
                ViewMut::from_raw(corner, rows, heads.head_dim, heads.query_width())
            };
            job.attend(query_head, qkv, z);
        }
    };
    let tasks = sequences.len() * heads.kv_heads;
    let work: usize = sequences.iter().map(|it| it.rows * it.positions * heads.query_width()).sum();
    if work <= SERIAL_WORK || rayon::current_num_threads() == 1 {
        (0..tasks).for_each(task);
    } else {
        (0..tasks).into_par_iter().with_max_len(1).for_each(task);
    }
}

fn check(heads: Heads, qkv: &[f32], sequences: &[Cached], keys: &[f32], values: &[f32]) {
    let page = heads.kv_width() * PAGE;
    let rows: usize = sequences.iter().map(|sequence| sequence.rows).sum();
    assert_eq!(qkv.len(), rows * heads.row_width(), "lengths do not match");
    assert!(keys.len() == values.len() && keys.len().is_multiple_of(page), "keys and values are whole pages");
    for sequence in sequences {
        assert!(sequence.rows <= sequence.positions, "a sequence has at least its rows");
        assert!(sequence.positions <= sequence.pages.len() * PAGE, "a sequence has pages for its positions");
        let inside = |number: &u32| (*number as usize) < keys.len() / page;
        assert!(sequence.pages.iter().all(inside), "a page lies outside");
    }
}

/// Where a head's keys begin in a page, and its values.
#[inline(always)]
fn head_offset(heads: Heads, page: u32, head: usize) -> usize {
    (page as usize * heads.kv_heads + head) * heads.head_dim * PAGE
}

/// One key head of one sequence.
struct Job<'a> {
    profile: Profile,
    heads: Heads,
    sequence: Cached<'a>,
    kv_head: usize,
    keys: &'a [f32],
    values: &'a [f32],
}

/// What a thread works in.
#[derive(Default)]
struct Scratch {
    scores: Vec<f32>,
    gathered: Vec<f32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl Job<'_> {
    fn attend(&self, query_head: usize, qkv: &[f32], mut z: ViewMut) {
        let (heads, rows) = (self.heads, self.sequence.rows);
        let is_first = query_head == self.kv_head * heads.group();
        if self.profile == Profile::F32Exact && rows <= ONE_BY_ONE_MAX {
            for (i, row) in qkv.chunks_exact(heads.row_width()).enumerate() {
                let query = &row[query_head * heads.head_dim..][..heads.head_dim];
                self.attend_one(query, self.sequence.positions - rows + i + 1, z.row(i));
            }
            return;
        }
        let from = query_head * heads.head_dim;
        let queries = View::strided(&qkv[from..], rows, heads.head_dim, heads.row_width(), 1);
        with_scratch(|packed| {
            if is_first {
                SCRATCH.with_borrow_mut(|scratch| {
                    packed.keys.pack(self.profile, self.gather_keys(&mut scratch.gathered));
                    packed.values.pack(self.profile, self.gather_values(&mut scratch.gathered));
                });
            }
            attend(packed, queries, self.sequence.positions - rows, z, None);
        });
    }

    /// One query over the first `valid` positions, straight from the pages.
    fn attend_one(&self, query: &[f32], valid: usize, z: &mut [f32]) {
        let pages = &self.sequence.pages[..valid.div_ceil(PAGE)];
        SCRATCH.with_borrow_mut(|Scratch { scores, .. }| {
            scores.resize(pages.len() * PAGE, 0.0);
            score(query, self.heads, self.kv_head, pages, self.keys, scores);
            let (_, sum) = exponentials(&mut scores[..valid], valid, scale(self.heads.head_dim));
            weigh(&scores[..valid], self.heads, self.kv_head, pages, self.values, z);
            divide(z, 1.0 / sum);
        });
    }

    /// The keys of all positions, `[head_dim, positions]`.
    fn gather_keys<'a>(&self, to: &'a mut Vec<f32>) -> View<'a> {
        let (dim, positions) = (self.heads.head_dim, self.sequence.positions);
        to.resize(dim * positions, 0.0);
        for (page, first) in self.sequence.pages.iter().zip((0..positions).step_by(PAGE)) {
            let keys = &self.keys[head_offset(self.heads, *page, self.kv_head)..][..dim * PAGE];
            let count = PAGE.min(positions - first);
            for (d, keys) in keys.chunks_exact(PAGE).enumerate() {
                to[d * positions + first..][..count].copy_from_slice(&keys[..count]);
            }
        }
        View::row_major(to, dim, positions)
    }

    /// The values of all positions, `[positions, head_dim]`.
    fn gather_values<'a>(&self, to: &'a mut Vec<f32>) -> View<'a> {
        let (dim, positions) = (self.heads.head_dim, self.sequence.positions);
        to.clear();
        for (page, first) in self.sequence.pages.iter().zip((0..positions).step_by(PAGE)) {
            let count = PAGE.min(positions - first);
            to.extend_from_slice(&self.values[head_offset(self.heads, *page, self.kv_head)..][..dim * count]);
        }
        View::row_major(to, positions, dim)
    }
}

multiversion! {
    /// Scores of one query against every position of `pages`.
    fn score(query: &[f32], heads: Heads, kv_head: usize, pages: &[u32], keys: &[f32], scores: &mut [f32]) {
        let page_keys = |page: u32| {
            keys[head_offset(heads, page, kv_head)..][..heads.head_dim * PAGE].as_chunks::<PAGE>().0
        };
        let (fours, rest) = pages.as_chunks::<4>();
        let (scores, last) = scores.as_chunks_mut::<PAGE>().0.split_at_mut(4 * fours.len());
        for (four, scores) in fours.iter().zip(scores.as_chunks_mut::<4>().0) {
            score_pages(query, four.map(page_keys), scores);
        }
        for (page, scores) in rest.iter().zip(last.as_chunks_mut::<1>().0) {
            score_pages(query, [page_keys(*page)], scores);
        }
    }

    /// `z`: the sum of values, each times its position's weight, by the chunk rule.
    fn weigh(weights: &[f32], heads: Heads, kv_head: usize, pages: &[u32], values: &[f32], z: &mut [f32]) {
        z.fill(0.0);
        let page_values = |page: u32| {
            &values[head_offset(heads, page, kv_head)..][..heads.head_dim * PAGE]
        };
        for (weights, pages) in weights.chunks(CHUNK).zip(pages.chunks(CHUNK / PAGE)) {
            let mut from = 0;
            while from + 64 <= heads.head_dim {
                weigh_block::<4>(weights, pages, page_values, heads.head_dim, from, z);
                from += 64;
            }
            while from + 16 <= heads.head_dim {
                weigh_block::<1>(weights, pages, page_values, heads.head_dim, from, z);
                from += 16;
            }
            for d in from..heads.head_dim {
                let mut chain = 0f32;
                for (weights, page) in weights.chunks(PAGE).zip(pages) {
                    for (weight, value) in weights.iter().zip(page_values(*page).chunks_exact(heads.head_dim)) {
                        chain = weight.mul_add(value[d], chain);
                    }
                }
                z[d] += chain;
            }
        }
    }
}

/// Several pages at once, so that one chain does not wait for another.
#[inline(always)]
fn score_pages<const N: usize>(query: &[f32], keys: [&[[f32; PAGE]]; N], scores: &mut [[f32; PAGE]; N]) {
    *scores = [[0.0; PAGE]; N];
    for (part, query) in query.chunks(CHUNK).enumerate() {
        let keys = keys.map(|keys| &keys[part * CHUNK..][..query.len()]);
        let mut chains = [[0f32; PAGE]; N];
        for d in 0..query.len() {
            for n in 0..N {
                for lane in 0..PAGE {
                    chains[n][lane] = query[d].mul_add(keys[n][d][lane], chains[n][lane]);
                }
            }
        }
        for n in 0..N {
            for lane in 0..PAGE {
                scores[n][lane] += chains[n][lane];
            }
        }
    }
}

/// One chunk of positions, `16 N` elements of their values from `from` on.
#[inline(always)]
fn weigh_block<'a, const N: usize>(
    weights: &[f32],
    pages: &[u32],
    page_values: impl Fn(u32) -> &'a [f32],
    head_dim: usize,
    from: usize,
    z: &mut [f32],
) {
    let mut chains = [[0f32; 16]; N];
    for (weights, page) in weights.chunks(PAGE).zip(pages) {
        for (weight, value) in weights.iter().zip(page_values(*page).chunks_exact(head_dim)) {
            let value = &value[from..from + 16 * N].as_chunks::<16>().0[..N];
            for n in 0..N {
                for lane in 0..16 {
                    chains[n][lane] = weight.mul_add(value[n][lane], chains[n][lane]);
                }
            }
        }
    }
    for (z, chain) in z[from..from + 16 * N].iter_mut().zip(chains.as_flattened()) {
        *z += *chain;
    }
}
