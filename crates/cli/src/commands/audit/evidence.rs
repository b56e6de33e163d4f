//! What a journal says of its jobs, and the blobs that they name.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use anyhow::{Result, bail};
use serde_json::json;
use zoo_content::{BlobStore, Digest, FileStore, StoreError};
use zoo_orchestrator::journal::{JournalReader, Roots};
use zoo_protocol::{JobDescription, JobId, NodeId, NodeProfile, Report as Reported};
use zoo_state::{Command, Outcome, State};
use zoo_training::{Dataset, Manifest, TrainingSpec};

use super::head::Signed;
use super::report::Report;
use crate::live::format::{bytes, count, harmless, several};

/// Every job of a journal, as its commands tell of it.
pub struct Evidence {
    jobs: Vec<JobEvidence>,
}

/// What a journal says of a job.
pub struct JobEvidence {
    /// Its id.
    pub id: JobId,
    /// What it is.
    pub description: JobDescription,
    /// The checkpoint of its last finished round, if that is remembered.
    pub checkpoint: Option<Digest>,
    outcome: String,
    /// Inner steps that were committed to, by round.
    steps: BTreeMap<u32, u64>,
    /// The inner step of the job after which a round ends.
    ends: BTreeMap<u32, u64>,
    workers: BTreeMap<NodeId, Worker>,
}

/// A node that trained for a job.
#[derive(Default)]
struct Worker {
    profile: Option<NodeProfile>,
    windows: u64,
    tokens: u64,
}

impl Evidence {
    /// Checks every digest, root and event of the journal, and notes what it says of jobs.
    ///
    /// # Errors
    /// A journal that is damaged, or not the one that was signed.
    pub async fn gather(journal: &mut JournalReader, heads: &[Signed], report: &mut Report) -> Result<Self> {
        let verified = journal.verify().await?;
        let (commands, events) = (verified.replayed.commands, verified.events);
        let root = verified.replayed.state.root();
        let fields = json!({"commands": commands, "events": events, "root": root});
        let sentence = format!(
            "{} and {}: every digest holds, and they lead to the state {}",
            several(commands, "command"),
            several(events, "event"),
            root.short()
        );
        report.tell("journal", fields, &sentence);
        let mut jobs: Vec<JobEvidence> = Vec::new();
        let mut hear = |command: &Command, state: &State| match command {
            Command::JobSubmitted { job, .. } if !jobs.iter().any(|known| known.id == job.id()) => {
                jobs.push(JobEvidence::new(job.clone()));
            }
            Command::Reported { node, report: Reported::Trained(sealed), .. } => {
                let Ok(commitment) = sealed.open() else { return };
                let Some(job) = jobs.iter_mut().find(|job| job.id == commitment.work.job) else { return };
                *job.steps.entry(commitment.work.round).or_default() += u64::from(commitment.outcome.steps);
                let after =
                    commitment.work.first_step.saturating_add(commitment.work.share.inner_steps.into());
                let end = job.ends.entry(commitment.work.round).or_default();
                *end = after.max(*end);
                let worker = job.workers.entry(*node).or_default();
                worker.profile = state.nodes().get(node).map(|known| known.profile.clone());
                (worker.windows, worker.tokens) =
                    (worker.windows + 1, worker.tokens + commitment.outcome.tokens);
            }
            _ => {}
        };
        let mut here = vec![None; heads.len()];
        let replay = journal.replay(commands, Roots::Last, |step, state| {
            hear(&step.command, state);
            for (here, signed) in here.iter_mut().zip(heads) {
                *here = here.or(signed.here(step, state));
            }
        });
        let replayed = replay.await?;
        let network = replayed.state.network();
        let wrong: Vec<_> = heads
            .iter()
            .zip(here)
            .filter_map(|(signed, here)| signed.compare(here, network, report))
            .collect();
        if !wrong.is_empty() {
            bail!("{}", wrong.join("\n"));
        }
        for job in &mut jobs {
            (job.outcome, job.checkpoint) = how_it_ended(&replayed.state, &job.id);
        }
        Ok(Self { jobs })
    }

    /// The job that is meant.
    pub fn job(&self, wanted: Option<&str>) -> Result<&JobEvidence> {
        let Some(wanted) = wanted else {
            return self.jobs.last().ok_or_else(|| anyhow::anyhow!("the journal has no job"));
        };
        let is_meant =
            |job: &&JobEvidence| job.description.name == wanted || job.id.to_string().starts_with(wanted);
        match self.jobs.iter().filter(is_meant).collect::<Vec<_>>()[..] {
            [job] => Ok(job),
            [] => bail!("the journal has no job {wanted}\nhint: it has {}", self.names()),
            [.., newest] if newest.description.name == wanted => Ok(newest),
            [..] => bail!("several jobs begin with {wanted}\nhint: write more of the id"),
        }
    }

