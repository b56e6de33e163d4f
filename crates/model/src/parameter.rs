//! A VNode's parameter: its values, its gradient, its optimiser state.

use zoo_kernels::linear::{self, Shape};
use zoo_kernels::matmul::{Operand, Prepared};
use zoo_kernels::{Onto, Profile, random};

use crate::buffer::{Buffer, Pool};
use crate::definition::{InitialValue, ParameterDefinition, Role};

/// One tensor that training changes.
#[derive(Debug)]
pub struct Parameter {
    definition: ParameterDefinition,
    /// Row-major, of the definition's shape.
    pub value: Vec<f32>,
    pub(crate) gradient: Gradient,
    pub(crate) moments: Moments,
    /// The weight as products read it, in a network that is only read; `value` may then be empty.
    prepared: Option<Prepared>,
}

/// A weight as a linear layer reads it.
#[derive(Clone, Copy)]
pub(crate) enum Weight<'a> {
    /// `[outputs, inputs]`.
    Rows(&'a [f32]),
    /// The same, packed.
    Prepared(&'a Prepared),
}

impl Weight<'_> {
    /// `y = x w^T` (or `y += x w^T`).
    pub fn forward<'x>(
        self,
        profile: Profile,
        shape: Shape,
        x: impl Into<Operand<'x>>,
        y: &mut [f32],
        onto: Onto,
    ) {
        match self {
            Self::Rows(w) => linear::forward(profile, shape, x, w, y, onto),
            Self::Prepared(prepared) => prepared.forward(shape.rows, x, y, onto),
        }
    }
}

/// A gradient accumulator. It starts every step empty, so that the first contribution is written rather than
/// added to memory that had to be cleared, and takes its room from the pool only then: in a backward pass that
/// is the room of activations of which it was made.
#[derive(Debug, Default)]
pub(crate) struct Gradient {
    values: Option<Buffer>,
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
        Self { definition, value, gradient: Gradient::default(), moments: Moments::None, prepared: None }
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

    /// What the optimiser remembers: AdamW's running means of the gradient and of its square, or Muon's momentum; nothing before the first
    /// step.
    pub fn remembered(&self) -> Vec<&[f32]> {
        match &self.moments {
            Moments::None => Vec::new(),
            Moments::AdamW { mean, square } => vec![mean, square],
            Moments::Muon { momentum } => vec![momentum],
        }
    }

    /// The weight of a linear layer.
    pub(crate) fn weight(&self) -> Weight<'_> {
        self.prepared.as_ref().map_or(Weight::Rows(&self.value), Weight::Prepared)
    }

    /// Packs the weight for products by the rule of `profile`. Unless `keep_rows`, the values are gone.
    pub(crate) fn prepare(&mut self, profile: Profile, keep_rows: bool) {
        let &[outputs, inputs] = self.shape() else { return };
        self.prepared = Some(Prepared::new(profile, &self.value, outputs, inputs));
        (self.gradient, self.moments) = (Gradient::default(), Moments::None);
        if !keep_rows {
            self.value = Vec::new();
        }
    }

    /// Takes the room for a gradient that will be received.
    pub(crate) fn reserve_gradient(&mut self, pool: &Pool) {
        self.gradient.reserve(pool, self.value.len());
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
    /// Takes the room for `length` elements, if there is none.
    pub fn reserve(&mut self, pool: &Pool, length: usize) {
        self.values.get_or_insert_with(|| pool.take(length));
    }

    /// Where to write a contribution of `length` elements, and whether to add it.
    pub fn receive(&mut self, pool: &Pool, length: usize) -> (&mut [f32], Onto) {
        let onto = if self.started { Onto::Value } else { Onto::Zero };
        self.started = true;
        (self.values.get_or_insert_with(|| pool.take(length)), onto)
    }

    /// As [`Self::receive`], for contributions that touch single rows: all others are zero.
    pub fn receive_rows(&mut self, pool: &Pool, length: usize) -> &mut [f32] {
        let (values, onto) = self.receive(pool, length);
        onto.prepare(values);
        values
    }

    pub fn get(&self) -> Option<&[f32]> {
        self.values.as_deref().filter(|_| self.started)
    }

    pub fn get_mut(&mut self) -> Option<&mut [f32]> {
        self.values.as_deref_mut().filter(|_| self.started)
    }

    /// Starts the next step.
    pub fn clear(&mut self) {
        *self = Self::default();
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
