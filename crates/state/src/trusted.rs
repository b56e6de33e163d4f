//! For whom somebody vouches: an operator that the network's owner trusts, or a vendor of processors. Their windows are drawn more
//! seldom ([`RoundPlan::verified_of_trusted_in_1000`](zoo_protocol::RoundPlan::verified_of_trusted_in_1000)), and never not at all.
//!
//! Trust orders checking and decides nothing else: what a trusted node hands in is judged as everybody's, a window that has nothing to do with
//! the others is verified without any lot, and where there is no trust the network is as right, and slower by what it checks.
//!
//! - An operator's word holds for the node, the network and the version of the software that it names, until it ends, is revoked, or the operator
//!   is not trusted any more.
//! - What hardware vouches for holds until it ends, and only for a node that was never at fault: nobody looked at it since.
//! - A fault of the node ends both at once, and the same word is not taken again.
//!
//! Ends are judged by the journal's clock whenever lots are drawn, so that no command is needed for them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};
use zoo_protocol::{
    Attestation, Build, CREDENTIAL_VALID_S_MAX, Credential, CredentialId, Declaration, NodeId, Revocation,
    Sealed,
};

use crate::{Event, Refusal, State};

/// A credential is taken so long before it begins, seconds: clocks differ.
pub const CLOCKS_APART_S: u64 = 600;
/// Credentials that are remembered as void, until they would have ended.
const VOID_MAX: usize = 1 << 14;

/// Whose word counts, and for whom it was given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trusted {
    /// Operators whose word counts.
    pub operators: BTreeSet<NodeId>,
    /// For whom one of them vouches, ended or not.
    pub vouched: BTreeMap<NodeId, Vouched>,
    /// For whom hardware does, ended or not.
    pub attested: BTreeMap<NodeId, Attestation>,
    /// Credentials that are worth nothing any more, by who signed them, and the second at which they would have ended.
    pub void: BTreeMap<(NodeId, CredentialId), u64>,
}

/// What an operator says of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vouched {
    /// The operator.
    pub operator: NodeId,
    /// Which credential.
    pub credential: CredentialId,
    /// What the node runs.
    pub build: Build,
    /// First second since 1970 at which it means nothing any more.
    pub valid_until_s: u64,
}

/// Why nobody vouches for a node any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Distrust {
    /// Its operator took it back.
    Revoked,
    /// It was at fault.
    Fault,
}

impl fmt::Display for Distrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Distrust::Revoked => "its operator took it back",
            Distrust::Fault => "it was at fault",
        })
    }
}

impl Trusted {
    /// Everybody forgets what was said for this key.
    pub(crate) fn forget(&mut self, node: &NodeId) {
        self.vouched.remove(node);
        self.attested.remove(node);
    }

    fn make_void(
        &mut self,
        credential: (NodeId, CredentialId),
        until_s: u64,
        now_s: u64,
    ) -> Result<(), Refusal> {
        if self.void.values().filter(|until_s| **until_s > now_s).count() >= VOID_MAX {
            return Err(Refusal::TooManyRevoked);
        }
        self.void.retain(|_, until_s| *until_s > now_s);
        self.void.insert(credential, until_s);
        Ok(())
    }
}

impl State {
    /// Whose word counts, and for whom it was given.
    pub fn trusted(&self) -> &Trusted {
        &self.trusted
    }

    /// Whether somebody vouches for a node at this time of the journal's clock.
    pub fn is_trusted(&self, node: &NodeId, now_ms: u64) -> bool {
        self.vouched_for(node, now_ms).is_some() || self.attested(node, now_ms).is_some()
    }

    /// The operator's word for a node that holds at this time.
    pub fn vouched_for(&self, node: &NodeId, now_ms: u64) -> Option<&Vouched> {
        let vouched = self.trusted.vouched.get(node)?;
        let runs_it = self.nodes.get(node).is_some_and(|node| node.profile.software == vouched.build.version);
        let holds =
            self.trusted.operators.contains(&vouched.operator) && now_ms / 1000 < vouched.valid_until_s;
        (runs_it && holds).then_some(vouched)
    }

    /// What hardware vouches for that holds at this time.
    pub fn attested(&self, node: &NodeId, now_ms: u64) -> Option<&Attestation> {
        let attestation = self.trusted.attested.get(node)?;
        let was_never_at_fault = self.nodes.get(node).is_some_and(|node| node.account.faults == 0);
        (was_never_at_fault && attestation.is_valid_at(now_ms / 1000)).then_some(attestation)
    }

    /// Other nodes that hardware has shown to be on the same machine.
    pub fn on_the_machine_of<'a>(&'a self, node: &'a NodeId) -> impl Iterator<Item = &'a NodeId> {
        let platform = self.trusted.attested.get(node).map(|attestation| attestation.platform);
        let same = self.trusted.attested.iter().filter(move |(_, other)| Some(other.platform) == platform);
        same.map(|(id, _)| id).filter(move |id| *id != node)
    }

    /// Everybody whose windows are drawn more seldom at this time.
    pub(crate) fn trusted_at(&self, now_ms: u64) -> BTreeSet<NodeId> {
        let Trusted { vouched, attested, .. } = &self.trusted;
        vouched.keys().chain(attested.keys()).filter(|node| self.is_trusted(node, now_ms)).copied().collect()
    }

