//! Who is here.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use zoo_protocol::{Account, NodeId, NodeProfile, Standing};

use crate::limits::MAX_NODES;
use crate::{Answer, Event, LossCause, Measured, Missed, Phase, Rating, Refusal, Running, SeatState, State};

/// A node that has joined at least once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// What it says of itself.
    pub profile: NodeProfile,
    /// Where its blobs can be fetched.
    pub addresses: Vec<SocketAddr>,
    /// Whether it is here.
    pub live: bool,
    /// What it has done so far.
    pub account: Account,
    /// What its transfers said of its link, in this process or an earlier one.
    pub measured: Option<Measured>,
    /// The rounds that its account had when it got the key that it has, if it had another before.
    pub renamed_after: Option<u64>,
    /// What the network measured of it.
    pub rating: Option<Rating>,
}

impl State {
    pub(crate) fn join(
        &mut self,
        id: NodeId,
        profile: &NodeProfile,
        addresses: &[SocketAddr],
        now_ms: u64,
        events: &mut Vec<Event>,
    ) -> Result<(), Refusal> {
        self.check_key(&id)?;
        if !self.nodes.contains_key(&id) {
            self.forget_newcomers();
            if self.nodes.len() >= MAX_NODES {
                return Err(Refusal::TooManyNodes);
            }
        }
        // The encoding keeps only IP and port: so does the state, or it would not survive encoding.
        let addresses =
            addresses.iter().map(|address| SocketAddr::new(address.ip(), address.port())).collect();
        let profile = profile.clone();
        let known = self.nodes.remove(&id);
        events.push(match known {
            Some(_) => Event::NodeRejoined { node: id, profile: profile.clone() },
            None => Event::NodeJoined { node: id, profile: profile.clone() },
        });
        // What was measured was the machine that the key was on.
        let is_same =
            |node: &Node| (&node.profile.isa, node.profile.threads) == (&profile.isa, profile.threads);
        let rating = known.as_ref().filter(|node| is_same(node)).and_then(|node| node.rating);
        let (account, measured, renamed_after) =
            known.map(|node| (node.account, node.measured, node.renamed_after)).unwrap_or_default();
        let live = true;
        self.nodes.insert(id, Node { profile, addresses, live, account, measured, renamed_after, rating });
        self.suspects.remove(&id);
        self.set_seat(&id, SeatState::Lost, SeatState::Working);
        self.ask_again(&id);
        self.ask_keeper_again(&id, now_ms);
        Ok(())
    }

    /// Who comes back may have lost its disk: what it aggregated counts when it says so again.
    fn ask_again(&mut self, id: &NodeId) {
        if let Some(Running { phase: Phase::Aggregating(aggregating), .. }) = &mut self.running
            && matches!(aggregating.answers.get(id), Some(Answer::Checkpoint(_)))
        {
            aggregating.answers.remove(id);
        }
    }

    pub(crate) fn lose(
        &mut self,
        id: NodeId,
        cause: LossCause,
        events: &mut Vec<Event>,
    ) -> Result<(), Refusal> {
        let node = self.nodes.get_mut(&id).ok_or(Refusal::UnknownNode(id))?;
        // Goodbye, broken connection and expired lease may all tell of the same loss.
        if node.live {
            node.live = false;
            self.suspects.remove(&id);
            events.push(Event::NodeLost { node: id, cause });
            self.set_seat(&id, SeatState::Working, SeatState::Lost);
            self.end_late(|node, _| (*node == id).then_some(Missed::Lost), events);
        }
        Ok(())
    }

    fn set_seat(&mut self, id: &NodeId, from: SeatState, to: SeatState) {
        if let Some(Running { phase: Phase::Training(training), .. }) = &mut self.running {
            training.set(id, |state| *state == from, to);
        }
    }

    /// Nodes that are [free](State::free) and count, ordered: those that a round is made of. Empty when no job runs.
    pub(crate) fn eligible(&self) -> Vec<NodeId> {
        let everybody = !self.can_do_without_newcomers();
        self.free().filter(|id| everybody || !self.is_newcomer(id)).collect()
    }

    /// Live nodes that are heard, not barred from the current round and not busy with a window of the round before or of another node, ordered: those
    /// who can get something to do. None when no job runs.
    pub(crate) fn free(&self) -> impl Iterator<Item = NodeId> {
        let running = self.running.iter();
        running.flat_map(|running| {
            let heard = self.live().map(|(id, _)| *id).filter(|id| !self.is_suspect(id));
            let is_free = |id: &NodeId| running.late_window(id).is_none() && !running.is_verifying(id);
            heard.filter(move |id| !running.is_barred(id) && is_free(id))
        })
    }

    pub(crate) fn is_live(&self, id: &NodeId) -> bool {
        self.nodes.get(id).is_some_and(|node| node.live)
    }

    /// What became of a node's work.
    pub fn standing_of(&self, id: &NodeId) -> Standing {
        let running = self.running.as_ref();
        let barred =
            running.filter(|running| running.is_barred(id)).and_then(|running| running.barred.get(id));
        let checks = running.map(|running| running.verification.checks.keys());
        Standing {
            account: self.nodes.get(id).map(|known| known.account.clone()).unwrap_or_default(),
            checked_now: checks.into_iter().flatten().filter(|(_, maker)| maker == id).count() as u32,
            barred_through: barred.copied(),
        }
    }

    pub(crate) fn credit(&mut self, id: &NodeId, update: impl FnOnce(&mut Account)) {
        if let Some(node) = self.nodes.get_mut(id) {
            update(&mut node.account);
        }
    }
}
