//! One linear layer, with a weight of its own or an embedding's table.

use std::sync::Arc;

use zoo_kernels::linear::{self, Shape};
use zoo_kernels::{Onto, Profile};

use super::{Gradients, Head, Kept, Pass};
use crate::buffer::Buffer;
use crate::parameter::{Gradient, Parameter, Weight};

/// `x w^T + b`. Parameters: weight, unless it is borrowed, then [bias].
#[derive(Clone)]
pub(crate) struct Linear {
    pub inputs: usize,
    pub outputs: usize,
    pub bias: bool,
    /// The rule of its matrix products.
    pub profile: Profile,
}

/// A parameter's values, and where their gradient goes.
pub(crate) struct Trained<'a> {
    pub value: &'a [f32],
    pub gradient: &'a mut Gradient,
}

impl Linear {
    /// The bias, if there is one, is the last parameter.
    pub fn forward(
        &self,
        pass: &Pass,
        weight: Weight,
        parameters: &[Parameter],
        input: Arc<Buffer>,
        kept: Option<&mut Kept>,
    ) -> Buffer {
        let x = pass.operand(input);
        let mut y = pass.pool.take(pass.tokens.len() * self.outputs);
        weight.forward(pass.profile, self.shape(pass), x.read(), &mut y, Onto::Zero);
        if let Some(bias) = parameters.last().filter(|_| self.bias) {
            linear::add_bias(&mut y, &bias.value);
        }
        if let Some(kept) = kept {
            kept.keep_operand(x);
        }
        y
    }

    pub fn backward(
        &self,
        pass: &Pass,
        weight: Trained,
        bias: Option<Trained>,
        arriving: &Buffer,
        gradients: &mut Gradients,
        kept: &mut Kept,
    ) {
        let (x, shape) = (kept.take_operand(), self.shape(pass));
        if let Some(bias) = bias {
            let (dbias, onto) = bias.gradient.receive(pass.pool, self.outputs);
            linear::backward_bias(arriving, dbias, onto);
        }
        let (dw, onto) = weight.gradient.receive(pass.pool, weight.value.len());
        linear::backward_weight(pass.profile, shape, arriving, x.read(), dw, onto);
        let (dx, onto) = gradients.receive(0, pass.pool, x.len());
        linear::backward_input(pass.profile, shape, arriving, weight.value, dx, onto);
    }

    /// The head that this layer and a cross-entropy behind it come to.
    pub fn as_head(&self) -> Head {
        Head { vocab_size: self.outputs, width: self.inputs, profile: self.profile }
    }

    fn shape(&self, pass: &Pass) -> Shape {
        Shape { rows: pass.tokens.len(), inputs: self.inputs, outputs: self.outputs }
    }
}
