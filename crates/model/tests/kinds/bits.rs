//! Bits depend on nothing but the numbers that go in.

use zoo_content::Digest;
use zoo_kernels::isa;
use zoo_model::{
    Decoder, LossSum, MuonSettings, NetworkDefinition, NetworkOptions, Optimizer, PagePool, Positions,
    Profile, Sequence, Step,
};

use crate::{VOCAB, batch, build, everything, square, tied};

pub const CONTEXT: usize = 64;
/// Three chunks of 256 tokens.
const TOKENS: usize = 768;

/// Three steps; every loss and gradient norm, and the digest of all parameters.
pub fn train(
    definition: &NetworkDefinition,
    profile: Profile,
    options: NetworkOptions,
    micro: usize,
) -> (Vec<f64>, Digest) {
    let mut network = build(definition, profile, options);
    let optimizer = Optimizer::Muon(MuonSettings::default());
    let mut reports = Vec::new();
    for step in 1..=3 {
        let (inputs, targets) = batch(TOKENS, step);
        let mut loss = LossSum::default();
        for (inputs, targets) in inputs.chunks(micro).zip(targets.chunks(micro)) {
            loss += network.forward_backward(inputs, targets, TOKENS).expect("finite");
        }
        let report = network.apply(&optimizer, step, 1e-2, Some(1.0)).expect("finite");
        reports.extend([loss.mean(), report.gradient_norm]);
    }
    (reports, network.digest())
}

pub fn networks() -> [(&'static str, NetworkDefinition); 2] {
    [("tied", everything(CONTEXT, Some(50.0), &tied())), ("square", everything(CONTEXT, None, &square()))]
}

fn in_pool<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool").install(work)
}

#[test]
fn training_gives_the_same_bits_however_it_is_run() {
    for ((name, definition), profile) in
        networks().into_iter().flat_map(|it| Profile::ALL.map(|p| (it.clone(), p)))
    {
        let plain = NetworkOptions { separate: true, recompute: false };
        let expected = in_pool(1, || train(&definition, profile, plain, TOKENS));
        let ways = [(3, TOKENS, false), (2, 256, false), (7, 512, true), (1, TOKENS, true)];
        for ((threads, micro, recompute), separate) in
            ways.into_iter().flat_map(|way| [(way, true), (way, false)])
        {
            let options = NetworkOptions { separate, recompute };
            let found = in_pool(threads, || train(&definition, profile, options, micro));
            assert_eq!(found, expected, "{name} {profile}: {threads} threads, {micro} tokens, {options:?}");
        }
    }
}

#[test]
fn training_gives_the_same_bits_on_every_instruction_set() {
    let active = isa::active();
    for (name, definition) in networks() {
        let results: Vec<_> = isa::available()
            .into_iter()
            .map(|isa| {
                isa::force(isa).expect("available");
                (isa, train(&definition, Profile::F32Exact, NetworkOptions::default(), TOKENS))
            })
            .collect();
        for (isa, found) in &results {
            assert_eq!(*found, results[0].1, "{name} on {isa}");
        }
    }
    isa::force(active).expect("it was active");
}

#[test]
fn dropout_changes_with_the_seed_and_rests_in_evaluation() {
    let (_, definition) = &networks()[0];
    let (inputs, targets) = batch(TOKENS, 1);
    let mut network = build(definition, Profile::F32Exact, NetworkOptions::default());
    let evaluated = network.evaluate(&inputs, &targets).expect("finite");
    assert_eq!(network.evaluate(&inputs, &targets).expect("finite"), evaluated);
    let mut loss = |seed, step| {
        network.set_noise(seed);
        network.set_step(step);
        let loss = network.forward_backward(&inputs, &targets, TOKENS).expect("finite");
        network.discard_step();
        loss.nats
    };
    let losses = [loss(7, 0), loss(7, 1), loss(8, 0)];
    assert!(losses[0] != losses[1] && losses[0] != losses[2] && losses[0] != evaluated.nats, "{losses:?}");
    assert_eq!(loss(7, 0), losses[0]);
}

#[test]
fn a_text_is_continued_with_the_bits_of_training() {
    for (name, definition) in networks() {
        let network = build(&definition, Profile::F32Exact, NetworkOptions::default());
        let (tokens, _) = batch(CONTEXT, 5);
        let expected = network.logits(&tokens).expect("finite");
        let decoder = Decoder::new(network).expect("finite");
        let (mut pool, mut sequence) = (PagePool::new(&decoder, CONTEXT), Sequence::default());
        for (tokens, first) in tokens.chunks(7).zip((0..).step_by(7)) {
            let step = Step { sequence: &mut sequence, tokens, positions: Positions::All };
            let logits = decoder.decode(&mut pool, &mut [step]).expect("room enough");
            for at in 0..tokens.len() {
                let wanted = &expected[(first + at) * VOCAB..][..VOCAB];
                assert_eq!(logits.row(at).expect("finite"), wanted, "{name}: position {}", first + at);
            }
        }
    }
}
