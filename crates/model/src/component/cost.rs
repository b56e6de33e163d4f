//! Costs of what a network says.

use std::sync::Arc;

use zoo_kernels::{cross_entropy, square_error};

use super::head::Cost;
use crate::buffer::{Buffer, Pool};
use crate::definition::CostFunction;
use crate::loss::LossSum;

/// A cost without parameters.
#[derive(Clone, Copy)]
pub(crate) struct PlainCost {
    pub function: CostFunction,
    pub width: usize,
}

impl PlainCost {
    /// The loss of `targets` given `x`, and the gradient of `scale` times their sum.
    pub fn cost(self, pool: &Pool, x: Arc<Buffer>, targets: &[u32], scale: f32) -> Cost {
        let mut gradient = pool.own(x);
        let mut losses = pool.take(targets.len());
        let Self { function, width } = self;
        match function {
            CostFunction::CrossEntropy => {
                cross_entropy::losses_and_gradient(&mut gradient, width, targets, scale, &mut losses);
            }
            CostFunction::SquareError => {
                square_error::losses_and_gradient(&mut gradient, width, targets, scale, &mut losses);
            }
        }
        Cost { loss: LossSum::of(&losses), gradient }
    }

    /// The loss of `targets` given `x`.
    pub fn evaluate(self, pool: &Pool, x: &[f32], targets: &[u32]) -> LossSum {
        let mut losses = pool.take(targets.len());
        match self.function {
            CostFunction::CrossEntropy => cross_entropy::losses(x, self.width, targets, &mut losses),
            CostFunction::SquareError => square_error::losses(x, self.width, targets, &mut losses),
        }
        LossSum::of(&losses)
    }
}
