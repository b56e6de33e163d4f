//! Random but plausible histories: joins, losses with and without the disk, rejoins, reports late, twice and
//! in any order, ticks, and a liar.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;
use zoo_content::Digest;
use zoo_protocol::{
    Aggregate, CheckpointPlan, JobDescription, JobId, Link, NodeId, NodeKey, Report, RoundPlan, StorageKind,
    Succession, Sum, Topology, VerifyWindow, Work,
};
use zoo_state::{Command, Event, JobStatus, Outcome, State, Steer};

use crate::fleet::{DEADLINE_MS, Fleet, commitment, job, network, plan};

const NODES: usize = 5;
const ROUNDS: u32 = 3;
/// Honest nodes that stay live where the job has to finish: more than one liar and one who is slow.
const HONEST_MIN: usize = 3;

#[derive(Clone, Debug)]
enum Action {
    Join(usize),
    Lose(usize),
    /// Lost together with its disk.
    Wipe(usize),
    /// The node works and reports.
    Step(usize),
    /// The node works; its reports are on their way.
    Send(usize),
    /// A report on its way arrives.
    Deliver(usize),
    /// A report on its way arrives, and will once more.
    Duplicate(usize),
    Measure(usize, u64, u64),
    /// Silent for the orchestrator, and reached by another.
    Suspect(usize, usize),
    Hear(usize),
    Tick(u64),
    Deadline,
    /// The node has what it is to keep, and says so.
    Keep(usize),
    /// Who holds the newest checkpoint, if the node does, is challenged, and answers or is silent.
    Challenge(usize, Option<u64>),
    /// The node goes on under another key.
    Rotate(usize),
    /// The job is paused or resumed.
    Steer(Steer),
    Lie(Lie),
}

#[derive(Clone, Debug)]
enum Lie {
    Checkpoint,
    Tokens,
    Missing(usize),
    Relay(usize),
    Failed,
    /// It trained something else than it says.
    Window,
    /// Another's window comes to something else than it says.
    Verdict,
}

fn action() -> impl Strategy<Value = Action> {
    let node = 0..NODES;
    prop_oneof![
        2 => node.clone().prop_map(Action::Join),
        2 => node.clone().prop_map(Action::Lose),
        1 => node.clone().prop_map(Action::Wipe),
        8 => node.clone().prop_map(Action::Step),
        3 => node.clone().prop_map(Action::Send),
        3 => node.clone().prop_map(Action::Keep),
        1 => (node, proptest::option::of(any::<u64>())).prop_map(|(node, place)| Action::Challenge(node, place)),
        3 => any::<usize>().prop_map(Action::Deliver),
        1 => any::<usize>().prop_map(Action::Duplicate),
        1 => (0..NODES, 1u64..10_000, 1u64..300).prop_map(|(node, kib, ms)| Action::Measure(node, kib, ms)),
        2 => (0..NODES, 0..NODES).prop_map(|(node, witness)| Action::Suspect(node, witness)),
        1 => (0..NODES).prop_map(Action::Hear),
        2 => (0_u64..50).prop_map(Action::Tick),
        1 => Just(Action::Deadline),
        1 => (0..NODES).prop_map(Action::Rotate),
        1 => prop_oneof![Just(Steer::Pause), Just(Steer::Resume)].prop_map(Action::Steer),
        3 => lie().prop_map(Action::Lie),
    ]
}

fn lie() -> impl Strategy<Value = Lie> {
    prop_oneof![
        Just(Lie::Checkpoint),
        Just(Lie::Tokens),
        (0..NODES).prop_map(Lie::Missing),
        any::<usize>().prop_map(Lie::Relay),
        Just(Lie::Failed),
        Just(Lie::Window),
        Just(Lie::Verdict),
    ]
}

fn topology() -> impl Strategy<Value = Topology> {
    prop_oneof![
        Just(Topology::AllGather),
        Just(Topology::Star),
        (2..4u32).prop_map(|fan_in| Topology::Tree { fan_in }),
    ]
}

/// What may happen in a history.
struct Weather {
    /// Deadlines pass.
    deadlines: bool,
    /// Nodes may be lost until none is left.
    floods: bool,
}

struct History {
    fleet: Fleet,
    job: JobId,
    liar: usize,
    /// Under which keys the liar has been there.
    liars: BTreeSet<NodeId>,
    on_their_way: Vec<(usize, Report)>,
    keys: u8,
}

