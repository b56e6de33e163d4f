//! What `zoo train` is told: a preset, then a file, then the command line, each over the one before.

mod document;
mod inner_steps;
mod layers;
mod vocabulary;

use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};
use serde::de::Error;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use zoo_data::HeldOut;
use zoo_kernels::Profile;
use zoo_protocol::limits::{MAX_KEPT_CHECKPOINTS, MAX_REDUNDANCY, MAX_STRETCHES, MAX_TRUST_DISCOUNT};
use zoo_protocol::{CheckpointPlan, RoundPlan, StorageKind, Stretch, Topology};
use zoo_storage::Address;
use zoo_training::{Schedule, SpecError, TrainingSpec, preset};

pub use document::{Document, place};
pub use inner_steps::InnerSteps;
pub use layers::{Layer, build};
pub use vocabulary::Vocabulary;

/// The preset that a configuration without one starts from.
pub const DEFAULT_PRESET: &str = "qwen3-1m";
/// Text taken from cargo's packages unless the configuration says otherwise, bytes.
const CARGO_BYTES_MAX: u64 = 12_000_000;
/// Text taken from a path unless the configuration says otherwise, bytes.
const PATH_BYTES_MAX: u64 = 1 << 30;

/// Everything about a run. A file holds the same keys, with `model` beside `training` for brevity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// Name of the run, for people.
    pub run: String,
    /// Where every value comes from that is not written.
    pub preset: String,
    /// A file or folder of text; none: the packages that cargo has on this machine.
    pub data: Option<PathBuf>,
    /// The model that training starts from, whose shape and tokenizer it then has; none: one that is drawn from the seed.
    #[serde(default)]
    pub from: Option<PathBuf>,
    /// Text to take at most, bytes.
    pub data_bytes_max: Option<u64>,
    /// How much text is held out to measure with.
    pub held_out: HeldOut,
    /// What cuts the text into tokens.
    pub vocabulary: Vocabulary,
    /// The run's folder; none: `runs/` and the name of the run.
    pub out: Option<PathBuf>,
    /// Inner steps.
    pub steps: u64,
    /// Evaluate every so many steps; 0: only at the end.
    pub evaluate_every: u64,
    /// Held-out tokens that an evaluation on the way scores at most; 0: all. The last one scores all.
    pub evaluate_tokens_max: u64,
    /// Save every so many steps; 0: only at the end, or when interrupted.
    pub checkpoint_every: u64,
    /// Where every checkpoint is stored besides the run's folder; none: nowhere.
    pub checkpoint_storage: Option<Address>,
    /// Log every so many steps.
    pub log_every: u64,
    /// How a network trains it; unused on one machine.
    pub rounds: Rounds,
    /// Which checkpoints a network keeps; unused on one machine.
    pub checkpoint: Checkpoints,
    /// What a network may spend on it; unused on one machine.
    #[serde(default)]
    pub budget: Budget,
    /// What to train and how: all that decides the bits of the result, with the data.
    pub training: TrainingSpec,
}

/// How a network trains: by rounds, between which its nodes do not wait for each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rounds {
    /// Steps that every node trains on its own in a round (H): `30`, or `10..100` for the fewest of these that hide the
    /// round's traffic behind its training.
    pub inner_steps: InnerSteps,
    /// The first so many steps are rounds of their own.
    pub warmup_steps: u64,
    /// As the learning rate falls, rounds grow as much longer: replicas then drift apart more slowly.
    pub follow_learning_rate: bool,
    /// No round starts with fewer nodes.
    pub minimum_nodes: u32,
    /// A round waits this long for a node that is there, seconds.
    pub deadline_s: u32,
    /// The held-out text is evaluated in so many parts.
    pub evaluation_shards: u32,
    /// How contributions come together: auto, all-gather, star or tree:N. No bit depends on it.
    #[serde(with = "as_text")]
    pub topology: Topology,
    /// Nodes go on training while a round comes together; rounds can then be shorter.
    pub overlap: bool,
    /// Of 1,000 windows that nodes train, others train so many again, to compare.
    pub verified_in_1000: u32,
    /// Of nodes for which an operator or their hardware vouches, so many times fewer.
    pub trust_discount: u32,
}

