//! What happened, ordered so that any moment of it is found at once.

use std::ops::Range;

use zoo_content::Digest;
use zoo_protocol::{JobId, NodeId};
use zoo_state::Activity;

/// Everything a journal tells, from its first command to its last.
#[derive(Debug)]
pub struct Timeline {
    /// One per command.
    pub moments: Vec<Moment>,
    /// One per event.
    pub happenings: Vec<Happening>,
    /// Every node that ever joined, the first first.
    pub nodes: Vec<NodeLine>,
    /// Every round that ever started, in order.
    pub rounds: Vec<RoundLine>,
    /// What all nodes together contributed.
    pub all: Vec<Tally>,
    /// Root of the state that the last command led to.
    pub root: Digest,
    /// Whether the orchestrator wrote that root there.
    pub root_as_written: bool,
}

/// A command: the smallest step in time.
#[derive(Clone, Debug)]
pub struct Moment {
    /// When, ms since the Unix epoch.
    pub at_ms: u64,
    /// What it was, beside the node's name.
    pub what: &'static str,
    /// The node it is about.
    pub node: Option<u32>,
    /// What came of it.
    pub happenings: Range<u32>,
}

/// An event, told.
#[derive(Clone, Debug)]
pub struct Happening {
    /// In a sentence.
    pub text: String,
    /// The node it is about, if it is about one.
    pub node: Option<u32>,
}

/// A node over time.
#[derive(Clone, Debug)]
pub struct NodeLine {
    /// Who.
    pub id: NodeId,
    /// What it calls itself.
    pub name: String,
    /// What it did, from when on; each until the next.
    pub spans: Vec<Span>,
    /// What it had contributed, from when on.
    pub tallies: Vec<Tally>,
    /// Moments of its faults.
    pub faults: Vec<u32>,
}

/// Something a node did without a break.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// The moment it began.
    pub from: u32,
    /// When that was.
    pub from_ms: u64,
    /// What.
    pub activity: Activity,
    /// How long the node had been busy by then.
    pub busy_ms: u64,
    /// How long it had been here.
    pub here_ms: u64,
}

/// What was contributed up to a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tally {
    /// The moment.
    pub from: u32,
    /// Contributions that were accepted.
    pub contributions: u64,
    /// Tokens they were trained on.
    pub tokens: u64,
    /// Sequences they were trained on.
    pub sequences: u64,
    /// Size of their updates, bytes.
    pub bytes: u64,
    /// Rounds that went on without it.
    pub missed: u64,
    /// Faults.
    pub faults: u64,
    /// Sum of the contributions' losses, each times its tokens.
    pub loss_sum: f64,
}

/// What a node did and contributed up to a moment.
#[derive(Clone, Copy, Debug)]
pub struct NodeThen {
    /// What it does.
    pub activity: Activity,
    /// What it has contributed.
    pub tally: Tally,
    /// How long it has been busy, ms.
    pub busy_ms: u64,
    /// How long it has been here, ms.
    pub here_ms: u64,
}

/// A round of a job.
#[derive(Clone, Debug)]
pub struct RoundLine {
    /// The job.
    pub job: JobId,
    /// Its name.
    pub name: String,
    /// Which round, from 0.
    pub round: u32,
    /// Its number for people, of how many where that is known.
    pub of: String,
    /// The moment it first started.
    pub started: u32,
    /// Times it started.
    pub starts: u32,
    /// The moment it was finished.
    pub finished: Option<u32>,
    /// Nodes that took part in its last start.
    pub nodes: u32,
    /// The moment its checkpoint was evaluated, and the held-out bits per byte.
    pub evaluated: Option<(u32, f64)>,
}

/// How far a round was at a moment.
#[derive(Clone, Copy, Debug)]
pub struct RoundThen {
    /// Contributions that had been accepted, in all its starts.
    pub contributions: u64,
    /// Tokens of those.
    pub tokens: u64,
    /// Their mean loss, nats per token, if there were any.
    pub loss: Option<f64>,
    /// The moment it was finished, if it was.
    pub finished: Option<u32>,
    /// Held-out bits per byte, if its checkpoint was evaluated.
    pub bits_per_byte: Option<f64>,
}

