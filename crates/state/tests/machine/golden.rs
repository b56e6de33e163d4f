//! The bytes of every event. They are in journals and on the wire, so they never change: new variants and their lines are added.

use zoo_content::Digest;
use zoo_protocol::{
    Attestation, Link, NodeId, Part, Share, Speeds, TcbStatus, TeeKind, Tier, decode, encode,
};
use zoo_state::{
    Distrust, Event, Failure, FaultKind, LossCause, Missed, Rating, Release, Restart, Stop, Unrated,
    Unverified,
};

use crate::fleet::{plan, profile};

const GOLDEN: &str = include_str!("events.txt");

fn digest(name: &str) -> Digest {
    Digest::of(name.as_bytes())
}

const NODE: NodeId = NodeId([0xee; 32]);

/// No `_` below: a new variant does not compile until it has a name, and then needs its line.
fn name(event: &Event) -> &'static str {
    match event {
        Event::NodeJoined { .. } => "node_joined",
        Event::NodeLost { cause: LossCause::LeaseExpired, .. } => "node_lost.lease_expired",
        Event::NodeLost { cause: LossCause::Left, .. } => "node_lost.left",
        Event::NodeLost { cause: LossCause::Disconnected, .. } => "node_lost.disconnected",
        Event::NodeLost { cause: LossCause::Unheard, .. } => "node_lost.unheard",
        Event::NodeRejoined { .. } => "node_rejoined",
        Event::JobAccepted { .. } => "job_accepted",
        Event::RoundWaiting { .. } => "round_waiting",
        Event::RoundStarted { .. } => "round_started",
        Event::WorkFailed { .. } => "work_failed",
        Event::ContributionAccepted { .. } => "contribution_accepted",
        Event::ContributionMissed { why: Missed::Lost, .. } => "contribution_missed.lost",
        Event::ContributionMissed { why: Missed::Deadline, .. } => "contribution_missed.deadline",
        Event::ContributionMissed { why: Missed::Failed(_), .. } => "contribution_missed.failed",
        Event::ContributionMissed { why: Missed::Unavailable, .. } => "contribution_missed.unavailable",
        Event::ContributionMissed { why: Missed::Outlier, .. } => "contribution_missed.outlier",
        Event::ContributionWithdrawn { withdrawn_in: Some(_), .. } => "contribution_withdrawn",
        Event::ContributionWithdrawn { withdrawn_in: None, .. } => "contribution_withdrawn.stays",
        Event::RoundSealed { .. } => "round_sealed",
        Event::RoundRestarted { why: Restart::EveryoneLost, .. } => "round_restarted.everyone_lost",
        Event::RoundRestarted { why: Restart::NoContribution, .. } => "round_restarted.no_contribution",
        Event::RoundRestarted { why: Restart::NothingLeft, .. } => "round_restarted.nothing_left",
        Event::RoundRestarted { why: Restart::OutlineTie, .. } => "round_restarted.outline_tie",
        Event::RoundRestarted { why: Restart::NotAggregated, .. } => "round_restarted.not_aggregated",
        Event::RoundRestarted { why: Restart::Tie, .. } => "round_restarted.tie",
        Event::RoundRestarted { why: Restart::HoldersLost, .. } => "round_restarted.holders_lost",
        Event::RoundFinished { .. } => "round_finished",
        Event::EvaluationFinished { .. } => "evaluation_finished",
        Event::Fault { kind: FaultKind::Disagreement { .. }, .. } => "fault.disagreement",
        Event::Fault { kind: FaultKind::Outline, .. } => "fault.outline",
        Event::Fault { kind: FaultKind::Refused { .. }, .. } => "fault.refused",
        Event::Fault { kind: FaultKind::Oversized { .. }, .. } => "fault.oversized",
        Event::JobFinished { .. } => "job_finished",
        Event::JobFailed { why: Failure::NoProgress { .. }, .. } => "job_failed.no_progress",
        Event::JobFailed { why: Failure::NoEvaluation { .. }, .. } => "job_failed.no_evaluation",
        Event::JobFailed { why: Failure::Disagreement { .. }, .. } => "job_failed.disagreement",
        Event::JobFailed { why: Failure::NothingToEvaluate, .. } => "job_failed.nothing_to_evaluate",
        Event::JobFailed { why: Failure::SequencesExhausted, .. } => "job_failed.sequences_exhausted",
        Event::PartSummed { .. } => "part_summed",
        Event::PartMoved { .. } => "part_moved",
        Event::LinkMeasured { .. } => "link_measured",
        Event::NodeSuspected { .. } => "node_suspected",
        Event::NodeHeard { .. } => "node_heard",
        Event::CheckpointAsked { .. } => "checkpoint_asked",
        Event::CheckpointKept { .. } => "checkpoint_kept",
        Event::CheckpointReleased { why: Release::Away, .. } => "checkpoint_released.away",
        Event::CheckpointReleased { why: Release::Spare, .. } => "checkpoint_released.spare",
        Event::CheckpointReleased { why: Release::Late, .. } => "checkpoint_released.late",
        Event::CheckpointReleased { why: Release::Silent, .. } => "checkpoint_released.silent",
        Event::CheckpointReleased { why: Release::Lost, .. } => "checkpoint_released.lost",
        Event::CheckpointReleased { why: Release::False, .. } => "checkpoint_released.false",
        Event::ContributionLate { .. } => "contribution_late",
        Event::JobStopped { why: Stop::Cancelled, .. } => "job_stopped.cancelled",
        Event::JobStopped { why: Stop::Budget, .. } => "job_stopped.budget",
        Event::JobPaused { .. } => "job_paused",
        Event::JobResumed { .. } => "job_resumed",
        Event::Fault { kind: FaultKind::WrongWindow { .. }, .. } => "fault.wrong_window",
        Event::Fault { kind: FaultKind::WrongVerdict { .. }, .. } => "fault.wrong_verdict",
        Event::VerificationAsked { .. } => "verification_asked",
        Event::VerifierReleased { .. } => "verifier_released",
        Event::VerdictGiven { .. } => "verdict_given",
        Event::WindowVerified { .. } => "window_verified",
        Event::NetworkNamed { .. } => "network_named",
        Event::NodeSucceeded { .. } => "node_succeeded",
        Event::NodeRetired { .. } => "node_retired",
        Event::NodeVouched { .. } => "node_vouched",
        Event::NodeAttested { .. } => "node_attested",
        Event::TrustEnded { why: Distrust::Revoked, .. } => "trust_ended.revoked",
        Event::TrustEnded { why: Distrust::Fault, .. } => "trust_ended.fault",
        Event::WindowUnverified { why: Unverified::Withheld, .. } => "window_unverified.withheld",
        Event::WindowUnverified { why: Unverified::Undecided, .. } => "window_unverified.undecided",
        Event::WindowUnverified { why: Unverified::Expired, .. } => "window_unverified.expired",
        Event::WindowUnverified { why: Unverified::Convicted, .. } => "window_unverified.convicted",
        Event::WindowUnverified { why: Unverified::JobOver, .. } => "window_unverified.job_over",
        Event::BenchmarkStarted { .. } => "benchmark_started",
        Event::CheckersDrawn { .. } => "checkers_drawn",
        Event::BenchmarkDoubted { .. } => "benchmark_doubted",
        Event::NodeRated { .. } => "node_rated",
        Event::NodeUnrated { why: Unrated::Late, .. } => "node_unrated.late",
        Event::NodeUnrated { why: Unrated::Wrong, .. } => "node_unrated.wrong",
        Event::JobSettling { .. } => "job_settling",
    }
}