    fn names(&self) -> String {
        let names =
            self.jobs.iter().map(|job| format!("{} ({})", harmless(&job.description.name), job.id.short()));
        names.collect::<Vec<_>>().join(", ")
    }
}

impl JobEvidence {
    fn new(description: JobDescription) -> Self {
        Self {
            id: description.id(),
            description,
            checkpoint: None,
            outcome: String::new(),
            steps: BTreeMap::new(),
            ends: BTreeMap::new(),
            workers: BTreeMap::new(),
        }
    }

    /// Those of these rounds that somebody trained in.
    pub fn rounds_among(&self, wanted: &RangeInclusive<u64>) -> Result<RangeInclusive<u32>> {
        let is_wanted = |round: &&u32| wanted.contains(&u64::from(**round));
        self.range(
            self.steps.keys().filter(is_wanted),
            self.steps.keys().next_back().map(|last| u64::from(*last) + 1),
            "round",
        )
    }

    /// The rounds that these inner steps of the job belong to.
    pub fn rounds_of(&self, wanted: &RangeInclusive<u64>) -> Result<RangeInclusive<u32>> {
        let begins = std::iter::once(&0).chain(self.ends.values());
        let is_wanted = |(begin, end): (&u64, &u64)| begin <= wanted.end() && wanted.start() < end;
        let rounds = self.ends.iter().zip(begins).filter(|((_, end), begin)| is_wanted((begin, end)));
        self.range(rounds.map(|((round, _), _)| round), self.ends.values().next_back().copied(), "inner step")
    }

