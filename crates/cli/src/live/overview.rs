//! What a watcher knows of a job and of the nodes that work on it.

use std::collections::BTreeMap;

use zoo_orchestrator::{NodeStatus, Notice};
use zoo_protocol::{Link, NodeId, NodeProfile, Profile, RoundPlan, Tier};
use zoo_state::Event;

/// Losses of one node that are kept for its curve; beyond that every second one goes.
const LOSSES_MAX: usize = 512;

/// One job, from the outside.
#[derive(Clone, Debug)]
pub struct Overview {
    /// How its rounds run.
    pub plan: RoundPlan,
    /// Everybody who has joined.
    pub nodes: BTreeMap<NodeId, NodeView>,
    /// The current round, from 0.
    pub round: u32,
    /// Rounds that are finished.
    pub finished_rounds: u32,
    /// Inner steps of the current round.
    pub inner_steps: u32,
    /// Inner steps of the finished rounds.
    pub finished_steps: u64,
    /// Tokens of the finished rounds.
    pub tokens: u64,
    /// Held-out bits per byte, of every evaluation so far.
    pub bits_per_byte: Vec<f64>,
    /// Tokens and mean loss of the contributions to the current round.
    pub contributions: Vec<(u64, f64)>,
}

/// One node, from the outside.
#[derive(Clone, Debug)]
pub struct NodeView {
    /// What it calls itself.
    pub name: String,
    /// What it does, or did when it was last heard.
    pub state: NodeState,
    /// Whether only its peers reach it.
    pub suspected: bool,
    /// Inner step within its window.
    pub step: u32,
    /// Speed, tokens per second.
    pub tokens_per_second: u32,
    /// Loss over its inner steps, nats per token.
    pub losses: Vec<f64>,
    /// Where it says it is.
    pub region: String,
    /// What it may upload at most, KiB a second; 0 is without a limit.
    pub upload_limit_kib_per_s: u32,
    /// How its link turned out, if enough went through it.
    pub link: Option<Link>,
    /// What it is taken for, by what the network measured.
    pub tier: Tier,
    earlier: Traffic,
    current: Traffic,
}

/// What a node does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeState {
    /// Nothing at the moment.
    Waiting,
    /// Trains its window.
    Training,
    /// Has contributed, and waits for the others.
    Contributed,
    /// Sums the contributions and takes the outer step.
    Aggregating,
    /// Evaluates shards of the held-out data.
    Evaluating,
    /// Trains another's window again.
    Verifying,
    /// Is gone.
    Lost,
}

impl NodeState {
    /// In a word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Training => "training",
            Self::Contributed => "contributed",
            Self::Aggregating => "aggregating",
            Self::Evaluating => "evaluating",
            Self::Verifying => "verifying",
            Self::Lost => "lost",
        }
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Traffic {
    sent_bytes: u64,
    received_bytes: u64,
}

impl Default for Overview {
    /// No job.
    fn default() -> Self {
        Self::new(RoundPlan {
            steps: 1,
            rhythm: RoundPlan::constant(1),
            sequences_per_step: 1,
            evaluate_every: 1,
            evaluation_shards: 1,
            minimum_nodes: 1,
            contribution_deadline_ms: 1,
            topology: Default::default(),
            overlap: false,
            verified_in_1000: 0,
            trust_discount: 4,
        })
    }
}

impl Overview {
    /// A job of which nothing has been heard yet.
    pub fn new(plan: RoundPlan) -> Self {
        Self {
            plan,
            nodes: BTreeMap::new(),
            round: 0,
            finished_rounds: 0,
            inner_steps: 1,
            finished_steps: 0,
            tokens: 0,
            bits_per_byte: Vec::new(),
            contributions: Vec::new(),
        }
    }

    /// Another job begins: its rounds count from none, the nodes stay who they are.
    pub fn begin(&mut self, plan: RoundPlan) {
        let nodes = std::mem::take(&mut self.nodes);
        *self = Self { nodes, ..Self::new(plan) };
    }

    /// Takes in what a watcher is told.
    pub fn hear(&mut self, notice: &Notice) {
        match notice {
            Notice::Event { event, .. } => self.hear_event(event),
            Notice::Status(status) => {
                if let Some(node) = self.nodes.get_mut(&status.node) {
                    node.hear(status);
                }
            }
            Notice::StateRoot(_) | Notice::CaughtUp => {}
        }
    }

    /// What to call a node.
    pub fn name(&self, node: &NodeId) -> String {
        self.nodes.get(node).map_or_else(|| node.short(), |known| known.name.clone())
    }

