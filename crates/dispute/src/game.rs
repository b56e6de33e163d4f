//! The dispute as a state machine: moves in turn, each with a deadline, until one of the two has lost. No clock and no
//! chance inside: whoever hears a move says when.
//!
//! The maker says something about the window, coarse first: its outcome and its steps, digests of groups of tensors, of tensors, of parts of a tensor, then its
//! words, then the states of one element's chain. To each the challenger answers with the first that is wrong. What stood before it is thereby agreed on, so
//! the inputs of whatever is left in the end are, and the maker opens them: 64 terms, that the referee computes again.
//!
//! The challenger never says what is right. So a maker who said something true wins against any accusation, and one who said something
//! wrong loses against whoever picks the first wrong thing.

use std::ops::Range;

use zoo_content::Digest;
use zoo_protocol::{NodeId, NodeKey, Sealed, encode};

use crate::account::Account;
use crate::moves::{MOVE_BYTES_MAX, Move, Opening, Role, Said, digest_of};
use crate::program::{Program, group_digest, state_digest};
use crate::referee::{Bench, Segment};
use crate::terms::{Terms, TermsError};
use crate::tree::{self, Shape};
use crate::verdict::{Element, Named, Place, Reason, Verdict};
use crate::wanted::{Below, Part, Scene, Wanted};

/// Levels of a tensor's tree that are said at once.
const LEVELS: u32 = 8;
/// At this level, or below, all words below a node are said.
const WORDS_LEVEL: u32 = 6;

/// A dispute, as far as it has come.
#[derive(Clone, Debug)]
pub struct Game {
    terms: Terms,
    dispute: Digest,
    number: u32,
    last: Digest,
    now_ms: u64,
    deadline_ms: u64,
    /// What was agreed on so far.
    agreed: Agreed,
    wanted: Wanted,
    verdict: Option<Verdict>,
}

/// What stands.
#[derive(Clone, Debug, Default)]
struct Agreed {
    account: Option<Account>,
    program: Option<Program>,
    groups: Vec<Digest>,
    roots: Vec<Digest>,
    place: Place,
}

/// Why a move was not heard: it changes nothing, and whose turn it is has still to move.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The dispute is over.
    #[error("the dispute is over")]
    Over,
    /// It is the other's turn.
    #[error("it is not the turn of {0}")]
    Turn(NodeId),
    /// The signature does not hold.
    #[error("the signature does not hold")]
    Signature,
    /// It belongs to another place or another dispute, or cannot be read, so that nobody knows where it belongs.
    #[error("the move is not the next of this dispute")]
    Place,
    /// It is larger than a move.
    #[error("the move has {0} bytes, more than {MOVE_BYTES_MAX}")]
    Size(usize),
    /// Time went backwards.
    #[error("the move came before the one before it")]
    Time,
}

impl Game {
    /// A dispute on these terms. The maker moves first.
    ///
    /// # Errors
    /// Terms that make no sense.
    pub fn open(terms: Terms) -> Result<Self, TermsError> {
        terms.check()?;
        let dispute = terms.digest();
        // Programs that can be derived for the first step and the last can be for all of them.
        for step in [0, terms.task.steps() - 1] {
            Program::of(&terms.task, step, None)?;
        }
        Ok(Self {
            dispute,
            number: 0,
            last: dispute,
            now_ms: terms.begins_ms,
            deadline_ms: terms.begins_ms + terms.move_ms,
            agreed: Agreed::default(),
            wanted: Wanted::Account,
            verdict: None,
            terms,
        })
    }

    /// The terms.
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// Whose turn it is.
    pub fn turn(&self) -> Role {
        self.wanted.role()
    }

    /// What is to be said.
    pub fn wanted(&self) -> &Wanted {
        &self.wanted
    }

    /// Until when, ms.
    pub fn deadline_ms(&self) -> u64 {
        self.deadline_ms
    }

    /// Moves so far.
    pub fn moves(&self) -> u32 {
        self.number
    }

    /// What the maker said of the window, once it has.
    pub fn account(&self) -> Option<&Account> {
        self.agreed.account.as_ref()
    }

    /// What the maker said of the groups of the disputed step, once it has.
    pub fn groups(&self) -> &[Digest] {
        &self.agreed.groups
    }

    /// What the maker said of the tensors of the disputed group, once it has.
    pub fn roots(&self) -> &[Digest] {
        &self.agreed.roots
    }

    /// How it ended, once it has.
    pub fn verdict(&self) -> Option<&Verdict> {
        self.verdict.as_ref()
    }

