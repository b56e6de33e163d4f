//! A party that knows a window, and answers from what it knows.

use std::collections::{BTreeMap, BTreeSet};

use zoo_content::{Digest, slice};
use zoo_training::Dataset;

use crate::game::Game;
use crate::moves::{Move, Opening, Role};
use crate::operator::{Read, Unread};
use crate::replay::{Knowledge, ReplayError};
use crate::trace::Trace;
use crate::tree::{self, LEAF_WORDS, Proof, word};
use crate::wanted::{Below, Part, Scene, Wanted};

/// Whoever answers when it is its turn.
pub trait Answer {
    /// The next move; `None` is silence.
    ///
    /// # Errors
    /// Why it knows none.
    fn answer(&mut self, game: &Game) -> Result<Option<Move>, ReplayError>;
}

/// Plays either role: a maker says what it knows, a challenger picks the first that differs from it, and gives up where nothing does.
pub struct Player<K> {
    knowledge: K,
    steps: Option<Vec<Digest>>,
    trace: Option<(u32, Trace)>,
}

impl<K: Knowledge> Answer for Player<K> {
    fn answer(&mut self, game: &Game) -> Result<Option<Move>, ReplayError> {
        self.next(game).map(Some)
    }
}

impl<K: Knowledge> Player<K> {
    /// A player who has computed nothing yet.
    pub fn new(knowledge: K) -> Self {
        Self { knowledge, steps: None, trace: None }
    }

    /// The next move.
    ///
    /// # Errors
    /// The window cannot be done again, or the dispute is about another one.
    pub fn next(&mut self, game: &Game) -> Result<Move, ReplayError> {
        if game.terms().task != *self.knowledge.task() {
            return Err(ReplayError::OtherTask);
        }
        let Some(step) = game.wanted().step() else {
            let known = self.steps()?;
            return Ok(match game.turn() {
                Role::Maker => Move::Steps(known.to_vec()),
                Role::Challenger => first_difference(game.steps(), known),
            });
        };
        self.trace(step)?;
        let (_, trace) = self.trace.as_ref().expect("just traced");
        Ok(answer(trace, self.knowledge.data(), game))
    }

    /// The digest of the state after every step, by what it knows.
    ///
    /// # Errors
    /// The window cannot be done again.
    pub fn steps(&mut self) -> Result<&[Digest], ReplayError> {
        if self.steps.is_none() {
            self.steps = Some(self.knowledge.steps()?);
        }
        Ok(self.steps.as_deref().unwrap_or_default())
    }

    /// The digest of the state after the window, by what it knows: what a maker claims.
    ///
    /// # Errors
    /// The window cannot be done again.
    pub fn end(&mut self) -> Result<Digest, ReplayError> {
        Ok(*self.steps()?.last().expect("a window has steps"))
    }

    /// A step, by what it knows.
    ///
    /// # Errors
    /// The window cannot be done again.
    pub fn trace(&mut self, step: u32) -> Result<&Trace, ReplayError> {
        if self.trace.as_ref().is_none_or(|(known, _)| *known != step) {
            self.trace = Some((step, self.knowledge.trace(step)?));
        }
        let (_, trace) = self.trace.as_ref().expect("just traced");
        Ok(trace)
    }
}

fn answer(trace: &Trace, data: &Dataset, game: &Game) -> Move {
    let roots = |scene: &Scene| trace.roots[trace.program.groups[scene.group].tensors.clone()].to_vec();
    match game.wanted() {
        Wanted::Steps | Wanted::Step => Move::Withdraw,
        Wanted::Groups(_) => Move::Groups(trace.groups.clone()),
        Wanted::Group(_) => first_difference(game.groups(), &trace.groups),
        Wanted::Roots(scene) => Move::Roots(roots(scene)),
        Wanted::Tensor(scene) => first_difference(game.roots(), &roots(scene)),
        Wanted::Nodes(scene, below) => Move::Nodes(nodes(trace, scene, below)),
        Wanted::Node(scene, below, said) => first_difference(said, &nodes(trace, scene, below)),
        Wanted::Words(scene, below) => {
            let (level, index, _) = below.node;
            let shape = tree::Shape::of(trace.tensors[scene.tensor].len() as u64);
            Move::Words(words(trace, scene, shape.words_below(level, index)))
        }
        Wanted::Word(scene, range, said) => first_difference(said, &words(trace, scene, range.clone())),
        Wanted::States(scene, part) => Move::States(states(trace, data, scene, part)),
        Wanted::Segment(scene, part, said) => pick_part(trace, data, scene, part, said),
        Wanted::Opening(scene, part) => Move::Opening(opening(trace, data, scene, part)),
    }
}