    /// The node of that name.
    pub fn by_name(&self, name: &str) -> Option<(&NodeId, &NodeView)> {
        self.nodes.iter().find(|(_, node)| node.name == name)
    }

    /// Mean loss of the current round's contributions, nats per token.
    pub fn mean_loss(&self) -> f64 {
        let tokens: u64 = self.contributions.iter().map(|(tokens, _)| tokens).sum();
        self.contributions.iter().map(|(tokens, loss)| *tokens as f64 * loss).sum::<f64>() / tokens as f64
    }

    /// How much of the job is done, from 0 to 1.
    pub fn done(&self) -> f64 {
        let steps = f64::from(self.inner_steps);
        let working = self.nodes.values().filter(|node| node.state == NodeState::Training);
        let slowest = working.map(|node| f64::from(node.step) / steps).fold(1.0, f64::min);
        let in_round = if self.round == self.finished_rounds { slowest * steps } else { 0.0 };
        ((self.finished_steps as f64 + in_round) / self.plan.steps as f64).min(1.0)
    }

    fn hear_event(&mut self, event: &Event) {
        match event {
            Event::NodeJoined { node, profile } => self.join(*node, profile),
            Event::NodeRejoined { node, profile } => self.join(*node, profile),
            Event::NodeLost { node, .. } => {
                self.suspect(node, false);
                self.set(node, NodeState::Lost);
            }
            Event::NodeSucceeded { old, new } => {
                if let Some(view) = self.nodes.remove(old) {
                    self.nodes.insert(*new, view);
                }
            }
            Event::NodeSuspected { node, .. } => self.suspect(node, true),
            Event::NodeHeard { node } => self.suspect(node, false),
            Event::LinkMeasured { node, link } => {
                if let Some(node) = self.nodes.get_mut(node) {
                    node.link = Some(*link);
                }
            }
            Event::NodeRated { node, rating } => self.rate(node, rating.tier),
            Event::NodeUnrated { node, .. } => self.rate(node, Tier::Community),
            Event::RoundStarted { round, shares, lead_steps, .. } => {
                self.round = *round;
                self.contributions.clear();
                self.inner_steps =
                    shares.first().map_or(1, |(_, share)| lead_steps + share.inner_steps).max(1);
                for (node, _) in shares {
                    self.set(node, NodeState::Training);
                }
            }
            Event::ContributionAccepted { node, tokens, mean_loss_bits, .. } => {
                self.contributions.push((*tokens, f64::from_bits(*mean_loss_bits)));
                self.set(node, NodeState::Contributed);
            }
            Event::VerificationAsked { verifier, .. } => self.set(verifier, NodeState::Verifying),
            Event::VerdictGiven { verifier, .. } | Event::VerifierReleased { verifier, .. } => {
                self.set(verifier, NodeState::Waiting);
            }
            Event::JobSettling { .. } => self.set_all(NodeState::Waiting),
            Event::RoundSealed { .. } => self.set_all(NodeState::Aggregating),
            Event::RoundFinished { round, tokens, step, .. } => {
                self.tokens = *tokens;
                self.finished_rounds = round + 1;
                let evaluations = |step: u64| step / self.plan.evaluate_every;
                let evaluates =
                    *step >= self.plan.steps || evaluations(*step) > evaluations(self.finished_steps);
                self.finished_steps = *step;
                self.set_all(if evaluates { NodeState::Evaluating } else { NodeState::Waiting });
            }
            Event::EvaluationFinished { bits_per_byte_bits, .. } => {
                self.bits_per_byte.push(f64::from_bits(*bits_per_byte_bits));
                self.set_all(NodeState::Waiting);
            }
            Event::RoundRestarted { .. } => self.set_all(NodeState::Waiting),
            Event::JobFinished { .. }
            | Event::JobFailed { .. }
            | Event::JobPaused { .. }
            | Event::JobStopped { .. } => {
                let here = self.nodes.values_mut().filter(|node| node.state != NodeState::Lost);
                here.for_each(|node| node.set(NodeState::Waiting));
            }
            _ => {}
        }
    }

