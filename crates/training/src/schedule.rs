//! Learning rates as functions of the step.
//!
//! A learning rate is an input to exact arithmetic, so it has to have the same
//! bits everywhere: f64 `+ - * /`, and the cosine of the portable `libm` crate,
//! never the platform's.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

use crate::spec::SpecError;

/// How the learning rate moves over the inner steps of a job.
///
/// Every kind warms up linearly in the same way: at step `i < warmup_steps` it is
/// `learning_rate * (i + 1) / (warmup_steps + 1)`, so that step 0 already learns.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
pub enum Schedule {
    /// Warm up, then stay.
    Constant {
        /// Learning rate after the warm-up.
        learning_rate: f64,
        /// Steps of linear warm-up.
        warmup_steps: u64,
    },
    /// Warm up, then half a cosine down to the minimum; nanoGPT's `get_lr`.
    Cosine {
        /// Learning rate at the end of the warm-up.
        learning_rate: f64,
        /// Learning rate from step `decay_steps` on.
        minimum_learning_rate: f64,
        /// Steps of linear warm-up.
        warmup_steps: u64,
        /// The step, counted from 0 and warm-up included, that reaches the minimum.
        decay_steps: u64,
    },
    /// Warm up, stay, then fall linearly to the minimum (warm-up, stable, decay).
    Wsd {
        /// Learning rate between warm-up and decay.
        learning_rate: f64,
        /// Learning rate after the decay.
        minimum_learning_rate: f64,
        /// Steps of linear warm-up.
        warmup_steps: u64,
        /// Steps at `learning_rate`.
        stable_steps: u64,
        /// Steps from `learning_rate` down to the minimum.
        decay_steps: u64,
    },
}

impl Schedule {
    /// The learning rate of inner step `step` of the job, counted from 0.
    pub fn learning_rate(&self, step: u64) -> f64 {
        if let Some(factor) = warm_up(step, self.warmup_steps()) {
            return self.peak() * factor.numerator / factor.denominator;
        }
        match *self {
            Self::Constant { learning_rate, .. } => learning_rate,
            Self::Cosine { learning_rate, minimum_learning_rate, warmup_steps, decay_steps } => {
                if step >= decay_steps {
                    return minimum_learning_rate;
                }
                let ratio = (step - warmup_steps) as f64 / (decay_steps - warmup_steps) as f64;
                let share = 0.5 * (1.0 + libm::cos(PI * ratio));
                minimum_learning_rate + share * (learning_rate - minimum_learning_rate)
            }
            Self::Wsd { learning_rate, minimum_learning_rate, warmup_steps, stable_steps, decay_steps } => {
                let decayed = step.saturating_sub(warmup_steps.saturating_add(stable_steps));
                if decayed >= decay_steps {
                    return minimum_learning_rate;
                }
                let share = (decay_steps - decayed) as f64 / decay_steps as f64;
                minimum_learning_rate + share * (learning_rate - minimum_learning_rate)
            }
        }
    }

    /// The highest learning rate of the schedule.
    pub fn peak(&self) -> f64 {
        match *self {
            Self::Constant { learning_rate, .. }
            | Self::Cosine { learning_rate, .. }
            | Self::Wsd { learning_rate, .. } => learning_rate,
        }
    }

    /// Steps of linear warm-up.
    pub fn warmup_steps(&self) -> u64 {
        match *self {
            Self::Constant { warmup_steps, .. }
            | Self::Cosine { warmup_steps, .. }
            | Self::Wsd { warmup_steps, .. } => warmup_steps,
        }
    }

    /// Checks that every rate and span makes sense.
    ///
    /// # Errors
    /// Names the field, and what to write instead.
    pub fn validate(&self) -> Result<(), SpecError> {
        let peak = self.peak();
        if !(peak.is_finite() && peak > 0.0) {
            return Err(SpecError::new(
                "schedule.learning_rate",
                peak,
                "write a number above 0, such as 1e-3",
            ));
        }
        if self.warmup_steps() >= STEPS_MAX {
            return Err(SpecError::new(
                "schedule.warmup_steps",
                self.warmup_steps(),
                "write fewer than 2^53 steps",
            ));
        }
        let (minimum, decay_steps) = match *self {
            Self::Constant { .. } => return Ok(()),
            Self::Cosine { minimum_learning_rate, warmup_steps, decay_steps, .. } => {
                if decay_steps <= warmup_steps {
                    return Err(SpecError::new(
                        "schedule.decay_steps",
                        decay_steps,
                        format!("it counts from step 0: write more than the {warmup_steps} steps of warm-up"),
                    ));
                }
                (minimum_learning_rate, decay_steps)
            }
            Self::Wsd { minimum_learning_rate, decay_steps, .. } => (minimum_learning_rate, decay_steps),
        };
        if !(minimum >= 0.0 && minimum <= peak) {
            return Err(SpecError::new(
                "schedule.minimum_learning_rate",
                minimum,
                format!("write a number from 0 to the learning rate, {peak}"),
            ));
        }
        if decay_steps >= STEPS_MAX {
            return Err(SpecError::new("schedule.decay_steps", decay_steps, "write fewer than 2^53 steps"));
        }
        Ok(())
    }
}