    /// The key of a party.
    pub fn key_of(&self, role: Role) -> NodeId {
        match role {
            Role::Maker => self.terms.maker,
            Role::Challenger => self.terms.challenger,
        }
    }

    /// Signs the next move.
    pub fn seal(&self, said: Move, key: &NodeKey) -> Sealed<Said> {
        Sealed::seal(&Said { dispute: self.dispute, number: self.number, after: self.last, said }, key)
    }

    /// Hears a move at `now_ms`. One that comes too late is not heard: its sender has lost by silence. One that its sender signed in this place and that
    /// is wrong ends the dispute.
    ///
    /// # Errors
    /// What says nothing of whose turn it is, and is as if it had not come.
    pub fn hear(&mut self, sealed: &Sealed<Said>, now_ms: u64) -> Result<(), Refusal> {
        if self.wait(now_ms)? {
            return Ok(());
        }
        let size = encode(sealed).len();
        if size > MOVE_BYTES_MAX {
            return Err(Refusal::Size(size));
        }
        let role = self.turn();
        if sealed.signer() != self.key_of(role) {
            return Err(Refusal::Turn(sealed.signer()));
        }
        let said = match sealed.open() {
            Ok(said) => said,
            Err(zoo_protocol::SealError::Signature(_)) => return Err(Refusal::Signature),
            Err(zoo_protocol::SealError::Malformed { .. }) => return Err(Refusal::Place),
        };
        if (said.dispute, said.number, said.after) != (self.dispute, self.number, self.last) {
            return Err(Refusal::Place);
        }
        self.number += 1;
        self.last = digest_of(sealed);
        self.deadline_ms = now_ms.saturating_add(self.terms.move_ms);
        match self.advance(said.said) {
            Ok(wanted) => self.wanted = wanted,
            Err((loser, reason)) => self.end(loser, reason),
        }
        Ok(())
    }

    /// Lets time pass; whether the dispute is over by the silence of whose turn it is.
    ///
    /// # Errors
    /// It is over already, or time went backwards.
    pub fn wait(&mut self, now_ms: u64) -> Result<bool, Refusal> {
        if self.verdict.is_some() {
            return Err(Refusal::Over);
        }
        if now_ms < self.now_ms {
            return Err(Refusal::Time);
        }
        self.now_ms = now_ms;
        let is_late = now_ms > self.deadline_ms;
        if is_late {
            self.end(self.turn(), Reason::Silence);
        }
        Ok(is_late)
    }

    fn end(&mut self, loser: Role, reason: Reason) {
        self.verdict = Some(Verdict { loser, reason, place: self.agreed.place.clone() });
    }

    fn program(&self) -> &Program {
        self.agreed.program.as_ref().expect("a step was picked")
    }

    /// What is wanted after a move; or who has lost by it.
    fn advance(&mut self, said: Move) -> Result<Wanted, (Role, Reason)> {
        let role = self.turn();
        if said == Move::Withdraw {
            return Err((role, Reason::Withdrawn));
        }
        let wanted = self.wanted.clone();
        let lost = |why: &str| (role, Reason::Inconsistent(why.to_owned()));
        match (wanted, said) {
            (Wanted::Account, Move::Account(account)) => self.account_said(account).map_err(lost),
            (Wanted::Step, Move::Pick(step)) => self.step_picked(step).map_err(lost),
            (Wanted::Groups(step), Move::Groups(groups)) => self.groups_said(step, groups).map_err(lost),
            (Wanted::Group(step), Move::Pick(group)) => self.group_picked(step, group).map_err(lost),
            (Wanted::Roots(scene), Move::Roots(roots)) => self.roots_said(scene, roots).map_err(lost),
            (Wanted::Tensor(scene), Move::Pick(at)) => self.tensor_picked(scene, at).map_err(lost),
            (Wanted::Nodes(scene, below), Move::Nodes(nodes)) => {
                nodes_said(scene, below, nodes).map_err(lost)
            }
            (Wanted::Node(scene, below, nodes), Move::Pick(at)) => {
                self.node_picked(scene, &below, &nodes, at).map_err(lost)
            }
            (Wanted::Words(scene, below), Move::Words(words)) => {
                self.words_said(scene, &below, words).map_err(lost)
            }
            (Wanted::Word(scene, range, words), Move::Pick(at)) => {
                self.word_picked(scene, range, &words, at).map_err(lost)
            }
            (Wanted::States(scene, part), Move::States(states)) => {
                self.states_said(scene, part, states).map_err(lost)
            }
            (Wanted::Segment(scene, part, states), Move::Pick(at)) => {
                self.part_picked(scene, &part, &states, at).map_err(lost)
            }
            (Wanted::Opening(scene, part), Move::Opening(opening)) => Err(self.judge(scene, &part, &opening)),
            _ => Err(lost("it is no answer to what was asked")),
        }
    }