impl Rounds {
    /// The stretches of a job of so many steps.
    fn rhythm(&self, steps: u64, schedule: &Schedule) -> Vec<Stretch> {
        let Self { inner_steps: InnerSteps { most, .. }, warmup_steps, .. } = *self;
        let alone = Stretch { from_step: 0, inner_steps: 1, most_inner_steps: 1 };
        let mut stretches: Vec<Stretch> = (warmup_steps > 0).then_some(alone).into_iter().collect();
        let (mut step, mut longest) = (warmup_steps, 0);
        while step < steps && stretches.len() < MAX_STRETCHES as usize {
            let inner_steps = self.fewest_at(step, schedule);
            // A tenth more is not worth a stretch of its own.
            if inner_steps > longest + longest / 10 {
                stretches.push(Stretch { from_step: step, inner_steps, most_inner_steps: most });
                longest = inner_steps;
            }
            step += u64::from(longest);
        }
        stretches
    }

    /// The fewest steps of a round that begins at `step`, after the warm-up.
    fn fewest_at(&self, step: u64, schedule: &Schedule) -> u32 {
        let InnerSteps { least, most } = self.inner_steps;
        if !self.follow_learning_rate || step < schedule.warmup_steps() {
            return least;
        }
        let longer = (f64::from(least) * schedule.peak() / schedule.learning_rate(step)).floor();
        if longer < f64::from(most) { longer as u32 } else { most }
    }
}

/// Floating-point operations in a unit of work.
const UNIT_OPERATIONS: f64 = 1e15;
/// Operations that a token costs for each parameter: two forward, four backward.
const OPERATIONS_PER_PARAMETER: f64 = 6.0;

/// What a network may spend on a job, in units of work: 10^15 floating-point operations, of which training takes six for each
/// parameter and token. The job ends after the round in which it is used up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Budget {
    /// So many units at most; none: as many as it takes.
    pub max: Option<f64>,
}

impl Budget {
    /// Tokens at which it is used up.
    fn tokens(self, parameters: usize) -> Option<u64> {
        let tokens = self.max? * UNIT_OPERATIONS / (OPERATIONS_PER_PARAMETER * parameters.max(1) as f64);
        // More than the limit of all jobs together is no limit.
        (tokens < 2f64.powi(62)).then_some((tokens as u64).max(1))
    }
}

/// Which checkpoints of a job a network keeps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Checkpoints {
    /// So many nodes keep each, in different regions if there are any.
    pub redundancy: u32,
    /// Beside the newest, that of every so manieth round is kept.
    pub interval: u32,
    /// Of those, so many are; older ones go.
    pub keep: u32,
    /// Nodes that store what they keep in this are asked first: dir, s3, ipfs or car.
    pub storage: Option<StorageKind>,
}

impl Default for Checkpoints {
    fn default() -> Self {
        let CheckpointPlan { redundancy, interval, keep, storage } = CheckpointPlan::default();
        Self { redundancy, interval, keep, storage }
    }
}

/// A value as the text that people write.
mod as_text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<T: Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl Default for Rounds {
    fn default() -> Self {
        Self {
            inner_steps: InnerSteps { least: 10, most: 100 },
            warmup_steps: 0,
            follow_learning_rate: false,
            minimum_nodes: 1,
            deadline_s: 600,
            evaluation_shards: 8,
            topology: Topology::Auto,
            overlap: true,
            verified_in_1000: 50,
            trust_discount: 4,
        }
    }
}

/// Keys that a resumed run may have differently: they do not reach the parameters.
const FREE_ON_RESUME: [&str; 10] = [
    "run",
    "preset",
    "data",
    "out",
    "steps",
    "evaluate_every",
    "evaluate_tokens_max",
    "checkpoint_every",
    "checkpoint_storage",
    "log_every",
];

impl RunConfig {
    /// The same, in the numeric profile that this machine is fastest in.
    pub(crate) fn on_this_machine(mut self) -> Self {
        self.training.profile = Profile::best_here();
        self
    }

    /// The preset's values; `None` when there is no such preset.
    pub fn of_preset(name: &str) -> Option<Self> {
        let preset = preset::by_name(name)?;
        Some(Self {
            run: name.to_owned(),
            preset: name.to_owned(),
            data: None,
            from: None,
            data_bytes_max: None,
            held_out: HeldOut::default(),
            vocabulary: Vocabulary::of_size(preset.spec.model.vocab_size),
            out: None,
            steps: preset.steps,
            evaluate_every: preset.evaluate_every,
            evaluate_tokens_max: 16_384,
            checkpoint_every: preset.evaluate_every,
            checkpoint_storage: None,
            log_every: 10,
            rounds: Rounds::default(),
            checkpoint: Checkpoints::default(),
            budget: Budget::default(),
            training: preset.spec,
        })
    }

    /// The run's folder.
    pub fn out(&self) -> PathBuf {
        self.out.clone().unwrap_or_else(|| Path::new("runs").join(&self.run))
    }

