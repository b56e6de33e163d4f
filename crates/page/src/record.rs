//! What a node does and did, folded from its events.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde::Serialize;
use serde_json::{Value, json};
use zoo_pnode::{PNodeEvent, Snapshot, Traffic};
use zoo_protocol::{JobId, Keep, NodeId, NodeProfile, Report, Standing, Work};

use crate::rounds::Rounds;

/// Troubles that are remembered.
const TROUBLES_MAX: usize = 10;
/// Characters of a trouble that are shown.
const TROUBLE_CHARS_MAX: usize = 400;

/// Who the node is.
#[derive(Clone, Debug, Serialize)]
pub struct About {
    /// Its key.
    pub id: NodeId,
    /// What others see it called.
    pub name: String,
    /// Where it says that it is; empty for anywhere.
    pub region: String,
    /// What its owner set.
    pub limits: Limits,
}

/// What its owner set; `None` is without a limit.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Limits {
    /// Threads that compute.
    pub threads: Option<u16>,
    /// Memory of its work, MiB.
    pub max_memory_mib: Option<u64>,
    /// What it sends to others, KiB a second.
    pub max_upload_kib_per_s: Option<u32>,
    /// When it works, in words.
    pub hours: Option<String>,
}

/// Where a node stands between work and rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stance {
    /// It is there for the network.
    Working,
    /// It finishes what it has begun, to rest then.
    Finishing,
    /// It is not there.
    Resting,
}

/// What a node does and did since its process began. Shared between those who tell it and those who ask.
#[derive(Debug)]
pub struct Record {
    about: About,
    began: Instant,
    told: Mutex<Told>,
}

#[derive(Debug)]
struct Told {
    stance: Stance,
    is_connected: bool,
    profile: Option<NodeProfile>,
    work: Work,
    /// Whether it is being computed, and not waited for.
    is_running: bool,
    progress: Snapshot,
    done: Done,
    rounds: Rounds,
    /// What the network says of the node; it has not yet.
    standing: Option<Standing>,
    /// What is kept: which asking, and whether it is there.
    keeps: BTreeMap<(JobId, u32), (u32, bool)>,
    /// Of connections to the network that have ended.
    traffic_before: Traffic,
    traffic: Traffic,
    troubles: VecDeque<(Instant, String)>,
}

/// Totals.
#[derive(Debug, Default, Serialize)]
struct Done {
    /// Windows trained.
    windows: u64,
    steps: u64,
    tokens: u64,
    /// Rounds aggregated, and parts of rounds added up for others.
    aggregations: u64,
    sums: u64,
    /// Shards of held-out text.
    evaluations: u64,
    /// Windows of others, trained again.
    verifications: u64,
    /// Work that could not be done.
    failures: u64,
    /// Contributions of others that could not be added.
    refused_of_others: u64,
    /// Challenges for a part of a kept checkpoint.
    audits_answered: u64,
    audits_failed: u64,
    /// Checkpoints brought to the node's own storage.
    stored: u64,
}

impl Record {
    /// Of a node that has done nothing yet.
    pub fn new(about: About) -> Self {
        let told = Told {
            stance: Stance::Working,
            is_connected: false,
            profile: None,
            work: Work::Idle,
            is_running: false,
            progress: Snapshot::default(),
            done: Done::default(),
            rounds: Rounds::default(),
            standing: None,
            keeps: BTreeMap::new(),
            traffic_before: Traffic::default(),
            traffic: Traffic::default(),
            troubles: VecDeque::new(),
        };
        Self { about, began: Instant::now(), told: Mutex::new(told) }
    }

    /// Takes an event from any thread.
    pub fn hear(&self, event: &PNodeEvent) {
        self.told().hear(&self.about.id, event);
    }

    /// Takes where the node stands.
    pub fn stands(&self, stance: Stance) {
        let mut told = self.told();
        told.stance = stance;
        if stance == Stance::Resting {
            told.leave();
        }
    }

