//! How gradients change parameters.

use serde::{Deserialize, Serialize};
use zoo_kernels::optimizer::{AdamW, Muon, Sgd};

use crate::definition::Role;
use crate::parameter::Parameter;
use crate::state::Remembered;

/// An optimiser and its settings; the learning rate comes with every step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
pub enum Optimizer {
    /// AdamW for every parameter.
    AdamW(AdamWSettings),
    /// Muon for the matrices of hidden layers, AdamW for tables, head, gains and biases.
    Muon(MuonSettings),
}

/// An optimiser of one VNode, in place of the job's; the learning rate is the job's.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
pub enum NodeOptimizer {
    /// AdamW for every parameter.
    AdamW(AdamWSettings),
    /// Muon for matrices of hidden layers, AdamW for the rest.
    Muon(MuonSettings),
    /// Plain descent, which remembers nothing.
    Sgd(SgdSettings),
}

/// Settings of plain descent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SgdSettings {
    /// Decay of parameters, times the learning rate.
    pub weight_decay: f64,
    /// Which parameters decay.
    pub decay: Decay,
}

/// Settings of AdamW (Loshchilov and Hutter, 2019).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdamWSettings {
    /// Decay of the mean of gradients.
    pub beta1: f64,
    /// Decay of the mean of squared gradients.
    pub beta2: f64,
    /// Added to the root of the mean of squares.
    pub epsilon: f64,
    /// Decay of parameters, times the learning rate.
    pub weight_decay: f64,
    /// Which parameters decay.
    pub decay: Decay,
}

/// Settings of Muon (Jordan et al., 2024), scaled so that it shares AdamW's learning rate and decay.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MuonSettings {
    /// Decay of the momentum.
    pub momentum: f64,
    /// Whether an update looks one momentum step ahead.
    pub nesterov: bool,
    /// For the parameters that are not matrices of hidden layers; its weight decay holds for all.
    pub adamw: AdamWSettings,
}

/// Which parameters weight decay applies to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decay {
    /// Every parameter.
    All,
    /// Those with rows and columns: not gains and biases.
    #[default]
    Matrices,
}

impl Default for AdamWSettings {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weight_decay: 0.1, decay: Decay::Matrices }
    }
}

impl Default for MuonSettings {
    fn default() -> Self {
        Self { momentum: 0.95, nesterov: true, adamw: AdamWSettings::default() }
    }
}

impl Default for Optimizer {
    fn default() -> Self {
        Self::AdamW(AdamWSettings::default())
    }
}

impl Optimizer {
    /// What it remembers of a parameter of that role.
    pub fn remembers(&self, role: &Role) -> Remembered {
        match (self, role) {
            (Self::Muon(_), Role::Matrix(_)) => Remembered::Muon,
            _ => Remembered::AdamW,
        }
    }

    /// One step, numbered from 1, for one parameter; without a gradient it stays as it is.
    pub(crate) fn update(&self, parameter: &mut Parameter, step: u64, lr: f64, gradient_scale: f32) {
        match self {
            Self::AdamW(settings) => settings.update(parameter, step, lr, gradient_scale),
            Self::Muon(settings) => match parameter.role().clone() {
                Role::Matrix(rows) => settings.update(parameter, &rows, lr, gradient_scale),
                Role::Table | Role::Vector => settings.adamw.update(parameter, step, lr, gradient_scale),
            },
        }
    }
}

impl NodeOptimizer {
    /// As [`Optimizer::update`].
    pub(crate) fn update(&self, parameter: &mut Parameter, step: u64, lr: f64, gradient_scale: f32) {
        match *self {
            Self::AdamW(settings) => Optimizer::AdamW(settings).update(parameter, step, lr, gradient_scale),
            Self::Muon(settings) => Optimizer::Muon(settings).update(parameter, step, lr, gradient_scale),
            Self::Sgd(settings) => settings.update(parameter, lr, gradient_scale),
        }
    }
}

impl Decay {
    fn applies_to(self, parameter: &Parameter) -> bool {
        self == Self::All || parameter.shape().len() > 1
    }
}

impl SgdSettings {
    fn update(&self, parameter: &mut Parameter, lr: f64, gradient_scale: f32) {
        let decay = self.decay.applies_to(parameter);
        let Parameter { value, gradient, .. } = parameter;
        let Some(gradient) = gradient.get() else { return };
        Sgd { lr, weight_decay: self.weight_decay }.step(decay, value, gradient, gradient_scale);
    }
}

