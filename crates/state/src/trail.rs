//! What a node's accepted windows have left behind: what its next one starts from, and the secrets that it has yet to tell.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use zoo_content::Digest;
use zoo_protocol::{Commitment, NodeId, Secret};

use crate::{Refusal, Running};

/// What a replica kept is of use for so many rounds: those of the window after the next, if it was late.
const ROUNDS: u32 = 2;

/// What a node's accepted windows have left behind, by the rounds of the windows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trail {
    /// What its replica kept. A window starts from the last of these or from nothing, and from nothing else: whoever may choose what it
    /// starts from may choose what comes out.
    pub kept: BTreeMap<u32, Digest>,
    /// Of the secrets that it has not told.
    pub pledges: BTreeMap<u32, Digest>,
}

impl Trail {
    fn note(&mut self, commitment: &Commitment) {
        let round = commitment.work.round;
        self.kept.insert(round, commitment.outcome.replica_out);
        self.pledges.insert(round, commitment.pledge);
        let outlived = |noted: &u32, _: &mut Digest| noted.saturating_add(ROUNDS) >= round;
        self.kept.retain(outlived);
        self.pledges.retain(outlived);
    }
}

impl Running {
    /// What a node's window of the present round may start from.
    pub(crate) fn kept_by(&self, node: &NodeId) -> Option<Digest> {
        let trail = self.trails.get(node)?;
        let lately = trail.kept.range(self.round.saturating_sub(ROUNDS)..self.round);
        lately.last().map(|(_, kept)| *kept)
    }

    /// The round whose secret a node is to tell with its window of the present one.
    pub(crate) fn to_be_told_by(&self, node: &NodeId) -> Option<u32> {
        let trail = self.trails.get(node)?;
        trail.pledges.range(..self.round).last().map(|(round, _)| *round)
    }

    /// Whether a commitment starts from what its node was told, or from nothing, and tells the secret that was pledged.
    pub(crate) fn check_trail(&self, node: &NodeId, commitment: &Commitment) -> Result<(), Refusal> {
        let work = &commitment.work;
        if commitment.replica_in.is_some() && commitment.replica_in != work.kept {
            return Err(Refusal::Invalid("the window starts from what its node has not kept".into()));
        }
        let pledges = self.trails.get(node).map(|trail| &trail.pledges);
        let pledge = work.reveals.and_then(|round| pledges?.get(&round));
        if commitment.secret.as_ref().map(Secret::pledge) != pledge.copied() {
            return Err(Refusal::Invalid("the secret is not the one that was pledged".into()));
        }
        Ok(())
    }

    /// A commitment was accepted.
    pub(crate) fn note_trail(&mut self, node: NodeId, commitment: &Commitment) {
        self.trails.entry(node).or_default().note(commitment);
    }

    /// The secrets of these nodes are told, and known to everybody from now on.
    pub(crate) fn note_told(&mut self, told: impl IntoIterator<Item = (NodeId, u32)>) {
        for (node, round) in told {
            if let Some(trail) = self.trails.get_mut(&node) {
                trail.pledges.remove(&round);
            }
        }
    }

    /// Forgets whom nobody has heard of in a while.
    pub(crate) fn forget_old_trails(&mut self) {
        let round = self.round;
        let is_of_use = |noted: &u32| noted.saturating_add(ROUNDS) >= round;
        self.trails.retain(|_, trail| trail.kept.keys().last().is_some_and(is_of_use));
    }
}