/// One of every variant, and of every variant within.
fn events() -> Vec<Event> {
    let (job, round, node) = (digest("job"), 5, NODE);
    let share = Share { first_sequence: 1 << 33, sequences_per_step: 16, inner_steps: 20 };
    let mut events = vec![
        Event::NodeJoined { node, profile: profile("zebra") },
        Event::NodeRejoined { node, profile: profile("zebra") },
        Event::JobAccepted { job, name: "demo".into(), plan: plan(), ahead: 300 },
        Event::RoundWaiting { job, round, nodes: 1, minimum: 300 },
        Event::RoundStarted {
            job,
            round,
            start: 2,
            base: digest("base"),
            shares: vec![(node, share)],
            lead_steps: 0,
            ahead_steps: 0,
        },
        Event::WorkFailed { job, round, node, reason: "no space left".into() },
        Event::ContributionAccepted {
            job,
            round,
            node,
            commitment: digest("commitment"),
            tokens: 81_920,
            mean_loss_bits: 2.75f64.to_bits(),
            bytes: 1 << 40,
        },
        Event::RoundSealed { job, round, attempt: 1, contributors: vec![node], tokens: 81_920 },
        Event::RoundFinished {
            job,
            round,
            checkpoint: digest("checkpoint"),
            holders: vec![node],
            tokens: 1 << 40,
            step: 60,
        },
        Event::EvaluationFinished {
            job,
            round,
            nats_bits: 1234.5f64.to_bits(),
            tokens: 4096,
            bytes: 13_000,
            bits_per_byte_bits: 1.5f64.to_bits(),
        },
        Event::JobFinished { job, checkpoint: digest("checkpoint"), tokens: 1 << 40 },
        Event::PartSummed { job, round, sum: 300, node, bytes: 1 << 40 },
        Event::PartMoved { job, round, sum: 300, node: Some(node) },
        Event::LinkMeasured { node, link: Link { upload_kib_per_s: 1 << 20, rtt_ms: 300 } },
        Event::NodeSuspected { node, reached_by: vec![node, NodeId([0xdd; 32])] },
        Event::NodeHeard { node },
        Event::CheckpointAsked { job, round, node },
        Event::CheckpointKept { job, round, node },
    ];
    let releases =
        [Release::Away, Release::Spare, Release::Late, Release::Silent, Release::Lost, Release::False];
    events.extend(releases.map(|why| Event::CheckpointReleased { job, round, node, why }));
    events.push(Event::ContributionLate { job, round, node });
    let causes = [LossCause::LeaseExpired, LossCause::Left, LossCause::Disconnected, LossCause::Unheard];
    events.extend(causes.map(|cause| Event::NodeLost { node, cause }));
    let misses = [
        Missed::Lost,
        Missed::Deadline,
        Missed::Failed("no space left".into()),
        Missed::Unavailable,
        Missed::Outlier,
    ];
    events.extend(misses.map(|why| Event::ContributionMissed { job, round, node, why }));
    let restarts = [
        Restart::EveryoneLost,
        Restart::NoContribution,
        Restart::NothingLeft,
        Restart::OutlineTie,
        Restart::NotAggregated,
        Restart::Tie,
        Restart::HoldersLost,
    ];
    events.extend(restarts.map(|why| Event::RoundRestarted { job, round, why }));
    let faults = [
        FaultKind::Disagreement { reported: digest("one"), agreed: digest("other") },
        FaultKind::Outline,
        FaultKind::Refused { reason: "it ends early".into() },
        FaultKind::Oversized { vnode: 300, bytes: 1 << 40, limit: 73_536 },
    ];
    events.extend(faults.map(|kind| Event::Fault { job, round, node, kind }));
    let failures = [
        Failure::NoProgress { round, last: Restart::Tie },
        Failure::NoEvaluation { round },
        Failure::Disagreement { round, checkpoints: vec![(digest("one"), vec![node])] },
        Failure::NothingToEvaluate,
        Failure::SequencesExhausted,
    ];
    events.extend(failures.map(|why| Event::JobFailed { job, why }));
    let stops = [(None, Stop::Cancelled), (Some(digest("checkpoint")), Stop::Budget)];
    events.extend(stops.map(|(checkpoint, why)| Event::JobStopped { job, checkpoint, tokens: 1 << 40, why }));
    events.extend([Event::JobPaused { job }, Event::JobResumed { job, ahead: 300 }]);
    let (maker, verifier, window) = (node, NodeId([0xdd; 32]), 3);
    let (committed, right, said) = (digest("committed"), digest("right"), digest("said"));
    let wrongs = [
        FaultKind::WrongWindow { window, committed, right, verifiers: vec![verifier] },
        FaultKind::WrongVerdict { window, maker: verifier, said, right },
    ];
    events.extend(wrongs.map(|kind| Event::Fault { job, round, node, kind }));
    events.extend([
        Event::VerificationAsked { job, round, maker, verifier },
        Event::VerifierReleased { job, round, maker, verifier },
        Event::VerdictGiven { job, round, maker, verifier, outcome: Some((right, false)) },
        Event::WindowVerified { job, round, maker, verifiers: vec![verifier] },
    ]);
    let unverified = [
        Unverified::Withheld,
        Unverified::Undecided,
        Unverified::Expired,
        Unverified::Convicted,
        Unverified::JobOver,
    ];
    events.extend(unverified.map(|why| Event::WindowUnverified { job, round, maker, why }));
    events.extend([Some(7), None].map(|withdrawn_in| Event::ContributionWithdrawn {
        job,
        round,
        node,
        withdrawn_in,
    }));
    let attestation = Attestation {
        kind: TeeKind::SevSnp,
        measurement: digest("software"),
        platform: digest("chip"),
        tcb: TcbStatus::UpToDate,
        valid_until_s: 1_800_000_000,
        evidence: digest("evidence"),
    };
    let (network, operator, credential) = (NODE, NODE, digest("credential"));
    events.extend([
        Event::NetworkNamed { network, operators: vec![operator] },
        Event::NodeSucceeded { old: NODE, new: NodeId([0xef; 32]) },
        Event::NodeRetired { node: NODE },
        Event::NodeVouched { node: NODE, operator, credential, valid_until_s: 1_800_000_000 },
        Event::NodeAttested { node: NODE, attestation },
    ]);
    events.extend([Distrust::Revoked, Distrust::Fault].map(|why| Event::TrustEnded { node: NODE, why }));
    let speeds = Speeds { f32_exact: 100_000, bf16_exact: 1 << 20 };
    let rating = Rating { tier: Tier::Silver, speeds, memory_mib_per_s: 900, at_ms: 1 << 40 };
    events.extend([
        Event::BenchmarkStarted { part: Part::Memory, nodes: 300 },
        Event::CheckersDrawn { nodes: 300 },
        Event::BenchmarkDoubted { node },
        Event::NodeRated { node, rating },
        Event::NodeUnrated { node, why: Unrated::Late },
        Event::NodeUnrated { node, why: Unrated::Wrong },
        Event::JobSettling { job, round },
    ]);
    events
}

#[test]
fn every_event_has_the_bytes_that_it_always_had() {
    let line = |event: &Event| {
        let hex: String = encode(event).iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{} {hex}", name(event))
    };
    let lines: Vec<String> = events().iter().map(line).collect();
    let golden: Vec<&str> = GOLDEN.lines().collect();
    let missing: Vec<&String> = lines.iter().filter(|line| !golden.contains(&line.as_str())).collect();
    assert!(missing.is_empty(), "not in events.txt:\n{}", lines.join("\n"));
    assert_eq!(golden.len(), lines.len(), "events.txt has lines that stand for nothing");
    for event in events() {
        assert_eq!(decode::<Event>(&encode(&event)), Ok(event));
    }
}
