//! The demo from beginning to end.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::json;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, sleep_until, timeout};
use zoo_content::Digest;
use zoo_home::Home;
use zoo_network::Ticket;
use zoo_orchestrator::{Client, Notice, Watch};
use zoo_protocol::{Commitment, NodeId, Sealed, encode};
use zoo_state::Event;

use super::Demo;
use super::accident::{Accident, Deed};
use super::directories::Directories;
use super::ending;
use super::preparation::{self, PreparedJob};
use super::processes::{ORCHESTRATOR, Processes, Said};
use super::report::Report;
use crate::commands::network::random_key;
use crate::foreground;
use crate::live::format::{bytes, count, rhythm};
use crate::live::{Audience, Overview};

/// Nodes are called after these, alphabetically.
const NAMES: [&str; 16] = [
    "bison", "crane", "gecko", "heron", "ibex", "koala", "lynx", "moose", "newt", "otter", "panda", "quail",
    "raven", "stork", "tapir", "wombat",
];
/// The table is redrawn at least this often.
const REDRAW: Duration = Duration::from_millis(200);
/// All processes are up within this time.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// A node that was started again is back within this time.
const REJOIN_TIMEOUT: Duration = Duration::from_secs(30);
/// After the last round, heartbeats bring the last counts of bytes.
const LAST_HEARTBEATS: Duration = Duration::from_millis(700);

/// A demo under way.
pub struct Session<'a> {
    demo: &'a Demo,
    directories: &'a Directories,
    audience: Audience,
    started: Instant,
    processes: Processes<'a>,
    /// Known once the orchestrator listens.
    ticket: Option<Ticket>,
    overview: Overview,
    accident: Option<Accident>,
    /// The latest commitment of each node, in its own words.
    commitments: BTreeMap<NodeId, Sealed<Commitment>>,
    /// Digests of the commitments that the orchestrator's journal holds.
    accepted: BTreeMap<(u32, NodeId), Digest>,
    first_round: Option<Instant>,
    final_checkpoint: Option<Digest>,
}

impl<'a> Session<'a> {
    /// Nothing is started yet.
    pub fn new(
        demo: &'a Demo,
        directories: &'a Directories,
        audience: Audience,
        started: Instant,
    ) -> Result<Self> {
        let plan = preparation::plan(demo);
        let accident = (!demo.no_kill && demo.nodes > 1 && demo.rounds > 1)
            .then(|| Accident::new(names(demo.nodes)[usize::from(demo.nodes) / 2], demo.rounds));
        Ok(Self {
            demo,
            directories,
            audience,
            started,
            processes: Processes::new(directories)?,
            ticket: None,
            overview: Overview::new(plan),
            accident,
            commitments: BTreeMap::new(),
            accepted: BTreeMap::new(),
            first_round: None,
            final_checkpoint: None,
        })
    }

    /// Runs the demo and stops every process it has started. `None` if it was interrupted.
    pub async fn run(mut self) -> Result<Option<Report>> {
        let told_to_stop = foreground::told_to_stop(false)?;
        let outcome = tokio::select! {
            outcome = self.perform() => outcome.map(Some),
            () = told_to_stop => Ok(None),
        };
        self.audience.clear();
        self.processes.stop().await;
        let mut report = outcome?;
        if let Some(report) = &mut report {
            report.closing.seconds_total = seconds(self.started.elapsed());
        }
        Ok(report)
    }

    async fn perform(&mut self) -> Result<Report> {
        let demo = self.demo.clone();
        // The network is named by a key that its orchestrator finds when it starts.
        let network = Home::open(&self.directories.process(ORCHESTRATOR))?.key().id();
        let preparing = async { spawn_blocking(move || preparation::prepare(&demo, network)).await? };
        let (prepared, (client, mut watch)) = tokio::try_join!(preparing, self.start_network())?;
        self.tell_prepared(&prepared);
        let job = &prepared.job;

        client.submit(job.description.clone(), job.blobs.clone(), job.store.clone()).await?;
        while self.final_checkpoint.is_none() {
            self.step(&mut watch).await?;
        }
        self.wait_for_stragglers(&mut watch).await?;
        self.audience.clear();
        let report = self.conclude(&client, prepared).await;
        client.close().await;
        report
    }

