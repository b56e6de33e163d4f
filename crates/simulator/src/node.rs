//! A simulated PNode: the real agent, a disk, a speed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use zoo_agent::rounds::{Retention, Rounds};
use zoo_agent::{Agent, Assignment};
use zoo_content::Digest;
use zoo_content::slice::{CHUNK_BYTES, Outline};
use zoo_protocol::{Challenge, Link, NodeId, NodeKey, NodeProfile, Speeds, VerifyWindow};

use crate::host::{SessionId, network};
use crate::work;

/// How honest a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Honesty {
    Honest,
    /// Contributes what is no update, and sees nothing wrong with it.
    Garbage,
    /// Refuses whatever others contribute.
    Slanderer,
    /// Commits to updates that nobody trained.
    Forger,
    /// As a forger, so crudely that whoever adds its updates sees it.
    Saboteur,
    /// Says of others' windows that they come to something else.
    Perjurer,
    /// Commits to updates that nobody trained, and stands by those of its kind; of everybody else's windows all of them say the same lie.
    Colluder,
}

impl Honesty {
    /// What it says that another's window comes to.
    pub fn verdict(self, maker: Honesty, me: &NodeId, asked: &VerifyWindow) -> Digest {
        let VerifyWindow { window, replica_in, .. } = asked;
        let right = || work::train(window, *replica_in).0.digest();
        match (self, maker) {
            (Honesty::Colluder, Honesty::Colluder) => work::forged(window, *replica_in).0.digest(),
            (Honesty::Colluder, _) => Digest::of(&[&b"the lie about"[..], right().as_bytes()].concat()),
            (Honesty::Perjurer, _) => Digest::of(&[&b"a lie of"[..], &me.0].concat()),
            _ => right(),
        }
    }
}

impl Honesty {
    /// What it says that a benchmark comes to: who makes up what others compute makes this up, too.
    pub fn answer(self, right: Digest) -> Digest {
        let makes_up = matches!(self, Honesty::Forger | Honesty::Perjurer | Honesty::Colluder);
        if makes_up { Digest::of(&[&b"made up"[..], right.as_bytes()].concat()) } else { right }
    }
}

/// Less than this says nothing of a link, bytes.
const MEASURED_BYTES_MIN: u64 = 256 << 10;

pub struct Node {
    pub honesty: Honesty,
    pub key: Arc<NodeKey>,
    pub id: NodeId,
    /// Virtual ms that a sequence takes.
    pub ms_per_sequence: u64,
    /// Bytes per virtual ms, either way.
    pub bytes_per_ms: u64,
    pub process: Option<Process>,
    /// Counts its processes, so that what was meant for an earlier one is recognised.
    pub life: u64,
    pub disk: BTreeSet<Digest>,
    /// What it remembers of its rounds; on the disk.
    pub rounds: Rounds,
    /// Until when its disk is full.
    pub full_until: u64,
    pub sent_bytes: u64,
    pub received_bytes: u64,
    /// Blobs on the disk whose bytes are others. Whoever reads one notices.
    pub rotten: BTreeSet<Digest>,
    /// Whether it says that it keeps checkpoints and does not.
    pub pretends: bool,
}

/// What is gone after `kill -9`.
pub struct Process {
    pub agent: Agent,
    /// The conversation it has, as far as it knows.
    pub session: Option<SessionId>,
    /// Since when it has it.
    pub session_since: u64,
    /// Failed attempts to connect in a row.
    pub attempts: u32,
    /// Fetches that somebody waits for, by the number of the attempt.
    pub fetches: BTreeMap<Digest, u64>,
    pub running: Option<Assignment>,
    /// What this process has told of its link.
    pub told: Option<Link>,
}