    /// Text to take at most, bytes.
    pub fn bytes_max(&self) -> u64 {
        let default = if self.data.is_some() { PATH_BYTES_MAX } else { CARGO_BYTES_MAX };
        self.data_bytes_max.unwrap_or(default)
    }

    /// As people write it, and as a run's folder keeps it.
    pub fn to_value(&self) -> Value {
        let mut value = serde_json::to_value(self).expect("a configuration is plain data with text keys");
        let model = value["training"].as_object_mut().and_then(|training| training.remove("model"));
        value["model"] = model.expect("a specification has a model");
        value
    }

    /// From the form that [`RunConfig::to_value`] gives.
    pub fn from_value(mut value: Value) -> Result<Self, serde_json::Error> {
        let model = value.as_object_mut().and_then(|keys| keys.remove("model"));
        if let (Some(model), Some(training)) = (model, value["training"].as_object_mut())
            && training.insert("model".to_owned(), model).is_some()
        {
            return Err(serde_json::Error::custom("unknown field `model`: the model stands beside training"));
        }
        serde_json::from_value(value)
    }

    /// Checks every value.
    ///
    /// # Errors
    /// The path of the first key whose value cannot be, and what to write instead.
    pub fn validate(&self) -> Result<(), SpecError> {
        let refuse = |field: &str, cause: String, hint: &str| {
            Err(SpecError { field: field.to_owned(), cause, hint: hint.to_owned() })
        };
        let (vocabulary, vocab_size) = (self.vocabulary, self.training.model.vocab_size);
        if vocabulary.size() != vocab_size {
            let cause = format!("{vocabulary} is not model.vocab_size, {vocab_size}");
            return refuse("vocabulary", cause, "write one of the two, and the other follows");
        }
        if vocabulary.size() != 256 && vocabulary.size() < 257 {
            let cause = format!("{vocabulary} tokens cannot hold 256 bytes and the end of a text");
            return refuse("vocabulary", cause, "write bytes, or at least 257");
        }
        if self.steps == 0 || self.log_every == 0 {
            let field = if self.steps == 0 { "steps" } else { "log_every" };
            return refuse(field, "0 is not possible".to_owned(), "write at least 1");
        }
        let Rounds { inner_steps, minimum_nodes, deadline_s, evaluation_shards, .. } = self.rounds;
        for (field, value) in [
            ("rounds.inner_steps", inner_steps.least),
            ("rounds.minimum_nodes", minimum_nodes),
            ("rounds.deadline_s", deadline_s),
            ("rounds.evaluation_shards", evaluation_shards),
        ] {
            if value == 0 {
                return refuse(field, "0 is not possible".to_owned(), "write at least 1");
            }
        }
        if self.rounds.verified_in_1000 > 1000 {
            let cause = format!("{} is not possible", self.rounds.verified_in_1000);
            return refuse("rounds.verified_in_1000", cause, "write 0 to 1000");
        }
        let Checkpoints { redundancy, interval, keep, storage: _ } = self.checkpoint;
        for (field, value, least, most) in [
            ("rounds.trust_discount", self.rounds.trust_discount, 1, MAX_TRUST_DISCOUNT),
            ("checkpoint.redundancy", redundancy, 1, MAX_REDUNDANCY),
            ("checkpoint.interval", interval, 1, u32::MAX.into()),
            ("checkpoint.keep", keep, 0, MAX_KEPT_CHECKPOINTS),
        ] {
            if !(least..=most).contains(&value.into()) {
                let hint = format!("write {least} to {most}");
                return refuse(field, format!("{value} is not possible"), &hint);
            }
        }
        if self.budget.max.is_some_and(|max| !(max.is_finite() && max > 0.0)) {
            let cause = "it is not a positive number".to_owned();
            return refuse("budget.max", cause, "write units of work, as in 5000, or leave it out");
        }
        self.training.validate().map_err(|error| SpecError { field: written(&error.field), ..error })
    }

    /// The rounds that `steps` take, as a network is told.
    pub fn round_plan(&self) -> RoundPlan {
        let Rounds { minimum_nodes, deadline_s, evaluation_shards, topology, overlap, .. } = self.rounds;
        let Rounds { verified_in_1000, trust_discount, .. } = self.rounds;
        RoundPlan {
            steps: self.steps,
            rhythm: self.rounds.rhythm(self.steps, &self.training.schedule),
            sequences_per_step: self.training.batch_sequences,
            evaluate_every: if self.evaluate_every == 0 { self.steps } else { self.evaluate_every },
            evaluation_shards,
            minimum_nodes,
            contribution_deadline_ms: u64::from(deadline_s) * 1000,
            topology,
            overlap,
            verified_in_1000,
            trust_discount,
        }
    }