/// Steps stay exact in f64.
const STEPS_MAX: u64 = 1 << 53;

/// What the learning rate of step `step_in_window` (from 0) after a synchronisation is
/// multiplied with: a linear re-warm over `rewarm_steps`, then 1. The optimiser's
/// moments belong to the replica's old parameters; small steps let them catch up.
pub fn rewarm(step_in_window: u64, rewarm_steps: u64) -> f64 {
    match warm_up(step_in_window, rewarm_steps) {
        Some(factor) => factor.numerator / factor.denominator,
        None => 1.0,
    }
}

/// A fraction that is applied as nanoGPT does: multiply first, then divide.
struct Fraction {
    numerator: f64,
    denominator: f64,
}

fn warm_up(step: u64, warmup_steps: u64) -> Option<Fraction> {
    (step < warmup_steps)
        .then(|| Fraction { numerator: (step + 1) as f64, denominator: (warmup_steps + 1) as f64 })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NANOGPT: Schedule = Schedule::Cosine {
        learning_rate: 1e-3,
        minimum_learning_rate: 1e-4,
        warmup_steps: 100,
        decay_steps: 2000,
    };

    /// Printed by nanoGPT's `get_lr` with learning_rate 1e-3, min_lr 1e-4, warmup_iters 100,
    /// lr_decay_iters 2000 (CPython, glibc).
    #[test]
    fn cosine_equals_nanogpts_get_lr() {
        let expected = [
            (0, 9.900990099009901e-06),
            (1, 1.9801980198019803e-05),
            (50, 0.000504950495049505),
            (99, 0.0009900990099009901),
            (100, 0.001),
            (101, 0.0009999993848585915),
            (575, 0.0008681980515339464),
            (1050, 0.00055),
            (1525, 0.00023180194846605365),
            (1999, 0.00010000061514140841),
            (2000, 0.0001),
            (2001, 0.0001),
            (9_000_000, 0.0001),
        ];
        for (step, rate) in expected {
            let ours = NANOGPT.learning_rate(step);
            assert!(
                (ours - rate).abs() <= 1e-15 * rate.abs() * 4.0,
                "step {step}: {ours:e}, nanoGPT {rate:e}"
            );
        }
    }

    #[test]
    fn learning_rates_keep_their_bits() {
        let mut hasher = 0u64;
        for step in 0..2100 {
            hasher = hasher.rotate_left(7) ^ NANOGPT.learning_rate(step).to_bits();
        }
        assert_eq!(
            hasher, LEARNING_RATE_FOLD,
            "the bits of the schedule changed: old runs cannot be replayed"
        );
    }

    const LEARNING_RATE_FOLD: u64 = 1926983880095163144;

    #[test]
    fn wsd_is_a_trapezoid() {
        let schedule = Schedule::Wsd {
            learning_rate: 1.0,
            minimum_learning_rate: 0.0,
            warmup_steps: 3,
            stable_steps: 2,
            decay_steps: 4,
        };
        let rates: Vec<f64> = (0..11).map(|step| schedule.learning_rate(step)).collect();
        assert_eq!(rates, [0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 0.75, 0.5, 0.25, 0.0, 0.0]);
    }

    #[test]
    fn constant_warms_up_and_stays() {
        let schedule = Schedule::Constant { learning_rate: 0.5, warmup_steps: 1 };
        assert_eq!([0, 1, 2, 1000].map(|step| schedule.learning_rate(step)), [0.25, 0.5, 0.5, 0.5]);
    }

    #[test]
    fn rewarm_rises_to_one() {
        assert_eq!([0, 1, 2, 3, 9].map(|step| rewarm(step, 3)), [0.25, 0.5, 0.75, 1.0, 1.0]);
        assert_eq!(rewarm(0, 0), 1.0);
    }

    #[test]
    fn impossible_schedules_are_refused_by_field() {
        let cosine = |learning_rate, minimum_learning_rate, warmup_steps, decay_steps| Schedule::Cosine {
            learning_rate,
            minimum_learning_rate,
            warmup_steps,
            decay_steps,
        };
        let cases = [
            (cosine(0.0, 0.0, 0, 1), "schedule.learning_rate"),
            (cosine(f64::NAN, 0.0, 0, 1), "schedule.learning_rate"),
            (cosine(1e-3, 1e-2, 0, 1), "schedule.minimum_learning_rate"),
            (cosine(1e-3, -1e-2, 0, 1), "schedule.minimum_learning_rate"),
            (cosine(1e-3, 1e-4, 10, 10), "schedule.decay_steps"),
            (Schedule::Constant { learning_rate: -1.0, warmup_steps: 0 }, "schedule.learning_rate"),
            (Schedule::Constant { learning_rate: 1.0, warmup_steps: u64::MAX }, "schedule.warmup_steps"),
        ];
        for (schedule, field) in cases {
            assert_eq!(schedule.validate().unwrap_err().field, field, "{schedule:?}");
        }
        NANOGPT.validate().unwrap();
    }
}