    fn range<'a>(
        &self,
        rounds: impl Iterator<Item = &'a u32>,
        last: Option<u64>,
        what: &str,
    ) -> Result<RangeInclusive<u32>> {
        let rounds: Vec<u32> = rounds.copied().collect();
        let (Some(first), Some(end)) = (rounds.first(), rounds.last()) else {
            let last = last.unwrap_or(0);
            bail!("the job has no such {what}\nhint: it has {}, counted from 1", several(last, what));
        };
        Ok(*first..=*end)
    }

    /// Inner steps that were committed to in these rounds.
    pub fn steps(&self, rounds: &RangeInclusive<u32>) -> u64 {
        self.steps.range(rounds.clone()).map(|(_, steps)| steps).sum()
    }

    /// Rounds that somebody trained in.
    pub fn rounds(&self) -> usize {
        self.steps.len()
    }

    /// What a node calls itself.
    pub fn name_of(&self, node: &NodeId) -> String {
        let profile = self.workers.get(node).and_then(|worker| worker.profile.as_ref());
        profile.map_or_else(|| node.short(), |profile| harmless(&profile.name))
    }

    /// Reads every blob that is here; gives how many are damaged.
    pub fn check_blobs(&self, store: &FileStore, report: &mut Report) -> Result<u64> {
        let (names, roles) = (store.list()?, self.roles(store));
        let (mut whole, mut whole_bytes, mut damaged) = (0, 0, 0);
        for name in names {
            match store.get(&name) {
                Ok(blob) => (whole, whole_bytes) = (whole + 1, whole_bytes + blob.len() as u64),
                Err(StoreError::Corrupt { digest, path }) => {
                    damaged += 1;
                    let role = roles.get(&digest).map_or("a blob", String::as_str);
                    let fields = json!({"blob": digest, "role": role, "path": path});
                    let sentence = format!(
                        "{role} is damaged: the bytes in {} are not those of {}",
                        path.display(),
                        digest.short()
                    );
                    report.tell("damaged", fields, &sentence);
                }
                Err(cause) => return Err(cause.into()),
            }
        }
        let fields = json!({"whole": whole, "bytes": whole_bytes, "damaged": damaged});
        let sentence =
            format!("{} of {}: every byte is as its name says", several(whole, "blob"), bytes(whole_bytes));
        report.tell("blobs", fields, &sentence);
        Ok(damaged)
    }

    /// What the blobs are that the job names.
    fn roles(&self, store: &FileStore) -> BTreeMap<Digest, String> {
        let JobDescription { program, initial, training_data, held_out_data, .. } = &self.description;
        let mut roles = BTreeMap::from([
            (*program, "the program".to_owned()),
            (*training_data, "the training data".to_owned()),
            (*held_out_data, "the held-out data".to_owned()),
            (*initial, "the manifest of the first checkpoint".to_owned()),
        ]);
        if let Some(tokenizer) = self.program(store).and_then(|program| program.tokenizer) {
            roles.insert(tokenizer, "the tokenizer".to_owned());
        }
        let last = self.checkpoint.map(|last| (last, "last"));
        for (name, which) in [(*initial, "first")].into_iter().chain(last) {
            roles.entry(name).or_insert_with(|| format!("the manifest of the {which} checkpoint"));
            let Ok(manifest) = Manifest::load(store, &name) else { continue };
            for vnode in &manifest.vnodes {
                roles
                    .insert(vnode.parameters.digest, format!("vnode {} of the {which} checkpoint", vnode.id));
                if let Some(momentum) = vnode.momentum {
                    let role = format!("the momentum of vnode {} of the {which} checkpoint", vnode.id);
                    roles.insert(momentum.digest, role);
                }
                if let Some(memory) = vnode.memory {
                    let role = format!(
                        "what is remembered of updates of vnode {} of the {which} checkpoint",
                        vnode.id
                    );
                    roles.insert(memory.digest, role);
                }
            }
        }
        roles
    }

    fn program(&self, store: &dyn BlobStore) -> Option<TrainingSpec> {
        TrainingSpec::from_bytes(store.get(&self.description.program).ok()?.bytes()).ok()
    }

    /// Which data, which nodes and which software made it.
    pub fn tell(&self, store: &FileStore, report: &mut Report) {
        let JobDescription { name, program, profile, training_data, held_out_data, .. } = &self.description;
        let (rounds, outcome) = (self.rounds() as u64, &self.outcome);
        let fields = json!({
            "job": self.id, "name": name, "outcome": outcome, "rounds": rounds, "checkpoint": self.checkpoint,
            "program": program, "profile": profile.name(),
        });
        let sentence = format!(
            "job {} ({}), {}, in {}: {outcome}",
            harmless(name),
            self.id.short(),
            several(rounds, "round"),
            profile.name()
        );
        report.tell("job", fields, &sentence);
        if let Some(spec) = self.program(store) {
            let fields = json!({"digest": program, "seed": spec.seed, "model": spec.model});
            let model = &spec.model;
            let sentence = format!(
                "program {}: {:?}, {} layers of width {}, {} tokens of context, seed {}",
                program.short(),
                model.family,
                model.layers,
                model.width,
                model.context,
                spec.seed
            );
            report.tell("program", fields, &sentence);
        }
        for (role, digest) in [("training", training_data), ("held-out", held_out_data)] {
            let tokens =
                store.get(digest).ok().and_then(|blob| Dataset::decode(blob).ok()).map(|data| data.len());
            let fields = json!({"role": role, "digest": digest, "tokens": tokens});
            let here = tokens.map_or("not here".into(), |tokens| format!("{} tokens", count(tokens)));
            report.tell("data", fields, &format!("{role} data {}: {here}", digest.short()));
        }
        for (node, Worker { profile, windows, tokens }) in &self.workers {
            let Some(profile) = profile else { continue };
            let NodeProfile { name, software, isa, region, .. } = profile;
            let fields = json!({
                "node": node, "name": name, "software": software, "isa": isa, "region": region,
                "windows": windows, "tokens": tokens,
            });
            let sentence = format!(
                "node {} ({}), {}, {}: {}, {} tokens",
                harmless(name),
                node.short(),
                harmless(software),
                harmless(isa),
                several(*windows, "window"),
                count(*tokens)
            );
            report.tell("node", fields, &sentence);
        }
    }
}

fn how_it_ended(state: &State, id: &JobId) -> (String, Option<Digest>) {
    let newest = state.checkpoints().newest(id).map(|(_, digest)| digest);
    match state.finished().find(|over| over.job == *id).map(|over| &over.outcome) {
        Some(Outcome::Finished { checkpoint }) => ("finished".into(), Some(*checkpoint)),
        Some(Outcome::Failed(why)) => {
            (format!("failed, {}", why.to_string().lines().next().unwrap_or("")), newest)
        }
        Some(Outcome::Stopped { checkpoint, why }) => (format!("stopped, {why}"), *checkpoint),
        None => ("not over".into(), newest),
    }
}
