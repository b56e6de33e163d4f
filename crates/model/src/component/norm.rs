//! RMSNorm and LayerNorm.

use std::sync::Arc;

use zoo_kernels::norm;

use super::{Gradients, Kept, Pass};
use crate::buffer::Buffer;
use crate::definition::NormForm;
use crate::parameter::Parameter;

/// Normalises rows. Keeps its input and one or two numbers of each row; its output is the
/// consumer's to keep, so there is nothing that recomputing would save.
#[derive(Clone)]
pub(crate) struct Norm {
    pub form: NormForm,
    pub width: usize,
    pub epsilon: f32,
    pub bias: bool,
}

impl Norm {
    pub fn forward(
        &self,
        pass: &Pass,
        parameters: &[Parameter],
        input: Arc<Buffer>,
        kept: Option<&mut Kept>,
    ) -> Buffer {
        let rows = input.len() / self.width;
        let mut y = pass.pool.take(input.len());
        let mut rstd = pass.pool.take(rows);
        let mut mean = None;
        let gain = &parameters[0].value;
        match self.form {
            NormForm::Rms => norm::rms_forward(&input, gain, self.epsilon, &mut y, &mut rstd),
            NormForm::Layer => {
                let bias = self.bias.then(|| &parameters[1].value[..]);
                let mean = mean.insert(pass.pool.take(rows));
                norm::layer_forward(&input, gain, bias, self.epsilon, &mut y, mean, &mut rstd);
            }
        }
        if let Some(kept) = kept {
            kept.keep(input);
            kept.keep(rstd);
            mean.into_iter().for_each(|mean| kept.keep(mean));
        }
        y
    }

    pub fn backward(
        &self,
        pass: &Pass,
        parameters: &mut [Parameter],
        arriving: &Buffer,
        gradients: &mut Gradients,
        kept: &mut Kept,
    ) {
        let [x, rstd] = [kept.take(), kept.take()];
        let (dx, dx_onto) = gradients.receive(0, pass.pool, x.len());
        let (gain, bias) = parameters.split_at_mut(1);
        let Parameter { value: gain, gradient, .. } = &mut gain[0];
        let (dgain, onto) = gradient.receive(pass.pool, gain.len());
        match self.form {
            NormForm::Rms => norm::rms_backward(arriving, &x, gain, &rstd, dx, dx_onto, dgain, onto),
            NormForm::Layer => {
                let mean = kept.take();
                let dbias = bias.first_mut().map(|bias| bias.gradient.receive(pass.pool, self.width).0);
                norm::layer_backward(arriving, &x, gain, &mean, &rstd, dx, dx_onto, dgain, dbias, onto);
            }
        }
    }
}
