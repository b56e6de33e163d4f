//! A party that knows a window, and answers from what it knows.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use zoo_content::{Digest, slice};

use crate::account::Account;
use crate::game::Game;
use crate::moves::{Move, Opening, Role};
use crate::operator::{Blob, Read, Unread};
use crate::replay::{Knowledge, ReplayError};
use crate::trace::{Blobs, Trace};
use crate::tree::{self, LEAF_WORDS, Proof};
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
    account: Option<Account>,
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
        Self { knowledge, account: None, trace: None }
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
            let known = self.account()?;
            return Ok(match (game.turn(), game.account()) {
                (Role::Challenger, Some(said)) => {
                    said.first_difference(known).map_or(Move::Withdraw, Move::Pick)
                }
                _ => Move::Account(known.clone()),
            });
        };
        self.trace(step)?;
        let (_, trace) = self.trace.as_ref().expect("just traced");
        Ok(answer(trace, &self.knowledge.blobs(), game))
    }

    /// What the window came to, by what it knows.
    ///
    /// # Errors
    /// The window cannot be done again.
    pub fn account(&mut self) -> Result<&Account, ReplayError> {
        if self.account.is_none() {
            self.account = Some(self.knowledge.account()?);
        }
        Ok(self.account.as_ref().expect("just put there"))
    }

    /// The digest of the outcome, by what it knows: what a maker commits to.
    ///
    /// # Errors
    /// The window cannot be done again.
    pub fn outcome(&mut self) -> Result<Digest, ReplayError> {
        self.account().map(|account| account.outcome.digest())
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

fn answer(trace: &Trace, blobs: &Blobs, game: &Game) -> Move {
    let roots = |scene: &Scene| trace.roots[trace.program.groups[scene.group].tensors.clone()].to_vec();
    match game.wanted() {
        Wanted::Account | Wanted::Step => Move::Withdraw,
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
        Wanted::States(scene, part) => Move::States(states(trace, blobs, scene, part)),
        Wanted::Segment(scene, part, said) => pick_part(trace, blobs, scene, part, said),
        Wanted::Opening(scene, part) => Move::Opening(opening(trace, blobs, scene, part)),
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

fn words(trace: &Trace, scene: &Scene, range: Range<u64>) -> Vec<u32> {
    trace.tensors[scene.tensor][range.start as usize..range.end as usize]
        .iter()
        .map(|value| value.to_bits())
        .collect()
}

/// The states at the ends of a part's parts, as they follow from the inputs.
fn ends(trace: &Trace, blobs: &Blobs, scene: &Scene, part: &Part) -> Vec<Vec<u32>> {
    let states = trace.states(scene.tensor, part.element, blobs);
    let states = states.expect("a party has its tensors whole");
    part.cuts()[1..].iter().map(|&cut| states[cut - 1].clone()).collect()
}

fn states(trace: &Trace, blobs: &Blobs, scene: &Scene, part: &Part) -> Vec<u32> {
    let mut ends = ends(trace, blobs, scene, part);
    ends.pop();
    ends.concat()
}

/// The first part whose end is wrong; the last, whose end was wrong before it was cut, if it is no other.
fn pick_part(trace: &Trace, blobs: &Blobs, scene: &Scene, part: &Part, said: &[u32]) -> Move {
    let ends = ends(trace, blobs, scene, part);
    let words = trace.program.tensors[scene.tensor].operator.state_words();
    let inner = ends.iter().zip(said.chunks(words.max(1)));
    let first = inner.into_iter().position(|(known, said)| known != said);
    Move::Pick(first.unwrap_or(ends.len() - 1) as u64)
}

/// What a segment reads, with its proofs.
fn opening(trace: &Trace, blobs: &Blobs, scene: &Scene, part: &Part) -> Opening {
    let operator = &trace.program.tensors[scene.tensor].operator;
    let mut reads: BTreeMap<usize, BTreeSet<u64>> = BTreeMap::new();
    let mut seen = |tensor: usize, index: usize| {
        reads.entry(tensor).or_default().insert((index / LEAF_WORDS) as u64);
    };
    let mut read = Noting { reader: trace.reader(scene.tensor, blobs, &mut seen), place: None };
    let segment = part.segments.start;
    // What is read does not depend on the state before.
    let _ = operator.segment(part.element, segment, &part.before, &mut read);
    let place = read.place;
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
        stored: place.and_then(|(blob, range)| prove(blobs, &blob, range)),
        tensors: reads.into_iter().map(proof).collect(),
    }
}

/// Notes which part of a blob is read.
struct Noting<R> {
    reader: R,
    place: Option<(Blob, Range<u64>)>,
}

impl<R: Read> Read for Noting<R> {
    fn word(&mut self, input: usize, index: usize) -> Result<u32, Unread> {
        self.reader.word(input, index)
    }

    fn stored(&mut self, blob: &Blob, range: Range<u64>) -> Result<u32, Unread> {
        self.place = Some((*blob, range.clone()));
        self.reader.stored(blob, range)
    }
}

fn prove(blobs: &Blobs, blob: &Blob, range: Range<u64>) -> Option<Vec<u8>> {
    let blob = blobs.get(&blob.digest)?;
    Some(slice::Outline::of(blob, slice::CHUNK_BYTES).prove(range, |at| &blob[at]))
}
