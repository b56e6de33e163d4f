//! What a watcher knows of who was checked, by whom, and what came of it.

use std::collections::BTreeMap;

use zoo_content::Digest;
use zoo_orchestrator::Notice;
use zoo_protocol::{Attestation, JobId, NodeId};
use zoo_state::{Distrust, Event, FaultKind};

/// Checks that are remembered, the newest.
const CHECKS_MAX: usize = 1 << 12;

/// The checks of a network.
#[derive(Clone, Debug, Default)]
pub struct TrustView {
    /// What is known of each node.
    pub nodes: BTreeMap<NodeId, Standing>,
    /// Windows that were drawn, in the order in which somebody was first asked.
    pub checks: Vec<CheckView>,
    /// When the last thing happened, by the network's clock, ms.
    pub at_ms: u64,
}

/// What is known of a node.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    /// What it calls itself.
    pub name: String,
    /// Contributions that were accepted.
    pub contributions: u64,
    /// Windows of its that others trained again to the same outcome.
    pub verified: u64,
    /// Windows of its that stayed unverified although they were drawn.
    pub unverified: u64,
    /// Windows of others that it trained again.
    pub verdicts: u64,
    /// Windows, or verdicts, that turned out to be wrong.
    pub convictions: u64,
    /// Other faults.
    pub faults: u64,
    /// The last of them all, in words.
    pub last_fault: Option<String>,
    /// The operator that vouches for it, and the second since 1970 at which that ends.
    pub vouched: Option<(NodeId, u64)>,
    /// What its hardware vouches for.
    pub attested: Option<Attestation>,
}

/// A window that others train again.
#[derive(Clone, Debug)]
pub struct CheckView {
    /// The job.
    pub job: JobId,
    /// The round of the window.
    pub round: u32,
    /// Whose it is.
    pub maker: NodeId,
    /// Who was asked, and what they said: nothing yet, that it is withheld, or an outcome and whether it is the maker's.
    pub verdicts: BTreeMap<NodeId, Option<Option<(Digest, bool)>>>,
    /// How it ended, in words; nothing while it goes on.
    pub end: Option<String>,
}

impl TrustView {
    /// Takes in what a watcher is told.
    pub fn hear(&mut self, notice: &Notice) {
        let Notice::Event { event, at_ms, .. } = notice else { return };
        self.at_ms = *at_ms;
        match event {
            Event::NodeJoined { node, profile } | Event::NodeRejoined { node, profile } => {
                self.node(node).name.clone_from(&profile.name);
            }
            Event::ContributionAccepted { node, .. } => self.node(node).contributions += 1,
            Event::NodeVouched { node, operator, valid_until_s, .. } => {
                self.node(node).vouched = Some((*operator, *valid_until_s));
            }
            Event::NodeAttested { node, attestation } => self.node(node).attested = Some(*attestation),
            Event::TrustEnded { node, why } => {
                let standing = self.node(node);
                standing.vouched = None;
                standing.attested = standing.attested.filter(|_| *why == Distrust::Revoked);
            }
            Event::NodeRetired { node } => {
                let standing = self.node(node);
                (standing.vouched, standing.attested) = (None, None);
            }
            Event::NodeSucceeded { old, new } => {
                // What others vouch for is for one key.
                let standing = self.nodes.remove(old).unwrap_or_default();
                self.nodes.insert(*new, Standing { vouched: None, attested: None, ..standing });
            }
            Event::VerificationAsked { job, round, maker, verifier } => {
                self.check(*job, *round, *maker).verdicts.insert(*verifier, None);
            }
            Event::VerifierReleased { job, round, maker, verifier } => {
                let verdicts = &mut self.check(*job, *round, *maker).verdicts;
                verdicts.retain(|node, verdict| node != verifier || verdict.is_some());
            }
            Event::VerdictGiven { job, round, maker, verifier, outcome } => {
                self.node(verifier).verdicts += 1;
                self.check(*job, *round, *maker).verdicts.insert(*verifier, Some(*outcome));
            }
            Event::WindowVerified { job, round, maker, .. } => {
                self.node(maker).verified += 1;
                self.check(*job, *round, *maker).end = Some("equal".into());
            }
            Event::WindowUnverified { job, round, maker, why } => {
                self.node(maker).unverified += 1;
                self.check(*job, *round, *maker).end = Some(format!("unverified: {why}"));
            }
            Event::Fault { job, node, kind, .. } => {
                if let FaultKind::WrongWindow { window, .. } = kind {
                    self.check(*job, *window, *node).end = Some("different".into());
                }
                let standing = self.node(node);
                let is_conviction =
                    matches!(kind, FaultKind::WrongWindow { .. } | FaultKind::WrongVerdict { .. });
                *(if is_conviction { &mut standing.convictions } else { &mut standing.faults }) += 1;
                standing.last_fault = Some(format!("it {kind}"));
            }
            _ => {}
        }
    }