/// Picks the first that differs.
fn first_difference<T: PartialEq>(said: &[T], known: &[T]) -> Move {
    let first = said.iter().zip(known).position(|(said, known)| said != known);
    first.map_or(Move::Withdraw, |first| Move::Pick(first as u64))
}

fn nodes(trace: &Trace, scene: &Scene, below: &Below) -> Vec<Digest> {
    tree::nodes(&trace.tensors[scene.tensor], below.level, below.range.clone())
}

fn words(trace: &Trace, scene: &Scene, range: std::ops::Range<u64>) -> Vec<u32> {
    trace.tensors[scene.tensor][range.start as usize..range.end as usize]
        .iter()
        .map(|value| word(*value))
        .collect()
}

fn token(data: &Dataset) -> impl Fn(u64) -> Option<u32> + '_ {
    |position| {
        let mut token = [0];
        (position < data.len()).then(|| data.read(position, &mut token))?;
        Some(token[0])
    }
}

/// The states at the ends of a part's parts, as they follow from the inputs.
fn ends(trace: &Trace, data: &Dataset, scene: &Scene, part: &Part) -> Vec<Vec<u32>> {
    let states = trace.states(scene.tensor, part.element, &token(data));
    let states = states.expect("a party has its tensors whole");
    part.cuts()[1..].iter().map(|&cut| states[cut - 1].clone()).collect()
}

fn states(trace: &Trace, data: &Dataset, scene: &Scene, part: &Part) -> Vec<u32> {
    let mut ends = ends(trace, data, scene, part);
    ends.pop();
    ends.concat()
}

/// The first part whose end is wrong; the last, whose end was wrong before it was cut, if it is no other.
fn pick_part(trace: &Trace, data: &Dataset, scene: &Scene, part: &Part, said: &[u32]) -> Move {
    let ends = ends(trace, data, scene, part);
    let words = trace.program.tensors[scene.tensor].operator.state_words();
    let inner = ends.iter().zip(said.chunks(words.max(1)));
    let first = inner.into_iter().position(|(known, said)| known != said);
    Move::Pick(first.unwrap_or(ends.len() - 1) as u64)
}

/// What a segment reads, with its proofs.
fn opening(trace: &Trace, data: &Dataset, scene: &Scene, part: &Part) -> Opening {
    let operator = &trace.program.tensors[scene.tensor].operator;
    let mut reads: BTreeMap<usize, BTreeSet<u64>> = BTreeMap::new();
    let token = token(data);
    let mut seen = |tensor: usize, index: usize| {
        reads.entry(tensor).or_default().insert((index / LEAF_WORDS) as u64);
    };
    let mut read = Noting { reader: trace.reader(scene.tensor, &token, &mut seen), position: None };
    let segment = part.segments.start;
    // What is read does not depend on the state before.
    let _ = operator.segment(part.element, segment, &part.before, &mut read);
    let position = read.position;
    let mut groups: Vec<usize> = reads.keys().map(|&tensor| trace.program.group_of(tensor)).collect();
    groups.dedup();
    groups.retain(|&group| group != scene.group);
    let group_roots = |group: usize| trace.roots[trace.program.groups[group].tensors.clone()].to_vec();
    let proof = |(tensor, leaves): (usize, BTreeSet<u64>)| {
        let leaves: Vec<u64> = leaves.into_iter().collect();
        (tensor as u32, Proof::of(&trace.tensors[tensor], &leaves))
    };
    Opening {
        groups: groups.into_iter().map(|group| (group as u32, group_roots(group))).collect(),
        token: position.map(|position| prove_token(data, position)),
        tensors: reads.into_iter().map(proof).collect(),
    }
}

/// Notes which token is read.
struct Noting<R> {
    reader: R,
    position: Option<u64>,
}

impl<R: Read> Read for Noting<R> {
    fn word(&mut self, input: usize, index: usize) -> Result<u32, Unread> {
        self.reader.word(input, index)
    }

    fn token(&mut self, position: u64) -> Result<u32, Unread> {
        self.position = Some(position);
        self.reader.token(position)
    }
}

fn prove_token(data: &Dataset, position: u64) -> Vec<u8> {
    let blob = data.blob();
    let range = Dataset::bytes_of(data.vocab_size(), position);
    slice::Outline::of(blob, slice::CHUNK_BYTES).prove(range, |at| &blob[at])
}
