//! What befalls one node: it is killed in the middle of a window, and started again later.

use std::time::{Duration, Instant};

use zoo_protocol::NodeId;
use zoo_state::Event;

use crate::live::{NodeState, Overview};

/// The node is killed when this part of its window has passed, by the length of earlier ones.
const PART_OF_WINDOW: f64 = 0.4;
/// It is started again this long after the network has gone on without it.
const RESTART_AFTER: Duration = Duration::from_secs(2);

/// The plan for one node, and how far it has come.
#[derive(Debug)]
pub struct Accident {
    victim: String,
    /// Rounds before this one pass undisturbed.
    earliest_round: u32,
    stage: Stage,
    /// Start of the current training phase.
    training_since: Option<Instant>,
    /// How long the last undisturbed one took.
    training_time: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Stage {
    Planned,
    Armed { at: Instant },
    Killed,
    Noticed,
    GoneOn { restart_at: Instant },
    Restarted,
    Over,
}

/// What has to be done to the node now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// `kill -9`.
    Kill,
    /// Start it again in its directory.
    Restart,
}

impl Accident {
    /// `victim` is to be killed in the middle of `rounds`.
    pub fn new(victim: &str, rounds: u32) -> Self {
        Self {
            victim: victim.to_owned(),
            earliest_round: (rounds / 2).max(1),
            stage: Stage::Planned,
            training_since: None,
            training_time: None,
        }
    }

    /// Who it befalls.
    pub fn victim(&self) -> &str {
        &self.victim
    }

    /// Whether it has been killed.
    pub fn has_happened(&self) -> bool {
        !matches!(self.stage, Stage::Planned | Stage::Armed { .. })
    }

    /// Whether it is back on the network.
    pub fn is_over(&self) -> bool {
        self.stage == Stage::Over
    }

    /// Follows what happens, so as to know when.
    pub fn hear(&mut self, event: &Event, overview: &Overview, now: Instant) {
        let is_victim = |node: &NodeId| overview.name(node) == self.victim;
        match event {
            Event::RoundStarted { round, .. } => {
                self.training_since = Some(now);
                if let Some(time) = self.training_time.filter(|_| *round >= self.earliest_round)
                    && self.stage == Stage::Planned
                {
                    self.stage = Stage::Armed { at: now + time.mul_f64(PART_OF_WINDOW) };
                }
            }
            Event::RoundSealed { .. } => {
                self.training_time = self.training_since.map(|since| now.duration_since(since));
                if self.stage == Stage::Noticed {
                    self.stage = Stage::GoneOn { restart_at: now + RESTART_AFTER };
                }
            }
            Event::NodeLost { node, .. } if is_victim(node) && self.stage == Stage::Killed => {
                self.stage = Stage::Noticed;
            }
            Event::NodeRejoined { node, .. } if is_victim(node) && self.stage == Stage::Restarted => {
                self.stage = Stage::Over;
            }
            _ => {}
        }
    }

    /// When the next deed is due.
    pub fn due(&self) -> Option<Instant> {
        match self.stage {
            Stage::Armed { at } => Some(at),
            Stage::GoneOn { restart_at } => Some(restart_at),
            _ => None,
        }
    }

    /// The deed that is due at `now`, which the caller then does. A node that is not in the middle of
    /// a window is spared until the next round.
    pub fn take(&mut self, overview: &Overview, now: Instant) -> Option<Deed> {
        if self.due().is_none_or(|due| now < due) {
            return None;
        }
        match self.stage {
            Stage::Armed { .. } => {
                let trains =
                    overview.by_name(&self.victim).is_some_and(|(_, node)| node.state == NodeState::Training);
                self.stage = if trains { Stage::Killed } else { Stage::Planned };
                trains.then_some(Deed::Kill)
            }
            Stage::GoneOn { .. } => {
                self.stage = Stage::Restarted;
                Some(Deed::Restart)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use zoo_content::Digest;
    use zoo_orchestrator::Notice;
    use zoo_protocol::{NodeProfile, RoundPlan, Share, Speeds};
    use zoo_state::LossCause;

    use super::*;

    const NODE: NodeId = NodeId([1; 32]);

    struct Story {
        overview: Overview,
        accident: Accident,
        now: Instant,
    }

    impl Story {
        fn new() -> Self {
            let plan = RoundPlan {
                steps: 4,
                rhythm: RoundPlan::constant(1),
                sequences_per_step: 1,
                evaluate_every: 9,
                evaluation_shards: 1,
                minimum_nodes: 1,
                contribution_deadline_ms: 1,
                topology: Default::default(),
                overlap: false,
                verified_in_1000: 0,
                trust_discount: 4,
            };
            let mut story = Self {
                overview: Overview::new(plan),
                accident: Accident::new("lynx", 4),
                now: Instant::now(),
            };
            story.hear(Event::NodeJoined { node: NODE, profile: profile() });
            story
        }

        fn hear(&mut self, event: Event) {
            self.overview.hear(&Notice::Event { sequence: 0, at_ms: 0, event: event.clone() });
            self.accident.hear(&event, &self.overview, self.now);
        }

        fn start_round(&mut self, round: u32) {
            let (job, base) = (Digest::of(b"job"), Digest::of(b"base"));
            let share = Share { first_sequence: 0, sequences_per_step: 1, inner_steps: 1 };
            self.hear(Event::RoundStarted {
                job,
                round,
                start: 1,
                base,
                shares: vec![(NODE, share)],
                lead_steps: 0,
                ahead_steps: 0,
            });
        }

        fn seal_round_after(&mut self, seconds: u64) {
            self.now += Duration::from_secs(seconds);
            self.hear(Event::RoundSealed {
                job: Digest::of(b"job"),
                round: 0,
                attempt: 1,
                contributors: vec![],
                tokens: 1,
            });
        }

        fn after(&mut self, seconds: u64) -> Option<Deed> {
            self.now += Duration::from_secs(seconds);
            self.accident.take(&self.overview, self.now)
        }
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

    #[test]
    fn a_node_dies_in_the_middle_of_a_window_and_comes_back() {
        let mut story = Story::new();
        for round in 0..2 {
            story.start_round(round);
            assert_eq!(story.accident.due(), None, "the first rounds pass undisturbed");
            story.seal_round_after(10);
        }
        story.start_round(2);
        assert_eq!(story.after(3), None);
        assert_eq!(story.after(1), Some(Deed::Kill));
        assert!(story.accident.has_happened() && !story.accident.is_over());
        assert_eq!(story.after(100), None, "not before the network has noticed");
        story.hear(Event::NodeLost { node: NODE, cause: LossCause::LeaseExpired });
        assert_eq!(story.after(100), None, "not before it has gone on");
        story.seal_round_after(1);
        assert_eq!(story.after(1), None);
        assert_eq!(story.after(1), Some(Deed::Restart));
        story.hear(Event::NodeRejoined { node: NODE, profile: profile() });
        assert!(story.accident.is_over());
        assert_eq!(story.after(100), None, "once is enough");
    }

    #[test]
    fn a_node_that_has_finished_its_window_is_spared_until_the_next() {
        let mut story = Story::new();
        story.start_round(1);
        story.seal_round_after(10);
        story.start_round(2);
        story.seal_round_after(1);
        assert_eq!(story.after(9), None);
        assert!(!story.accident.has_happened());
        story.start_round(3);
        assert_eq!(story.after(1), Some(Deed::Kill), "the last window took one second");
    }
}
