//! Builds the timeline, command by command.

use std::collections::{BTreeMap, BTreeSet};

use zoo_content::Digest;
use zoo_orchestrator::Notice;
use zoo_orchestrator::journal::{Replayed, Step};
use zoo_protocol::{JobId, NodeId, Report};
use zoo_state::{Activity, Command, Event, LossCause, Phase, State, Steer};

use super::timeline::{Happening, Moment, NodeLine, RoundLine, Span, Tally, Timeline};
use crate::live::format::round_of;
use crate::live::{NetworkView, full_sentence};

/// A timeline in the making.
#[derive(Debug)]
pub struct Recorder {
    timeline: Timeline,
    /// What a watcher would know by now: names, plans, the current round.
    view: NetworkView,
    numbers: BTreeMap<NodeId, u32>,
    rounds: BTreeMap<(JobId, u32), usize>,
}

impl Recorder {
    /// Nothing has happened.
    pub fn new() -> Self {
        let timeline = Timeline {
            moments: Vec::new(),
            happenings: Vec::new(),
            nodes: Vec::new(),
            rounds: Vec::new(),
            all: Vec::new(),
            root: Digest::of(b""),
            root_as_written: false,
        };
        Self { timeline, view: NetworkView::default(), numbers: BTreeMap::new(), rounds: BTreeMap::new() }
    }

    /// A command was applied, and led to `state`.
    pub fn take(&mut self, step: &Step, state: &State) {
        let (moment, at_ms) = (self.timeline.moments.len() as u32, step.command.now_ms());
        let first = self.timeline.happenings.len() as u32;
        if let Command::NodeJoined { node, profile, .. } = &step.command {
            self.join(*node, &profile.name);
        }
        for event in &step.events {
            self.view.hear(&Notice::Event { sequence: 0, at_ms, event: event.clone() });
            let text = full_sentence(event, &self.view.overview);
            let node = node_of(event).and_then(|node| self.number(node));
            self.timeline.happenings.push(Happening { text, node });
            self.count(event, state, moment);
        }
        let about = subject(&step.command).and_then(|node| self.number(&node));
        let happenings = first..self.timeline.happenings.len() as u32;
        self.timeline.moments.push(Moment { at_ms, what: what(&step.command), node: about, happenings });
        match concerned(step, state) {
            Some(nodes) => {
                nodes.iter().for_each(|node| self.set(node, state.activity_of(node), moment, at_ms));
            }
            None => {
                state.activities().for_each(|(node, activity)| self.set(&node, activity, moment, at_ms));
            }
        }
    }

    /// All commands were taken.
    pub fn finish(mut self, replayed: &Replayed) -> Timeline {
        self.timeline.root = replayed.state.root();
        self.timeline.root_as_written = replayed.written_root == Some(self.timeline.root);
        self.timeline
    }

    fn number(&self, node: &NodeId) -> Option<u32> {
        self.numbers.get(node).copied()
    }

    fn join(&mut self, id: NodeId, name: &str) {
        let number = *self.numbers.entry(id).or_insert_with(|| {
            let line = NodeLine {
                id,
                name: String::new(),
                spans: Vec::new(),
                tallies: Vec::new(),
                faults: Vec::new(),
            };
            self.timeline.nodes.push(line);
            self.timeline.nodes.len() as u32 - 1
        });
        self.timeline.nodes[number as usize].name = name.to_owned();
    }

    fn set(&mut self, node: &NodeId, activity: Activity, moment: u32, at_ms: u64) {
        let Some(number) = self.number(node) else { return };
        let spans = &mut self.timeline.nodes[number as usize].spans;
        let (busy_ms, here_ms) = match spans.last() {
            Some(last) if last.activity == activity => return,
            Some(last) => last.sums_after(at_ms.saturating_sub(last.from_ms)),
            None => (0, 0),
        };
        spans.push(Span { from: moment, from_ms: at_ms, activity, busy_ms, here_ms });
    }

