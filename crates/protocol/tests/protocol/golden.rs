//! The bytes of one value of every message, written down: a change of the wire fails here.
//!
//! Lines of `golden.txt` are `name hex`. A message gets a line when it is added, and no
//! line ever changes: what a node of this version sends must be read by the next one. A
//! change that cannot keep to that raises `VERSION` and starts the file afresh.

use std::collections::BTreeSet;

use zoo_protocol::{
    Declaration, FromOrchestrator, Message, Rejection, Report, Role, Sealed, ToOrchestrator, Work, decode,
    encode,
};

use crate::samples;

const GOLDEN: &str = include_str!("golden.txt");

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// No `_` below: a new variant does not compile until it has a name, and then needs its line.
fn name_to(message: &ToOrchestrator) -> &'static str {
    match message {
        ToOrchestrator::Hello { role: Role::Worker { .. }, .. } => "to.hello.worker",
        ToOrchestrator::Hello { role: Role::Client, .. } => "to.hello.client",
        ToOrchestrator::Heartbeat { .. } => "to.heartbeat",
        ToOrchestrator::Report(Report::Trained(_)) => "to.report.trained",
        ToOrchestrator::Report(Report::Aggregated { .. }) => "to.report.aggregated",
        ToOrchestrator::Report(Report::Missing { .. }) => "to.report.missing",
        ToOrchestrator::Report(Report::Evaluated { .. }) => "to.report.evaluated",
        ToOrchestrator::Report(Report::Failed { .. }) => "to.report.failed",
        ToOrchestrator::Report(Report::Summed { .. }) => "to.report.summed",
        ToOrchestrator::Report(Report::Refused { .. }) => "to.report.refused",
        ToOrchestrator::Report(Report::Kept { .. }) => "to.report.kept",
        ToOrchestrator::Report(Report::Proved { .. }) => "to.report.proved",
        ToOrchestrator::Report(Report::Verified { .. }) => "to.report.verified",
        ToOrchestrator::Report(Report::Withheld { .. }) => "to.report.withheld",
        ToOrchestrator::Report(Report::Unamendable { .. }) => "to.report.unamendable",
        ToOrchestrator::Report(Report::Told { .. }) => "to.report.told",
        ToOrchestrator::Report(Report::Benchmarked { .. }) => "to.report.benchmarked",
        ToOrchestrator::Submit { .. } => "to.submit",
        ToOrchestrator::Watch { .. } => "to.watch",
        ToOrchestrator::Leave => "to.leave",
        ToOrchestrator::Measured(_) => "to.measured",
        ToOrchestrator::Probed { .. } => "to.probed",
        ToOrchestrator::Journal => "to.journal",
        ToOrchestrator::Evidence(_) => "to.evidence",
        ToOrchestrator::Declare(declaration) => match **declaration {
            Declaration::Succession { .. } => "to.declare.succession",
            Declaration::Retirement(_) => "to.declare.retirement",
            Declaration::Credential(_) => "to.declare.credential",
            Declaration::Revocation(_) => "to.declare.revocation",
        },
    }
}

fn name_from(message: &FromOrchestrator) -> &'static str {
    match message {
        FromOrchestrator::Welcome { .. } => "from.welcome",
        FromOrchestrator::Rejected(Rejection::Version { .. }) => "from.rejected.version",
        FromOrchestrator::Rejected(Rejection::Invalid(_)) => "from.rejected.invalid",
        FromOrchestrator::Rejected(Rejection::Busy(_)) => "from.rejected.busy",
        FromOrchestrator::Work { work: Work::Idle, .. } => "from.work.idle",
        FromOrchestrator::Work { work: Work::Train(_), .. } => "from.work.train",
        FromOrchestrator::Work { work: Work::Aggregate(_), .. } => "from.work.aggregate",
        FromOrchestrator::Work { work: Work::Evaluate(_), .. } => "from.work.evaluate",
        FromOrchestrator::Work { work: Work::Sum(_), .. } => "from.work.sum",
        FromOrchestrator::Work { work: Work::Verify(_), .. } => "from.work.verify",
        FromOrchestrator::Work { work: Work::Tell(_), .. } => "from.work.tell",
        FromOrchestrator::Work { work: Work::Benchmark(_), .. } => "from.work.benchmark",
        FromOrchestrator::Accepted(_) => "from.accepted",
        FromOrchestrator::Refused(_) => "from.refused",
        FromOrchestrator::Event { .. } => "from.event",
        FromOrchestrator::NodeStatus { .. } => "from.node_status",
        FromOrchestrator::StateRoot(_) => "from.state_root",
        FromOrchestrator::CaughtUp => "from.caught_up",
        FromOrchestrator::Probe(_) => "from.probe",
        FromOrchestrator::Keep { .. } => "from.keep",
        FromOrchestrator::Journal { .. } => "from.journal",
        FromOrchestrator::Standing(_) => "from.standing",
        FromOrchestrator::Declared => "from.declared",
        FromOrchestrator::Distrusted(_) => "from.distrusted",
    }
}

fn encodings() -> Vec<(&'static str, Vec<u8>)> {
    let mut encodings = Vec::new();
    encodings
        .extend(samples::every_to_orchestrator().iter().map(|message| (name_to(message), encode(message))));
    encodings.extend(
        samples::every_from_orchestrator().iter().map(|message| (name_from(message), encode(message))),
    );
    encodings.push(("signed.commitment", encode(&samples::commitment())));
    encodings.push(("sealed.commitment", encode(&Sealed::seal(&samples::commitment(), &samples::key()))));
    encodings.push(("job.id", samples::job().id().as_bytes().to_vec()));
    encodings
}

#[test]
fn every_message_has_the_bytes_that_it_always_had() {
    let lines: Vec<String> =
        encodings().iter().map(|(name, bytes)| format!("{name} {}", hex(bytes))).collect();
    let golden: BTreeSet<&str> = GOLDEN.lines().collect();
    let missing: Vec<&str> = lines.iter().map(String::as_str).filter(|line| !golden.contains(line)).collect();
    assert!(missing.is_empty(), "not in golden.txt:\n{}", missing.join("\n"));
    assert_eq!(lines.len(), golden.len(), "golden.txt has lines that no message has");
}

#[test]
fn every_golden_message_is_read_back() {
    fn read_back<T: Message + PartialEq + std::fmt::Debug>(messages: &[T]) {
        for message in messages {
            assert_eq!(decode::<T>(&encode(message)).as_ref(), Ok(message));
        }
    }
    read_back(&samples::every_to_orchestrator());
    read_back(&samples::every_from_orchestrator());
    read_back(&[samples::commitment()]);
    read_back(&[samples::job()]);
    read_back(&samples::works());
}
