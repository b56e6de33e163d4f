//! What a step takes of memory is what was foretold.

use zoo_model::{Network, NetworkDefinition, NetworkOptions, Optimizer, Profile, preset};

/// The most that activations and gradients took together in each of three steps, each of `parts` micro-batches.
fn peaks(name: &str, profile: Profile, options: NetworkOptions, tokens: usize, parts: usize) -> [usize; 3] {
    let config = preset::by_name(name).expect("a preset");
    let definition = NetworkDefinition::decoder(&config).expect("valid");
    let mut network = Network::build(&definition, profile, options).expect("valid");
    network.initialise(1);
    let tokens = vec![3; tokens];
    [1, 2, 3].map(|step| {
        for part in tokens.chunks(tokens.len() / parts) {
            network.forward_backward(part, part, tokens.len()).expect("finite");
        }
        network.apply(&Optimizer::default(), step, 1e-3, None).expect("finite");
        let peak = network.peak_bytes();
        network.release_memory();
        assert_eq!(network.peak_bytes(), 0, "nothing is held between steps");
        peak
    })
}

#[test]
fn every_step_takes_the_same_memory_which_was_foretold() {
    for name in [
        "qwen3-tiny",
        "qwen3-1m",
        "llama-1m",
        "gpt2-1m",
        "nanogpt-shakespeare-char-cpu",
        "bench-s",
        "bench-m",
    ] {
        let config = preset::by_name(name).expect("a preset");
        for (profile, recompute, parts) in [
            (Profile::F32Exact, false, 1),
            (Profile::F32Exact, true, 1),
            (Profile::F32Exact, false, 2),
            (Profile::Bf16Exact, false, 1),
            (Profile::Bf16Exact, true, 2),
        ] {
            let tokens = 2 * config.context.max(256);
            let [peak, second, third] =
                peaks(name, profile, NetworkOptions { recompute, ..Default::default() }, tokens, parts);
            assert_eq!((peak, peak), (second, third), "{name}");
            let foretold = config.step_memory(tokens / parts, parts > 1, profile, recompute).most;
            assert_eq!(peak as u64, foretold, "{name} {profile} {recompute} {parts}");
        }
    }
}

#[test]
fn what_vnodes_have_to_do_with_a_step_adds_up() {
    for name in ["qwen3-1m", "gpt2-1m", "bench-m"] {
        let config = preset::by_name(name).expect("a preset");
        let memory = config.step_memory(512, true, Profile::F32Exact, false);
        let gradients: u64 = memory.vnodes.iter().map(|vnode| vnode.gradients).sum();
        let borrowed = if config.tied_embeddings { config.vocab_size * config.width } else { 0 };
        assert_eq!(gradients, 4 * (config.parameter_count() + borrowed) as u64, "{name}");
        // All together they are no less than the step, and not much more.
        let passing = memory.vnodes.iter().map(|vnode| vnode.passing).max().expect("a VNode");
        let bound = (gradients + memory.kept + passing) as f64 / memory.most as f64;
        assert!((1.0..1.1).contains(&bound), "{name}: {bound}");
    }
}

#[test]
fn gradients_take_the_room_of_the_activations_they_were_made_of() {
    let config = preset::by_name("bench-m").expect("a preset");
    let gradients = 4 * config.parameter_count();
    let [peak, ..] = peaks("bench-m", Profile::F32Exact, NetworkOptions::default(), 1024, 1);
    let activations = config.step_memory(1024, false, Profile::F32Exact, false).kept as usize;
    assert!(peak < activations + gradients / 4, "{peak} for {activations} and {gradients}");
}
