//! Who keeps which checkpoint: chosen, checked, and replaced when they leave or fail.
//!
//! Of every kept checkpoint as many live nodes are *keepers* as its plan says, or as there are. A keeper is asked, fetches what it does not
//! have, and says so; then it *holds* the checkpoint until it is lost or does not pass a challenge. Who is lost is replaced
//! at once and comes back as one who is asked: its disk may be another. Only when enough hold the checkpoint are those let go
//! that are away or too many, so that the last copy is never given up for one that is only promised.
//!
//! Where the job names a storage, nodes that have one come first, and take the place of others when they come. Then
//! keepers are in as many regions as possible; among regions that have as many, those come first that hold the checkpoint already.
//! The rest is decided by an order of the checkpoint's own, so that nodes keep about as much as each other.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};
use zoo_content::Digest;
use zoo_protocol::limits::MAX_REDUNDANCY;
use zoo_protocol::{Challenge, JobId, Keep, NodeId, Peer, StorageKind};

use crate::checkpoints::{Checkpoint, JobCheckpoints};
use crate::{Event, Node, Refusal, State};

/// A keeper has so many times the patience of a round to fetch what it is to keep.
const FETCH_PATIENCE: u64 = 4;
/// A challenge is met within this time, ms: the whole blob has to be read for it.
pub const CHALLENGE_MS: u64 = 30_000;
/// Holders that a node is told of who has to fetch.
const SOURCES: usize = 64;

/// A node that is asked to keep a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keeper {
    /// Which asking of the checkpoint this is.
    pub ask: u32,
    /// Since when it is in this state, ms.
    pub since_ms: u64,
    /// How far it is.
    pub state: Keeping,
}

/// How far a keeper is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Keeping {
    /// It has not said that it has everything.
    Asked,
    /// It said so.
    Holds,
    /// It said so, and is to prove it.
    Challenged(Challenge),
}

/// Why a node keeps a checkpoint no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Release {
    /// It is away, and enough others hold it.
    Away,
    /// Enough others hold it.
    Spare,
    /// It did not say in time that it has everything.
    Late,
    /// It did not answer a challenge in time.
    Silent,
    /// It says that it has lost part of it.
    Lost,
    /// Its answer to a challenge proves nothing.
    False,
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Release::Away => "it is away and others hold it",
            Release::Spare => "enough others hold it",
            Release::Late => "it did not fetch it in time",
            Release::Silent => "it did not answer a challenge",
            Release::Lost => "it has lost part of it",
            Release::False => "it answered a challenge falsely",
        })
    }
}

impl Release {
    /// Whether the node failed.
    pub fn is_failure(self) -> bool {
        !matches!(self, Release::Away | Release::Spare)
    }
}

impl Keeper {
    /// Whether it said that it has everything, and has not failed to prove it.
    pub fn holds(&self) -> bool {
        self.state != Keeping::Asked
    }

    fn deadline_ms(&self, patience_ms: u64) -> Option<u64> {
        let within_ms = match self.state {
            Keeping::Asked => patience_ms.saturating_mul(FETCH_PATIENCE),
            Keeping::Holds => return None,
            Keeping::Challenged(_) => CHALLENGE_MS,
        };
        Some(self.since_ms.saturating_add(within_ms))
    }

    fn overdue(&self) -> Release {
        if self.holds() { Release::Silent } else { Release::Late }
    }
}

impl State {
    /// What a node should be keeping now.
    pub fn keeps_for(&self, node: &NodeId) -> Vec<Keep> {
        if !self.is_live(node) {
            return Vec::new();
        }
        let keep = |(job, round, checkpoint): (&JobId, u32, &Checkpoint)| {
            let keeper = checkpoint.keepers.get(node)?;
            let challenge = match keeper.state {
                Keeping::Challenged(challenge) => Some(challenge),
                Keeping::Asked | Keeping::Holds => None,
            };
            Some(Keep { job: *job, round, checkpoint: checkpoint.digest, ask: keeper.ask, challenge })
        };
        self.checkpoints.iter().filter_map(keep).collect()
    }

    /// Whether a node is there that stores what it keeps in this.
    pub fn has_storage(&self, storage: StorageKind) -> bool {
        self.nodes.values().any(|node| node.live && node.profile.storage == Some(storage))
    }

