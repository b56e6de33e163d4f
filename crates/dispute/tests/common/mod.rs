//! Small windows of every kind of network, and who plays about them.
#![allow(dead_code, reason = "each test takes what it needs")]

use std::ops::ControlFlow;

use zoo_content::Digest;
use zoo_dispute::{Answer, Flip, Forgery, Hearing, Knowledge, Player, Replay, Side, Terms, play};
use zoo_model::{AdamWSettings, Decay, Family, ModelConfig, MuonSettings, Optimizer, Profile};
use zoo_protocol::NodeKey;
use zoo_training::{
    Checkpoint, Dataset, Share, SparseSettings, Trainer, TrainingSpec, UpdateFormat, WindowTask, train_window,
};

/// A window that is disputed.
pub struct Setting {
    pub name: String,
    pub replay: Replay<'static>,
    pub task: WindowTask<'static>,
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

    /// The terms of a dispute with a maker who has committed to `outcome`.
    pub fn terms(&self, outcome: Digest) -> Terms {
        Terms {
            task: self.replay.task().clone(),
            outcome,
            maker: maker().id(),
            challenger: challenger().id(),
            begins_ms: 1000,
            move_ms: 500,
        }
    }

    /// The terms of a dispute with a maker who claims what is right.
    pub fn honest_terms(&self) -> Terms {
        self.terms(self.honest().outcome().expect("it trains"))
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

/// One of every family and profile, with and without clipping, feedback and lead; of three steps.
pub fn settings() -> Vec<Setting> {
    let mut settings = Vec::new();
    for family in [Family::Qwen3, Family::Llama, Family::Gpt2] {
        settings.extend(Profile::ALL.map(|profile| setting(family, profile, 3)));
        settings.push(setting_with(true, family, Profile::F32Exact, 3));
    }
    settings
}

/// A network so small that every operator is there and a step takes no time. Its sizes are awkward. Qwen3 goes on from a lead and encodes sparsely,
/// GPT-2 goes on from a lead and encodes densely, Llama starts afresh, in bf16 with sparse updates of which nothing is left out.
pub fn setting(family: Family, profile: Profile, inner_steps: u32) -> Setting {
    setting_with(false, family, profile, inner_steps)
}

/// As [`setting`], trained with Muon if that is wanted.
pub fn setting_with(uses_muon: bool, family: Family, profile: Profile, inner_steps: u32) -> Setting {
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
    let adamw = AdamWSettings { decay, ..AdamWSettings::default() };
    let muon = MuonSettings { nesterov: family != Family::Llama, adamw, ..MuonSettings::default() };
    let spec = TrainingSpec {
        seed: 5,
        profile,
        clip: (family != Family::Llama).then_some(0.5),
        optimizer: if uses_muon { Optimizer::Muon(muon) } else { Optimizer::AdamW(adamw) },
        rewarm_steps: 2,
        update: match (family, profile) {
            (Family::Qwen3, _) => UpdateFormat::Sparse(SparseSettings { keep: 300, decay: 0.9 }),
            (Family::Llama, Profile::Bf16Exact) => {
                UpdateFormat::Sparse(SparseSettings { keep: 4096, decay: 0.5 })
            }
            _ => UpdateFormat::Dense,
        },
        ..TrainingSpec::new(model)
    };
    let tokens: Vec<u32> = (0..3000u32).map(|at| (at * at / 7 + at % 11) % 50).collect();
    let data = Dataset::encode(50, &tokens, 3000).expect("it is data");
    let base = base(&spec, &data);
    let (spec, data, base): (&'static _, &'static _, &'static _) =
        (Box::leak(Box::new(spec)), Box::leak(Box::new(data)), Box::leak(Box::new(base)));
    let share = Share { first_sequence: 1, sequences_per_step: 3, inner_steps: 2 };
    let first =
        WindowTask { round: 3, first_step: 2, ahead_steps: 1, ..WindowTask::first(spec, data, base, share) };
    let task = match family {
        Family::Llama => WindowTask {
            share: Share { first_sequence: 7, sequences_per_step: 4, inner_steps },
            ahead_steps: 0,
            ..first
        },
        _ => {
            let kept = train_window(first, &mut |_| ControlFlow::Continue(())).expect("it trains").replica;
            let share = Share { first_sequence: 30, sequences_per_step: 4, inner_steps: inner_steps - 1 };
            WindowTask {
                replica: Some(Box::leak(kept.bytes().to_vec().into_boxed_slice())),
                round: 4,
                first_step: 5,
                lead: Some(first.share.after(1)),
                share,
                ahead_steps: u32::from(family == Family::Gpt2),
                ..first
            }
        }
    };
    let replay = Replay::new(task).expect("they fit together");
    let optimizer = if uses_muon { " muon" } else { "" };
    Setting { name: format!("{family:?} {profile}{optimizer}"), replay, task, spec }
}

/// The state after two steps.
fn base(spec: &TrainingSpec, data: &Dataset) -> Checkpoint {
    let mut trainer = Trainer::new(spec.clone(), data).expect("they fit together");
    for step in 0..2 {
        trainer.step_on(step..step + 1, 1e-2).expect("it trains");
    }
    trainer.checkpoint()
}