impl History {
    fn play(actions: &[Action], liar: usize, weather: &Weather, topology: Topology) -> Self {
        let plan = RoundPlan {
            steps: 5 * u64::from(ROUNDS),
            rhythm: RoundPlan::constant(5),
            evaluate_every: 10,
            topology,
            overlap: true,
            verified_in_1000: 500,
            ..plan()
        };
        // Half of them store what they keep, and the job would like that.
        let mut fleet = Fleet::new(NODES);
        fleet.name_network(&[]);
        (0..NODES).step_by(2).for_each(|node| fleet.give_storage(node, StorageKind::Dir));
        (0..NODES).for_each(|node| fleet.join(node));
        let checkpoints = CheckpointPlan { storage: Some(StorageKind::Dir), ..CheckpointPlan::default() };
        let job = fleet.submit_description(JobDescription { checkpoints, ..job("job", plan) });
        let liars = BTreeSet::from([fleet.id(liar)]);
        let mut history = History { fleet, job, liar, liars, on_their_way: Vec::new(), keys: 0 };
        for action in actions {
            history.act(action, weather);
        }
        history
    }

    fn act(&mut self, action: &Action, weather: &Weather) {
        let fleet = &mut self.fleet;
        match *action {
            Action::Join(node) => fleet.join(node),
            Action::Lose(node) | Action::Wipe(node) => {
                let honest = (0..NODES).filter(|other| *other != self.liar && *other != node);
                if weather.floods || honest.filter(|other| fleet.is_live(*other)).count() >= HONEST_MIN {
                    if fleet.state.nodes().contains_key(&fleet.id(node)) {
                        fleet.lose(node);
                    }
                    if matches!(action, Action::Wipe(_)) {
                        fleet.wipe(node);
                    }
                }
            }
            Action::Step(node) => fleet.step(node),
            Action::Send(node) => {
                let reports = fleet.honest_reports(node);
                self.on_their_way.extend(reports.into_iter().map(|report| (node, report)));
            }
            Action::Deliver(which) if !self.on_their_way.is_empty() => {
                let (node, report) = self.on_their_way.swap_remove(which % self.on_their_way.len());
                // It may be void by now; that a refusal changes nothing is checked by the fleet.
                let _ = fleet.report(node, report);
            }
            Action::Duplicate(which) if !self.on_their_way.is_empty() => {
                let (node, report) = self.on_their_way[which % self.on_their_way.len()].clone();
                let _ = fleet.report(node, report);
            }
            Action::Deliver(_) | Action::Duplicate(_) => {}
            Action::Measure(node, kib, ms) => {
                let (link, now_ms) = (Link::new(kib, ms), fleet.now_ms);
                let _ = fleet.apply(Command::LinkMeasured { node: fleet.id(node), link, now_ms });
            }
            // Suspects get nothing to do: too many of them, and nobody is left to agree with.
            Action::Suspect(node, witness) if weather.floods => {
                let (reached_by, now_ms) = (fleet.ids([witness]), fleet.now_ms);
                let _ = fleet.apply(Command::NodeSuspected { node: fleet.id(node), reached_by, now_ms });
            }
            Action::Suspect(..) => {}
            Action::Hear(node) => {
                let now_ms = fleet.now_ms;
                fleet.apply(Command::NodeHeard { node: fleet.id(node), now_ms }).unwrap();
            }
            Action::Tick(ms) => fleet.tick(ms),
            Action::Deadline => fleet.tick(if weather.deadlines { DEADLINE_MS } else { 0 }),
            Action::Keep(node) => fleet.keep(node),
            // Who holds nothing cannot be challenged; that a refusal changes nothing is checked by the fleet.
            Action::Challenge(node, place) if fleet.state.checkpoints().iter().next().is_some() => {
                let _ = fleet.challenge(node, 7, place);
            }
            Action::Challenge(..) => {}
            Action::Rotate(node) => self.rotate(node),
            Action::Steer(steer) => self.steer(steer),
            Action::Lie(ref lie) => self.lie(lie),
        }
    }

    /// It may be the wrong time for it; that a refusal changes nothing is checked by the fleet.
    fn rotate(&mut self, node: usize) {
        self.keys = self.keys.wrapping_add(1);
        let key = NodeKey::from_seed([[0xaa; 16], [self.keys; 16]].concat().try_into().unwrap());
        let was_there = self.fleet.is_live(node);
        if self.fleet.declare(Succession::declare(network(), self.fleet.key(node), &key)).is_ok() {
            self.fleet.take_key(node, key);
            if node == self.liar {
                self.liars.insert(self.fleet.id(node));
            }
            if was_there {
                self.fleet.join(node);
            }
        }
    }

    /// A job that is over by then is steered in vain.
    fn steer(&mut self, steer: Steer) {
        let now_ms = self.fleet.now_ms;
        let _ = self.fleet.apply(Command::JobSteered { job: self.job, steer, now_ms });
    }