    /// Starts all processes; returns when every node has joined.
    async fn start_network(&mut self) -> Result<(Client, Watch)> {
        let starting = async {
            let listen = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), self.demo.port);
            self.processes.start_orchestrator(listen)?;
            let ticket = self.ticket().await?;
            for name in names(self.demo.nodes) {
                self.processes.start_node(name, &ticket)?;
            }
            let client = Client::connect(&ticket, &random_key()?).await?;
            let mut watch = client.watch(0).await?;
            while self.overview.nodes.len() < usize::from(self.demo.nodes) {
                self.step(&mut watch).await?;
            }
            self.ticket = Some(ticket);
            Ok((client, watch))
        };
        timeout(START_TIMEOUT, starting).await.map_err(|_| anyhow!("the processes do not come up"))?
    }

    async fn ticket(&mut self) -> Result<Ticket> {
        loop {
            match self.processes.said().await {
                (_, Said::Listening(ticket)) => return Ok(ticket),
                (name, Said::Ended) => return Err(self.processes.post_mortem(&name).await),
                (_, Said::Trained(_)) => {}
            }
        }
    }

    /// Waits for the next thing that happens, and follows it up.
    async fn step(&mut self, watch: &mut Watch) -> Result<()> {
        let due = self.accident.as_ref().and_then(Accident::due);
        tokio::select! {
            notice = watch.next() => {
                let notice = notice?.context("the orchestrator does not answer any more")?;
                self.hear(&notice)?;
            }
            (name, said) = self.processes.said() => self.take_in(&name, said).await?,
            () = sleep_until(due.unwrap_or_else(Instant::now).into()), if due.is_some() => self.act().await?,
            () = sleep(REDRAW) => {}
        }
        self.audience.show(&self.overview, self.first_round.map(|since| since.elapsed()));
        Ok(())
    }

    fn hear(&mut self, notice: &Notice) -> Result<()> {
        self.overview.hear(notice);
        self.audience.pass_on(notice, &self.overview);
        let Notice::Event { event, .. } = notice else { return Ok(()) };
        if let Some(accident) = &mut self.accident {
            accident.hear(event, &self.overview, Instant::now());
        }
        match event {
            Event::RoundStarted { .. } => _ = self.first_round.get_or_insert_with(Instant::now),
            Event::ContributionAccepted { round, node, commitment, .. } => {
                self.accepted.insert((*round, *node), *commitment);
            }
            Event::JobFinished { checkpoint, .. } => self.final_checkpoint = Some(*checkpoint),
            Event::JobFailed { why, .. } => {
                bail!("the job failed: {}", why.to_string().replace("; hint:", "\nhint:"))
            }
            _ => {}
        }
        Ok(())
    }

    async fn take_in(&mut self, name: &str, said: Said) -> Result<()> {
        match said {
            Said::Listening(_) => {}
            Said::Trained(sealed) => _ = self.commitments.insert(sealed.signer(), sealed),
            Said::Ended => return Err(self.processes.post_mortem(name).await),
        }
        Ok(())
    }

    async fn act(&mut self) -> Result<()> {
        let Some(accident) = &mut self.accident else { return Ok(()) };
        let Some(deed) = accident.take(&self.overview, Instant::now()) else { return Ok(()) };
        let victim = accident.victim().to_owned();
        let round = self.overview.round;
        match deed {
            Deed::Kill => {
                self.processes.kill(&victim).await?;
                let sentence = format!(
                    "{victim} is killed (kill -9) in the middle of its window of round {}",
                    round + 1
                );
                self.audience.tell("killed", json!({ "name": victim, "round": round }), &sentence);
            }
            Deed::Restart => {
                let ticket = self.ticket.clone().expect("it is known before any job");
                self.processes.start_node(&victim, &ticket)?;
                let sentence = format!("{victim} is started again with the directory it had");
                self.audience.tell("restarted", json!({ "name": victim, "round": round }), &sentence);
            }
        }
        Ok(())
    }

    /// A node that was started again too late for the last round still comes back.
    async fn wait_for_stragglers(&mut self, watch: &mut Watch) -> Result<()> {
        let rejoined = async {
            while self
                .accident
                .as_ref()
                .is_some_and(|accident| accident.has_happened() && !accident.is_over())
            {
                self.step(watch).await?;
            }
            anyhow::Ok(())
        };
        // One that does not is reported as such.
        if let Ok(outcome) = timeout(REJOIN_TIMEOUT, rejoined).await {
            outcome?;
        }
        let until = Instant::now() + LAST_HEARTBEATS;
        while Instant::now() < until {
            self.step(watch).await?;
        }
        Ok(())
    }

    async fn conclude(&mut self, client: &Client, prepared: PreparedJob) -> Result<Report> {
        let checkpoint = self.final_checkpoint.context("the job has no result")?;
        let commitment = self.witness().context("no contribution to the last rounds is at hand")?;
        let name = self.overview.name(&commitment.0);
        let accident = self.accident.as_ref();
        let (killed, rejoined) =
            (accident.is_some_and(Accident::has_happened), accident.is_some_and(Accident::is_over));
        let task = ending::Task {
            client,
            prepared: prepared.prepared,
            directories: self.directories,
            checkpoint,
            seed: self.demo.seed,
        };
        let (model_digest, sample) = task.export_and_sample(&mut self.audience).await?;
        let recheck = ending::recheck(client, &name, commitment.1, &mut self.audience).await?;
        let mut report = Report::new(self.demo, &self.overview, sample, recheck);
        report.closing.seconds_to_first_round =
            self.first_round.map_or(0.0, |first| seconds(first.duration_since(self.started)));
        report.closing.killed = killed;
        report.closing.rejoined = rejoined;
        report.closing.model_digest = model_digest;
        report.closing.export_path.clone_from(&self.directories.model);
        Ok(report)
    }

    /// A contribution of the latest round, as signed by its node and as the journal has it; that of the
    /// node that was killed, if it made one.
    fn witness(&self) -> Option<(NodeId, Commitment)> {
        let victim = self.accident.as_ref().filter(|accident| accident.has_happened()).map(Accident::victim);
        let opened = self.commitments.iter().filter_map(|(node, sealed)| Some((*node, sealed.open().ok()?)));
        let journaled = opened.filter(|(node, commitment)| {
            self.accepted.get(&(commitment.work.round, *node)) == Some(&Digest::of(&encode(commitment)))
        });
        journaled.max_by_key(|(node, commitment)| {
            (commitment.work.round, victim.is_some_and(|victim| self.overview.name(node) == victim))
        })
    }

    fn tell_prepared(&mut self, prepared: &PreparedJob) {
        let (job, manifest) = (&prepared.job, &prepared.prepared.manifest);
        let (training, held_out) = (&manifest.training, &manifest.held_out);
        let fields = json!({
            "documents": training.documents + held_out.documents,
            "training_bytes": training.bytes,
            "training_tokens": training.tokens,
            "held_out_bytes": held_out.bytes,
            "held_out_digest": held_out.digest,
            "vocabulary": manifest.tokenizer.vocab_size,
            "parameters": job.spec.model.parameter_count(),
            "data_manifest": manifest.digest(),
            "program": job.description.program,
        });
        let sentence = format!(
            "{} of text from {} documents: {} tokens of a vocabulary of {}; {} held out, digest {}",
            bytes(training.bytes + held_out.bytes),
            count(training.documents + held_out.documents),
            count(training.tokens),
            count(manifest.tokenizer.vocab_size.into()),
            bytes(held_out.bytes),
            held_out.digest.short(),
        );
        self.audience.tell("prepared", fields, &sentence);
        let parameters = count(job.spec.model.parameter_count() as u64);
        let sentence = format!(
            "{} with {parameters} parameters, {} on {} nodes",
            self.demo.preset,
            rhythm(&job.description.plan),
            self.demo.nodes
        );
        self.audience.tell("submitted", json!({ "job": job.description.id() }), &sentence);
    }
}

/// The names of so many nodes, spread over the alphabet.
fn names(nodes: u16) -> Vec<&'static str> {
    let nodes = usize::from(nodes);
    (0..nodes).map(|node| NAMES[node * NAMES.len() / nodes]).collect()
}

fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e3).round() / 1e3
}
