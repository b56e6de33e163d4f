//! What it costs to commit to a window, and what whoever trains it again has to fetch.
//!
//!     cargo run --release -p zoo-training --example commitments -- [PRESET ...]
//!
//! Every [`PARAMETERS_EVERY`]th leaf of a window covers all parameters: the hashing is beside the time of as many steps. A verifier fetches what the
//! replica kept; the checkpoint and the text it has, as who takes part in the rounds.

use std::time::{Duration, Instant};

use zoo_training::{Dataset, PARAMETERS_EVERY, Trainer, preset};

const REPEATS: usize = 7;

fn main() {
    let named: Vec<String> = std::env::args().skip(1).collect();
    let named = if named.is_empty() { vec!["bench-s".into(), "bench-m".into()] } else { named };
    let tokens: Vec<u32> =
        include_bytes!("commitments.rs").iter().cycle().take(200_000).map(|&byte| byte.into()).collect();
    println!("preset: step, hashing of all parameters, share of step time; what a verifier fetches");
    for name in named {
        let spec = preset::by_name(&name).unwrap_or_else(|| panic!("{name}: no such preset")).spec;
        let vocabulary = spec.model.vocab_size as u32;
        let data = Dataset::encode(vocabulary, &tokens, tokens.len() as u64).expect("bytes are tokens");
        let mut trainer = Trainer::new(spec, &data).expect("a preset");
        trainer.step().expect("finite");
        let step = median(|| _ = trainer.step().expect("finite"));
        let hashing = median(|| _ = trainer.network().digest());
        let share = hashing.as_secs_f64() / (PARAMETERS_EVERY as f64 * step.as_secs_f64());
        let checkpoint = trainer.checkpoint();
        let parameters: usize = checkpoint.vnodes.iter().map(|vnode| vnode.parameters.len()).sum();
        let optimizer: usize = checkpoint
            .vnodes
            .iter()
            .filter_map(|vnode| vnode.optimizer.as_ref())
            .map(|blob| blob.len())
            .sum();
        println!(
            "{name}: {:.1} ms, {:.2} ms, {:.2} %; optimiser {:.1} MB and what updates left unsaid {:.1} MB",
            step.as_secs_f64() * 1e3,
            hashing.as_secs_f64() * 1e3,
            share * 100.0,
            optimizer as f64 / 1e6,
            parameters as f64 / 1e6,
        );
    }
}

fn median(mut work: impl FnMut()) -> Duration {
    let mut times: Vec<Duration> = (0..REPEATS)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed()
        })
        .collect();
    times.sort();
    times[REPEATS / 2]
}
