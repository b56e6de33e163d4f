//! From a model of 10.8 million parameters and a window of 30 steps to one segment: how many moves, how many bytes, how long.
//!
//! ```text
//! measure [FLIPS [PRESET]]        3 flips in a window of bench-m, unless told otherwise
//! ```

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use zoo_dispute::{
    Answer, Flip, Forgery, Game, Hearing, Knowledge, Move, Player, Program, Replay, ReplayError, Role, Side,
    Terms, check, play,
};
use zoo_kernels::random;
use zoo_protocol::NodeKey;
use zoo_training::{Dataset, Share, SparseSettings, Trainer, UpdateFormat, WindowTask, preset, train_window};

type Failed = Box<dyn std::error::Error>;

const STEPS: u32 = 30;
const SEQUENCES: u32 = 4;
/// Steps of the window before, so that the moments are not zero and something was left unsaid.
const STEPS_BEFORE: u32 = 2;
/// Steps of the lead, among all.
const LEAD: u32 = 2;

/// A party, and how long it has thought.
struct Timed<P> {
    player: P,
    spent: Duration,
}

impl<P: Answer> Answer for Timed<P> {
    fn answer(&mut self, game: &Game) -> Result<Option<Move>, ReplayError> {
        let start = Instant::now();
        let said = self.player.answer(game);
        self.spent += start.elapsed();
        said
    }
}

fn timed<K: Knowledge>(knowledge: K) -> Timed<Player<K>> {
    Timed { player: Player::new(knowledge), spent: Duration::ZERO }
}

/// Picks whatever chance says.
struct Accuser {
    seed: u64,
}

impl Answer for Accuser {
    fn answer(&mut self, game: &Game) -> Result<Option<Move>, ReplayError> {
        let choices = match game.wanted() {
            zoo_dispute::Wanted::Step => u64::from(STEPS),
            zoo_dispute::Wanted::Group(step) => {
                let program = Program::of(&game.terms().task, *step, None)?;
                let first = program.before.end as u64;
                let drawn = random::bits(self.seed, 2, 0) % (program.groups.len() as u64 - first);
                return Ok(Some(Move::Pick(first + drawn)));
            }
            zoo_dispute::Wanted::Tensor(_) => game.roots().len() as u64,
            zoo_dispute::Wanted::Node(.., nodes) => nodes.len() as u64,
            zoo_dispute::Wanted::Word(.., words) => words.len() as u64,
            zoo_dispute::Wanted::Segment(_, part, _) => part.cuts().len() as u64 - 1,
            _ => 1,
        };
        Ok(Some(Move::Pick(random::bits(self.seed, 3, u64::from(game.moves())) % choices)))
    }
}

fn main() -> Result<(), Failed> {
    let mut arguments = std::env::args().skip(1);
    let flips: u64 = arguments.next().map_or(Ok(3), |flips| flips.parse())?;
    let name = arguments.next().unwrap_or_else(|| "bench-m".to_owned());
    let mut spec = preset::by_name(&name).ok_or("no such preset")?.spec;
    spec.clip = Some(1.0);
    spec.update = UpdateFormat::Sparse(SparseSettings::default());
    let vocab = spec.model.vocab_size as u64;
    let tokens: Vec<u32> = (0..100_000).map(|at| (random::bits(1, 0, at / 3) % vocab) as u32).collect();
    let data = Dataset::encode(vocab as u32, &tokens, tokens.len() as u64)?;
    let trainer = Trainer::new(spec.clone(), &data)?;
    let base = trainer.checkpoint();
    println!(
        "{name}: {} parameters, {STEPS} steps of {SEQUENCES} sequences",
        trainer.network().parameter_count()
    );
    drop(trainer);
    let share = Share { first_sequence: 0, sequences_per_step: SEQUENCES, inner_steps: STEPS_BEFORE };
    let before = WindowTask { ahead_steps: LEAD, ..WindowTask::first(&spec, &data, &base, share) };
    let kept = train_window(before, &mut |_| ControlFlow::Continue(()))?.replica;
    let lead = share.after(LEAD);
    let window = WindowTask {
        replica: Some(kept.bytes()),
        round: 1,
        first_step: u64::from(STEPS_BEFORE + LEAD),
        lead: Some(lead),
        share: lead.after(STEPS - LEAD),
        ..before
    };
    let [maker, challenger] = [1, 2].map(|seed| NodeKey::from_seed([seed; 32]));
    let replay = Replay::new(window)?;
    let terms = |outcome| Terms {
        task: replay.task().clone(),
        outcome,
        maker: maker.id(),
        challenger: challenger.id(),
        begins_ms: 0,
        move_ms: 600_000,
    };
    let mut honest = timed(replay.clone());

    for index in 0..flips {
        // Every second is in the last step, in what is said of the outcome.
        let is_last = index % 2 == 1;
        let step = if is_last { STEPS - 1 } else { (random::bits(5, 0, index) % u64::from(STEPS)) as u32 };
        let program = Program::of(replay.task(), step, None)?;
        let begins = |at: &usize| {
            let name = &program.tensors[*at].name;
            if is_last { name.starts_with("unsaid now") } else { name.starts_with("gradient of ") }
        };
        let gradients: Vec<usize> = (0..program.tensors.len()).filter(begins).collect();
        let tensor = gradients[(random::bits(5, 1, index) % gradients.len() as u64) as usize];
        let element = random::bits(5, 2, index) as usize % program.tensors[tensor].len();
        let flip = Flip { step, tensor, element, bit: 22 };
        let group = &program.groups[program.group_of(tensor)];
        println!("a bit of {} [{element}] of {} in step {step}", program.tensors[tensor].name, group.vnode);
        let mut liar = timed(Forgery::new(replay.clone(), flip));
        honest.spent = Duration::ZERO;
        let start = Instant::now();
        let terms = terms(liar.player.outcome()?);
        liar.spent = start.elapsed();
        let one = Side { key: &maker, player: &mut liar };
        let hearing = play(terms, one, Side { key: &challenger, player: &mut honest })?;
        report(&hearing, Role::Maker, [liar.spent, honest.spent])?;
    }

    println!("a false accusation");
    let mut accuser = Accuser { seed: 9 };
    honest.spent = Duration::ZERO;
    let terms = terms(honest.player.outcome()?);
    let one = Side { key: &maker, player: &mut honest };
    let hearing = play(terms, one, Side { key: &challenger, player: &mut accuser })?;
    report(&hearing, Role::Challenger, [honest.spent, Duration::ZERO])
}

fn report(hearing: &Hearing, loser: Role, [maker, challenger]: [Duration; 2]) -> Result<(), Failed> {
    let file = hearing.file(&NodeKey::from_seed([3; 32])).ok_or("it is not over")?;
    let start = Instant::now();
    let checked = check(&file)?;
    let took = start.elapsed();
    let verdict = &checked.record.verdict;
    let moves = hearing.game().moves();
    println!("  {} moves, {} exchanges, {} bytes", moves, moves.div_ceil(2), file.len());
    println!("  maker {:.1} s, challenger {:.1} s", maker.as_secs_f64(), challenger.as_secs_f64());
    println!(
        "  checked in {:.1} ms: the {} loses by {}",
        took.as_secs_f64() * 1e3,
        verdict.loser.name(),
        verdict.reason.name()
    );
    println!("  {:?}", verdict.place);
    if verdict.loser == loser { Ok(()) } else { Err("the wrong party lost".into()) }
}