    /// What an event, which led to `state`, adds to a node's account and to its round.
    fn count(&mut self, event: &Event, state: &State, moment: u32) {
        match event {
            Event::RoundStarted { job, round, start, shares, .. } => {
                self.start_round(*job, *round, *start, shares.len() as u32, moment);
            }
            Event::ContributionAccepted { node, round, tokens, mean_loss_bits, bytes, .. } => {
                let accepted = state.running().and_then(|running| running.accepted_from(node, *round));
                let sequences = accepted.map_or(0, |contribution| contribution.sequences);
                self.add(self.number(node), moment, |tally| {
                    tally.contributions += 1;
                    tally.tokens += tokens;
                    tally.sequences += sequences;
                    tally.bytes = tally.bytes.saturating_add(*bytes);
                    tally.loss_sum += *tokens as f64 * f64::from_bits(*mean_loss_bits);
                });
            }
            Event::ContributionMissed { node, .. } => {
                self.add(self.number(node), moment, |tally| tally.missed += 1);
            }
            Event::Fault { node, .. } => {
                let number = self.number(node);
                self.add(number, moment, |tally| tally.faults += 1);
                if let Some(number) = number {
                    self.timeline.nodes[number as usize].faults.push(moment);
                }
            }
            Event::RoundFinished { job, round, .. } => {
                self.change_round(job, *round, |line| line.finished = Some(moment));
            }
            Event::EvaluationFinished { job, round, bits_per_byte_bits, .. } => {
                let evaluated = Some((moment, f64::from_bits(*bits_per_byte_bits)));
                self.change_round(job, *round, |line| line.evaluated = evaluated);
            }
            _ => {}
        }
    }

    fn add(&mut self, node: Option<u32>, moment: u32, change: impl Fn(&mut Tally)) {
        let line = node.map(|number| &mut self.timeline.nodes[number as usize].tallies);
        for tallies in line.into_iter().chain([&mut self.timeline.all]) {
            let mut tally = tallies.last().copied().unwrap_or_default();
            change(&mut tally);
            match tallies.last_mut() {
                Some(last) if last.from == moment => *last = Tally { from: moment, ..tally },
                _ => tallies.push(Tally { from: moment, ..tally }),
            }
        }
    }

    /// A round that starts again stays one line.
    fn start_round(&mut self, job: JobId, round: u32, start: u32, nodes: u32, moment: u32) {
        let known = self.rounds.get(&(job, round)).filter(|_| start > 1);
        if let Some(&at) = known {
            let line = &mut self.timeline.rounds[at];
            (line.starts, line.nodes) = (start, nodes);
            return;
        }
        let running = self.view.jobs.iter().find(|known| known.id == job);
        self.rounds.insert((job, round), self.timeline.rounds.len());
        self.timeline.rounds.push(RoundLine {
            job,
            name: running.map_or_else(|| job.short(), |job| job.name.clone()),
            round,
            of: running.map_or_else(|| (round + 1).to_string(), |job| round_of(round, &job.plan)),
            started: moment,
            starts: start,
            finished: None,
            nodes,
            evaluated: None,
        });
    }

    fn change_round(&mut self, job: &JobId, round: u32, change: impl FnOnce(&mut RoundLine)) {
        if let Some(at) = self.rounds.get(&(*job, round)) {
            change(&mut self.timeline.rounds[*at]);
        }
    }
}

/// Whose activity may be another after a command; `None` is everybody's. Most commands concern one node, and the state
/// says of the others; but it counts those whose sources change, too, and in a large network everybody's do.
fn concerned(step: &Step, state: &State) -> Option<BTreeSet<NodeId>> {
    let about_one = |event: &Event| {
        matches!(
            event,
            Event::NodeJoined { .. }
                | Event::NodeRejoined { .. }
                | Event::NodeLost { .. }
                | Event::ContributionAccepted { .. }
                | Event::LinkMeasured { .. }
        )
    };
    let report = match &step.command {
        Command::Reported { report, .. } => Some(report),
        _ => None,
    };
    let is_local = match state.running().map(|running| &running.phase) {
        // A shard goes from one node to another without an event, unless one comes in.
        Some(Phase::Evaluating(_)) => matches!(report, Some(Report::Evaluated { .. })),
        // Who joins or is lost may make room for another, or fill it.
        Some(Phase::Aggregating(_)) => report.is_some(),
        // What the last tells draws for all.
        Some(Phase::Settling(settling)) => !settling.is_drawn,
        _ => true,
    };
    match subject(&step.command) {
        Some(node) if is_local && step.events.iter().all(about_one) => Some(BTreeSet::from([node])),
        _ => state.concerned(&step.command, &step.events),
    }
}