impl Timeline {
    /// The first and the last time, ms since the Unix epoch; equal if nothing happened.
    pub fn period_ms(&self) -> (u64, u64) {
        match (self.moments.first(), self.moments.last()) {
            (Some(first), Some(last)) => (first.at_ms, last.at_ms.max(first.at_ms)),
            _ => (0, 0),
        }
    }

    /// When a moment was; the beginning if there is none.
    pub fn at_ms(&self, moment: usize) -> u64 {
        self.moments.get(moment).map_or(0, |moment| moment.at_ms)
    }

    /// The last moment that is not after this time; the first if all are.
    pub fn moment_at(&self, at_ms: u64) -> usize {
        self.moments.partition_point(|moment| moment.at_ms <= at_ms).saturating_sub(1)
    }

    /// What came of a moment.
    pub fn happenings_of(&self, moment: usize) -> &[Happening] {
        let Some(moment) = self.moments.get(moment) else { return &[] };
        &self.happenings[moment.happenings.start as usize..moment.happenings.end as usize]
    }

    /// The latest events up to a moment, the latest last: at most `count`, each with its moment.
    pub fn latest(&self, moment: usize, count: usize) -> Vec<(usize, &Happening)> {
        let mut latest = Vec::new();
        let end = moment.saturating_add(1).min(self.moments.len());
        for at in (0..end).rev() {
            for happening in self.happenings_of(at).iter().rev() {
                if latest.len() == count {
                    latest.reverse();
                    return latest;
                }
                latest.push((at, happening));
            }
        }
        latest.reverse();
        latest
    }

    /// What a node did and had contributed at a moment.
    pub fn node_then(&self, node: usize, moment: usize) -> NodeThen {
        let line = &self.nodes[node];
        let tally = latest_tally(&line.tallies, moment);
        let Some(span) = line.span_at(moment) else {
            return NodeThen { activity: Activity::Away, tally, busy_ms: 0, here_ms: 0 };
        };
        let passed_ms = self.at_ms(moment).saturating_sub(span.from_ms);
        let (busy_ms, here_ms) = span.sums_after(passed_ms);
        NodeThen { activity: span.activity, tally, busy_ms, here_ms }
    }

    /// What all nodes together had contributed at a moment.
    pub fn all_then(&self, moment: usize) -> Tally {
        latest_tally(&self.all, moment)
    }

    /// Nodes that were there at a moment.
    pub fn here_then(&self, moment: usize) -> usize {
        let here =
            |line: &&NodeLine| line.span_at(moment).is_some_and(|span| span.activity != Activity::Away);
        self.nodes.iter().filter(here).count()
    }

    /// The newest round that had started at a moment.
    pub fn round_then(&self, moment: usize) -> Option<usize> {
        self.rounds.partition_point(|round| round.started as usize <= moment).checked_sub(1)
    }

    /// How far a round was at a moment. Rounds follow each other, so whatever was contributed within one was to it.
    pub fn round_at(&self, round: usize, moment: usize) -> RoundThen {
        let line = &self.rounds[round];
        let passed = |at: &u32| *at as usize <= moment;
        let next = self.rounds.get(round + 1).map(|next| next.started);
        let finished = line.finished.filter(passed);
        let end = line.finished.or(next).filter(passed).map_or(moment, |end| end as usize);
        let (before, after) = (self.all_then(line.started as usize), self.all_then(end));
        let tokens = after.tokens - before.tokens;
        RoundThen {
            contributions: after.contributions - before.contributions,
            tokens,
            loss: (tokens > 0).then(|| (after.loss_sum - before.loss_sum) / tokens as f64),
            finished,
            bits_per_byte: line.evaluated.filter(|(at, _)| passed(at)).map(|(_, bits)| bits),
        }
    }