    /// Whom a node asks for what it has to fetch so that it can keep it, out of `peers`, which are ordered by node.
    pub fn keep_sources_for(&self, node: &NodeId, peers: &[Peer]) -> Vec<Peer> {
        let asked = |checkpoint: &&Checkpoint| {
            checkpoint.keepers.get(node).is_some_and(|keeper| keeper.state == Keeping::Asked)
        };
        let checkpoints = self.checkpoints.iter().map(|(_, _, checkpoint)| checkpoint).filter(asked);
        let holders: BTreeSet<&NodeId> = checkpoints.flat_map(|checkpoint| &checkpoint.holders).collect();
        let place = |holder: &&NodeId| peers.binary_search_by_key(*holder, |peer| peer.node).ok();
        let holders = holders.into_iter().filter(|holder| *holder != node);
        holders.filter_map(|holder| place(&holder)).take(SOURCES).map(|place| peers[place].clone()).collect()
    }

    /// A node says that it has everything it was asked to keep.
    pub(crate) fn kept(
        &mut self,
        node: NodeId,
        (job, round): (JobId, u32),
        ask: u32,
        now_ms: u64,
        events: &mut Vec<Event>,
    ) -> Result<(), Refusal> {
        let checkpoint = self.checkpoints.get_mut(&job, round).ok_or_else(|| not_asked(node))?;
        let keeper = checkpoint.keepers.get_mut(&node).filter(|keeper| keeper.ask == ask);
        let keeper = keeper.ok_or_else(|| not_asked(node))?;
        if keeper.state == Keeping::Asked {
            (keeper.state, keeper.since_ms) = (Keeping::Holds, now_ms);
            checkpoint.holders.insert(node);
            checkpoint.unfit.remove(&node);
            events.push(Event::CheckpointKept { job, round, node });
        }
        Ok(())
    }

    /// A holder is to prove that it holds a part of a checkpoint.
    pub(crate) fn challenge(
        &mut self,
        node: NodeId,
        (job, round): (JobId, u32),
        challenge: Challenge,
        now_ms: u64,
    ) -> Result<(), Refusal> {
        if !self.is_live(&node) {
            return Err(Refusal::NotLive(node));
        }
        let checkpoint = self.checkpoints.get_mut(&job, round).ok_or_else(|| not_asked(node))?;
        match checkpoint.keepers.get_mut(&node) {
            Some(keeper) if keeper.state == Keeping::Holds => {
                (keeper.state, keeper.since_ms) = (Keeping::Challenged(challenge), now_ms);
                Ok(())
            }
            _ => Err(not_asked(node)),
        }
    }

    /// A holder answers a challenge.
    pub(crate) fn proved(
        &mut self,
        node: NodeId,
        (job, round): (JobId, u32),
        nonce: u64,
        proof: &[u8],
        now_ms: u64,
        events: &mut Vec<Event>,
    ) -> Result<(), Refusal> {
        let checkpoint = self.checkpoints.get_mut(&job, round).ok_or_else(|| not_asked(node))?;
        let keeper = checkpoint.keepers.get_mut(&node).ok_or_else(|| not_asked(node))?;
        let Keeping::Challenged(challenge) = keeper.state else { return Err(not_asked(node)) };
        if challenge.nonce != nonce {
            return Err(not_asked(node));
        }
        if challenge.is_met_by(proof) {
            (keeper.state, keeper.since_ms) = (Keeping::Holds, now_ms);
        } else {
            let why = if proof.is_empty() { Release::Lost } else { Release::False };
            checkpoint.release((job, round), node, why, events);
        }
        Ok(())
    }

    /// Who comes back may have lost its disk: it is asked again for all it is to keep.
    pub(crate) fn ask_keeper_again(&mut self, node: &NodeId, now_ms: u64) {
        for checkpoint in self.checkpoints.jobs_mut().flat_map(|(_, kept)| kept.rounds.values_mut()) {
            if checkpoint.keepers.contains_key(node) {
                checkpoint.ask(*node, now_ms);
            }
        }
    }

    /// Who can be challenged now: live nodes that hold a checkpoint and are not challenged already.
    pub fn challengeable(&self) -> Vec<(JobId, u32, NodeId)> {
        let holders = self.checkpoints.iter().flat_map(|(job, round, checkpoint)| {
            let holding = checkpoint.keepers.iter().filter(|(_, keeper)| keeper.state == Keeping::Holds);
            holding.map(move |(node, _)| (*job, round, *node))
        });
        holders.filter(|(_, _, node)| self.is_live(node)).collect()
    }

