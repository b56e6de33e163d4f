//! Gradients of keys and values: for every key a sum over the queries that saw it.

use zoo_kernels::heads::Heads;
use zoo_kernels::matmul::{View, ViewMut, matmul};
use zoo_kernels::reference::bf16::pair_rule;
use zoo_kernels::{Onto, Profile};

use super::{BLOCK, Panel, Read, Unread};
use crate::tree::word;

/// Input 0 are numbers of (sequence, query head, query, key), input 1 rows of tokens that begin with the query heads. The output is
/// (sequence, key, key head, element of the head). Query heads ascending, blocks of 64 queries ascending: each a segment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OverQueries {
    /// The rule of its products.
    pub profile: Profile,
    /// Heads of input 0.
    pub heads: Heads,
    /// Tokens of a sequence.
    pub context: usize,
    /// Elements of a row of input 1.
    pub row: usize,
}

/// An element's place.
struct Place {
    sequence: usize,
    key: usize,
    kv_head: usize,
    at: usize,
}

impl OverQueries {
    fn place(&self, element: usize) -> Place {
        let Heads { kv_heads, head_dim, .. } = self.heads;
        let row = element / (kv_heads * head_dim);
        Place {
            sequence: row / self.context,
            key: row % self.context,
            kv_head: element / head_dim % kv_heads,
            at: element % head_dim,
        }
    }

    fn blocks(&self, key: usize) -> usize {
        self.context.div_ceil(BLOCK) - key / BLOCK
    }

    /// Terms of an element.
    pub fn terms(&self, element: usize) -> usize {
        (self.context - self.place(element).key / BLOCK * BLOCK) * self.heads.group()
    }

    /// Segments of an element.
    pub fn segments(&self, element: usize) -> usize {
        self.blocks(self.place(element).key) * self.heads.group()
    }

    /// See [`super::Operator::segment`].
    pub fn segment(
        &self,
        element: usize,
        segment: usize,
        before: &[u32],
        read: &mut impl Read,
    ) -> Result<Vec<u32>, Unread> {
        let Place { sequence, key, kv_head, at } = self.place(element);
        let head = kv_head * self.heads.group() + segment / self.blocks(key);
        let first = (key / BLOCK + segment % self.blocks(key)) * BLOCK;
        let count = BLOCK.min(self.context - first);
        let (mut a, mut b) = ([0.0; BLOCK], [0.0; BLOCK]);
        for query in first..first + count {
            let in_head = sequence * self.heads.query_heads + head;
            a[query - first] = read.value(0, (in_head * self.context + query) * self.context + key)?;
            let token = sequence * self.context + query;
            b[query - first] = read.value(1, token * self.row + head * self.heads.head_dim + at)?;
        }
        let sum = f32::from_bits(before.first().copied().unwrap_or(0));
        let sum = match self.profile {
            Profile::F32Exact => sum + (0..count).fold(0.0, |chain, i| a[i].mul_add(b[i], chain)),
            Profile::Bf16Exact => pair_rule(sum, count, |i| a[i], |i| b[i]),
        };
        Ok(vec![word(sum)])
    }

    /// The output in blocks of keys, each with a pair of factors for every query head and block of queries.
    pub fn panels<'a>(&self, inputs: &[&'a [f32]]) -> Vec<Panel<'a>> {
        let (heads, context, dim) = (self.heads, self.context, self.heads.head_dim);
        let sequences = inputs[0].len() / (heads.query_heads * context * context);
        let mut panels = Vec::new();
        for (sequence, kv_head) in
            (0..sequences * heads.kv_heads).map(|at| (at / heads.kv_heads, at % heads.kv_heads))
        {
            for key in (0..context).step_by(BLOCK) {
                let rows = BLOCK.min(context - key);
                let factor = |head: usize, query: usize| {
                    let in_head = (sequence * heads.query_heads + head) * context;
                    let count = BLOCK.min(context - query);
                    let numbers = &inputs[0][(in_head + query) * context + key..];
                    let values = &inputs[1][(sequence * context + query) * self.row + head * dim..];
                    [
                        View::strided(numbers, count, rows, context, 1).transposed(),
                        View::strided(values, count, dim, self.row, 1),
                    ]
                };
                let of_head = |head| (key..context).step_by(BLOCK).map(move |query| factor(head, query));
                panels.push(Panel {
                    first: (sequence * context + key) * heads.kv_width() + kv_head * dim,
                    stride: heads.kv_width(),
                    rows,
                    columns: dim,
                    diagonal: None,
                    factors: (kv_head * heads.group()..(kv_head + 1) * heads.group())
                        .flat_map(of_head)
                        .collect(),
                });
            }
        }
        panels
    }

    /// See [`super::Operator::compute`].
    pub fn compute(&self, inputs: &[&[f32]], length: usize) -> Vec<f32> {
        let (heads, context, dim) = (self.heads, self.context, self.heads.head_dim);
        let mut output = vec![0.0; length];
        for index in 0..length / (context * heads.kv_width()) * heads.query_heads {
            let (sequence, head) = (index / heads.query_heads, index % heads.query_heads);
            let numbers = &inputs[0][index * context * context..][..context * context];
            let rows = &inputs[1][sequence * context * self.row + head * dim..];
            let to = sequence * context * heads.kv_width() + head / heads.group() * dim;
            for from in (0..context).step_by(BLOCK) {
                let end = context.min(from + BLOCK);
                let a = View::strided(&numbers[from * context..], end - from, end, context, 1).transposed();
                let b = View::strided(&rows[from * self.row..], end - from, dim, self.row, 1);
                let c = ViewMut::strided(&mut output[to..], end, dim, heads.kv_width());
                matmul(self.profile, a, b, c, Onto::Value);
            }
        }
        output
    }
}