    /// Tokens at which the budget of a model with so many parameters is used up.
    pub fn tokens_max(&self, parameters: usize) -> Option<u64> {
        self.budget.tokens(parameters)
    }

    /// What a network keeps, as it is told.
    pub fn checkpoint_plan(&self) -> CheckpointPlan {
        let Checkpoints { redundancy, interval, keep, storage } = self.checkpoint;
        CheckpointPlan { redundancy, interval, keep, storage }
    }

    /// Refuses to continue a run as another one.
    ///
    /// # Errors
    /// Names every key that differs from `started`, the configuration the run was started with.
    pub fn check_continues(&self, started: &Self) -> Result<()> {
        let differences = layers::differences(&started.to_value(), &self.to_value());
        let of_networks =
            |path: &str| ["rounds.", "checkpoint.", "budget."].iter().any(|start| path.starts_with(start));
        let fixed = |path: &str| !FREE_ON_RESUME.contains(&path) && !of_networks(path);
        let fixed: Vec<String> = differences
            .into_iter()
            .filter(|difference| fixed(&difference.path))
            .map(|difference| {
                format!("{} was {}, now {}", difference.path, difference.before, difference.after)
            })
            .collect();
        if fixed.is_empty() {
            return Ok(());
        }
        Err(anyhow!(
            "cannot resume with another configuration: {}\nhint: resume without them, as in zoo train --resume --out {}; \
             or start a run of its own with another --out",
            fixed.join("; "),
            self.out().display()
        ))
    }
}

/// The path of a specification's field as a file writes it.
fn written(field: &str) -> String {
    if field.starts_with("model.") { field.to_owned() } else { format!("training.{field}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tiny() -> RunConfig {
        RunConfig::of_preset("qwen3-tiny").unwrap()
    }

    #[test]
    fn every_preset_is_a_configuration_that_comes_back() {
        for name in zoo_model::preset::names() {
            let config = RunConfig::of_preset(name).unwrap();
            config.validate().unwrap_or_else(|error| panic!("{name}: {error}"));
            let text = serde_json::to_string(&config.to_value()).unwrap();
            let again = RunConfig::from_value(serde_json::from_str(&text).unwrap()).unwrap();
            assert_eq!(again, config, "{name}");
        }
        assert_eq!(RunConfig::of_preset("no such preset"), None);
    }

    #[test]
    fn rounds_that_follow_the_learning_rate_grow_as_it_falls() {
        let schedule = Schedule::Cosine {
            learning_rate: 1e-3,
            minimum_learning_rate: 1e-4,
            warmup_steps: 50,
            decay_steps: 900,
        };
        let rounds = Rounds {
            inner_steps: InnerSteps { least: 10, most: 60 },
            warmup_steps: 20,
            follow_learning_rate: true,
            ..Rounds::default()
        };
        let stretches = rounds.rhythm(900, &schedule);
        let lengths: Vec<u32> = stretches.iter().map(|stretch| stretch.inner_steps).collect();
        assert_eq!((lengths[0], lengths[1], lengths.last()), (1, 10, Some(&60)));
        assert!(lengths.is_sorted() && lengths.len() < 30, "{lengths:?}");
        assert!(stretches.is_sorted_by_key(|stretch| stretch.from_step));
        assert_eq!(stretches[1].from_step, 20);
        let of = |at: u64| stretches.iter().rfind(|stretch| stretch.from_step <= at).unwrap().inner_steps;
        let half = (0..900).find(|&step| step > 50 && schedule.learning_rate(step) < 5e-4).unwrap();
        assert!((18..=22).contains(&of(half + 10)), "twice as long at half the rate: {}", of(half + 10));

        let fixed = Rounds { follow_learning_rate: false, ..rounds };
        assert_eq!(fixed.rhythm(900, &schedule).len(), 2);
        assert_eq!(fixed.rhythm(20, &schedule).len(), 1, "nothing but warm-up");
    }

    #[test]
    fn a_resumed_run_may_be_longer_but_not_another() {
        let started = tiny();
        let mut longer = RunConfig { steps: 9999, log_every: 1, data: Some("elsewhere".into()), ..tiny() };
        longer.check_continues(&started).unwrap();
        longer.training.clip = None;
        longer.training.model.width = 8;
        let error = longer.check_continues(&started).unwrap_err().to_string();
        for part in ["training.clip was 1.0, now null", "model.width was 32, now 8", "\nhint: "] {
            assert!(error.contains(part), "{error}");
        }
    }
}
