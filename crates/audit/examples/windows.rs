//! Trains thousands of windows, each from what the one before kept, and says one digest of all that came of them: the same on every
//! instruction set, for any number of threads and for any memory, or somebody honest would be convicted.
//!
//!     cargo run --release -p zoo-audit --example windows -- WINDOWS ISA THREADS [MEMORY_MIB] [PROFILE]

use std::ops::ControlFlow;

use zoo_content::{BlobStore, Digest, MemoryStore};
use zoo_kernels::isa;
use zoo_model::preset;
use zoo_protocol::{Profile, Share, TrainWindow, encode};
use zoo_tasks::{AtHand, train};
use zoo_training::{Dataset, SparseSettings, Trainer, TrainingSpec, UpdateFormat};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [windows, isa, threads, more @ ..] = &arguments[..] else {
        panic!("usage: windows WINDOWS ISA THREADS [MEMORY_MIB] [PROFILE]");
    };
    let windows: u32 = windows.parse().expect("a number of windows");
    isa::force(isa.parse().expect("an instruction set")).expect("this machine has it");
    let threads = threads.parse().expect("a number of threads");
    let available_mib = more.first().and_then(|mib| mib.parse().ok());
    let profile = if more.get(1).is_some_and(|profile| profile == "bf16-exact") {
        Profile::Bf16Exact
    } else {
        Profile::F32Exact
    };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
    let digest = pool.install(|| train_all(windows, available_mib, profile));
    println!("{windows} windows, {isa}, {threads} threads, {available_mib:?} MiB, {profile}: {digest}");
}

fn train_all(windows: u32, available_mib: Option<u64>, profile: Profile) -> Digest {
    let spec = TrainingSpec {
        update: UpdateFormat::Sparse(SparseSettings::default()),
        profile,
        batch_sequences: 8,
        ..TrainingSpec::new(preset::by_name("qwen3-tiny").expect("a preset"))
    };
    let tokens: Vec<u32> = (0..200_000_u32).map(|at| at.wrapping_mul(at) % 251).collect();
    let data = Dataset::encode(256, &tokens, tokens.len() as u64).expect("bytes");
    let first = Trainer::new(spec.clone(), &data).expect("it fits").checkpoint();
    let store = MemoryStore::new();
    let program = store.put(&spec.to_bytes()).expect("memory");
    store.keep(data.blob()).expect("memory");
    let base = first.save(&store).expect("memory");
    let (mut at_hand, mut kept, mut all) = (AtHand::default(), None, Vec::new());
    for round in 0..windows {
        let share = Share { first_sequence: u64::from(round) * 16, sequences_per_step: 8, inner_steps: 2 };
        let window = TrainWindow {
            network: zoo_protocol::NodeId([42; 32]),
            job: program,
            round,
            program,
            profile,
            base,
            data: data.digest(),
            first_step: u64::from(round) * 2,
            share,
            lead: None,
            ahead_steps: 0,
            kept,
            reveals: None,
        };
        let on = &mut |_: &_| ControlFlow::Continue(());
        let trained = train(&store, &mut at_hand, &window, kept, available_mib, on).expect("it trains");
        store.keep(&trained.replica).expect("memory");
        if let Some(before) = kept.replace(trained.replica.digest()) {
            store.remove(&before).expect("memory");
        }
        all.push(trained.outcome.digest());
    }
    Digest::of(&encode(&all))
}
