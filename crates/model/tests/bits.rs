//! The law: bits depend on nothing but the numbers that go in.

mod common;

use zoo_content::Digest;
use zoo_kernels::isa;
use zoo_model::{
    AdamWSettings, Decay, LossSum, ModelConfig, MuonSettings, Network, NetworkOptions, Optimizer, Profile,
};

/// Sequences of a step: 768 tokens, three chunks of 256.
const SEQUENCES: usize = 12;
const CHUNK_SEQUENCES: usize = 256 / common::CONTEXT;

/// Three steps; returns every loss and gradient norm, and the digest of all parameters.
fn train(
    profile: Profile,
    config: &ModelConfig,
    options: NetworkOptions,
    optimizer: &Optimizer,
    micro: usize,
) -> (Vec<f64>, Digest) {
    let mut network = common::build_in(profile, config, options);
    let mut reports = Vec::new();
    for step in 1..=3 {
        let (inputs, targets) = common::batch(config, SEQUENCES, step);
        let mut loss = LossSum::default();
        let tokens = micro * config.context;
        for (inputs, targets) in inputs.chunks(tokens).zip(targets.chunks(tokens)) {
            loss += network.forward_backward(inputs, targets, SEQUENCES * config.context).expect("finite");
        }
        let report = network.apply(optimizer, step, 1e-2, Some(1.0)).expect("finite");
        reports.extend([loss.mean(), report.gradient_norm]);
    }
    (reports, network.digest())
}

/// Every small model in every numeric profile, with a name for messages.
fn cases() -> impl Iterator<Item = (String, ModelConfig, Profile)> {
    common::configs().into_iter().flat_map(|(name, config)| {
        Profile::ALL.map(|profile| (format!("{name} in {profile}"), config.clone(), profile))
    })
}

fn optimizers() -> [Optimizer; 2] {
    let adamw = AdamWSettings { decay: Decay::All, ..AdamWSettings::default() };
    [Optimizer::AdamW(adamw), Optimizer::Muon(MuonSettings::default())]
}

fn in_pool<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool").install(work)
}

#[test]
fn training_gives_the_same_bits_however_it_is_run() {
    let plain = NetworkOptions::default();
    for (name, config, profile) in cases() {
        for optimizer in optimizers() {
            let expected = in_pool(1, || train(profile, &config, plain, &optimizer, SEQUENCES));
            assert!(expected.0[4] < expected.0[0], "{name}: the loss falls: {:?}", expected.0);
            for threads in [2, 3, 7] {
                let found = in_pool(threads, || train(profile, &config, plain, &optimizer, SEQUENCES));
                assert_eq!(found, expected, "{name} with {threads} threads");
            }
            for chunks in [1, 2] {
                let found =
                    in_pool(2, || train(profile, &config, plain, &optimizer, chunks * CHUNK_SEQUENCES));
                assert_eq!(found, expected, "{name} with micro-batches of {chunks} chunks");
            }
            let recompute = NetworkOptions { recompute: true, ..NetworkOptions::default() };
            let found = in_pool(2, || train(profile, &config, recompute, &optimizer, SEQUENCES));
            assert_eq!(found, expected, "{name} with recomputation");
        }
    }
}

#[test]
fn training_gives_the_same_bits_on_every_instruction_set() {
    let active = isa::active();
    for (name, config, profile) in cases() {
        let [_, muon] = optimizers();
        let run = || train(profile, &config, NetworkOptions::default(), &muon, SEQUENCES);
        let results = isa::available().into_iter().map(|isa| {
            isa::force(isa).expect("available");
            (isa, run())
        });
        let results: Vec<_> = results.collect();
        for (isa, found) in &results {
            assert_eq!(*found, results[0].1, "{name} on {isa}");
        }
    }
    isa::force(active).expect("it was active");
}

#[test]
fn the_batch_around_a_sequence_does_not_change_its_logits() {
    for (name, config, profile) in cases() {
        let network = common::build_in(profile, &config, NetworkOptions::default());
        let (tokens, _) = common::batch(&config, 5, 6);
        let together = network.logits(&tokens).expect("finite");
        let alone = tokens.chunks(config.context).flat_map(|one| network.logits(one).expect("finite"));
        assert!(same_bits(&alone.collect::<Vec<_>>(), &together), "{name}");
    }
}

#[test]
fn a_resumed_run_ends_with_the_same_bits() {
    let (_, config) = common::configs().remove(0);
    for optimizer in optimizers() {
        let step = |network: &mut Network, step| {
            let (inputs, targets) = common::batch(&config, 4, step);
            network.forward_backward(&inputs, &targets, inputs.len()).expect("finite");
            network.apply(&optimizer, step, 1e-2, None).expect("finite");
        };
        let mut network = common::build(&config, NetworkOptions::default());
        step(&mut network, 1);
        let states: Vec<_> =
            network.vnodes().iter().map(|it| (it.state_bytes(), it.optimizer_bytes())).collect();
        step(&mut network, 2);

        let mut resumed =
            common::build(&config, NetworkOptions { recompute: true, ..NetworkOptions::default() });
        for (vnode, (parameters, moments)) in resumed.vnodes_mut().iter_mut().zip(&states) {
            vnode.load_state(parameters).expect("its own state");
            vnode.load_optimizer(moments).expect("its own state");
        }
        step(&mut resumed, 2);
        assert_eq!(resumed.digest(), network.digest());
        let moments =
            |network: &Network| network.vnodes().iter().map(|it| it.optimizer_bytes()).collect::<Vec<_>>();
        assert!(moments(&resumed) == moments(&network));
    }
}

#[test]
fn evaluation_gives_the_loss_of_training_and_changes_nothing() {
    for (name, config, profile) in cases() {
        let mut network = common::build_in(profile, &config, NetworkOptions::default());
        let before = network.digest();
        let (inputs, targets) = common::batch(&config, 4, 8);
        let evaluated = network.evaluate(&inputs, &targets).expect("finite");
        assert_eq!(network.forward_backward(&inputs, &targets, inputs.len()), Ok(evaluated), "{name}");
        assert_eq!(network.digest(), before);
    }
}

fn same_bits(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}

/// On a machine without a tile unit this compares what it has; the digest is that of one with it.
#[test]
fn bf16_training_gives_the_bits_that_a_tile_unit_gave() {
    let (_, config) = common::configs().remove(0);
    let [adamw, _] = optimizers();
    let (_, digest) = train(Profile::Bf16Exact, &config, NetworkOptions::default(), &adamw, SEQUENCES);
    assert_eq!(digest.to_string(), "a11ceb339d5f9b71f87cd22cc0f39ac97ea9ae76a607de1b6e1272b3ed0d2d9c");
}