    fn account_said(&mut self, account: Account) -> Result<Wanted, &'static str> {
        let ground = self.terms.task.ground().map_err(|_| "there is no such window")?;
        account.check(&self.terms.task, &ground, &self.terms.outcome)?;
        self.agreed.account = Some(account);
        Ok(Wanted::Step)
    }

    /// The state after a step, as it was said.
    fn state_said(&self, step: u32) -> Option<Digest> {
        Some(self.agreed.account.as_ref()?.steps.get(step as usize)?.state)
    }

    fn step_picked(&mut self, step: u64) -> Result<Wanted, &'static str> {
        let step = u32::try_from(step).ok().filter(|step| *step < self.terms.task.steps());
        let step = step.ok_or("the window has no such step")?;
        let sizes = self.agreed.account.as_ref().map(Account::sizes);
        let program = Program::of(&self.terms.task, step, sizes.as_deref());
        self.agreed.program = Some(program.map_err(|_| "the step has no program")?);
        self.agreed.place.step = Some(step);
        Ok(Wanted::Groups(step))
    }

    /// The state before the step is agreed on, but for that before the first, which is stored; that after it was said, as much else was.
    fn groups_said(&mut self, step: u32, groups: Vec<Digest>) -> Result<Wanted, &'static str> {
        let program = self.program();
        if groups.len() != program.groups.len() {
            return Err("the step has another number of groups");
        }
        let before = step.checked_sub(1).and_then(|step| self.state_said(step));
        if before.is_some_and(|before| state_digest(&groups[program.before.clone()]) != before) {
            return Err("the groups before the step are not the state that was agreed on");
        }
        if Some(state_digest(&groups[program.after.clone()])) != self.state_said(step) {
            return Err("the groups after the step are not the state that was said");
        }
        for (tensor, claim) in &program.claims {
            let words = self.agreed.account.as_ref().and_then(|account| account.words(step, *claim));
            let said = words.map(|words| group_digest(&[tree::root_of(&words)]));
            if said != Some(groups[program.group_of(*tensor)]) {
                return Err("a group is not what was said of the step");
            }
        }
        self.agreed.groups = groups;
        Ok(Wanted::Group(step))
    }

    fn group_picked(&mut self, step: u32, group: u64) -> Result<Wanted, &'static str> {
        let program = self.program();
        let group = usize::try_from(group).ok().filter(|group| *group < program.groups.len());
        let group = group.ok_or("the step has no such group")?;
        if program.before.contains(&group) {
            return Err("the state before the step was agreed on");
        }
        let scene = Scene { step, group, tensor: program.groups[group].tensors.start };
        self.agreed.place.group = Some(Named::of(program, group));
        Ok(Wanted::Roots(scene))
    }

    fn roots_said(&mut self, scene: Scene, roots: Vec<Digest>) -> Result<Wanted, &'static str> {
        let group = &self.program().groups[scene.group];
        if roots.len() != group.tensors.len() || group_digest(&roots) != self.agreed.groups[scene.group] {
            return Err("the roots are not those of the group");
        }
        self.agreed.roots = roots;
        Ok(Wanted::Tensor(scene))
    }

    fn tensor_picked(&mut self, scene: Scene, at: u64) -> Result<Wanted, &'static str> {
        let at = usize::try_from(at).ok().filter(|at| *at < self.agreed.roots.len());
        let at = at.ok_or("the group has no such tensor")?;
        let scene = Scene { tensor: scene.tensor + at, ..scene };
        self.agreed.place.tensor = Some(Element::of(self.program(), scene.tensor, None));
        let height = self.shape(scene).height();
        Ok(self.descend(scene, (height, 0, self.agreed.roots[at])))
    }

    fn shape(&self, scene: Scene) -> Shape {
        Shape::of(self.program().tensors[scene.tensor].len() as u64)
    }

    /// From a disputed node to what lies below it.
    fn descend(&self, scene: Scene, node: (u32, u64, Digest)) -> Wanted {
        let (level, index, _) = node;
        if level <= WORDS_LEVEL {
            return Wanted::Words(scene, Below { node, level: 0, range: 0..0 });
        }
        let depth = (level - WORDS_LEVEL).min(LEVELS);
        let range = self.shape(scene).below(level - depth, depth, index);
        Wanted::Nodes(scene, Below { node, level: level - depth, range })
    }

    fn node_picked(
        &self,
        scene: Scene,
        below: &Below,
        nodes: &[Digest],
        at: u64,
    ) -> Result<Wanted, &'static str> {
        let node = usize::try_from(at).ok().and_then(|at| nodes.get(at)).ok_or("there is no such node")?;
        Ok(self.descend(scene, (below.level, below.range.start + at, *node)))
    }

    fn words_said(&self, scene: Scene, below: &Below, words: Vec<u32>) -> Result<Wanted, &'static str> {
        let (level, index, node) = below.node;
        let range = self.shape(scene).words_below(level, index);
        if words.len() as u64 != range.end - range.start {
            return Err("the node has another number of words");
        }
        if tree::node_of(words.iter().copied(), level) != node {
            return Err("the words are not those of the node");
        }
        Ok(Wanted::Word(scene, range, words))
    }

    fn word_picked(
        &mut self,
        scene: Scene,
        range: Range<u64>,
        words: &[u32],
        at: u64,
    ) -> Result<Wanted, &'static str> {
        let said = usize::try_from(at).ok().and_then(|at| words.get(at)).ok_or("there is no such word")?;
        let element = (range.start + at) as usize;
        self.agreed.place.tensor = Some(Element::of(self.program(), scene.tensor, Some(element)));
        let segments = 0..self.program().tensors[scene.tensor].operator.segments(element);
        Ok(self.narrow(scene, Part { element, segments, before: Vec::new(), after: vec![*said] }))
    }

    /// From a disputed part of a chain to its parts, or to what it reads.
    fn narrow(&mut self, scene: Scene, part: Part) -> Wanted {
        if part.segments.len() > 1 {
            return Wanted::States(scene, part);
        }
        self.agreed.place.segment = Some(part.segments.start as u64);
        Wanted::Opening(scene, part)
    }

    fn states_said(&self, scene: Scene, part: Part, states: Vec<u32>) -> Result<Wanted, &'static str> {
        let words = self.program().tensors[scene.tensor].operator.state_words();
        if states.len() != (part.cuts().len() - 2) * words {
            return Err("the chain has another number of states");
        }
        Ok(Wanted::Segment(scene, part, states))
    }

    fn part_picked(
        &mut self,
        scene: Scene,
        part: &Part,
        states: &[u32],
        at: u64,
    ) -> Result<Wanted, &'static str> {
        let cuts = part.cuts();
        let at = usize::try_from(at).ok().filter(|at| at + 1 < cuts.len()).ok_or("there is no such part")?;
        let words = self.program().tensors[scene.tensor].operator.state_words();
        let state = |at: usize| states[at * words..(at + 1) * words].to_vec();
        let before = if at == 0 { part.before.clone() } else { state(at - 1) };
        let after = if at + 2 == cuts.len() { part.after.clone() } else { state(at) };
        Ok(self
            .narrow(scene, Part { element: part.element, segments: cuts[at]..cuts[at + 1], before, after }))
    }

    /// The end of every dispute that is played to its end.
    fn judge(&self, scene: Scene, part: &Part, opening: &Opening) -> (Role, Reason) {
        let bench = Bench {
            program: self.program(),
            groups: &self.agreed.groups,
            group: (scene.group, &self.agreed.roots),
        };
        let Part { element, ref segments, ref before, ref after } = *part;
        let segment = Segment { tensor: scene.tensor, element, segment: segments.start, before };
        match bench.recompute(segment, opening) {
            Err(why) => (Role::Maker, Reason::Inconsistent(format!("what was opened is no proof: {why}"))),
            Ok(computed) if computed == *after => (Role::Challenger, Reason::FalseAccusation { computed }),
            Ok(computed) => (Role::Maker, Reason::Computation { said: after.clone(), computed }),
        }
    }
}

fn nodes_said(scene: Scene, below: Below, nodes: Vec<Digest>) -> Result<Wanted, &'static str> {
    let (level, _, node) = below.node;
    if nodes.len() as u64 != below.range.end - below.range.start {
        return Err("the node has another number of nodes below it");
    }
    if tree::fold(nodes.clone(), level - below.level) != node {
        return Err("the nodes are not those below the disputed one");
    }
    Ok(Wanted::Node(scene, below, nodes))
}