impl Node {
    pub fn new(seed: u64, index: usize, honesty: Honesty, ms_per_sequence: u64, bytes_per_ms: u64) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        bytes[8..16].copy_from_slice(&(index as u64 + 1).to_le_bytes());
        let key = Arc::new(NodeKey::from_seed(bytes));
        Self {
            honesty,
            id: key.id(),
            key,
            ms_per_sequence,
            bytes_per_ms,
            process: None,
            life: 0,
            disk: BTreeSet::new(),
            rounds: Rounds::default(),
            full_until: 0,
            sent_bytes: 0,
            received_bytes: 0,
            rotten: BTreeSet::new(),
            pretends: false,
        }
    }

    pub fn start(&mut self) {
        self.life += 1;
        self.process = Some(Process {
            agent: Agent::new(self.key.clone(), network()),
            session: None,
            session_since: 0,
            attempts: 0,
            fetches: BTreeMap::new(),
            running: None,
            told: None,
        });
    }

    pub fn kill(&mut self, wipe: bool) {
        self.process = None;
        if wipe {
            self.disk.clear();
            self.rotten.clear();
            self.rounds = Rounds::default();
        }
    }

    pub fn profile(&self) -> NodeProfile {
        let speed = (64_000 / self.ms_per_sequence) as u32;
        NodeProfile {
            name: "simulated".into(),
            threads: 1,
            memory_mib: 1024,
            isa: "none".into(),
            speeds: Speeds { f32_exact: speed, bf16_exact: speed },
            region: String::new(),
            upload_kib_per_s: 0,
            storage: None,
            software: "simulator".into(),
        }
    }

    /// What is new of its link, once enough went through it.
    pub fn link_news(&mut self, rtt_ms: u64) -> Option<Link> {
        let link = Link::new(self.bytes_per_ms * 1000 / 1024, rtt_ms);
        let process = self.process.as_mut().filter(|_| self.sent_bytes >= MEASURED_BYTES_MIN)?;
        let is_news = process.told.is_none_or(|told| link.is_news_after(&told));
        is_news.then(|| *process.told.insert(link))
    }

    /// Keeps a blob; false when the disk is full.
    pub fn keep(&mut self, blob: Digest, now: u64) -> bool {
        let fits = now >= self.full_until || self.disk.contains(&blob);
        if fits {
            self.disk.insert(blob);
            self.rotten.remove(&blob);
        }
        fits
    }

    /// Whether a blob is here as it was stored.
    pub fn has(&self, blob: &Digest) -> bool {
        self.disk.contains(blob) && !self.rotten.contains(blob)
    }

    /// Whether a checkpoint is here, whole.
    pub fn has_checkpoint(&self, checkpoint: &Digest) -> bool {
        self.has(checkpoint) && work::parts(checkpoint).iter().all(|(part, _)| self.has(part))
    }

    /// What meets a challenge; nothing if the blob is not here, or not as it was.
    pub fn prove(&self, challenge: &Challenge) -> Vec<u8> {
        let bytes = self.disk.iter().map(|blob| (blob, work::bytes_of_blob(blob)));
        let found = bytes.into_iter().find(|(_, bytes)| Digest::of(bytes) == challenge.blob);
        let Some((_, bytes)) = found.filter(|(blob, _)| self.has(blob)) else { return Vec::new() };
        let part = challenge.offset..challenge.offset + u64::from(challenge.length);
        Outline::of(&bytes, CHUNK_BYTES).prove(part, |at| &bytes[at])
    }

    /// Keeps none but these checkpoints.
    pub fn hold_only(&mut self, checkpoints: &BTreeSet<Digest>) {
        for blob in self.rounds.hold_only(checkpoints) {
            self.forget(&blob);
        }
    }

    fn forget(&mut self, blob: &Digest) {
        self.disk.remove(blob);
        self.rotten.remove(blob);
    }

    /// Forgets the blobs of rounds long past, as the real node does.
    pub fn tidy(&mut self) {
        for blob in self.rounds.forget(Retention::default()) {
            self.forget(&blob);
        }
    }
}