    /// Everything, as the page and programs ask for it.
    pub fn view(&self, is_paused: bool) -> Value {
        let told = self.told();
        json!({
            "node": self.about,
            "profile": told.profile,
            "version": env!("CARGO_PKG_VERSION"),
            "running_s": self.began.elapsed().as_secs(),
            "state": told.state(is_paused),
            "paused": is_paused,
            "connected": told.is_connected,
            "work": told.work(),
            "done": told.done,
            "traffic": {
                "sent_bytes": told.traffic_before.sent_bytes + told.traffic.sent_bytes,
                "received_bytes": told.traffic_before.received_bytes + told.traffic.received_bytes,
            },
            "keeping": {
                "asked": told.keeps.len(),
                "held": told.keeps.values().filter(|(_, is_held)| *is_held).count(),
            },
            "standing": told.standing,
            "contributions": told.rounds.contributions,
            "checkpoints": told.rounds.checkpoints,
            "rounds": told.rounds.latest(),
            "troubles": told.troubles.iter().rev().map(|(at, text)| json!({
                "seconds_ago": at.elapsed().as_secs(), "text": text,
            })).collect::<Vec<_>>(),
        })
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Told {
    fn hear(&mut self, me: &NodeId, event: &PNodeEvent) {
        match event {
            PNodeEvent::Ready { profile, .. } => {
                self.profile = Some(profile.clone());
                self.leave();
            }
            PNodeEvent::Connected { .. } => self.is_connected = true,
            PNodeEvent::Disconnected { cause, .. } => {
                self.is_connected = false;
                self.trouble(&format!("not connected: {cause}"));
            }
            PNodeEvent::WorkChanged(work) => {
                self.rounds.works(me, work);
                self.work = work.clone();
                (self.is_running, self.progress) = (false, Snapshot::default());
            }
            PNodeEvent::KeepsChanged(keeps) => self.keep(keeps),
            PNodeEvent::StandingChanged(standing) => self.standing = Some(standing.clone()),
            PNodeEvent::Started(_) => self.is_running = true,
            PNodeEvent::Progress(snapshot) => self.progress = *snapshot,
            PNodeEvent::Traffic(traffic) => self.traffic = *traffic,
            PNodeEvent::Reported(report) => self.reported(report),
            PNodeEvent::Stored { .. } => self.done.stored += 1,
            PNodeEvent::NotStored { cause, .. } => {
                self.trouble(&format!("a checkpoint is not stored: {cause}"))
            }
            PNodeEvent::Trusted => {}
            PNodeEvent::Distrusted(why) => self.trouble(&format!("it is trusted as everybody: {why}")),
            PNodeEvent::Trouble(cause) => self.trouble(cause),
        }
    }

    fn reported(&mut self, report: &Report) {
        let done = &mut self.done;
        match report {
            Report::Kept { job, round, ask } => {
                if let Some(keep) = self.keeps.get_mut(&(*job, *round)) {
                    *keep = (*ask, true);
                }
                return; // beside the work
            }
            Report::Proved { proof, .. } => {
                *(if proof.is_empty() { &mut done.audits_failed } else { &mut done.audits_answered }) += 1;
                return;
            }
            Report::Trained(sealed) => {
                if let Ok(commitment) = sealed.open() {
                    done.windows += 1;
                    done.steps += u64::from(commitment.outcome.steps);
                    done.tokens += commitment.outcome.tokens;
                    self.rounds.trained(&commitment);
                }
            }
            Report::Aggregated { job, round, checkpoint, .. } => {
                done.aggregations += 1;
                self.rounds.aggregated(*job, *round, *checkpoint);
            }
            Report::Summed { .. } => done.sums += 1,
            Report::Evaluated { .. } => done.evaluations += 1,
            Report::Refused { summands, .. } => done.refused_of_others += summands.len() as u64,
            Report::Verified { .. } => done.verifications += 1,
            Report::Missing { .. }
            | Report::Withheld { .. }
            | Report::Unamendable { .. }
            | Report::Benchmarked { .. }
            | Report::Told { .. } => {}
            Report::Failed { reason, .. } => {
                done.failures += 1;
                self.trouble(reason);
            }
        }
        self.is_running = false;
    }

    fn keep(&mut self, keeps: &[Keep]) {
        self.rounds.keeps(keeps);
        let before = std::mem::take(&mut self.keeps);
        self.keeps = keeps
            .iter()
            .map(|keep| {
                let of = (keep.job, keep.round);
                (of, (keep.ask, before.get(&of) == Some(&(keep.ask, true))))
            })
            .collect();
    }

    fn trouble(&mut self, text: &str) {
        if self.troubles.len() == TROUBLES_MAX {
            self.troubles.pop_front();
        }
        self.troubles.push_back((Instant::now(), text.chars().take(TROUBLE_CHARS_MAX).collect()));
    }

    /// What a connection to the network was about is over with it.
    fn leave(&mut self) {
        (self.is_connected, self.is_running) = (false, false);
        (self.work, self.progress) = (Work::Idle, Snapshot::default());
        let Traffic { sent_bytes, received_bytes } = std::mem::take(&mut self.traffic);
        self.traffic_before.sent_bytes += sent_bytes;
        self.traffic_before.received_bytes += received_bytes;
    }

    fn state(&self, is_paused: bool) -> &'static str {
        match self.stance {
            Stance::Resting if is_paused => "paused",
            Stance::Resting => "resting",
            Stance::Finishing => "finishing",
            Stance::Working if is_paused => "finishing",
            Stance::Working if !self.is_connected => "connecting",
            Stance::Working if self.is_running => "working",
            Stance::Working => "waiting",
        }
    }

    fn work(&self) -> Value {
        let (kind, job, round) = match &self.work {
            // It belongs to no job; whoever is measured waits for work.
            Work::Idle | Work::Benchmark(_) | Work::Tell(_) => return Value::Null,
            Work::Train(work) => ("train", work.job, work.round),
            Work::Aggregate(work) => ("aggregate", work.job, work.round),
            Work::Sum(work) => ("sum", work.job, work.round),
            Work::Evaluate(work) => ("evaluate", work.job, work.round),
            Work::Verify(work) => ("verify", work.window.job, work.window.round),
        };
        let Snapshot { step, steps, loss, tokens_per_second } = self.progress;
        json!({
            "kind": kind, "job": job, "round": round, "running": self.is_running,
            "step": step, "steps": steps, "loss": loss, "tokens_per_second": tokens_per_second,
        })
    }
}

#[cfg(test)]
mod tests {
    use zoo_content::Digest;

