//! Writes inputs to begin with into `corpus/TARGET/`: one valid value of everything, and the bytes that tests hold fast.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use zoo_attest::Evidence;
use zoo_content::{Digest, InclusionProof};

use zoo_dispute::{Flip, Forgery, Knowledge, Player, Replay, Side, Terms, check, play};
use zoo_protocol::{NodeKey, Peer, encode};
use zoo_state::{Command, State};
use zoo_training::{Share, Trainer, WindowTask, train_window};
use zoo_update::{Aggregate, Codec, Dense, Sparse};

use crate::cid::{Cid, Codec as CidCodec};
use crate::node::{Link, Node};
use crate::{ASK, COLLATERAL, FileEntry, KEEP, QUOTE, REPORT, Snapshot, VCEK, header, network, replica};

const GOLDEN: &str = include_str!("../../crates/protocol/tests/protocol/golden.txt");
const JOURNAL: &str = include_str!("../../crates/state/tests/machine/journal-v1.hex");
const NETWORKS: [(&str, &[u8]); 3] = [
    ("heads", include_bytes!("../../examples/networks/heads-tiny.yaml")),
    ("attention", include_bytes!("../../examples/networks/attention-tiny.yaml")),
    ("mlp", include_bytes!("../../examples/networks/mlp-tiny.yaml")),
];
const SPEC: &[u8] = include_bytes!("../../crates/training/tests/fixtures/spec-1.json");

/// Writes all of them.
pub fn write_all() -> std::io::Result<()> {
    for line in GOLDEN.lines() {
        let Some((name, hex)) = line.split_once(' ') else { continue };
        let target = match name.split_once('.') {
            Some(("to", _)) => "to_orchestrator",
            Some(("from", _)) => "from_orchestrator",
            _ => "commitment",
        };
        write(target, name, &bytes(hex))?;
    }
    let mut state = State::new();
    for (at, line) in JOURNAL.lines().enumerate() {
        let entry = bytes(line);
        let command = Command::from_bytes(&entry).expect("a journal of old is read");
        let events = state.apply(&command).expect("and applied");
        write("journal_command", &at.to_string(), &entry)?;
        write("journal_snapshot", &at.to_string(), &state.to_bytes())?;
        for (number, event) in events.iter().enumerate() {
            write("journal_event", &format!("{at}-{number}"), &encode(event))?;
        }
        if let Command::Reported { report: zoo_protocol::Report::Trained(sealed), .. } = &command {
            write("commitment", &at.to_string(), &encode(&sealed.open().expect("it is signed")))?;
        }
    }
    updates()?;
    models()?;
    write("spec", "1", SPEC)?;
    for (name, network) in NETWORKS {
        write("network", name, network)?;
    }
    disputes()?;
    evidence()?;
    files()
}

/// A dispute: its file, its record without the signature, and its moves.
fn disputes() -> std::io::Result<()> {
    let (spec, data) = replica();
    let base = Trainer::new(spec.clone(), &data).expect("they fit together").checkpoint();
    let share = Share { first_sequence: 0, sequences_per_step: 1, inner_steps: 2 };
    let window = WindowTask::first(&spec, &data, &base, share);
    let honest = Replay::new(window).expect("they fit together");
    let flip = Flip { step: 1, tensor: 60, element: 2, bit: 22 };
    let mut liar = Player::new(Forgery::new(honest.clone(), flip));
    let keys = [1, 2, 3].map(|seed| NodeKey::from_seed([seed; 32]));
    let [maker, challenger, arbiter] = &keys;
    let terms = Terms {
        task: honest.task().clone(),
        outcome: liar.outcome().expect("it trains"),
        maker: maker.id(),
        challenger: challenger.id(),
        begins_ms: 0,
        move_ms: 1000,
    };
    let mut honest = Player::new(honest);
    let challenger = Side { key: challenger, player: &mut honest };
    let hearing = play(terms, Side { key: maker, player: &mut liar }, challenger).expect("it is played");
    let file = hearing.file(arbiter).expect("it is over");
    write("dispute", "file", &file)?;
    let record = check(&file).expect("it holds").record;
    write("dispute", "record", &encode(&record))?;
    for (at, (_, sealed)) in record.moves.iter().enumerate() {
        write("dispute", &format!("move-{at}"), &encode(&sealed.open().expect("it is signed")))?;
    }
    Ok(())
}

/// Evidence of both vendors, and its parts.
fn evidence() -> std::io::Result<()> {
    let intel = Evidence::intel(QUOTE, COLLATERAL).expect("a sample");
    let amd = Evidence::amd(REPORT, ASK, VCEK).expect("a sample");
    write("evidence", "intel", &intel.to_bytes())?;
    write("evidence", "amd", &amd.to_bytes())?;
    let parts = [
        ("quote", QUOTE),
        ("collateral", COLLATERAL.as_bytes()),
        ("report", REPORT),
        ("ask", ASK),
        ("vcek", VCEK),
    ];
    parts.into_iter().try_for_each(|(name, part)| write("evidence", name, part))
}

