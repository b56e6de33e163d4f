//! What holds for every decoder, whatever it is fed: it neither panics nor hangs nor takes much memory, and what it accepts
//! it would write the same way.

use std::sync::{LazyLock, Mutex};

use peak_alloc::PeakAlloc;
use zoo_attest::{Evidence, Roots};
use zoo_content::{Digest, InclusionProof, VerifiedBlob};
use zoo_model::{ModelConfig, Network, NetworkDefinition, NetworkOptions, Profile};
use zoo_protocol::{
    Commitment, FromOrchestrator, JobDescription, JournalHead, Message, Report, Sealed, ToOrchestrator,
    decode, encode,
};
use zoo_state::{Command, Event, State};
use zoo_training::{Dataset, Lead, Manifest, Share, TrainingSpec};
use zoo_update::{Aggregate, Codec, Dense, Header, Layout, Memory, Shape, Sparse};

pub mod seeds;

#[allow(dead_code, unused_imports)]
mod parts;
pub use parts::relay::Relay;
pub use parts::snapshot::{FileEntry, Snapshot};
pub use parts::ticket::Ticket;
use parts::{car as archive, ticket as tickets};
pub use parts::{cid, node};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Memory that an input may take beside what its length explains, bytes.
const FIXED_BYTES: usize = 4 << 20;
/// Memory that each byte of an input may take, bytes.
const BYTES_PER_BYTE: usize = 256;

/// Feeds one input to a target.
pub fn check(target: fn(&[u8]), bytes: &[u8]) {
    LazyLock::force(&NETWORK);
    MEMORY.reset_peak_usage();
    let before = MEMORY.current_usage();
    target(bytes);
    let taken = MEMORY.peak_usage().saturating_sub(before);
    let limit = FIXED_BYTES + BYTES_PER_BYTE * bytes.len();
    assert!(taken <= limit, "an input of {} bytes takes {taken} bytes of memory", bytes.len());
}

fn message<T: Message>(bytes: &[u8]) -> Option<T> {
    let message: T = decode(bytes).ok()?;
    assert_eq!(encode(&message), bytes, "a message has two encodings");
    Some(message)
}

pub fn to_orchestrator(bytes: &[u8]) {
    if let Some(ToOrchestrator::Report(Report::Trained(sealed))) = message(bytes) {
        let _ = sealed.open();
    }
}

pub fn from_orchestrator(bytes: &[u8]) {
    message::<FromOrchestrator>(bytes);
}

pub fn commitment(bytes: &[u8]) {
    message::<Commitment>(bytes);
    message::<JobDescription>(bytes);
    message::<JournalHead>(bytes);
    if let Some(head) = message::<Sealed<JournalHead>>(bytes) {
        let _ = head.open();
    }
}

pub fn ticket(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(ticket) = text.parse::<tickets::Ticket>() {
        // People may shout it.
        assert_eq!(ticket.to_string(), text.trim().to_ascii_lowercase(), "a ticket has two forms");
    }
}

/// What updates and sums are expected to be: large enough for whole chunks and a rest.
pub fn header() -> Header {
    let layout = Layout::new([("weight", Shape::matrix(65, 64)), ("bias", Shape::vector(7))]);
    let layout = layout.expect("it is within the limits");
    Header { round: 3, vnode: "block.0.attention".into(), tokens: 512, layout }
}

pub const KEEP: u16 = 64;

pub fn update_dense(bytes: &[u8]) {
    if let Ok(update) = Dense.decode(bytes, &header()) {
        assert_eq!(zoo_update::dense::encode(update.header(), &update.values()), bytes);
    }
}

pub fn update_sparse(bytes: &[u8]) {
    if let Ok(update) = (Sparse { keep: KEEP, decay: 0.95 }).decode(bytes, &header()) {
        assert_eq!(zoo_update::sparse::encode(&update, KEEP), bytes, "an update has two encodings");
        let mut sum = Aggregate::new(3, "block.0.attention", header().layout);
        sum.add(&update, 2, u64::MAX).expect("what is decoded can be added");
        sum.mean().expect("and has a mean");
    }
}

pub fn partial_sum(bytes: &[u8]) {
    if let Ok(sum) = Aggregate::decode(bytes, &header(), 3) {
        assert_eq!(sum.encode(), bytes, "a sum has two encodings");
        let mut twice = sum.clone();
        let _ = twice.merge(&sum);
        sum.mean().expect("a sum has a mean");
    }
}