    fn join(&mut self, node: NodeId, profile: &NodeProfile) {
        let view = self.nodes.entry(node).or_insert_with(|| NodeView {
            name: String::new(),
            state: NodeState::Waiting,
            suspected: false,
            step: 0,
            tokens_per_second: Profile::ALL
                .map(|one| profile.speeds.of(one))
                .into_iter()
                .max()
                .unwrap_or_default(),
            losses: Vec::new(),
            region: String::new(),
            upload_limit_kib_per_s: 0,
            link: None,
            tier: Tier::default(),
            earlier: Traffic::default(),
            current: Traffic::default(),
        });
        view.name.clone_from(&profile.name);
        view.region.clone_from(&profile.region);
        view.upload_limit_kib_per_s = profile.upload_kib_per_s;
        view.suspected = false;
        view.set(NodeState::Waiting);
    }

    fn suspect(&mut self, node: &NodeId, suspected: bool) {
        if let Some(node) = self.nodes.get_mut(node) {
            node.suspected = suspected;
        }
    }

    fn rate(&mut self, node: &NodeId, tier: Tier) {
        if let Some(node) = self.nodes.get_mut(node) {
            node.tier = tier;
        }
    }

    fn set(&mut self, node: &NodeId, state: NodeState) {
        if let Some(node) = self.nodes.get_mut(node) {
            node.set(state);
        }
    }

    /// Of everybody who has a part in the round.
    fn set_all(&mut self, state: NodeState) {
        let busy = [NodeState::Lost, NodeState::Verifying];
        self.nodes.values_mut().filter(|node| !busy.contains(&node.state)).for_each(|node| node.set(state));
    }
}