fn updates() -> std::io::Result<()> {
    let header = header();
    let elements = header.layout.elements() as usize;
    let values: Vec<f32> = (0..elements).map(|at| (at % 97) as f32 / 97.0 - 0.5).collect();
    let dense = Dense.encode(&header, &values, &mut Vec::new()).expect("the values fit");
    write("update_dense", "values", &dense)?;
    let sparse = Sparse { keep: KEEP, decay: 0.95 };
    for (name, values) in [("values", values), ("zeros", vec![0.0; elements])] {
        let bytes = sparse.encode(&header, &values, &mut Vec::new()).expect("the values fit");
        let update = sparse.decode(&bytes, &header).expect("it is an update");
        let mut sum = Aggregate::new(header.round, &header.vnode, header.layout.clone());
        let share = zoo_update::Header { tokens: header.tokens / 2, ..header.clone() };
        let half = sparse.encode(&share, &values, &mut Vec::new()).expect("the values fit");
        let half = sparse.decode(&half, &share).expect("it is an update");
        (0..2).for_each(|_| sum.add(&half, 1, u64::MAX).expect("they fit"));
        write("partial_sum", &format!("{name}-2"), &sum.encode())?;
        let mut sum = Aggregate::new(header.round, &header.vnode, header.layout.clone());
        sum.add(&update, 2, u64::MAX).expect("it fits");
        write("partial_sum", name, &sum.encode())?;
        write("update_sparse", name, &bytes)?;
        let sketches = vec![zoo_update::Sketch::of(&update, u64::MAX); 2];
        let memory = zoo_update::Memory::default().after(2, sketches.clone()).after(3, sketches);
        write("memory", name, &memory.encode())?;
    }
    Ok(())
}

fn models() -> std::io::Result<()> {
    for vnode in network().vnodes() {
        write("vnode_state", vnode.id(), &vnode.state_bytes())?;
        write("optimizer_state", vnode.id(), &vnode.optimizer_bytes())?;
    }
    let tokens: Vec<u32> = (0..300).map(|at| at % 250).collect();
    let dataset = zoo_training::Dataset::encode(256, &tokens, tokens.len() as u64).expect("it is data");
    write("dataset", "bytes", dataset.blob().bytes())?;
    write("tokenizer", "bytes", &zoo_model::Tokenizer::bytes().to_json())?;
    replicas()
}

/// What a replica keeps that goes on from where its window ended, and what one keeps that does not.
fn replicas() -> std::io::Result<()> {
    let (spec, data) = replica();
    let trainer = Trainer::new(spec.clone(), &data).expect("they fit together");
    let share = Share { first_sequence: 0, sequences_per_step: 1, inner_steps: 1 };
    for ahead_steps in [0, 1] {
        let task = WindowTask {
            spec: &spec,
            data: &data,
            base: &trainer.checkpoint(),
            replica: None,
            round: 0,
            first_step: 0,
            lead: None,
            share,
            ahead_steps,
        };
        let trained = train_window(task, &mut |_| ControlFlow::Continue(())).expect("it trains");
        write("replica_state", &ahead_steps.to_string(), trained.replica.bytes())?;
    }
    Ok(())
}

fn files() -> std::io::Result<()> {
    let leaves: Vec<Digest> = (0u8..7).map(|leaf| Digest::of(&[leaf])).collect();
    let proof = InclusionProof::of(&leaves, 3).expect("there is such a leaf");
    write("inclusion_proof", "3-of-7", &encode(&proof))?;
    let peer = Peer {
        node: NodeKey::from_seed([7; 32]).id(),
        addresses: vec!["127.0.0.1:4433".parse().expect("an address")],
    };
    let ticket = crate::Ticket::of(peer);
    write("ticket", "one", ticket.to_string().as_bytes())?;
    let relay = Some("http://192.0.2.7:3340".parse().expect("a relay"));
    write("ticket", "relayed", crate::Ticket { relay, ..ticket }.to_string().as_bytes())?;
    let file = FileEntry { path: "model/head".into(), digest: Digest::of(b"head"), bytes: 4 };
    let snapshot = Snapshot::new("run", 400, vec![file]).expect("it is a listing");
    write("snapshot", "one", snapshot.to_blob().bytes())?;
    let cid = Cid::of(CidCodec::Raw, b"block");
    let link = |name: &str| Link { name: name.into(), cid, total_bytes: 5 };
    write("dag", "folder", &Node::Folder(vec![link("a"), link("b")]).encode())?;
    write("dag", "file", &Node::File { parts: vec![link(""), link("")], part_bytes: vec![5, 5] }.encode())?;
    write("dag", "cid", &cid.to_bytes())?;
    write("dag", "text", cid.to_string().as_bytes())?;
    write("rounds", "none", &zoo_agent::rounds::Rounds::default().to_json())
}

fn write(target: &str, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    fs::create_dir_all(&folder)?;
    fs::write(folder.join(format!("seed-{name}")), bytes)
}

fn bytes(hex: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex digits");
    (0..hex.len() / 2).map(|at| digit(2 * at)).collect()
}
