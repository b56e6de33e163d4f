//! `zoo dispute rehearse`: both parties on one machine, one of them wrong.

use std::ops::ControlFlow;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use zoo_content::Digest;
use zoo_dispute::{Flip, Forgery, Knowledge, Player, Program, Replay, Side, Terms, check, play};
use zoo_kernels::random;
use zoo_protocol::NodeKey;
use zoo_training::{
    Dataset, Share, SparseSettings, Trainer, TrainingSpec, UpdateFormat, WindowTask, preset, train_window,
};

use super::tell::tell;

/// Tokens of the data that is made up.
const TOKENS: u64 = 20_000;
/// Steps of the window before.
const STEPS_BEFORE: u32 = 2;
/// How long a move may take, ms.
const MOVE_MS: u64 = 600_000;

/// Arguments of `zoo dispute rehearse`.
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  zoo dispute rehearse --out dispute.zoo\n  zoo dispute check dispute.zoo\n\n\
A maker trains a window on made-up tokens, from a lead to the encoded updates; in one tensor of one step one bit is flipped, and whatever \
follows follows from that. A challenger trains the same window as it should be. They disagree about the outcome, and find the element and \
what it is made of. The keys are made of the \
seed: a rehearsal accuses nobody."
)]
pub struct Rehearse {
    /// Where the record goes
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// The shape of the network (zoo presets lists them)
    #[arg(long, default_value = "qwen3-tiny")]
    preset: String,
    /// Inner steps of the window; the first is taken ahead of the round
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(2..=1000))]
    steps: u32,
    /// Sequences of a step
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1024))]
    sequences: u32,
    /// What is wrong
    #[arg(long, value_enum, default_value_t = Wrong::Gradient)]
    wrong: Wrong,
    /// How updates are encoded
    #[arg(long, value_enum, default_value_t = Update::Sparse)]
    update: Update,
    /// Which bit is flipped, where, and who the parties are
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Wrong {
    /// A gradient of any step
    Gradient,
    /// The encoded update
    Update,
    /// What the update left unsaid, which the replica keeps
    Kept,
}

/// How updates are encoded.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Update {
    /// Every element
    Dense,
    /// The largest of 64
    Sparse,
}

impl Update {
    fn format(self) -> UpdateFormat {
        match self {
            Self::Dense => UpdateFormat::Dense,
            Self::Sparse => UpdateFormat::Sparse(SparseSettings::default()),
        }
    }
}

impl Rehearse {
    /// Plays it, writes the record and checks it.
    pub fn run(self) -> Result<()> {
        let Some(preset) = preset::by_name(&self.preset) else {
            bail!("there is no preset {:?}\nhint: zoo presets lists them", self.preset);
        };
        let spec = TrainingSpec { update: self.update.format(), ..preset.spec };
        let data = made_up(&spec, self.seed)?;
        let base = Trainer::new(spec.clone(), &data)?.checkpoint();
        let share =
            Share { first_sequence: 0, sequences_per_step: self.sequences, inner_steps: STEPS_BEFORE };
        let before = WindowTask { ahead_steps: 1, ..WindowTask::first(&spec, &data, &base, share) };
        let kept = train_window(before, &mut |_| ControlFlow::Continue(()))?.replica;
        // One step is that of the lead.
        let lead = share.after(1);
        let window = WindowTask {
            replica: Some(kept.bytes()),
            round: 1,
            first_step: u64::from(STEPS_BEFORE) + 1,
            lead: Some(lead),
            share: lead.after(self.steps - 1),
            ..before
        };
        let honest = Replay::new(window)?;
        let mut liar = Player::new(Forgery::new(honest.clone(), self.flip(&honest)?));
        let [maker, challenger, arbiter] = ["maker", "challenger", "arbiter"].map(|role| self.key(role));
        let terms = Terms {
            task: honest.task().clone(),
            outcome: liar.outcome()?,
            maker: maker.id(),
            challenger: challenger.id(),
            begins_ms: 0,
            move_ms: MOVE_MS,
        };
        let mut honest = Player::new(honest);
        let maker = Side { key: &maker, player: &mut liar };
        let hearing = play(terms, maker, Side { key: &challenger, player: &mut honest })?;
        let file = hearing.file(&arbiter).context("the dispute is not over")?;
        std::fs::write(&self.out, &file)
            .with_context(|| format!("cannot write {}\nhint: name another file", self.out.display()))?;
        tell(&check(&file)?, self.json)
    }

    /// A bit of a tensor of that part.
    fn flip(&self, honest: &Replay) -> Result<Flip> {
        let draw = |stream, below: usize| (random::bits(self.seed, stream, 0) % below as u64) as usize;
        let step = match self.wrong {
            Wrong::Gradient => draw(0, self.steps as usize) as u32,
            Wrong::Update | Wrong::Kept => self.steps - 1,
        };
        let program = Program::of(honest.task(), step, None)?;
        let begins = match self.wrong {
            Wrong::Gradient => "gradient of ",
            Wrong::Update => "integers of ",
            Wrong::Kept => "unsaid now of ",
        };
        let is_one = |at: &usize| program.tensors[*at].name.starts_with(begins);
        let tensors: Vec<usize> = (0..program.tensors.len()).filter(is_one).collect();
        if tensors.is_empty() {
            bail!("dense updates leave nothing unsaid\nhint: use --update sparse");
        }
        let tensor = tensors[draw(1, tensors.len())];
        // An integer stays what the scale of updates has room for.
        let bit = if self.wrong == Wrong::Update { 0 } else { 22 };
        Ok(Flip { step, tensor, element: draw(2, program.tensors[tensor].len()), bit })
    }

    fn key(&self, role: &str) -> NodeKey {
        let seed = Digest::of(format!("zoo dispute rehearse {} {role}", self.seed).as_bytes());
        NodeKey::from_seed(*seed.as_bytes())
    }
}

/// Tokens of chance, every three alike.
pub fn made_up(spec: &TrainingSpec, seed: u64) -> Result<Dataset> {
    let vocabulary = spec.model.vocab_size as u32;
    let count = TOKENS.max(2 * spec.model.context as u64);
    let token = |at| (random::bits(seed, 3, at / 3) % u64::from(vocabulary)) as u32;
    let tokens: Vec<u32> = (0..count).map(token).collect();
    Ok(Dataset::encode(vocabulary, &tokens, count)?)
}
