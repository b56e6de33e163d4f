//! Components without parameters.

use std::sync::Arc;

use zoo_kernels::activation::{self, Activation};
use zoo_kernels::columns::{self, Columns};
use zoo_kernels::dropout::{self, Dropout as Place};
use zoo_kernels::heads::{self, Heads};
use zoo_kernels::rope::{self, Direction};

use super::{Gradients, Kept, Pass};
use crate::buffer::Buffer;

/// A function of every element; keeps its input.
#[derive(Clone, Copy)]
pub(crate) enum Pointwise {
    /// Of one.
    Function(Activation),
    /// Of a gate and what it lets through; the elements of an output row.
    Swiglu(usize),
}

impl Pointwise {
    pub fn forward(self, pass: &Pass, input: Arc<Buffer>, kept: Option<&mut Kept>) -> Buffer {
        let y = match self {
            Self::Function(function) => {
                let mut y = pass.pool.take(input.len());
                activation::forward(function, &input, &mut y);
                y
            }
            Self::Swiglu(width) => {
                let mut y = pass.pool.take(input.len() / 2);
                activation::swiglu_forward(&input, width, &mut y);
                y
            }
        };
        if let Some(kept) = kept {
            kept.keep(input);
        }
        y
    }

    pub fn backward(self, pass: &Pass, mut arriving: Buffer, gradients: &mut Gradients, kept: &mut Kept) {
        // The input becomes its gradient, and what arrives the output.
        let mut x = pass.pool.own(kept.take());
        match self {
            Self::Function(function) => activation::backward(function, &mut x, &mut arriving),
            Self::Swiglu(width) => activation::swiglu_backward(&mut x, width, &mut arriving),
        }
        drop(arriving);
        gradients.give(0, x);
    }
}

/// Rotates heads by their position; keeps nothing.
#[derive(Clone)]
pub(crate) struct Rope {
    pub width: usize,
    pub table: Arc<rope::Table>,
}

impl Rope {
    pub fn forward(&self, pass: &Pass, input: Arc<Buffer>) -> Buffer {
        let mut y = pass.pool.own(input);
        match pass.positions {
            None => self.rotate(pass, &mut y, Direction::Forward),
            Some(positions) => heads::rotate_at(self.heads(), &self.table, &mut y, positions),
        }
        y
    }

    pub fn backward(&self, pass: &Pass, mut arriving: Buffer, gradients: &mut Gradients) {
        self.rotate(pass, &mut arriving, Direction::Inverse);
        gradients.give(0, arriving);
    }

    fn rotate(&self, pass: &Pass, rows: &mut Buffer, direction: Direction) {
        heads::rotate(self.heads(), &self.table, rows, pass.context, 0, direction);
    }

    /// All of a row turns.
    fn heads(&self) -> Heads {
        let head_dim = self.table.head_dim();
        Heads { query_heads: self.width / head_dim, kv_heads: 0, head_dim }
    }
}

/// Rows side by side; keeps nothing.
#[derive(Clone)]
pub(crate) struct Stack {
    pub widths: Vec<usize>,
}

impl Stack {
    pub fn forward(&self, pass: &Pass, inputs: Vec<Arc<Buffer>>) -> Buffer {
        let width = self.widths.iter().sum();
        let mut y = pass.pool.take(pass.tokens.len() * width);
        let mut first = 0;
        for (input, &own) in inputs.iter().zip(&self.widths) {
            columns::copy(own, input, Columns { width: own, first: 0 }, &mut y, Columns { width, first });
            first += own;
        }
        y
    }

    pub fn backward(&self, pass: &Pass, arriving: &Buffer, gradients: &mut Gradients) {
        let width = self.widths.iter().sum();
        let mut first = width;
        for (slot, &own) in self.widths.iter().enumerate().rev() {
            first -= own;
            let mut part = pass.pool.take(pass.tokens.len() * own);
            let target = Columns { width: own, first: 0 };
            columns::copy(own, arriving, Columns { width, first }, &mut part, target);
            gradients.give(slot, part);
        }
    }
}

/// Elements set to zero in training; keeps nothing, since the places are known.
#[derive(Clone)]
pub(crate) struct Dropout {
    pub width: usize,
    pub rate: f64,
    pub stream: u64,
}

impl Dropout {
    pub fn forward(&self, pass: &Pass, input: Arc<Buffer>) -> Arc<Buffer> {
        if pass.noise.is_none() {
            return input;
        }
        let mut y = pass.pool.own(input);
        self.apply(pass, &mut y);
        Arc::new(y)
    }

    pub fn backward(&self, pass: &Pass, mut arriving: Buffer, gradients: &mut Gradients) {
        self.apply(pass, &mut arriving);
        gradients.give(0, arriving);
    }

    fn apply(&self, pass: &Pass, rows: &mut Buffer) {
        if let Some(noise) = pass.noise {
            let place = Place { rate: self.rate, seed: noise.seed, stream: self.stream };
            dropout::apply(place, rows, (noise.first_row * self.width) as u64);
        }
    }
}