pub fn memory(bytes: &[u8]) {
    if let Ok(memory) = Memory::decode(bytes, &header().layout) {
        assert_eq!(memory.encode(), bytes, "a memory has two encodings");
        let updates = memory.rounds().map(<[_]>::len).sum::<usize>();
        assert!(memory.after(u32::MAX, Vec::new()).rounds().map(<[_]>::len).sum::<usize>() <= updates);
    }
}

pub fn manifest(bytes: &[u8]) {
    if let Ok(manifest) = Manifest::from_bytes(bytes) {
        assert_eq!(manifest.to_bytes(), bytes);
        manifest.blobs().for_each(drop);
    }
}

static NETWORK: LazyLock<Mutex<Network>> = LazyLock::new(|| Mutex::new(network()));

/// A small network whose VNodes read states.
pub fn network() -> Network {
    let definition = NetworkDefinition::decoder(&config()).expect("the shape is sound");
    Network::build(&definition, Profile::F32Exact, NetworkOptions::default()).expect("so is the network")
}

fn config() -> ModelConfig {
    ModelConfig {
        family: zoo_model::Family::Qwen3,
        vocab_size: 20,
        width: 8,
        layers: 1,
        heads: 2,
        kv_heads: 1,
        head_dim: 4,
        hidden: 12,
        context: 8,
        norm_epsilon: 1e-6,
        rope_theta: 10_000.0,
        tied_embeddings: true,
        biases: false,
        initial_std: 0.1,
    }
}

pub fn vnode_state(bytes: &[u8]) {
    let mut network = NETWORK.lock().expect("a panic ends the process");
    for vnode in network.vnodes_mut() {
        if vnode.load_state(bytes).is_ok() {
            assert_eq!(vnode.state_bytes(), bytes);
        }
    }
}

pub fn optimizer_state(bytes: &[u8]) {
    let mut network = NETWORK.lock().expect("a panic ends the process");
    for vnode in network.vnodes_mut() {
        if vnode.load_optimizer(bytes).is_ok() {
            assert_eq!(vnode.optimizer_bytes(), bytes);
        }
    }
}

/// A replica's state is read where a window goes on from it.
pub fn replica_state(bytes: &[u8]) {
    static TASK: LazyLock<(TrainingSpec, Dataset)> = LazyLock::new(replica);
    let (spec, data) = &*TASK;
    let share = Share { first_sequence: 0, sequences_per_step: 1, inner_steps: 1 };
    let facts = zoo_training::kept_facts(bytes);
    if let Ok(lead) = Lead::restore(spec, data, bytes, 1, share) {
        assert!(facts.is_ok_and(|facts| facts.parameters));
        assert!(lead.is(&Digest::of(bytes), 1, share));
    }
}

/// What trains the small network, and on what.
pub fn replica() -> (TrainingSpec, Dataset) {
    let tokens: Vec<u32> = (0..300).map(|at| at % 20).collect();
    let data = Dataset::encode(20, &tokens, 300).expect("the tokens are in the vocabulary");
    (TrainingSpec { batch_sequences: 1, ..TrainingSpec::new(config()) }, data)
}

pub fn dataset(bytes: &[u8]) {
    if let Ok(dataset) = Dataset::decode(VerifiedBlob::new(bytes.to_vec())) {
        let mut tokens = vec![0; dataset.len().min(1 << 10) as usize];
        dataset.read(0, &mut tokens);
    }
}

pub fn inclusion_proof(bytes: &[u8]) {
    if let Ok(proof) = postcard::from_bytes::<InclusionProof>(bytes) {
        assert!(!proof.verify(&Digest::of(b"another root"), &Digest::of(b"leaf")));
    }
}

pub fn journal_command(bytes: &[u8]) {
    if let Ok(command) = Command::from_bytes(bytes) {
        assert_eq!(command.to_bytes(), bytes, "a command has two encodings");
        // Whatever a command says, the state either takes it and stays sound, or is as it was.
        let mut state = State::new();
        let _ = state.apply(&command);
        zoo_state::invariants::check(&state).expect("the invariants hold");
    }
}

pub fn journal_event(bytes: &[u8]) {
    message::<Event>(bytes);
}

pub fn journal_snapshot(bytes: &[u8]) {
    if let Ok(state) = State::from_bytes(bytes) {
        assert_eq!(state.to_bytes(), bytes, "a state has two encodings");
    }
}

