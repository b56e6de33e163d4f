//! Every instruction set trains to the same bits. Alone in its file: the choice is the process's.

mod common;

use common::{spec, text, with_threads};
use zoo_kernels::isa;
use zoo_training::{Profile, Share, Trainer, TrainingSpec, WindowTask, train_window};

#[test]
fn a_window_has_the_same_bits_on_every_instruction_set() {
    let data = text();
    for (family, profile) in [
        ("qwen3-tiny", Profile::F32Exact),
        ("qwen3-tiny", Profile::Bf16Exact),
        ("nanogpt-shakespeare-char-cpu", Profile::F32Exact),
        ("nanogpt-shakespeare-char-cpu", Profile::Bf16Exact),
    ] {
        let spec = TrainingSpec { model: zoo_model::preset::by_name(family).unwrap(), profile, ..spec() };
        let mut results = Vec::new();
        for (threads, isa) in isa::available().into_iter().enumerate() {
            isa::force(isa).unwrap();
            let result = with_threads(threads + 1, || {
                let base = &Trainer::new(spec.clone(), &data).unwrap().checkpoint();
                let share = Share { first_sequence: 3, sequences_per_step: 4, inner_steps: 2 };
                let (spec, data) = (&spec, &data);
                let task = WindowTask {
                    spec,
                    data,
                    base,
                    replica: None,
                    round: 0,
                    first_step: 0,
                    lead: None,
                    share,
                    ahead_steps: 0,
                };
                train_window(task, &mut common::go_on).unwrap()
            });
            results.push(result);
        }
        assert!(results.windows(2).all(|pair| pair[0] == pair[1]), "{family} in {profile}");
    }
}