    /// When time alone would next change who keeps what.
    pub(crate) fn keeping_deadline_ms(&self) -> Option<u64> {
        let keepers = self.checkpoints.jobs().flat_map(|(_, kept)| {
            let of = kept.rounds.values().flat_map(|checkpoint| &checkpoint.keepers);
            of.map(move |(node, keeper)| (node, keeper, kept.patience_ms))
        });
        let live = keepers.filter(|(node, _, _)| self.is_live(node));
        live.filter_map(|(_, keeper, patience_ms)| keeper.deadline_ms(patience_ms)).min()
    }

    /// Sees to it that every checkpoint has its keepers.
    pub(crate) fn tend_checkpoints(&mut self, now_ms: u64, events: &mut Vec<Event>) {
        let Self { nodes, checkpoints, .. } = self;
        let storing = if checkpoints.name_storages() { by_storage(nodes) } else { BTreeMap::new() };
        for (job, JobCheckpoints { plan, patience_ms, rounds }) in checkpoints.jobs_mut() {
            for (round, checkpoint) in rounds {
                let (name, storage) = ((*job, *round), plan.storage);
                let storing =
                    storage.and_then(|storage| storing.get(&storage)).map_or(&[][..], Vec::as_slice);
                let mut tended = Tended { name, storage, storing, checkpoint, nodes, now_ms, events };
                tended.release_the_late(*patience_ms);
                tended.ask_until(plan.redundancy as usize);
                tended.release_the_spare(plan.redundancy as usize);
            }
        }
    }
}

type Nodes = BTreeMap<NodeId, Node>;

/// The live nodes that store what they keep, by what they store it in.
fn by_storage(nodes: &Nodes) -> BTreeMap<StorageKind, Vec<NodeId>> {
    let mut storing: BTreeMap<StorageKind, Vec<NodeId>> = BTreeMap::new();
    for (id, node) in nodes.iter().filter(|(_, node)| node.live) {
        node.profile.storage.iter().for_each(|storage| storing.entry(*storage).or_default().push(*id));
    }
    storing
}

fn not_asked(node: NodeId) -> Refusal {
    Refusal::NotAssigned { node, why: "it is about a checkpoint that it is not asked to keep" }
}

/// One checkpoint, and what it takes to change who keeps it.
struct Tended<'a> {
    name: (JobId, u32),
    storage: Option<StorageKind>,
    /// The live nodes that have the storage which the job names.
    storing: &'a [NodeId],
    checkpoint: &'a mut Checkpoint,
    nodes: &'a Nodes,
    now_ms: u64,
    events: &'a mut Vec<Event>,
}