impl NodeView {
    /// What it does, in a word.
    pub fn word(&self) -> &'static str {
        if self.suspected { "suspected" } else { self.state.word() }
    }

    /// Bytes of blobs it has sent, in all processes it ran in.
    pub fn sent_bytes(&self) -> u64 {
        self.earlier.sent_bytes + self.current.sent_bytes
    }

    /// Bytes of blobs it has received, in all processes it ran in.
    pub fn received_bytes(&self) -> u64 {
        self.earlier.received_bytes + self.current.received_bytes
    }

    fn set(&mut self, state: NodeState) {
        if state == NodeState::Training {
            self.step = 0;
        }
        self.state = state;
    }

    fn hear(&mut self, status: &NodeStatus) {
        let traffic = Traffic { sent_bytes: status.sent_bytes, received_bytes: status.received_bytes };
        // A process counts from zero: less than before means that this is another one.
        if traffic.sent_bytes < self.current.sent_bytes
            || traffic.received_bytes < self.current.received_bytes
        {
            self.earlier.sent_bytes += self.current.sent_bytes;
            self.earlier.received_bytes += self.current.received_bytes;
        }
        self.current = traffic;
        if self.state != NodeState::Training || status.step == 0 || status.step == self.step {
            return;
        }
        self.step = status.step;
        self.tokens_per_second = status.tokens_per_second;
        self.losses.push(f64::from(status.loss));
        if self.losses.len() > LOSSES_MAX {
            let mut keep = false;
            self.losses.retain(|_| {
                keep = !keep;
                keep
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use zoo_content::Digest;
    use zoo_protocol::{Share, Speeds};
    use zoo_state::LossCause;

    use super::*;

    const NODE: NodeId = NodeId([1; 32]);

    fn overview() -> Overview {
        Overview::new(RoundPlan {
            steps: 40,
            rhythm: RoundPlan::constant(10),
            sequences_per_step: 1,
            evaluate_every: 20,
            evaluation_shards: 1,
            minimum_nodes: 1,
            contribution_deadline_ms: 1,
            topology: Default::default(),
            overlap: false,
            verified_in_1000: 0,
            trust_discount: 4,
        })
    }

    fn profile() -> NodeProfile {
        NodeProfile {
            name: "lynx".into(),
            threads: 1,
            memory_mib: 1,
            isa: "avx2".into(),
            speeds: Speeds { f32_exact: 5, bf16_exact: 7 },
            region: String::new(),
            upload_kib_per_s: 0,
            storage: None,
            software: "zoo".into(),
        }
    }

    fn hear(overview: &mut Overview, event: Event) {
        overview.hear(&Notice::Event { sequence: 0, at_ms: 0, event });
    }

    fn status(step: u32, sent_bytes: u64) -> Notice {
        let status = NodeStatus {
            node: NODE,
            step,
            loss: 2.0,
            tokens_per_second: 100,
            sent_bytes,
            received_bytes: 2 * sent_bytes,
        };
        Notice::Status(status)
    }

    #[test]
    fn a_node_with_a_new_key_is_the_same_node() {
        let (mut overview, new) = (overview(), NodeId([2; 32]));
        hear(&mut overview, Event::NodeJoined { node: NODE, profile: profile() });
        hear(&mut overview, Event::NodeSucceeded { old: NODE, new });
        hear(&mut overview, Event::NodeRejoined { node: new, profile: profile() });
        assert_eq!(overview.nodes.keys().collect::<Vec<_>>(), [&new]);
    }

    #[test]
    fn a_round_is_followed_from_start_to_evaluation() {
        let (job, base) = (Digest::of(b"job"), Digest::of(b"base"));
        let share = Share { first_sequence: 0, sequences_per_step: 1, inner_steps: 10 };
        let mut overview = overview();
        hear(&mut overview, Event::NodeJoined { node: NODE, profile: profile() });
        let state = |overview: &Overview| overview.by_name("lynx").unwrap().1.state;
        assert_eq!(state(&overview), NodeState::Waiting);

        hear(
            &mut overview,
            Event::RoundStarted {
                job,
                round: 1,
                start: 1,
                base,
                shares: vec![(NODE, share)],
                lead_steps: 0,
                ahead_steps: 0,
            },
        );
        (overview.finished_rounds, overview.finished_steps) = (1, 10);
        overview.hear(&status(5, 10));
        assert_eq!((state(&overview), overview.done()), (NodeState::Training, 1.5 / 4.0));

        let accepted = Event::ContributionAccepted {
            job,
            round: 1,
            node: NODE,
            commitment: base,
            tokens: 30,
            mean_loss_bits: 3.0f64.to_bits(),
            bytes: 1,
        };
        hear(&mut overview, accepted);
        assert_eq!((state(&overview), overview.mean_loss()), (NodeState::Contributed, 3.0));
        hear(
            &mut overview,
            Event::RoundSealed { job, round: 1, attempt: 1, contributors: vec![NODE], tokens: 30 },
        );
        assert_eq!(state(&overview), NodeState::Aggregating);
        hear(
            &mut overview,
            Event::RoundFinished {
                job,
                round: 1,
                checkpoint: base,
                holders: vec![NODE],
                tokens: 60,
                step: 20,
            },
        );
        assert_eq!((state(&overview), overview.tokens), (NodeState::Evaluating, 60));
        hear(&mut overview, Event::NodeLost { node: NODE, cause: LossCause::Left });
        let evaluated = Event::EvaluationFinished {
            job,
            round: 1,
            nats_bits: 0,
            tokens: 1,
            bytes: 1,
            bits_per_byte_bits: 2.5f64.to_bits(),
        };
        hear(&mut overview, evaluated);
        assert_eq!((state(&overview), overview.bits_per_byte.as_slice()), (NodeState::Lost, &[2.5][..]));
    }

    #[test]
    fn a_suspect_is_one_until_it_is_heard_or_lost() {
        let mut overview = overview();
        let words = |overview: &Overview| overview.nodes[&NODE].word();
        hear(&mut overview, Event::NodeJoined { node: NODE, profile: profile() });
        let suspected = || Event::NodeSuspected { node: NODE, reached_by: vec![NodeId([2; 32])] };
        hear(&mut overview, suspected());
        let (job, attempt) = (Digest::of(b"job"), 0);
        hear(&mut overview, Event::RoundSealed { job, round: 1, attempt, contributors: vec![], tokens: 0 });
        assert_eq!(words(&overview), "suspected");
        hear(&mut overview, Event::NodeHeard { node: NODE });
        assert_eq!(words(&overview), "aggregating");
        hear(&mut overview, suspected());
        hear(&mut overview, Event::NodeLost { node: NODE, cause: LossCause::Unheard });
        assert_eq!(words(&overview), "lost");
    }

    #[test]
    fn traffic_adds_up_over_the_processes_of_a_node() {
        let mut overview = overview();
        hear(&mut overview, Event::NodeJoined { node: NODE, profile: profile() });
        for sent_bytes in [10, 100, 5, 7] {
            overview.hear(&status(0, sent_bytes));
        }
        let node = &overview.nodes[&NODE];
        assert_eq!((node.sent_bytes(), node.received_bytes()), (107, 214));
    }

    #[test]
    fn a_long_curve_stays_bounded() {
        let mut overview = overview();
        hear(&mut overview, Event::NodeJoined { node: NODE, profile: profile() });
        overview.nodes.get_mut(&NODE).unwrap().state = NodeState::Training;
        (1..10_000).for_each(|step| overview.hear(&status(step, 0)));
        assert!((LOSSES_MAX / 2..=LOSSES_MAX).contains(&overview.nodes[&NODE].losses.len()));
    }
}
