//! The checkpoints that this node is asked to keep: fetched whole, reported, proved when challenged, let go when nobody asks any more.

use std::collections::{BTreeMap, BTreeSet};

use zoo_content::Digest;
use zoo_protocol::{JobId, Keep, NodeId, Peer, Report};

use crate::needs::{BlobKind, KEPT_MANIFEST, Need};
use crate::{Effect, swarm};

/// What the node keeps. The agent fetches for it, and tells it what came of that.
#[derive(Default)]
pub(crate) struct Keeping {
    keeps: BTreeMap<(JobId, u32), Kept>,
    /// The checkpoints among them, once the orchestrator has said: what an earlier process was asked to keep is not known here.
    held: Option<BTreeSet<Digest>>,
    /// Fetches under way.
    fetching: BTreeSet<Digest>,
    /// Who has what is still to be fetched.
    peers: Vec<Peer>,
    /// Waits in a row, and whether one is under way.
    failures: u32,
    waiting: bool,
}

struct Kept {
    keep: Keep,
    /// What is not known to be here; empty once everything is.
    missing: BTreeMap<Digest, Need>,
    /// The challenge that was taken up last.
    nonce: Option<u64>,
}

impl Keeping {
    /// Whether a blob is still to be had.
    pub(crate) fn wants(&self, blob: &Digest) -> bool {
        self.keeps.values().any(|kept| kept.missing.contains_key(blob))
    }

    fn missing(&self) -> BTreeMap<Digest, Need> {
        self.keeps.values().flat_map(|kept| &kept.missing).map(|(blob, need)| (*blob, *need)).collect()
    }

    /// Fetches of what is not wanted any more.
    pub(crate) fn unwanted(&mut self) -> Vec<Digest> {
        let missing = self.missing();
        let unwanted = self.fetching.extract_if(.., |blob| !missing.contains_key(blob));
        unwanted.collect()
    }

    /// Asks for what is missing and not under way, unless a wait is.
    pub(crate) fn fetch(&mut self, me: &NodeId, effects: &mut Vec<Effect>) {
        if self.waiting {
            return;
        }
        for (digest, need) in swarm::in_turn(me, self.missing()) {
            if self.fetching.insert(digest) {
                let sources = swarm::sources(me, &digest, None, &self.peers);
                effects.push(Effect::Fetch { digest, need, sources });
            }
        }
    }

    /// What the orchestrator asks for now, all of it.
    pub(crate) fn told(&mut self, keeps: Vec<Keep>, peers: Vec<Peer>, effects: &mut Vec<Effect>) {
        self.peers = peers;
        let mut known = std::mem::take(&mut self.keeps);
        for keep in keeps {
            let name = (keep.job, keep.round);
            let same = |kept: &Kept| (kept.keep.checkpoint, kept.keep.ask) == (keep.checkpoint, keep.ask);
            let mut kept = match known.remove(&name).filter(same) {
                Some(kept) => Kept { keep, ..kept },
                None => {
                    effects.push(Effect::Hold { checkpoint: keep.checkpoint, blobs: vec![keep.checkpoint] });
                    let missing = BTreeMap::from([(keep.checkpoint, KEPT_MANIFEST)]);
                    Kept { keep, missing, nonce: None }
                }
            };
            if let Some(challenge) = kept.keep.challenge.filter(|asked| kept.nonce != Some(asked.nonce)) {
                kept.nonce = Some(challenge.nonce);
                let Keep { job, round, .. } = kept.keep;
                effects.push(Effect::Prove { job, round, challenge });
            }
            self.keeps.insert(name, kept);
        }
        let held = Some(self.keeps.values().map(|kept| kept.keep.checkpoint).collect());
        if self.held != held {
            effects.extend(held.clone().map(Effect::HoldOnly));
            self.held = held;
        }
    }

    /// A blob is here; reports what is complete with it.
    pub(crate) fn fetched(&mut self, blob: Digest, lists: &[(Digest, u64)], effects: &mut Vec<Effect>) {
        self.fetching.remove(&blob);
        for kept in self.keeps.values_mut() {
            let Some(need) = kept.missing.remove(&blob) else { continue };
            self.failures = 0;
            let Keep { job, round, checkpoint, ask, .. } = kept.keep;
            if need.kind == BlobKind::KeptManifest {
                effects
                    .push(Effect::Hold { checkpoint, blobs: lists.iter().map(|(part, _)| *part).collect() });
                kept.missing.extend(lists.iter().map(|(part, bytes)| (*part, Need::kept_part(*bytes))));
            }
            if kept.missing.is_empty() {
                effects.push(Effect::Report(Report::Kept { job, round, ask }));
            }
        }
    }

    /// A blob could not be had: asks to be woken, once for however many failures until then.
    pub(crate) fn failed(&mut self, blob: &Digest, effects: &mut Vec<Effect>) {
        self.fetching.remove(blob);
        if self.wants(blob) && !std::mem::replace(&mut self.waiting, true) {
            self.failures = self.failures.saturating_add(1);
            effects.push(Effect::RetryKeepAfter { failures: self.failures });
        }
    }

    /// The wait is over.
    pub(crate) fn retry(&mut self) {
        self.waiting = false;
    }
}
