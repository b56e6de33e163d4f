//! Matrix products: of linear layers, of the head, and of attention.

use std::ops::Range;

use zoo_kernels::matmul::{CHUNK, View, ViewMut, matmul};
use zoo_kernels::reference::bf16::pair_rule;
use zoo_kernels::{Onto, Profile};

use super::fold::Chain;
use super::{BLOCK, Panel, Read, SEGMENT, Unread};
use crate::tree::word;

/// Many products of one shape. Its axes are sequence, key head, query head of that key head, row, column; a linear layer has only the
/// last two.
#[derive(Clone, Debug, PartialEq)]
pub struct Product {
    /// The rule of its sums.
    pub profile: Profile,
    /// Length of every axis.
    pub extents: [usize; 5],
    /// The axes in the order in which the output lies in memory; the last is the column.
    pub order: [usize; 5],
    /// The left operand.
    pub a: Walk,
    /// The right operand.
    pub b: Walk,
    /// The contraction.
    pub terms: Terms,
    /// Elements right of the diagonal are +0 and have no terms.
    pub masked: bool,
    /// The result is added to input 2, which has the output's shape.
    pub onto: bool,
}

/// Where the terms of an operand lie.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Walk {
    /// The first element's first term.
    pub first: usize,
    /// From one element to the next along every axis.
    pub strides: [usize; 5],
    /// From one term to the next.
    pub step: usize,
}

/// How many terms an element has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Terms {
    /// As many.
    All(usize),
    /// So many keys, but none after the row's block of 64.
    ToBlock(usize),
}

const ROW: usize = 3;
const COLUMN: usize = 4;
const IN_ORDER: [usize; 5] = [0, 1, 2, ROW, COLUMN];

impl Walk {
    fn at(&self, place: [usize; 5]) -> usize {
        self.first + self.strides.iter().zip(place).map(|(stride, at)| stride * at).sum::<usize>()
    }
}

impl Product {
    /// `y = x w^T`: x `[rows, inputs]`, w `[outputs, inputs]`, y `[rows, outputs]`.
    pub fn forward(profile: Profile, rows: usize, inputs: usize, outputs: usize, onto: bool) -> Self {
        let (a, b) = (Walk::new(ROW, inputs, 1), Walk::new(COLUMN, inputs, 1));
        Self::matrix(profile, [rows, outputs], a, b, inputs, onto)
    }

    /// `dx = dy w`.
    pub fn backward_input(profile: Profile, rows: usize, inputs: usize, outputs: usize, onto: bool) -> Self {
        let (a, b) = (Walk::new(ROW, outputs, 1), Walk::new(COLUMN, 1, inputs));
        Self::matrix(profile, [rows, inputs], a, b, outputs, onto)
    }

    /// `dw = dy^T x`.
    pub fn backward_weight(profile: Profile, rows: usize, inputs: usize, outputs: usize) -> Self {
        let (a, b) = (Walk::new(ROW, 1, outputs), Walk::new(COLUMN, 1, inputs));
        Self::matrix(profile, [outputs, inputs], a, b, rows, false)
    }

    fn matrix(
        profile: Profile,
        [rows, columns]: [usize; 2],
        a: Walk,
        b: Walk,
        terms: usize,
        onto: bool,
    ) -> Self {
        let extents = [1, 1, 1, rows, columns];
        Self { profile, extents, order: IN_ORDER, a, b, terms: Terms::All(terms), masked: false, onto }
    }

    fn place(&self, element: usize) -> [usize; 5] {
        let (mut place, mut rest) = ([0; 5], element);
        for axis in self.order.into_iter().rev() {
            place[axis] = rest % self.extents[axis];
            rest /= self.extents[axis];
        }
        place
    }

    fn terms_at(&self, place: [usize; 5]) -> usize {
        match self.terms {
            _ if self.masked && place[COLUMN] > place[ROW] => 0,
            Terms::All(terms) => terms,
            Terms::ToBlock(keys) => keys.min((place[ROW] / BLOCK + 1) * BLOCK),
        }
    }

    /// Terms of an element.
    pub fn terms(&self, element: usize) -> usize {
        self.terms_at(self.place(element))
    }

