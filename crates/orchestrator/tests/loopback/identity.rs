//! Keys that go and somebody who vouches, over the wire.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use zoo_content::Digest;
use zoo_network::Endpoint;
use zoo_orchestrator::{ClientError, EvidenceCheck, Orchestrator, OrchestratorOptions, Whose};
use zoo_protocol::{
    Attestation, Build, Credential, Declaration, FromOrchestrator, JobDescription, NodeId, Rejection,
    Retirement, Revocation, Role, Sealed, Succession, TcbStatus, TeeKind, ToOrchestrator, VERSION,
};
use zoo_state::{Distrust, Event, LossCause};

use crate::puppet::*;

const OPERATOR: u8 = 90;
const DAY_S: u64 = 24 * 3600;

#[expect(clippy::disallowed_methods, reason = "a credential is for the time at which it is brought")]
fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn credential(node: NodeId, valid_from_s: u64) -> Credential {
    let build = Build { binary: Digest::of(b"zoo"), version: "puppet".into(), target: "any".into() };
    let network = key(NETWORK).id();
    Credential { network, node, build, valid_from_s, valid_until_s: valid_from_s + 2 * DAY_S }
}

fn issue(credential: &Credential) -> Declaration {
    Declaration::Credential(Sealed::seal(credential, &key(OPERATOR)))
}

/// Says which evidence is genuine, as if it were of somebody's hardware.
fn check(evidence: &[u8], Whose { network, node }: Whose) -> Result<Attestation, String> {
    let whose = [b"genuine "[..].to_vec(), network.0.to_vec(), node.0.to_vec()].concat();
    if evidence != whose {
        return Err("it is foreign".into());
    }
    Ok(Attestation {
        kind: TeeKind::Tdx,
        measurement: Digest::of(b"software"),
        platform: Digest::of(b"machine"),
        tcb: TcbStatus::UpToDate,
        valid_until_s: now_s() + DAY_S,
        evidence: Digest::of(evidence),
    })
}

async fn trusting(directory: &std::path::Path) -> Orchestrator {
    let operators = BTreeSet::from([key(OPERATOR).id()]);
    let evidence = Some(EvidenceCheck::new(check));
    start(&OrchestratorOptions { operators, evidence, ..options(directory) }, None).await
}

/// What comes of a worker's message, beside its work.
async fn answer(stream: &mut Stream, message: ToOrchestrator) -> FromOrchestrator {
    // However long the last answer took, it is still there.
    stream.send(&heartbeat(1)).await.unwrap();
    stream.send(&message).await.unwrap();
    loop {
        match within(QUICK, stream.recv()).await.unwrap().unwrap() {
            FromOrchestrator::Work { .. } | FromOrchestrator::Keep { .. } | FromOrchestrator::Standing(_) => {
            }
            answer => return answer,
        }
    }
}

