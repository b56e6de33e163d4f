//! What a run will take, before it starts.

use serde::{Deserialize, Serialize};
use zoo_model::Optimizer;

use crate::spec::TrainingSpec;

/// What `--dry-run` prints. Times need a measured speed: [`Estimate::seconds`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// Parameters of the model; a tied table counts once.
    pub parameters: u64,
    /// Memory for parameters and optimiser state, bytes.
    pub state_bytes: u64,
    /// Memory for the activations of one micro-batch, its logits and the gradients, bytes, about.
    pub working_bytes: u64,
    /// Floating-point operations per token, forward and backward.
    pub flops_per_token: f64,
    /// Tokens of one inner step.
    pub tokens_per_step: u64,
    /// Tokens of the whole run.
    pub tokens: u64,
    /// How often the run sees every token of the data.
    pub epochs: f64,
}

impl Estimate {
    /// What `steps` inner steps of `spec` on one machine take, on data of `data_tokens` tokens.
    pub fn of(spec: &TrainingSpec, steps: u64, data_tokens: u64) -> Self {
        let model = &spec.model;
        let parameters = model.parameter_count() as u64;
        // AdamW keeps two tensors; Muon keeps one for most parameters, which are matrices.
        let moments = if matches!(spec.optimizer, Optimizer::AdamW(_)) { 2 } else { 1 };
        let micro_batch = spec.micro_batch(spec.batch_sequences);
        let micro_tokens = micro_batch as usize * model.context;
        let accumulates = micro_batch < spec.batch_sequences;
        let tokens_per_step = spec.batch_tokens();
        let tokens = tokens_per_step.saturating_mul(steps);
        Self {
            parameters,
            state_bytes: 4 * parameters * (1 + moments),
            working_bytes: model.working_bytes(micro_tokens, accumulates, spec.profile, spec.recompute)
                as u64,
            flops_per_token: model.training_flops_per_token(),
            tokens_per_step,
            tokens,
            epochs: tokens as f64 / data_tokens as f64,
        }
    }

    /// Memory of the run, MiB.
    pub fn memory_mib(&self) -> f64 {
        (self.state_bytes + self.working_bytes) as f64 / f64::from(1 << 20)
    }

    /// Time of the whole run on a machine that does `flops_per_second`.
    pub fn seconds(&self, flops_per_second: f64) -> f64 {
        self.tokens as f64 * self.flops_per_token / flops_per_second
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_estimate_adds_up() {
        let spec = crate::preset::by_name("nanogpt-shakespeare-char-cpu").unwrap().spec;
        let estimate = Estimate::of(&spec, 2000, 1_003_854);
        assert_eq!(estimate.parameters, 828_544);
        assert_eq!(estimate.state_bytes, 828_544 * 4 * 3);
        assert_eq!((estimate.tokens_per_step, estimate.tokens), (768, 1_536_000));
        assert!((estimate.epochs - 1.53).abs() < 0.01);
        // Twice the time at half the speed; a smaller micro-batch takes less memory.
        assert_eq!(estimate.seconds(5e10), 2.0 * estimate.seconds(1e11));
        let smaller = TrainingSpec { micro_batch_sequences: Some(4), ..spec };
        assert!(Estimate::of(&smaller, 2000, 1).memory_mib() < estimate.memory_mib());
    }
}