    /// See [`super::Operator::segment`].
    pub fn segment(
        &self,
        element: usize,
        segment: usize,
        before: &[u32],
        read: &mut impl Read,
    ) -> Result<Vec<u32>, Unread> {
        let place = self.place(element);
        let terms = self.terms_at(place);
        let mut chain = match segment {
            0 if self.onto => Chain::onto(read.value(2, element)?),
            _ => Chain::of(before),
        };
        let (from, to) = (segment * SEGMENT, terms.min((segment + 1) * SEGMENT));
        let (first_a, first_b) = (self.a.at(place), self.b.at(place));
        let (mut a, mut b) = ([0.0; SEGMENT], [0.0; SEGMENT]);
        for term in from..to {
            a[term - from] = read.value(0, first_a + term * self.a.step)?;
            b[term - from] = read.value(1, first_b + term * self.b.step)?;
        }
        match self.profile {
            Profile::F32Exact => {
                for (a, b) in a.iter().zip(&b).take(to - from) {
                    chain.chain = a.mul_add(*b, chain.chain);
                }
                chain.end_block(to, terms, CHUNK);
            }
            Profile::Bf16Exact => chain.sum = pair_rule(chain.sum, to - from, |i| a[i], |i| b[i]),
        }
        Ok(if to == terms { vec![word(chain.sum)] } else { chain.state() })
    }

    /// See [`super::Operator::compute`].
    pub fn compute(&self, inputs: &[&[f32]], length: usize) -> Vec<f32> {
        let (mut output, onto) = match self.onto {
            true => (inputs[2].to_vec(), Onto::Value),
            false => (vec![0.0; length], Onto::Zero),
        };
        for panel in self.panels(inputs) {
            let Panel { first, stride, rows, columns, .. } = panel;
            let [a, b] = panel.factors[0];
            let output = ViewMut::strided(&mut output[first..], rows, columns, stride);
            matmul(self.profile, a, b, output, onto);
        }
        if self.masked {
            let [.., rows, columns] = self.extents;
            output.chunks_mut(columns).enumerate().for_each(|(row, values)| {
                values[(row % rows + 1).min(columns)..].fill(0.0);
            });
        }
        output
    }

    /// The output in parts, each with one pair of factors. What they leave out is masked.
    pub fn panels<'a>(&self, inputs: &[&'a [f32]]) -> Vec<Panel<'a>> {
        let [sequences, key_heads, group, rows, columns] = self.extents;
        let mut panels = Vec::new();
        for index in 0..sequences * key_heads * group {
            let batch = [index / group / key_heads, index / group % key_heads, index % group, 0, 0];
            match self.terms {
                Terms::All(terms) if !self.masked => {
                    panels.push(self.panel(inputs, batch, 0..rows, (terms, columns)));
                }
                terms => panels.extend((0..rows).step_by(BLOCK).map(|from| {
                    let end = rows.min(from + BLOCK);
                    let size = match terms {
                        Terms::All(terms) => (terms, end.min(columns)),
                        Terms::ToBlock(keys) => (keys.min(from + BLOCK), columns),
                    };
                    self.panel(inputs, batch, from..end, size)
                })),
            }
        }
        panels
    }

    fn panel<'a>(
        &self,
        inputs: &[&'a [f32]],
        mut place: [usize; 5],
        rows: Range<usize>,
        (terms, columns): (usize, usize),
    ) -> Panel<'a> {
        place[ROW] = rows.start;
        let (a, b) = (&inputs[0][self.a.at(place)..], &inputs[1][self.b.at(place)..]);
        let to = self.output_walk();
        Panel {
            first: to.at(place),
            stride: to.strides[ROW],
            rows: rows.len(),
            columns,
            diagonal: self.masked.then_some(rows.start),
            factors: vec![[
                View::strided(a, rows.len(), terms, self.a.strides[ROW], self.a.step),
                View::strided(b, terms, columns, self.b.step, self.b.strides[COLUMN]),
            ]],
        }
    }

    /// Where the output's elements lie.
    fn output_walk(&self) -> Walk {
        let (mut strides, mut stride) = ([0; 5], 1);
        for axis in self.order.into_iter().rev() {
            strides[axis] = stride;
            stride *= self.extents[axis];
        }
        Walk { first: 0, strides, step: 0 }
    }
}

impl Walk {
    fn new(axis: usize, stride: usize, step: usize) -> Self {
        let mut strides = [0; 5];
        strides[axis] = stride;
        Self { first: 0, strides, step }
    }
}