    /// Nodes that hardware has shown to be on the same machine.
    pub fn on_the_machine_of(&self, node: &NodeId) -> Vec<NodeId> {
        let platform = |standing: &Standing| standing.attested.map(|attestation| attestation.platform);
        let Some(own) = self.nodes.get(node).and_then(platform) else { return Vec::new() };
        let same = self.nodes.iter().filter(|&(id, other)| id != node && platform(other) == Some(own));
        same.map(|(id, _)| *id).collect()
    }

    fn node(&mut self, node: &NodeId) -> &mut Standing {
        self.nodes.entry(*node).or_default()
    }

    /// The latest check of a window: a job that failed and is tried again has windows of the same rounds once more.
    fn check(&mut self, job: JobId, round: u32, maker: NodeId) -> &mut CheckView {
        let is_it = |check: &CheckView| {
            check.end.is_none() && (check.job, check.round, check.maker) == (job, round, maker)
        };
        let at = self.checks.iter().rposition(is_it).unwrap_or_else(|| {
            if self.checks.len() == CHECKS_MAX {
                self.checks.remove(0);
            }
            self.checks.push(CheckView { job, round, maker, verdicts: BTreeMap::new(), end: None });
            self.checks.len() - 1
        });
        &mut self.checks[at]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAKER: NodeId = NodeId([1; 32]);
    const VERIFIER: NodeId = NodeId([2; 32]);

    fn hear(view: &mut TrustView, event: Event) {
        view.hear(&Notice::Event { sequence: 0, at_ms: 0, event });
    }

    #[test]
    fn a_check_is_followed_from_the_first_question_to_the_conviction() {
        let (job, right, said) = (Digest::of(b"job"), Digest::of(b"right"), Digest::of(b"said"));
        let (round, maker, verifier) = (3, MAKER, VERIFIER);
        let mut view = TrustView::default();
        hear(&mut view, Event::VerificationAsked { job, round, maker, verifier });
        assert_eq!(view.checks[0].verdicts[&VERIFIER], None);
        hear(&mut view, Event::VerdictGiven { job, round, maker, verifier, outcome: Some((right, false)) });
        assert_eq!(view.checks[0].end, None, "one alone convicts nobody");
        let kind = FaultKind::WrongWindow { window: 3, committed: said, right, verifiers: vec![verifier] };
        hear(&mut view, Event::Fault { job, round: 5, node: maker, kind });
        assert_eq!(view.checks.len(), 1);
        assert_eq!(view.checks[0].end.as_deref(), Some("different"));
        assert_eq!((view.nodes[&MAKER].convictions, view.nodes[&MAKER].verified), (1, 0));
        assert_eq!(view.nodes[&VERIFIER].verdicts, 1);
        hear(&mut view, Event::VerificationAsked { job, round, maker, verifier });
        hear(&mut view, Event::VerifierReleased { job, round, maker, verifier });
        hear(&mut view, Event::WindowVerified { job, round, maker, verifiers: vec![] });
        assert_eq!(view.checks.len(), 2, "another check of a window of that name");
        assert!(view.checks[1].verdicts.is_empty());
    }
}