impl AdamWSettings {
    fn update(&self, parameter: &mut Parameter, step: u64, lr: f64, gradient_scale: f32) {
        let decay = self.decay.applies_to(parameter);
        let Parameter { value, gradient, moments, .. } = parameter;
        let Some(gradient) = gradient.get() else { return };
        let (mean, square) = moments.adamw(value.len());
        let Self { beta1, beta2, epsilon: eps, weight_decay, .. } = *self;
        let adamw = AdamW { lr, beta1, beta2, eps, weight_decay };
        adamw.step(step, decay, value, gradient, mean, square, gradient_scale);
    }
}

impl MuonSettings {
    /// Every logical matrix that is stacked in the parameter is orthogonalised by itself.
    fn update(&self, parameter: &mut Parameter, logical_rows: &[usize], lr: f64, gradient_scale: f32) {
        let columns = parameter.shape()[1];
        let Parameter { value, gradient, moments, .. } = parameter;
        let Some(gradient) = gradient.get() else { return };
        let momentum = moments.muon(value.len());
        let Self { momentum: decay, nesterov, adamw } = *self;
        let muon = Muon { lr, momentum: decay, nesterov, weight_decay: adamw.weight_decay };
        let mut from = 0;
        for &rows in logical_rows {
            let matrix = from..from + rows * columns;
            from = matrix.end;
            let (value, momentum) = (&mut value[matrix.clone()], &mut momentum[matrix.clone()]);
            muon.step((rows, columns), value, &gradient[matrix], momentum, gradient_scale);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::Pool;
    use crate::definition::{InitialValue, ParameterDefinition};

    fn parameter(shape: &[usize], role: Role) -> Parameter {
        let initial = InitialValue::Normal(1.0);
        let mut parameter =
            Parameter::new(ParameterDefinition { name: "weight", shape: shape.to_vec(), role, initial });
        parameter.initialise(1, 2);
        let gradient: Vec<f32> = parameter.value.iter().rev().map(|value| 0.5 * value).collect();
        parameter.gradient.receive(&Pool::default(), gradient.len()).0.copy_from_slice(&gradient);
        parameter
    }

    #[test]
    fn muon_orthogonalises_each_stacked_matrix_by_itself() {
        let muon = Optimizer::Muon(MuonSettings::default());
        let mut stacked = parameter(&[12, 8], Role::Matrix(vec![6, 4, 2]));
        let (mut expected, gradient) = (stacked.value.clone(), stacked.gradient().expect("set").to_vec());
        muon.update(&mut stacked, 1, 0.01, 0.5);
        let kernel = Muon { lr: 0.01, momentum: 0.95, nesterov: true, weight_decay: 0.1 };
        for (from, rows) in [(0, 6), (6, 4), (10, 2)] {
            let matrix = from * 8..(from + rows) * 8;
            let mut momentum = vec![0.0; rows * 8];
            kernel.step((rows, 8), &mut expected[matrix.clone()], &gradient[matrix], &mut momentum, 0.5);
        }
        assert_eq!(stacked.value, expected);
    }

    #[test]
    fn decay_spares_vectors_unless_it_is_for_all() {
        let moved = |decay, shape: &[usize]| {
            let mut parameter = parameter(shape, Role::Vector);
            parameter.gradient.receive(&Pool::default(), shape.iter().product()).0.fill(0.0);
            let before = parameter.value.clone();
            let settings = AdamWSettings { decay, ..AdamWSettings::default() };
            Optimizer::AdamW(settings).update(&mut parameter, 1, 0.5, 1.0);
            parameter.value != before
        };
        assert!(!moved(Decay::Matrices, &[8]));
        assert!(moved(Decay::Matrices, &[2, 4]) && moved(Decay::All, &[8]) && moved(Decay::All, &[2, 4]));
    }

    #[test]
    fn a_parameter_without_a_gradient_stays_as_it_is() {
        let mut parameter = parameter(&[4, 4], Role::Table);
        parameter.gradient.clear();
        let before = parameter.value.clone();
        Optimizer::default().update(&mut parameter, 1, 0.5, 1.0);
        assert_eq!((parameter.value, parameter.moments), (before, crate::parameter::Moments::None));
    }

    #[test]
    fn settings_have_one_text_form_and_refuse_unknown_keys() {
        let muon = Optimizer::Muon(MuonSettings::default());
        let text = serde_json::to_string(&muon).expect("plain data");
        assert_eq!(serde_json::from_str::<Optimizer>(&text).expect("its own form"), muon);
        let short: Optimizer = serde_json::from_str(r#"{"type":"adamw"}"#).expect("defaults");
        assert_eq!(short, Optimizer::default());
        assert!(serde_json::from_str::<Optimizer>(r#"{"type":"adamw","beta3":1}"#).is_err());
    }
}