async fn is_refused(endpoint: &Endpoint, orchestrator: &Orchestrator, why: &str) {
    let mut stream = endpoint.connect(orchestrator.ticket()).await.unwrap();
    let role = Role::Worker { profile: profile("puppet"), addresses: vec![] };
    stream.send(&ToOrchestrator::Hello { version: VERSION, role }).await.unwrap();
    match within(QUICK, stream.recv()).await.unwrap() {
        Some(FromOrchestrator::Rejected(Rejection::Invalid(said))) => assert!(said.contains(why), "{said}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_goes_on_under_another_key_and_the_old_one_is_let_in_no_more_also_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let orchestrator = trusting(directory.path()).await;
    let watcher = client(&orchestrator, 1).await;
    let mut watch = watcher.watch(0).await.unwrap();
    let (before, after) = (endpoint(20).await, endpoint(21).await);
    let (old, new, network) = (key(20).id(), key(21).id(), orchestrator.ticket().node);
    let foreign = Succession::declare(key(1).id(), &key(20), &key(21));
    match watcher.declare(foreign).await {
        Err(ClientError::Distrusted(why)) => assert!(why.contains("it is foreign"), "{why}"),
        other => panic!("{other:?}"),
    }
    let mut stream = join(&before, orchestrator.ticket()).await;
    let succession = || Succession::declare(network, &key(20), &key(21));
    for _ in 0..3 {
        watcher.declare(succession()).await.unwrap();
    }
    let gone = async { while within(QUICK, stream.recv()).await.is_ok_and(|message| message.is_some()) {} };
    gone.await;
    for wanted in [Event::NodeLost { node: old, cause: LossCause::Left }, Event::NodeSucceeded { old, new }] {
        assert_eq!(event_like(&mut watch, |event| *event == wanted).await, wanted);
    }
    is_refused(&before, &orchestrator, "goes on as").await;
    let _stream = join(&after, orchestrator.ticket()).await;
    let joined = event_like(&mut watch, |event| matches!(event, Event::NodeRejoined { .. })).await;
    assert!(matches!(joined, Event::NodeRejoined { node, .. } if node == new), "it is no stranger");

    let (ticket, root) = (orchestrator.ticket().clone(), orchestrator.root());
    orchestrator.stop().await.unwrap();
    let operators = BTreeSet::from([key(OPERATOR).id()]);
    let again = start(&OrchestratorOptions { operators, ..options(directory.path()) }, Some(&ticket)).await;
    assert_eq!(again.root(), root, "whose network it is, is said once");
    is_refused(&before, &again, "goes on as").await;
    let client = client(&again, 2).await;
    client.declare(succession()).await.unwrap();
    client.declare(Retirement::declare(network, &key(21))).await.unwrap();
    is_refused(&after, &again, "it was revoked").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_trusted_for_its_papers_and_works_on_as_everybody_without() {
    let directory = tempfile::tempdir().unwrap();
    let orchestrator = trusting(directory.path()).await;
    let watcher = client(&orchestrator, 1).await;
    let mut watch = watcher.watch(0).await.unwrap();
    let (worker, node, network) = (endpoint(22).await, key(22).id(), key(NETWORK).id());
    let mut stream = join(&worker, orchestrator.ticket()).await;
    let (now, good) = (now_s(), credential(node, now_s()));
    let elsewhere = Credential { network: key(1).id(), ..good.clone() };
    for (declaration, reason) in [
        (issue(&elsewhere), "it is foreign"),
        (issue(&credential(node, now - 3 * DAY_S)), "holds from"),
        (Declaration::Credential(Sealed::seal(&good, &key(22))), "is not trusted by this network"),
    ] {
        let answer = answer(&mut stream, ToOrchestrator::Declare(declaration.into())).await;
        let FromOrchestrator::Distrusted(why) = answer else { panic!("{answer:?}") };
        assert!(why.contains(reason), "{why}");
    }
    for _ in 0..2 {
        let declared = answer(&mut stream, ToOrchestrator::Declare(issue(&good).into())).await;
        assert_eq!(declared, FromOrchestrator::Declared);
    }
    let genuine = [b"genuine "[..].to_vec(), network.0.to_vec(), node.0.to_vec()].concat();
    assert_eq!(
        answer(&mut stream, ToOrchestrator::Evidence(genuine.clone())).await,
        FromOrchestrator::Declared
    );
    let kept = orchestrator.handle().store().get(&Digest::of(&genuine)).unwrap();
    assert_eq!(kept.bytes()[..], genuine[..], "who doubts it can check it again");
    event_like(&mut watch, |event| matches!(event, Event::NodeVouched { .. })).await;
    event_like(&mut watch, |event| matches!(event, Event::NodeAttested { .. })).await;
    // Once a conversation: it costs time.
    let refused = answer(&mut stream, ToOrchestrator::Evidence(genuine)).await;
    assert!(matches!(refused, FromOrchestrator::Rejected(Rejection::Invalid(_))), "{refused:?}");

    let id = Credential::id_of(&Sealed::seal(&good, &key(OPERATOR)));
    let revocation = Revocation { network, node, credential: id };
    watcher.declare(Declaration::Revocation(Sealed::seal(&revocation, &key(OPERATOR)))).await.unwrap();
    let ended = event_like(&mut watch, |event| matches!(event, Event::TrustEnded { .. })).await;
    assert_eq!(ended, Event::TrustEnded { node, why: Distrust::Revoked });
    let answer = answer(&mut stream, ToOrchestrator::Declare(issue(&good).into())).await;
    assert!(matches!(&answer, FromOrchestrator::Distrusted(why) if why.contains("is void")), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_evidence_and_foreign_jobs_are_refused_with_the_reason() {
    let directory = tempfile::tempdir().unwrap();
    let orchestrator = trusting(directory.path()).await;
    let worker = endpoint(23).await;
    let mut stream = join(&worker, orchestrator.ticket()).await;
    let foreign = [b"genuine "[..].to_vec(), key(NETWORK).id().0.to_vec(), key(24).id().0.to_vec()].concat();
    let refused = answer(&mut stream, ToOrchestrator::Evidence(foreign)).await;
    assert_eq!(refused, FromOrchestrator::Distrusted("it is foreign".into()));
    let heard = tokio::time::timeout(Duration::from_millis(300), stream.recv()).await;
    assert!(!matches!(heard, Ok(Ok(None))), "it works on");

    let submitter = client(&orchestrator, 2).await;
    let (description, blobs, store) = job("foreign", 1, 1);
    let foreign = JobDescription { network: key(1).id(), ..description };
    match submitter.submit(foreign, blobs, store).await {
        Err(ClientError::Refused(why)) => assert!(why.contains("is for the network of"), "{why}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_software_is_accepted_no_evidence_counts() {
    let directory = tempfile::tempdir().unwrap();
    let orchestrator = start(&options(directory.path()), None).await;
    let worker = endpoint(25).await;
    let mut stream = join(&worker, orchestrator.ticket()).await;
    let refused = answer(&mut stream, ToOrchestrator::Evidence(vec![1])).await;
    assert!(matches!(&refused, FromOrchestrator::Distrusted(why) if why.contains("hint: ")), "{refused:?}");
}
