//! What a run will take, before it starts.

use serde::{Deserialize, Serialize};
use zoo_model::Optimizer;

use crate::spec::{TrainingSpec, whole_chunk_sequences};

/// What `--dry-run` prints. Times need a measured speed: [`Estimate::seconds`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// Parameters of the model; a tied table counts once.
    pub parameters: u64,
    /// Memory for parameters and optimiser state, bytes.
    pub state_bytes: u64,
    /// Memory for the activations of one micro-batch, its logits and the gradients, bytes.
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
            working_bytes: model.step_memory(micro_tokens, accumulates, spec.profile, spec.recompute).most,
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

impl TrainingSpec {
    /// This specification with the largest micro-batch for steps of `step_sequences` sequences that takes at most `bytes_max`
    /// bytes, state included, and that is not larger than its own. Where not even the smallest fits, activations are computed
    /// again. No bit depends on the choice.
    ///
    /// # Errors
    /// What the least takes, bytes, if that is more.
    pub fn fitted(&self, step_sequences: u32, bytes_max: u64) -> Result<Self, u64> {
        let bytes = |micro_batch: u32, recompute: bool| {
            let step = Self {
                batch_sequences: step_sequences,
                micro_batch_sequences: Some(micro_batch),
                recompute,
                ..self.clone()
            };
            let Estimate { state_bytes, working_bytes, .. } = Estimate::of(&step, 1, 1);
            state_bytes + working_bytes
        };
        let most = self.micro_batch(step_sequences);
        let whole = whole_chunk_sequences(self.model.context) as u32;
        for recompute in [self.recompute, true] {
            if bytes(most, recompute) <= bytes_max {
                return Ok(Self { recompute, ..self.clone() });
            }
            // Of those that are cut into several a larger one takes more.
            let (mut fits, mut exceeds) = (0, most.div_ceil(whole));
            while exceeds - fits > 1 {
                let middle = fits + (exceeds - fits) / 2;
                if bytes(middle * whole, recompute) <= bytes_max { fits = middle } else { exceeds = middle }
            }
            if fits > 0 {
                return Ok(Self { micro_batch_sequences: Some(fits * whole), recompute, ..self.clone() });
            }
        }
        Err(bytes(whole.min(most), true))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(spec: &TrainingSpec, step_sequences: u32) -> u64 {
        let step = TrainingSpec { batch_sequences: step_sequences, ..spec.clone() };
        let Estimate { state_bytes, working_bytes, .. } = Estimate::of(&step, 1, 1);
        state_bytes + working_bytes
    }

    #[test]
    fn the_largest_micro_batch_that_fits_is_chosen() {
        let spec = crate::preset::by_name("bench-s").unwrap().spec;
        let (sequences, whole) = (32, whole_chunk_sequences(spec.model.context) as u32);
        let least = spec.fitted(sequences, 0).unwrap_err();
        assert_eq!(spec.fitted(sequences, least - 1), Err(least));
        let mut seen = std::collections::BTreeSet::new();
        let all = bytes(&spec, sequences);
        for bytes_max in (0..=200).map(|step| least + (all - least) * step / 200) {
            let fitted = spec.fitted(sequences, bytes_max).unwrap();
            assert!(bytes(&fitted, sequences) <= bytes_max, "it fits into {bytes_max}");
            assert_eq!(fitted.digest(), spec.digest());
            fitted.validate().unwrap();
            let micro_batch = fitted.micro_batch(sequences);
            if micro_batch < sequences {
                // The next larger would not have fitted.
                let next = (micro_batch + whole).min(sequences);
                let next = (next < sequences).then_some(next);
                let larger = TrainingSpec { micro_batch_sequences: next, ..fitted.clone() };
                assert!(bytes(&larger, sequences) > bytes_max, "{micro_batch} for {bytes_max}");
            }
            seen.insert((!fitted.recompute, micro_batch));
        }
        assert!(seen.contains(&(true, sequences)) && seen.contains(&(false, whole)), "{seen:?}");
        assert!(seen.len() > 4, "{seen:?}");
    }

    #[test]
    fn a_micro_batch_that_is_written_is_the_most() {
        let spec = crate::preset::by_name("bench-s").unwrap().spec;
        let spec = TrainingSpec { micro_batch_sequences: Some(8), ..spec };
        assert_eq!(spec.fitted(32, u64::MAX).unwrap().micro_batch_sequences, Some(8));
        assert_eq!(spec.fitted(4, u64::MAX).unwrap().micro_batch(4), 4);
    }

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