    use super::*;

    fn record() -> Record {
        let about = About {
            id: NodeId([1; 32]),
            name: "lynx".into(),
            region: String::new(),
            limits: Limits::default(),
        };
        Record::new(about)
    }

    fn ready() -> PNodeEvent {
        let profile = NodeProfile {
            name: "lynx".into(),
            threads: 2,
            memory_mib: 1000,
            isa: "avx2".into(),
            speeds: Default::default(),
            region: String::new(),
            upload_kib_per_s: 0,
            storage: None,
            software: "0".into(),
        };
        PNodeEvent::Ready { node: NodeId([1; 32]), addresses: Vec::new(), profile }
    }

    #[test]
    fn where_a_node_stands_is_one_word() {
        let record = record();
        let state = |paused| record.view(paused)["state"].as_str().unwrap().to_owned();
        assert_eq!(state(false), "connecting");
        record.hear(&ready());
        record.hear(&PNodeEvent::Connected { orchestrator: NodeId([9; 32]) });
        assert_eq!(state(false), "waiting");
        record.hear(&PNodeEvent::Started(Work::Idle));
        assert_eq!((state(false), state(true)), ("working".into(), "finishing".into()));
        record.stands(Stance::Finishing);
        assert_eq!(state(false), "finishing");
        record.stands(Stance::Resting);
        assert_eq!((state(false), state(true)), ("resting".into(), "paused".into()));
        assert_eq!(record.view(true)["connected"], false, "who rests is not there");
    }

    #[test]
    fn bytes_add_up_over_a_rest_and_troubles_are_bounded() {
        let record = record();
        for _ in 0..2 {
            record.hear(&ready());
            for sent_bytes in [10, 70] {
                record.hear(&PNodeEvent::Traffic(Traffic { sent_bytes, received_bytes: 1 }));
            }
            record.stands(Stance::Resting);
        }
        assert_eq!(record.view(false)["traffic"], json!({ "sent_bytes": 140, "received_bytes": 2 }));
        for number in 0..30 {
            record.hear(&PNodeEvent::Trouble(format!("{number} {}", "ä".repeat(1000))));
        }
        let troubles = record.view(false)["troubles"].as_array().unwrap().clone();
        let latest = troubles[0]["text"].as_str().unwrap();
        assert_eq!((troubles.len(), latest.chars().count()), (TROUBLES_MAX, TROUBLE_CHARS_MAX));
        assert!(latest.starts_with("29 "));
    }

    #[test]
    fn what_is_kept_is_held_once_the_node_says_so_and_no_longer_when_asked_anew() {
        let record = record();
        let job = Digest::of(b"job");
        let keep = |round, ask| Keep { job, round, checkpoint: job, ask, challenge: None };
        let keeping = || record.view(false)["keeping"].clone();
        record.hear(&PNodeEvent::KeepsChanged(vec![keep(0, 1), keep(1, 1)]));
        record.hear(&PNodeEvent::Reported(Report::Kept { job, round: 0, ask: 1 }));
        assert_eq!(keeping(), json!({ "asked": 2, "held": 1 }));
        record.hear(&PNodeEvent::KeepsChanged(vec![keep(0, 1)]));
        assert_eq!(keeping(), json!({ "asked": 1, "held": 1 }));
        record.hear(&PNodeEvent::KeepsChanged(vec![keep(0, 2)]));
        assert_eq!(keeping(), json!({ "asked": 1, "held": 0 }));
        for proof in [vec![1], Vec::new()] {
            record.hear(&PNodeEvent::Reported(Report::Proved { job, round: 0, nonce: 0, proof }));
        }
        let done = &record.view(false)["done"];
        assert_eq!((&done["audits_answered"], &done["audits_failed"]), (&json!(1), &json!(1)));
    }
}
