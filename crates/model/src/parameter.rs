//! A VNode's parameter: its values, its gradient, its optimiser state.

use zoo_kernels::{Onto, random};

use crate::definition::{InitialValue, ParameterDefinition, Role};

/// One tensor that training changes.
#[derive(Clone, Debug)]
pub struct Parameter {
    definition: ParameterDefinition,
    /// Row-major, of the definition's shape.
    pub value: Vec<f32>,
    pub(crate) gradient: Gradient,
    pub(crate) moments: Moments,
}

/// A gradient accumulator. It starts every step empty, so that the first contribution is written
/// rather than added to memory that had to be cleared.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gradient {
    values: Vec<f32>,
    started: bool,
}

/// What an optimiser remembers of a parameter.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Moments {
    /// Nothing yet.
    #[default]
    None,
    /// AdamW: running means of the gradient and of its square.
    AdamW { mean: Vec<f32>, square: Vec<f32> },
    /// Muon: the momentum.
    Muon { momentum: Vec<f32> },
}

impl Parameter {
    pub(crate) fn new(definition: ParameterDefinition) -> Self {
        let value = vec![0.0; definition.len()];
        Self { definition, value, gradient: Gradient::default(), moments: Moments::None }
    }

    /// Name within the VNode.
    pub fn name(&self) -> &'static str {
        self.definition.name
    }

    /// Rows and columns, or the length of a vector.
    pub fn shape(&self) -> &[usize] {
        &self.definition.shape
    }

    /// Its part in the network.
    pub fn role(&self) -> &Role {
        &self.definition.role
    }

    /// The step's gradient so far; none before the first backward pass of a step.
    pub fn gradient(&self) -> Option<&[f32]> {
        self.gradient.get()
    }

    /// Writes the values before training, drawn from `stream`.
    pub(crate) fn initialise(&mut self, seed: u64, stream: u64) {
        match self.definition.initial {
            InitialValue::Constant(constant) => self.value.fill(constant),
            InitialValue::Normal(std) => {
                for (index, value) in self.value.iter_mut().enumerate() {
                    *value = (random::normal(seed, stream, index as u64) * std) as f32;
                }
            }
        }
    }
}

impl Gradient {
    /// Where to write a contribution of `length` elements, and whether to add it.
    pub fn receive(&mut self, length: usize) -> (&mut [f32], Onto) {
        let onto = if self.started { Onto::Value } else { Onto::Zero };
        if self.values.is_empty() {
            self.values = vec![0.0; length];
        }
        self.started = true;
        (&mut self.values, onto)
    }

    /// As [`Self::receive`], for contributions that touch single rows: all others are zero.
    pub fn receive_rows(&mut self, length: usize) -> &mut [f32] {
        let (values, onto) = self.receive(length);
        onto.prepare(values);
        values
    }

    pub fn get(&self) -> Option<&[f32]> {
        self.started.then_some(&self.values[..])
    }

    pub fn get_mut(&mut self) -> Option<&mut [f32]> {
        self.started.then_some(&mut self.values[..])
    }

    /// Starts the next step.
    pub fn clear(&mut self) {
        self.started = false;
    }
}

impl Moments {
    /// Both running means, zero where there were none.
    pub fn adamw(&mut self, length: usize) -> (&mut [f32], &mut [f32]) {
        if !matches!(self, Self::AdamW { .. }) {
            *self = Self::AdamW { mean: vec![0.0; length], square: vec![0.0; length] };
        }
        let Self::AdamW { mean, square } = self else { unreachable!("set above") };
        (mean, square)
    }

    /// The momentum, zero where there was none.
    pub fn muon(&mut self, length: usize) -> &mut [f32] {
        if !matches!(self, Self::Muon { .. }) {
            *self = Self::Muon { momentum: vec![0.0; length] };
        }
        let Self::Muon { momentum } = self else { unreachable!("set above") };
        momentum
    }
}