    /// The node whose name or id begins so: the first after `after`, around the end.
    pub fn find_node(&self, text: &str, after: Option<usize>) -> Option<usize> {
        let (text, count) = (text.to_lowercase(), self.nodes.len());
        let first = after.map_or(0, |after| after + 1);
        let wanted = |at: &usize| {
            let line = &self.nodes[*at];
            line.name.to_lowercase().starts_with(&text) || line.id.to_string().starts_with(&text)
        };
        (first..first + count).map(|at| at % count).find(wanted)
    }

    /// The round of that number, from 1: of the job that runs at `moment`, else of any.
    pub fn find_round(&self, number: u32, moment: usize) -> Option<usize> {
        let job = self.round_then(moment).map(|round| self.rounds[round].job);
        let numbered = |line: &&RoundLine| line.round.checked_add(1) == Some(number);
        let here = self.rounds.iter().rposition(|line| numbered(&line) && Some(line.job) == job);
        here.or_else(|| self.rounds.iter().position(|line| numbered(&line)))
    }
}

impl NodeLine {
    /// What it did at a moment; nothing if it had not joined.
    fn span_at(&self, moment: usize) -> Option<&Span> {
        let after = self.spans.partition_point(|span| span.from as usize <= moment);
        after.checked_sub(1).map(|at| &self.spans[at])
    }

    /// What it did most in each of `cells` equal parts of a period; `None` where nothing is known, before it
    /// joined. One pass over the spans within the period.
    pub fn cells(&self, period_ms: Range<u64>, cells: usize) -> Vec<Option<Activity>> {
        let bound = |cell: usize| {
            let width_ms = u128::from(period_ms.end.saturating_sub(period_ms.start));
            period_ms.start + (width_ms * cell as u128 / cells as u128) as u64
        };
        let mut at = self.spans.partition_point(|span| span.from_ms <= period_ms.start).saturating_sub(1);
        let cell = |cell: usize| {
            let (from_ms, until_ms) = (bound(cell), bound(cell + 1).max(bound(cell) + 1));
            let mut most = [0_u64; ACTIVITIES.len()];
            while let Some(span) = self.spans.get(at).filter(|span| span.from_ms < until_ms) {
                let end_ms = self.spans.get(at + 1).map_or(u64::MAX, |next| next.from_ms);
                let overlap_ms = end_ms.min(until_ms).saturating_sub(span.from_ms.max(from_ms));
                most[span.activity as usize] += overlap_ms;
                if end_ms > until_ms {
                    break;
                }
                at += 1;
            }
            let longest = ACTIVITIES.into_iter().max_by_key(|activity| most[*activity as usize])?;
            (most[longest as usize] > 0).then_some(longest)
        };
        (0..cells).map(cell).collect()
    }
}

/// In the order of their numbers; what comes later wins where two took equally long.
pub const ACTIVITIES: [Activity; 6] = [
    Activity::Away,
    Activity::Waiting,
    Activity::Training,
    Activity::Aggregating,
    Activity::Evaluating,
    Activity::Verifying,
];

impl Span {
    /// Busy and present time when the span has lasted so long, ms.
    pub fn sums_after(&self, passed_ms: u64) -> (u64, u64) {
        let busy_ms = if self.activity.is_busy() { passed_ms } else { 0 };
        let here_ms = if self.activity == Activity::Away { 0 } else { passed_ms };
        (self.busy_ms + busy_ms, self.here_ms + here_ms)
    }
}

impl NodeThen {
    /// The part of its time here that it was busy, from 0 to 1.
    pub fn busy_share(&self) -> f64 {
        if self.here_ms == 0 { 0.0 } else { self.busy_ms as f64 / self.here_ms as f64 }
    }
}

fn latest_tally(tallies: &[Tally], moment: usize) -> Tally {
    let after = tallies.partition_point(|tally| tally.from as usize <= moment);
    after.checked_sub(1).map(|at| tallies[at]).unwrap_or_default()
}