fn subject(command: &Command) -> Option<NodeId> {
    match command {
        Command::NodeJoined { node, .. }
        | Command::NodeLost { node, .. }
        | Command::Challenged { node, .. }
        | Command::Reported { node, .. }
        | Command::NodeSuspected { node, .. }
        | Command::NodeHeard { node, .. }
        | Command::LinkMeasured { node, .. }
        | Command::Attested { node, .. } => Some(*node),
        _ => None,
    }
}

fn what(command: &Command) -> &'static str {
    match command {
        Command::NodeJoined { .. } => "joins",
        Command::NodeLost { cause: LossCause::Left, .. } => "says goodbye",
        Command::NodeLost { cause: LossCause::Disconnected, .. } => "loses its connection",
        Command::NodeLost { .. } => "is not heard of any more",
        Command::JobSubmitted { .. } => "a job is submitted",
        Command::JobSteered { steer: Steer::Cancel, .. } => "a job is cancelled",
        Command::JobSteered { steer: Steer::Pause, .. } => "a job is paused",
        Command::JobSteered { steer: Steer::Resume, .. } => "a job is resumed",
        Command::Reported { report: Report::Trained(_), .. } => "reports a trained window",
        Command::Reported { report: Report::Aggregated { .. }, .. } => "reports an aggregated round",
        Command::Reported { report: Report::Missing { .. }, .. } => "reports a contribution it cannot fetch",
        Command::Reported { report: Report::Refused { .. }, .. } => "refuses to add a contribution or a sum",
        Command::Reported { report: Report::Evaluated { .. }, .. } => "reports an evaluated shard",
        Command::Reported { report: Report::Verified { .. }, .. } => "says what another's window comes to",
        Command::Reported { report: Report::Withheld { .. }, .. } => "cannot train another's window again",
        Command::Reported { report: Report::Unamendable { .. }, .. } => "cannot amend an earlier round",
        Command::Reported { report: Report::Told { .. }, .. } => "tells what it pledged",
        Command::Reported { report: Report::Benchmarked { .. }, .. } => "says what a benchmark comes to",
        Command::SittingOpened { .. } => "nodes that wait are measured",
        Command::CheckersDrawn { .. } => "nodes that were measured check each other",
        Command::Reported { report: Report::Failed { .. }, .. } => "reports a failure",
        Command::Reported { report: Report::Summed { .. }, .. } => "reports a part of a round, added",
        Command::LinkMeasured { .. } => "measured its link",
        Command::NodeSuspected { .. } => "is silent here, and its peers reach it",
        Command::NodeHeard { .. } => "is heard again",
        Command::Reported { report: Report::Kept { .. }, .. } => "holds a checkpoint that it is to keep",
        Command::Reported { report: Report::Proved { .. }, .. } => "answers a challenge",
        Command::Challenged { .. } => "is challenged to prove that it holds a checkpoint",
        Command::NetworkNamed { .. } => "the network says whose it is, and whom it trusts",
        Command::Declared { .. } => "a key says something about keys",
        Command::Attested { .. } => "shows what its hardware vouches for",
        Command::Tick { .. } => "time passes",
    }
}

fn node_of(event: &Event) -> Option<&NodeId> {
    match event {
        Event::NodeJoined { node, .. }
        | Event::NodeLost { node, .. }
        | Event::NodeRejoined { node, .. }
        | Event::WorkFailed { node, .. }
        | Event::ContributionAccepted { node, .. }
        | Event::ContributionMissed { node, .. }
        | Event::ContributionLate { node, .. }
        | Event::PartSummed { node, .. }
        | Event::LinkMeasured { node, .. }
        | Event::NodeSuspected { node, .. }
        | Event::NodeHeard { node }
        | Event::NodeRetired { node }
        | Event::NodeVouched { node, .. }
        | Event::NodeAttested { node, .. }
        | Event::TrustEnded { node, .. }
        | Event::NodeRated { node, .. }
        | Event::NodeUnrated { node, .. }
        | Event::BenchmarkDoubted { node }
        | Event::CheckpointAsked { node, .. }
        | Event::CheckpointKept { node, .. }
        | Event::CheckpointReleased { node, .. }
        | Event::ContributionWithdrawn { node, .. }
        | Event::Fault { node, .. } => Some(node),
        _ => None,
    }
}