impl Tended<'_> {
    fn release_the_late(&mut self, patience_ms: u64) {
        let is_late = |(node, keeper): &(&NodeId, &Keeper)| {
            self.is_live(node) && keeper.deadline_ms(patience_ms).is_some_and(|end_ms| end_ms <= self.now_ms)
        };
        let late = self.checkpoint.keepers.iter().filter(is_late);
        let late: Vec<(NodeId, Release)> = late.map(|(node, keeper)| (*node, keeper.overdue())).collect();
        for (node, why) in late {
            self.checkpoint.release(self.name, node, why, self.events);
        }
    }

    fn ask_until(&mut self, redundancy: usize) {
        let live = self.checkpoint.keepers.keys().filter(|node| self.is_live(node)).count();
        self.ask_more(redundancy.saturating_sub(live));
        // And so many of those with the storage that the job names, beside others who keep it without.
        let Checkpoint { keepers, unfit, .. } = &*self.checkpoint;
        let (keeping, others): (Vec<&NodeId>, Vec<&NodeId>) =
            self.storing.iter().partition(|node| keepers.contains_key(node));
        let willing = others.iter().filter(|node| !unfit.contains(node)).count();
        self.ask_more(willing.min(redundancy.saturating_sub(keeping.len())));
    }

    fn ask_more(&mut self, keepers: usize) {
        for _ in 0..keepers {
            let Some(node) = self.next_keeper() else { return };
            self.checkpoint.ask(node, self.now_ms);
            let (job, round) = self.name;
            self.events.push(Event::CheckpointAsked { job, round, node });
        }
    }

    /// Lets go of who is away or too many, if enough hold it; else of those away who do not hold it, or who are very many.
    fn release_the_spare(&mut self, redundancy: usize) {
        let Checkpoint { keepers, holders, .. } = &*self.checkpoint;
        let (here, away): (Vec<&NodeId>, Vec<&NodeId>) = keepers.keys().partition(|node| self.is_live(node));
        let holding: Vec<&NodeId> = here.iter().filter(|node| keepers[node].holds()).copied().collect();
        let of_storage = |nodes: &[&NodeId]| nodes.iter().filter(|node| self.fits(node)).count();
        let is_enough =
            holding.len() >= redundancy && of_storage(&holding) >= of_storage(&here).min(redundancy);
        let mut spare: Vec<NodeId> = match is_enough {
            true => {
                keepers.keys().filter(|node| !self.is_live(node) || !keepers[node].holds()).copied().collect()
            }
            false => away.iter().filter(|node| !holders.contains(node)).map(|node| **node).collect(),
        };
        if !is_enough && away.len() > spare.len() + MAX_REDUNDANCY as usize {
            let held = away.into_iter().filter(|node| holders.contains(node));
            spare.extend(held.min_by_key(|node| (keepers[node].since_ms, **node)));
        }
        for node in spare {
            let why = if self.is_live(&node) { Release::Spare } else { Release::Away };
            self.checkpoint.release(self.name, node, why, self.events);
        }
        while is_enough && self.checkpoint.keepers.len() > redundancy {
            let rank = |node: &&NodeId| {
                (!self.fits(node), self.keepers_in_region_of(node), self.checkpoint.turn(node))
            };
            let Some(node) = self.checkpoint.keepers.keys().max_by_key(rank).copied() else { break };
            self.checkpoint.release(self.name, node, Release::Spare, self.events);
        }
        if is_enough && self.checkpoint.holders.len() > redundancy {
            self.checkpoint.holders = self.checkpoint.keepers.keys().copied().collect();
        }
    }

    /// See the module.
    fn next_keeper(&self) -> Option<NodeId> {
        let mut in_region: BTreeMap<&str, usize> = BTreeMap::new();
        let Checkpoint { keepers, holders, unfit, .. } = &*self.checkpoint;
        for node in keepers.keys().filter_map(|node| self.nodes.get(node)).filter(|node| node.live) {
            *in_region.entry(&node.profile.region).or_default() += 1;
        }
        let candidates = self.nodes.iter().filter(|(id, node)| node.live && !keepers.contains_key(id));
        let rank = |(id, node): &(&NodeId, &Node)| {
            let crowd = in_region.get(node.profile.region.as_str()).copied().unwrap_or(0);
            let is_newcomer = node.account.rounds == 0;
            let turn = self.checkpoint.turn(id);
            (unfit.contains(id), !self.fits(id), is_newcomer, crowd, !holders.contains(id), turn)
        };
        candidates.min_by_key(rank).map(|(id, _)| *id)
    }

    fn keepers_in_region_of(&self, node: &NodeId) -> usize {
        let region = |id: &NodeId| self.nodes.get(id).map(|node| &node.profile.region);
        let home = region(node);
        self.checkpoint.keepers.keys().filter(|other| region(other) == home).count()
    }

    fn is_live(&self, node: &NodeId) -> bool {
        self.nodes.get(node).is_some_and(|node| node.live)
    }

    /// Whether the node has the storage that the job names, if it names one.
    fn fits(&self, node: &NodeId) -> bool {
        self.storage.is_none()
            || self.nodes.get(node).is_some_and(|node| node.profile.storage == self.storage)
    }
}

impl Checkpoint {
    fn ask(&mut self, node: NodeId, now_ms: u64) {
        self.asks += 1;
        self.keepers.insert(node, Keeper { ask: self.asks, since_ms: now_ms, state: Keeping::Asked });
    }

    fn release(&mut self, (job, round): (JobId, u32), node: NodeId, why: Release, events: &mut Vec<Event>) {
        self.keepers.remove(&node);
        if why.is_failure() {
            self.holders.remove(&node);
            self.unfit.insert(node);
        }
        events.push(Event::CheckpointReleased { job, round, node, why });
    }

    /// See [`turn`]: not the same nodes keep everything.
    fn turn(&self, node: &NodeId) -> Digest {
        turn(&self.digest, node)
    }
}

/// A node's place in an order of nodes that is the checkpoint's own.
pub(crate) fn turn(checkpoint: &Digest, node: &NodeId) -> Digest {
    let mut turn = *checkpoint.as_bytes();
    turn.iter_mut().zip(node.0).for_each(|(byte, other)| *byte ^= other);
    Digest::from_bytes(turn)
}
