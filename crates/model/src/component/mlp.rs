//! Two linear layers around an activation.

use std::sync::Arc;

use zoo_kernels::Onto;
use zoo_kernels::activation::{self, Activation};
use zoo_kernels::linear::{self, Shape};

use super::{Gradients, Kept, Pass};
use crate::buffer::{Buffer, Operand, Pool};
use crate::definition::MlpActivation;
use crate::parameter::Parameter;

/// One MLP. Parameters: gate_up or up, [up_bias], down, [down_bias].
#[derive(Clone)]
pub(crate) struct Mlp {
    pub width: usize,
    pub hidden: usize,
    pub activation: MlpActivation,
    pub bias: bool,
}

const UP: usize = 0;
const UP_BIAS: usize = 1;

impl Mlp {
    pub fn forward(
        &self,
        pass: &Pass,
        parameters: &[Parameter],
        input: Arc<Buffer>,
        residual: Option<Arc<Buffer>>,
        kept: Option<&mut Kept>,
    ) -> Buffer {
        let x = pass.operand(input);
        let inner = self.inner(pass, parameters, &x);
        let activated = self.activate(pass.pool, &inner);
        let (mut y, onto) = match residual {
            Some(residual) => (pass.pool.own(residual), Onto::Value),
            None => (pass.pool.take(x.len()), Onto::Zero),
        };
        let down = self.down();
        let weight = parameters[down].weight();
        weight.forward(pass.profile, self.down_shape(pass), &activated[..], &mut y, onto);
        if self.bias {
            linear::add_bias(&mut y, &parameters[down + 1].value);
        }
        if let Some(kept) = kept {
            kept.keep_operand(x);
            if !pass.recompute {
                kept.keep(inner);
            }
        }
        y
    }

    /// The activated values are not kept: the gradient of the activation gives them again.
    pub fn backward(
        &self,
        pass: &Pass,
        parameters: &mut [Parameter],
        arriving: Buffer,
        gradients: &mut Gradients,
        kept: &mut Kept,
    ) {
        let x = kept.take_operand();
        let mut inner = match pass.recompute {
            true => self.inner(pass, parameters, &x),
            false => pass.pool.own(kept.take()),
        };
        // What stays is taken before what passes, so that the room of the latter is not an island.
        parameters[self.down()].reserve_gradient(pass.pool);
        let mut activated = pass.pool.take(pass.tokens.len() * self.hidden);
        linear::backward_input(
            pass.profile,
            self.down_shape(pass),
            &arriving,
            &parameters[self.down()].value,
            &mut activated,
            Onto::Zero,
        );
        // From here `inner` holds its gradient, and the gradient of the activated values gives way to the values.
        match self.plain_activation() {
            None => activation::swiglu_backward(&mut inner, self.hidden, &mut activated),
            Some(kind) => activation::backward(kind, &mut inner, &mut activated),
        }
        self.down_weight_backward(pass, parameters, &arriving, &activated);
        drop(activated);
        if gradients.slots() > 1 {
            gradients.give(1, arriving);
        } else {
            drop(arriving);
        }
        self.up_backward(pass, parameters, &inner, &x, gradients);
    }

    /// The first layer's output: `[rows, 2 * hidden]` (gate, then up) or `[rows, hidden]`.
    fn inner(&self, pass: &Pass, parameters: &[Parameter], x: &Operand) -> Buffer {
        let mut inner = pass.pool.take(pass.tokens.len() * self.inner_width());
        let shape = self.up_shape(pass);
        parameters[UP].weight().forward(pass.profile, shape, x.read(), &mut inner, Onto::Zero);
        if self.bias {
            linear::add_bias(&mut inner, &parameters[UP_BIAS].value);
        }
        inner
    }

    fn activate(&self, pool: &Pool, inner: &Buffer) -> Buffer {
        let mut activated = pool.take(inner.len() / self.inner_width() * self.hidden);
        match self.plain_activation() {
            None => activation::swiglu_forward(inner, self.hidden, &mut activated),
            Some(kind) => activation::forward(kind, inner, &mut activated),
        }
        activated
    }

    fn down_weight_backward(&self, pass: &Pass, parameters: &mut [Parameter], dy: &[f32], activated: &[f32]) {
        let down = self.down();
        if self.bias {
            let (dbias, onto) = parameters[down + 1].gradient.receive(pass.pool, self.width);
            linear::backward_bias(dy, dbias, onto);
        }
        let weight = &mut parameters[down];
        let (dw, onto) = weight.gradient.receive(pass.pool, weight.value.len());
        linear::backward_weight(pass.profile, self.down_shape(pass), dy, activated, dw, onto);
    }

    fn up_backward(
        &self,
        pass: &Pass,
        parameters: &mut [Parameter],
        dinner: &Buffer,
        x: &Operand,
        gradients: &mut Gradients,
    ) {
        let shape = self.up_shape(pass);
        if self.bias {
            let (dbias, onto) = parameters[UP_BIAS].gradient.receive(pass.pool, self.inner_width());
            linear::backward_bias(dinner, dbias, onto);
        }
        let Parameter { value: w, gradient, .. } = &mut parameters[UP];
        let (dw, onto) = gradient.receive(pass.pool, w.len());
        linear::backward_weight(pass.profile, shape, dinner, x.read(), dw, onto);
        let (dx, onto) = gradients.receive(0, pass.pool, x.len());
        linear::backward_input(pass.profile, shape, dinner, w, dx, onto);
    }

    fn plain_activation(&self) -> Option<Activation> {
        match self.activation {
            MlpActivation::Swiglu => None,
            MlpActivation::Gelu => Some(Activation::Gelu),
            MlpActivation::Relu => Some(Activation::Relu),
            MlpActivation::Silu => Some(Activation::Silu),
        }
    }

    fn inner_width(&self) -> usize {
        if self.activation == MlpActivation::Swiglu { 2 * self.hidden } else { self.hidden }
    }

    /// Where the second layer's weight is in the VNode's list.
    fn down(&self) -> usize {
        1 + usize::from(self.bias)
    }

    fn up_shape(&self, pass: &Pass) -> Shape {
        Shape { rows: pass.tokens.len(), inputs: self.width, outputs: self.inner_width() }
    }

    fn down_shape(&self, pass: &Pass) -> Shape {
        Shape { rows: pass.tokens.len(), inputs: self.hidden, outputs: self.width }
    }
}
