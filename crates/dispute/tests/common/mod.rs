//! Small windows of every kind of network, and who plays about them.
#![allow(dead_code, reason = "each test takes what it needs")]

use zoo_content::Digest;
use zoo_dispute::{Answer, Flip, Forgery, Hearing, Knowledge, Player, Replay, Side, Terms, Window, play};
use zoo_model::{AdamWSettings, Decay, Family, ModelConfig, Optimizer, Profile};
use zoo_protocol::NodeKey;
use zoo_training::{Checkpoint, Dataset, Share, Trainer, TrainingSpec};

/// A window that is disputed.
pub struct Setting {
    pub name: String,
    pub replay: Replay<'static>,
    pub data: &'static Dataset,
    pub spec: &'static TrainingSpec,
}

impl Setting {
    /// Who does it as it should be done.
    pub fn honest(&self) -> Player<Replay<'static>> {
        Player::new(self.replay.clone())
    }

    /// Who does it with one bit flipped.
    pub fn liar(&self, flip: Flip) -> Player<Forgery<'static>> {
        Player::new(Forgery::new(self.replay.clone(), flip))
    }

    /// The terms of a dispute with a maker who has claimed `end`.
    pub fn terms(&self, end: Digest) -> Terms {
        Terms {
            task: self.replay.task().clone(),
            end,
            maker: maker().id(),
            challenger: challenger().id(),
            begins_ms: 1000,
            move_ms: 500,
        }
    }

    /// The terms of a dispute with a maker who claims what is right.
    pub fn honest_terms(&self) -> Terms {
        self.terms(self.honest().end().expect("it trains"))
    }
}

pub fn maker() -> NodeKey {
    NodeKey::from_seed([1; 32])
}

pub fn challenger() -> NodeKey {
    NodeKey::from_seed([2; 32])
}

pub fn arbiter() -> NodeKey {
    NodeKey::from_seed([3; 32])
}

/// A dispute, played to its end.
pub fn played(terms: &Terms, maker: &mut dyn Answer, challenger: &mut dyn Answer) -> Hearing {
    let (maker_key, challenger_key) = (self::maker(), self::challenger());
    let maker = Side { key: &maker_key, player: maker };
    let challenger = Side { key: &challenger_key, player: challenger };
    play(terms.clone(), maker, challenger).expect("it is played")
}

/// One of every family and profile, with and without clipping.
pub fn settings() -> Vec<Setting> {
    let mut settings = Vec::new();
    for family in [Family::Qwen3, Family::Llama, Family::Gpt2] {
        settings.extend(Profile::ALL.map(|profile| setting(family, profile, 2)));
    }
    settings
}

/// A network so small that every operator is there and a step takes no time. Its sizes are awkward.
pub fn setting(family: Family, profile: Profile, inner_steps: u32) -> Setting {
    let gpt2 = family == Family::Gpt2;
    let model = ModelConfig {
        family,
        vocab_size: 50,
        width: 24,
        layers: 2,
        heads: if gpt2 { 2 } else { 4 },
        kv_heads: 2,
        head_dim: if gpt2 { 12 } else { 6 },
        hidden: 40,
        context: 70,
        norm_epsilon: 1e-5,
        rope_theta: if gpt2 { 0.0 } else { 10_000.0 },
        tied_embeddings: family != Family::Llama,
        biases: gpt2,
        initial_std: 0.2,
    };
    let decay = if gpt2 { Decay::All } else { Decay::Matrices };
    let spec = TrainingSpec {
        seed: 5,
        profile,
        clip: (family != Family::Llama).then_some(0.5),
        optimizer: Optimizer::AdamW(AdamWSettings { decay, ..AdamWSettings::default() }),
        rewarm_steps: 2,
        ..TrainingSpec::new(model)
    };
    let tokens: Vec<u32> = (0..3000u32).map(|at| (at * at / 7 + at % 11) % 50).collect();
    let data = Dataset::encode(50, &tokens, 3000).expect("it is data");
    let share = Share { first_sequence: 7, sequences_per_step: 4, inner_steps };
    let base = base(&spec, &data);
    let (spec, data, base): (&'static _, &'static _, &'static _) =
        (Box::leak(Box::new(spec)), Box::leak(Box::new(data)), Box::leak(Box::new(base)));
    let window = Window { spec, data, base, share };
    let replay = Replay::new(window).expect("they fit together");
    Setting { name: format!("{family:?} {profile}"), replay, data, spec }
}

/// The state after two steps, so that moments are not zero.
fn base(spec: &TrainingSpec, data: &Dataset) -> Checkpoint {
    let mut trainer = Trainer::new(spec.clone(), data).expect("they fit together");
    for step in 0..2 {
        trainer.step_on(step..step + 1, 1e-2).expect("it trains");
    }
    trainer.checkpoint()
}
