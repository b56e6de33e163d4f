//! Which pass a stage does next: a function of the schedule and of what the stage has done.

use serde::{Deserialize, Serialize};

/// What fixes the bits of a pipeline, beside network, data and settings.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// Parts of the network.
    pub stages: u32,
    /// Micro-batches of an optimiser step.
    pub micro_batches: u32,
    /// Tokens of a micro-batch.
    pub micro_batch_tokens: u32,
    /// Optimiser steps of the run.
    pub steps: u64,
    /// How far forward passes may be ahead of backward passes, micro-batches for every stage that follows. One hides the
    /// computation of the others; each more hides a round trip as long as a micro-batch takes a stage.
    pub ahead_per_stage: u32,
    /// Whether steps overlap.
    pub order: Order,
    /// What is done about gradients of older weights.
    pub correction: Correction,
    /// Optimiser steps between two checkpoints of a stage.
    pub checkpoint_steps: u32,
}

/// Whether steps overlap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// A step begins when the last one has ended: one version of the weights, and a bubble (1F1B with a flush).
    Flush,
    /// A step begins as soon as there is room.
    Stream,
}

/// What is done about gradients of older weights.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Correction {
    /// Nothing.
    None,
    /// The learning rate of a stage is divided by its delay, at first wholly and in the end not at all (Yang et al., 2021,
    /// "PipeMare", technique 1).
    Rate {
        /// Steps until nothing is left of it.
        anneal_steps: u64,
    },
    /// A stage passes with the weights that it will have about when the gradient is applied: its present ones, moved on as many times as
    /// its delay has updates by what the last update moved them (Chen et al., 2018, "SpecTrain").
    LookAhead,
}

/// How many passes a stage has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Position {
    /// Forward passes: the micro-batch of the next one.
    pub forwards: u64,
    /// Backward passes: the micro-batch of the next one.
    pub backwards: u64,
}

/// One pass, of the micro-batch of that number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Rows go on.
    Forward(u64),
    /// The gradient comes back.
    Backward(u64),
}

impl Operation {
    /// Of which micro-batch.
    pub fn micro_batch(self) -> u64 {
        match self {
            Self::Forward(micro_batch) | Self::Backward(micro_batch) => micro_batch,
        }
    }
}

/// Most stages of a pipeline.
const STAGES_MAX: u32 = 256;
/// Most micro-batches of a step.
const MICRO_BATCHES_MAX: u32 = 1 << 16;
/// Most tokens of a micro-batch.
const TOKENS_MAX: u32 = 1 << 24;
/// Most that a stage may be ahead, micro-batches for every stage that follows.
const AHEAD_MAX: u32 = 64;
/// Most steps of a run, and between checkpoints.
const STEPS_MAX: u64 = 1 << 32;

impl Schedule {
    /// Refuses what is not a schedule.
    pub fn check(&self) -> Result<(), String> {
        let sizes: [(&str, u64, u64); 6] = [
            ("stages", self.stages.into(), STAGES_MAX.into()),
            ("micro_batches", self.micro_batches.into(), MICRO_BATCHES_MAX.into()),
            ("micro_batch_tokens", self.micro_batch_tokens.into(), TOKENS_MAX.into()),
            ("ahead_per_stage", self.ahead_per_stage.into(), AHEAD_MAX.into()),
            ("steps", self.steps, STEPS_MAX),
            ("checkpoint_steps", self.checkpoint_steps.into(), u32::MAX.into()),
        ];
        match sizes.into_iter().find(|(_, size, most)| !(1..=*most).contains(size)) {
            Some((name, size, most)) => {
                Err(format!("pipeline: {name} is {size}\nhint: it can be 1 to {most}"))
            }
            None => Ok(()),
        }
    }

    /// What a stage does next; nothing after the last step.
    pub fn next(&self, stage: u32, at: Position) -> Option<Operation> {
        let Position { forwards, backwards } = at;
        let step_ends = (backwards / u64::from(self.micro_batches) + 1) * u64::from(self.micro_batches);
        let limit = match self.order {
            Order::Flush => step_ends.min(self.total()),
            Order::Stream => self.total(),
        };
        if forwards < limit && forwards - backwards <= self.ahead(stage) {
            Some(Operation::Forward(forwards))
        } else {
            (backwards < forwards).then_some(Operation::Backward(backwards))
        }
    }

    /// Micro-batches of the run.
    pub fn total(&self) -> u64 {
        self.steps * u64::from(self.micro_batches)
    }

    /// The step of a micro-batch, counted from 1, and its place in the step.
    pub fn step_of(&self, micro_batch: u64) -> (u64, u64) {
        let micro_batches = u64::from(self.micro_batches);
        (micro_batch / micro_batches + 1, micro_batch % micro_batches)
    }

    /// By how many micro-batches a stage's forward passes are ahead of its backward passes.
    pub fn ahead(&self, stage: u32) -> u64 {
        u64::from(self.ahead_per_stage) * u64::from(self.stages - 1 - stage)
    }

    /// Updates of a stage between a forward pass and that of its gradient, on average.
    pub fn delay_steps(&self, stage: u32) -> f64 {
        match self.order {
            Order::Flush => 0.0,
            Order::Stream => self.ahead(stage) as f64 / f64::from(self.micro_batches),
        }
    }

    /// The learning rate of a stage's step where the run's is `lr`.
    pub fn learning_rate(&self, stage: u32, step: u64, lr: f64) -> f64 {
        match self.correction {
            Correction::None | Correction::LookAhead => lr,
            Correction::Rate { anneal_steps } => {
                let left = 1.0 - (step as f64 / anneal_steps.max(1) as f64).min(1.0);
                lr / libm::pow(self.delay_steps(stage).max(1.0), left)
            }
        }
    }

    /// By how many updates a stage looks ahead.
    pub(crate) fn looks_ahead(&self, stage: u32) -> Option<f32> {
        let delay = self.delay_steps(stage) as f32;
        (self.correction == Correction::LookAhead && delay > 0.0).then_some(delay)
    }

    /// Whether a stage saves a checkpoint after that step.
    pub fn is_saved(&self, step: u64) -> bool {
        step.is_multiple_of(self.checkpoint_steps.into()) || step == self.steps
    }

    /// Rows that may be early at a stage: a neighbour is never further ahead than the first of the two may be.
    pub fn early_max(&self, stage: u32) -> u64 {
        self.ahead(stage) + 1
    }

    /// Messages of one direction that a stage keeps at most: what its neighbour does between two checkpoints, one step
    /// more while the neighbour writes one, and what the first of them is ahead.
    pub fn kept_max(&self) -> u64 {
        (u64::from(self.checkpoint_steps) + 1) * u64::from(self.micro_batches) + self.ahead(0) + 1
    }
}