    /// An operator vouches for a node.
    pub(crate) fn vouch(
        &mut self,
        sealed: &Sealed<Credential>,
        now_ms: u64,
        events: &mut Vec<Event>,
    ) -> Result<(), Refusal> {
        let (operator, credential) = (sealed.signer(), Credential::id_of(sealed));
        let said = Declaration::credential(sealed, self.here()?)?;
        let Credential { node, valid_from_s, valid_until_s, .. } = said;
        let now_s = now_ms / 1000;
        if !self.trusted.operators.contains(&operator) {
            return Err(Refusal::UntrustedOperator(operator));
        }
        if self.trusted.void.contains_key(&(operator, credential)) {
            return Err(Refusal::VoidCredential(node));
        }
        if !(valid_from_s.saturating_sub(CLOCKS_APART_S)..valid_until_s).contains(&now_s) {
            return Err(Refusal::CredentialTime { from_s: valid_from_s, until_s: valid_until_s, now_s });
        }
        let known = self.nodes.get(&node).ok_or(Refusal::UnknownNode(node))?;
        if known.profile.software != said.build.version {
            let (says, named) = (known.profile.software.clone(), said.build.version);
            return Err(Refusal::OtherSoftware { node, says, named });
        }
        if !self.holds_longer(&said) {
            self.trusted
                .vouched
                .insert(node, Vouched { operator, credential, build: said.build, valid_until_s });
            events.push(Event::NodeVouched { node, operator, credential, valid_until_s });
        }
        Ok(())
    }

    /// An operator takes its word back, whether it was brought here yet or not.
    pub(crate) fn revoke(
        &mut self,
        sealed: &Sealed<Revocation>,
        now_ms: u64,
        events: &mut Vec<Event>,
    ) -> Result<(), Refusal> {
        let (operator, now_s) = (sealed.signer(), now_ms / 1000);
        let Revocation { node, credential, .. } = Declaration::revocation(sealed, self.here()?)?;
        if !self.trusted.operators.contains(&operator) {
            return Err(Refusal::UntrustedOperator(operator));
        }
        let ends_s = now_s.saturating_add(CREDENTIAL_VALID_S_MAX + CLOCKS_APART_S);
        self.trusted.make_void((operator, credential), ends_s, now_s)?;
        let is_it = |held: &Vouched| (held.operator, held.credential) == (operator, credential);
        if self.trusted.vouched.get(&node).is_some_and(is_it) {
            self.trusted.vouched.remove(&node);
            events.push(Event::TrustEnded { node, why: Distrust::Revoked });
        }
        Ok(())
    }

    /// The host has checked what a node's hardware vouches for.
    pub(crate) fn attest(
        &mut self,
        node: NodeId,
        attestation: &Attestation,
        now_ms: u64,
        events: &mut Vec<Event>,
    ) -> Result<(), Refusal> {
        let known = self.nodes.get(&node).ok_or(Refusal::UnknownNode(node))?;
        if known.account.faults > 0 {
            return Err(Refusal::WasAtFault(node));
        }
        if !attestation.is_valid_at(now_ms / 1000) {
            return Err(Refusal::Invalid("what the hardware vouches for has ended".into()));
        }
        if self.trusted.attested.get(&node) != Some(attestation) {
            self.trusted.attested.insert(node, *attestation);
            events.push(Event::NodeAttested { node, attestation: *attestation });
        }
        Ok(())
    }

    /// A node was at fault: nobody's word for it counts any more.
    pub(crate) fn end_trust(&mut self, node: &NodeId, events: &mut Vec<Event>) {
        let vouched = self.trusted.vouched.remove(node);
        let attested = self.trusted.attested.remove(node);
        if let Some(Vouched { operator, credential, valid_until_s, .. }) = &vouched {
            // Each is of one node, and each node has one at most: there is room, or the oldest has to do.
            if self.trusted.void.len() >= VOID_MAX {
                self.trusted.void.pop_first();
            }
            self.trusted.void.insert((*operator, *credential), *valid_until_s);
        }
        if vouched.is_some() || attested.is_some() {
            events.push(Event::TrustEnded { node: *node, why: Distrust::Fault });
        }
    }

    /// Whether somebody's word for the same node and software holds at least as long: who brings an older one again changes nothing.
    fn holds_longer(&self, said: &Credential) -> bool {
        let Trusted { operators, vouched, .. } = &self.trusted;
        vouched.get(&said.node).is_some_and(|held| {
            let is_for_the_same =
                operators.contains(&held.operator) && held.build.version == said.build.version;
            is_for_the_same && held.valid_until_s >= said.valid_until_s
        })
    }

    /// Whether a declaration has been heard, so that nothing comes of it.
    pub(crate) fn has_heard_of_trust(&self, declaration: &Declaration) -> bool {
        match declaration {
            Declaration::Credential(sealed) => sealed.open().is_ok_and(|said| {
                let is_void = self.trusted.void.contains_key(&(sealed.signer(), Credential::id_of(sealed)));
                !is_void && Some(said.network) == self.network && self.holds_longer(&said)
            }),
            Declaration::Revocation(sealed) => sealed.open().is_ok_and(|revocation| {
                self.trusted.void.contains_key(&(sealed.signer(), revocation.credential))
            }),
            Declaration::Succession { .. } | Declaration::Retirement(_) => false,
        }
    }
}
