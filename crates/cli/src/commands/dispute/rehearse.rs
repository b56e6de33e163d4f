//! `zoo dispute rehearse`: both parties on one machine, one of them wrong.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use zoo_content::Digest;
use zoo_dispute::{Flip, Forgery, Knowledge, Player, Program, Replay, Side, Terms, Window, check, play};
use zoo_kernels::random;
use zoo_protocol::NodeKey;
use zoo_training::{Dataset, Share, Trainer, TrainingSpec, preset};

use super::tell::tell;

/// Tokens of the data that is made up.
const TOKENS: u64 = 20_000;
/// How long a move may take, ms.
const MOVE_MS: u64 = 600_000;

/// Arguments of `zoo dispute rehearse`.
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  zoo dispute rehearse --out dispute.zoo\n  zoo dispute check dispute.zoo\n\n\
A maker trains a window on made-up tokens; in one gradient of one step one bit is flipped, and whatever follows follows from that. A \
challenger trains the same window as it should be. They disagree about the end, and find the element and the 64 terms. The keys are made of the \
seed: a rehearsal accuses nobody."
)]
pub struct Rehearse {
    /// Where the record goes
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// The shape of the network (zoo presets lists them)
    #[arg(long, default_value = "qwen3-tiny")]
    preset: String,
    /// Inner steps of the window
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    steps: u32,
    /// Sequences of a step
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1024))]
    sequences: u32,
    /// Which bit is flipped, where, and who the parties are
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

impl Rehearse {
    /// Plays it, writes the record and checks it.
    pub fn run(self) -> Result<()> {
        let Some(preset) = preset::by_name(&self.preset) else {
            bail!("there is no preset {:?}\nhint: zoo presets lists them", self.preset);
        };
        let data = made_up(&preset.spec, self.seed)?;
        let base = Trainer::new(preset.spec.clone(), &data)?.checkpoint();
        let share = Share { first_sequence: 0, sequences_per_step: self.sequences, inner_steps: self.steps };
        let honest = Replay::new(Window { spec: &preset.spec, data: &data, base: &base, share })?;
        let mut liar = Player::new(Forgery::new(honest.clone(), self.flip(&honest)?));
        let [maker, challenger, arbiter] = ["maker", "challenger", "arbiter"].map(|role| self.key(role));
        let terms = Terms {
            task: honest.task().clone(),
            end: liar.end()?,
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

    /// A bit of a gradient.
    fn flip(&self, honest: &Replay) -> Result<Flip> {
        let draw = |stream, below: usize| (random::bits(self.seed, stream, 0) % below as u64) as usize;
        let step = draw(0, self.steps as usize) as u32;
        let program = Program::of(honest.task(), step)?;
        let is_gradient = |at: &usize| program.tensors[*at].name.starts_with("gradient of ");
        let gradients: Vec<usize> = (0..program.tensors.len()).filter(is_gradient).collect();
        let tensor = gradients[draw(1, gradients.len())];
        Ok(Flip { step, tensor, element: draw(2, program.tensors[tensor].len()), bit: 22 })
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