pub fn spec(bytes: &[u8]) {
    if let Ok(spec) = TrainingSpec::from_bytes(bytes) {
        let again = TrainingSpec::from_bytes(&spec.to_bytes()).expect("what is written is read");
        assert_eq!(again.to_bytes(), spec.to_bytes());
    }
}

pub fn data_manifest(bytes: &[u8]) {
    let _ = zoo_data::Manifest::from_bytes(bytes);
}

pub fn network_file(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match zoo_definition::NetworkFile::read(text) {
        Ok(file) => {
            assert_eq!(file.text, text, "a file is kept word for word");
            assert!(zoo_definition::svg(&file.definition).ends_with("</svg>\n"));
        }
        Err(refusal) => assert!(refusal.line.is_some() && !refusal.hint.is_empty(), "{refusal}"),
    }
}

pub fn tokenizer(bytes: &[u8]) {
    if let Ok(tokenizer) = zoo_model::Tokenizer::from_json(bytes) {
        tokenizer.decode_bytes(&tokenizer.encode("a rose is a rose"));
    }
}

pub fn rounds(bytes: &[u8]) {
    if let Ok(rounds) = zoo_agent::rounds::Rounds::from_json(bytes) {
        let again = zoo_agent::rounds::Rounds::from_json(&rounds.to_json());
        assert_eq!(again.as_ref(), Ok(&rounds));
    }
}

pub fn snapshot(bytes: &[u8]) {
    if let Ok(snapshot) = Snapshot::from_bytes(bytes) {
        assert_eq!(*snapshot.to_blob(), *bytes);
    }
}

pub fn dag(bytes: &[u8]) {
    if let Some(node) = node::Node::decode(bytes) {
        assert_eq!(node.encode(), bytes, "a block has two encodings");
    }
    if let Some(name) = cid::Cid::from_bytes(bytes) {
        assert_eq!(name.to_bytes()[..], *bytes, "a name has two encodings");
        assert_eq!(name.to_string().parse::<cid::Cid>().ok(), Some(name));
    }
    if let Ok(name) = std::str::from_utf8(bytes).map(str::parse::<cid::Cid>) {
        let _ = name;
    }
}

pub fn car(bytes: &[u8]) {
    if let Some(header) = bytes.first_chunk() {
        let _ = archive::read_header(header);
    }
    if let Some((head, _, block)) = archive::read_section_head(bytes) {
        assert!(head <= bytes.len() && block <= node::BLOCK_BYTES_MAX);
    }
}

/// A record, under its signature and as if somebody had signed it, and a move.
pub fn dispute(bytes: &[u8]) {
    let _ = zoo_dispute::check(bytes);
    message::<zoo_dispute::Said>(bytes);
    if let Some(record) = message::<zoo_dispute::Record>(bytes) {
        // Whatever the moves are, they lead to an end or to a refusal.
        let _ = record.replay();
    }
}

pub const QUOTE: &[u8] = include_bytes!("../../crates/attest/tests/samples/sgx.quote");
pub const COLLATERAL: &str = include_str!("../../crates/attest/tests/samples/sgx.json");
pub const REPORT: &[u8] = include_bytes!("../../crates/attest/tests/samples/milan.report");
pub const ASK: &[u8] = include_bytes!("../../crates/attest/tests/samples/ask-milan.der");
pub const VCEK: &[u8] = include_bytes!("../../crates/attest/tests/samples/vcek-milan.der");

/// A file of evidence, and each part of one beside the others as they should be. Whatever they say, it is checked to an end.
pub fn evidence(bytes: &[u8]) {
    /// When the samples were valid.
    const NOW_S: u64 = 1_750_500_000;
    let whole = Evidence::from_bytes(bytes);
    if let Ok(evidence) = &whole {
        assert_eq!(evidence.to_bytes(), bytes, "evidence has two encodings");
    }
    let parts = [
        Evidence::intel(bytes, COLLATERAL),
        Evidence::intel(QUOTE, &String::from_utf8_lossy(bytes)),
        Evidence::amd(bytes, ASK, VCEK),
        Evidence::amd(REPORT, bytes, VCEK),
        Evidence::amd(REPORT, ASK, bytes),
    ];
    for evidence in parts.into_iter().chain([whole]).flatten() {
        let _ = zoo_attest::check(&evidence, NOW_S, &Roots::vendors());
    }
}