    fn lie(&mut self, lie: &Lie) {
        let (fleet, liar) = (&mut self.fleet, self.liar);
        let report = match (lie, fleet.work(liar)) {
            (Lie::Checkpoint, Work::Aggregate(Aggregate { job, round, attempt, .. })) => Report::Aggregated {
                job,
                round,
                attempt,
                checkpoint: Digest::of(b"lie"),
                left_out: vec![],
                alike: vec![],
            },
            (Lie::Tokens, Work::Train(window)) => {
                let mut lie = commitment(window, fleet.key(liar));
                lie.outcome.tokens *= 3;
                fleet.seal(liar, &lie)
            }
            (Lie::Window, Work::Train(window)) => {
                let mut lie = commitment(window, fleet.key(liar));
                lie.outcome.steps_root = Digest::of(b"lie");
                fleet.seal(liar, &lie)
            }
            (Lie::Verdict, Work::Verify(VerifyWindow { maker, window, .. })) => {
                Report::Verified { job: window.job, round: window.round, maker, outcome: Digest::of(b"lie") }
            }
            (Lie::Missing(maker), Work::Sum(Sum { job, round, attempt, .. })) => {
                Report::Missing { job, round, attempt, maker: fleet.id(*maker) }
            }
            (Lie::Missing(contributor), Work::Aggregate(Aggregate { job, round, attempt, .. })) => {
                Report::Missing { job, round, attempt, maker: fleet.id(*contributor) }
            }
            (Lie::Relay(which), _) if !self.on_their_way.is_empty() => {
                self.on_their_way[which % self.on_their_way.len()].1.clone()
            }
            (Lie::Failed, _) => match fleet.state.running() {
                Some(running) => {
                    Report::Failed { job: running.job, round: running.round, reason: "no reason".into() }
                }
                None => return,
            },
            _ => return,
        };
        let _ = fleet.report(liar, report);
    }

    /// Everybody is there and works from now on, though the liar still lies about checkpoints. Says
    /// whether the job is over within the steps that takes.
    fn heal_and_finish(&mut self) -> bool {
        self.steer(Steer::Resume);
        (0..NODES).for_each(|node| self.fleet.join(node));
        let sweeps_a_round = 1 + NODES + plan().evaluation_shards as usize;
        let sweeps_max = (ROUNDS as usize + 2) * sweeps_a_round;
        for _ in 0..sweeps_max {
            self.lie(&Lie::Checkpoint);
            self.fleet.sweep();
        }
        matches!(self.fleet.state.job_status(&self.job), Some(JobStatus::Over(_)))
    }

    /// What holds of every history, whatever happened.
    fn check(&self) {
        let Fleet { state, log, events, .. } = &self.fleet;
        let mut replayed = State::new();
        let again: Vec<Event> = log.iter().flat_map(|command| replayed.apply(command).unwrap()).collect();
        assert_eq!((replayed.root(), &again), (state.root(), events), "replay differs");

        let read_back = State::from_bytes(&state.to_bytes()).unwrap();
        assert_eq!((&read_back, read_back.root()), (state, state.root()), "the encoding loses something");

        let mut given = 0;
        for event in events {
            match event {
                Event::RoundStarted { shares, ahead_steps, .. } => {
                    for (_, share) in shares {
                        assert!(share.first_sequence >= given, "sequences given twice");
                        given = share.after(*ahead_steps).end();
                    }
                }
                Event::Fault { node, kind, .. } => {
                    assert!(self.liars.contains(node), "an honest node is at fault: {kind}");
                }
                _ => {}
            }
        }
    }

    fn finished_rounds(&self) -> Vec<u32> {
        self.fleet
            .events
            .iter()
            .filter_map(|event| match event {
                Event::RoundFinished { round, .. } => Some(*round),
                _ => None,
            })
            .collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 160, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn with_enough_honest_nodes_every_job_finishes(
        actions in vec(action(), 0..140),
        liar in 0..NODES,
    ) {
        let weather = Weather { deadlines: false, floods: false };
        let mut history = History::play(&actions, liar, &weather, Topology::Auto);
        prop_assert!(history.heal_and_finish(), "not over, but in {:?}", history.fleet.state.running());
        history.check();
        let status = history.fleet.state.job_status(&history.job);
        let Some(JobStatus::Over(Outcome::Finished { checkpoint })) = status else {
            panic!("not finished: {status:?}")
        };
        prop_assert_eq!(history.finished_rounds(), (0..ROUNDS).collect::<Vec<_>>());
        let holders = history.fleet.state.holders(&checkpoint);
        let honest: Vec<NodeId> = (0..NODES).filter(|node| *node != liar).map(|node| history.fleet.id(node)).collect();
        prop_assert!(holders.iter().any(|holder| honest.contains(holder)));
    }

    #[test]
    fn in_any_weather_every_job_comes_to_an_end(
        actions in vec(action(), 0..140),
        liar in 0..NODES,
        topology in topology(),
    ) {
        let weather = Weather { deadlines: true, floods: true };
        let mut history = History::play(&actions, liar, &weather, topology);
        prop_assert!(history.heal_and_finish(), "not over, but in {:?}", history.fleet.state.running());
        history.check();
    }
}
