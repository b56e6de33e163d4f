//! Training on one machine: the same bits however it is done.

mod common;

use common::{advance, bytes_as_tokens, name, spec, text, whole, with_threads};
use zoo_content::{BlobStore, Digest, MemoryStore};
use zoo_kernels::random;
use zoo_model::{ModelConfig, MuonSettings, Optimizer, preset};
use zoo_training::{
    Checkpoint, Evaluation, Part, Profile, RunDirectory, RunDirectoryError, TrainError, Trainer,
    TrainingSpec, evaluate,
};

const STEPS: u64 = 12;

fn train(spec: TrainingSpec, steps: u64) -> (Digest, Vec<u64>) {
    let data = text();
    let mut trainer = Trainer::new(spec, &data).unwrap();
    let losses = (0..steps).map(|_| trainer.step().unwrap().loss.nats.to_bits()).collect();
    (trainer.network().digest(), losses)
}

#[test]
fn threads_micro_batches_and_recomputation_do_not_reach_the_bits() {
    for profile in Profile::ALL {
        let spec = TrainingSpec { profile, ..spec() };
        let expected = with_threads(1, || train(spec.clone(), STEPS));
        for threads in [2, 3, 7] {
            let found = with_threads(threads, || train(spec.clone(), STEPS));
            assert_eq!(found, expected, "{profile}, {threads} threads");
        }
        for micro in [4, 8, 12, 400] {
            for recompute in [false, true] {
                let spec = TrainingSpec { micro_batch_sequences: Some(micro), recompute, ..spec.clone() };
                let found = train(spec, STEPS);
                assert_eq!(found, expected, "{profile}, micro-batches of {micro}, recompute {recompute}");
            }
        }
        assert_ne!(train(TrainingSpec { seed: 12, ..spec }, STEPS), expected, "the seed matters");
    }
}

#[test]
fn a_run_that_is_killed_and_resumed_at_random_steps_ends_with_the_same_bits() {
    let data = text();
    for (history, profile) in [0, 1, 2].into_iter().zip(Profile::ALL.into_iter().cycle()) {
        let spec = TrainingSpec { profile, ..spec() };
        let mut uninterrupted = Trainer::new(spec.clone(), &data).unwrap();
        advance(&mut uninterrupted, STEPS);
        let expected = name(&uninterrupted.checkpoint());

        let folder = tempfile::tempdir().unwrap();
        let mut lives = 0;
        loop {
            // A life: open, resume, save after some steps, die some steps later.
            let directory = RunDirectory::open(folder.path()).unwrap();
            let mut trainer = match directory.load_latest().unwrap() {
                Some((spec, checkpoint)) => Trainer::resume(spec, &data, &checkpoint).unwrap(),
                None => Trainer::new(spec.clone(), &data).unwrap(),
            };
            let draw = |what| random::bits(history, what, lives) % 4;
            let steps = draw(0).min(STEPS - trainer.progress().step);
            advance(&mut trainer, steps);
            directory.save(&spec, &trainer.checkpoint()).unwrap();
            if trainer.progress().step == STEPS {
                break;
            }
            advance(&mut trainer, draw(1));
            lives += 1;
        }
        let directory = RunDirectory::open(folder.path()).unwrap();
        assert_eq!(directory.latest().unwrap(), Some(expected), "history {history}, {lives} lives");
    }
}

#[test]
fn every_family_and_optimiser_resumes_to_the_same_bits() {
    let data = text();
    let families = ["qwen3-tiny", "llama-1m", "nanogpt-shakespeare-char-cpu"];
    let optimizers = [Optimizer::default(), Optimizer::Muon(MuonSettings::default())];
    for (family, optimizer) in families.iter().flat_map(|family| optimizers.map(|it| (family, it))) {
        let model = ModelConfig { vocab_size: 256, context: 64, ..preset::by_name(family).unwrap() };
        let spec = TrainingSpec { model, optimizer, batch_sequences: 4, ..spec() };
        let mut uninterrupted = Trainer::new(spec.clone(), &data).unwrap();
        advance(&mut uninterrupted, 2);
        let store = MemoryStore::new();
        let saved = uninterrupted.checkpoint().save(&store).unwrap();
        advance(&mut uninterrupted, 2);
        let checkpoint = Checkpoint::load(&store, &saved).unwrap();
        let mut resumed = Trainer::resume(spec, &data, &checkpoint).unwrap();
        advance(&mut resumed, 2);
        assert_eq!(resumed.checkpoint(), uninterrupted.checkpoint(), "{family}, {optimizer:?}");
    }
}

#[test]
fn the_loss_falls_and_held_out_text_is_predicted() {
    let (spec, data) = (spec(), text());
    let mut trainer = Trainer::new(spec.clone(), &data).unwrap();
    let first = trainer.step().unwrap();
    assert!((first.loss.mean() - 256f64.ln()).abs() < 0.1, "an untrained model knows nothing: {first:?}");
    assert_eq!(first.loss.tokens, 8 * 64);
    let before = whole(&spec, &trainer.checkpoint(), &data);
    let last = (0..150).map(|_| trainer.step().unwrap()).last().unwrap();
    let after = whole(&spec, &trainer.checkpoint(), &data);
    assert!(last.loss.mean() < 1.0, "{last:?}");
    assert!(after.bits_per_byte() < 1.5 && before.bits_per_byte() > 7.0, "{before:?} {after:?}");
    assert!(last.gradient_norm > 0.0 && last.learning_rate == 3e-3);
}

#[test]
fn evaluation_does_not_depend_on_shards_or_batches() {
    let (spec, data) = (spec(), text());
    let mut trainer = Trainer::new(spec.clone(), &data).unwrap();
    advance(&mut trainer, 4);
    // Lengths with and without a short last window.
    for length in [65, 66, 128, 129, 1000] {
        let mut tokens = vec![0; length];
        data.read(100, &mut tokens);
        let held_out = zoo_training::Dataset::encode(256, &tokens, length as u64).unwrap();
        let whole =
            evaluate(trainer.network(), &held_out, Part { shard: 0, shards: 1, batch_windows: 1 }).unwrap();
        assert_eq!((whole.tokens, whole.bytes), (length as u64 - 1, length as u64 - 1));
        for (shards, batch_windows) in [(1, 16), (2, 3), (5, 2), (40, 1)] {
            let mut sum = Evaluation::default();
            for shard in 0..shards {
                sum += evaluate(trainer.network(), &held_out, Part { shard, shards, batch_windows }).unwrap();
            }
            assert_eq!(sum, whole, "{length} tokens, {shards} shards, {batch_windows} at once");
        }
    }
}

#[test]
fn the_short_window_scores_what_the_whole_window_scores_there() {
    let (spec, data) = (spec(), text());
    let trainer = Trainer::new(spec, &data).unwrap();
    let score = |length: usize| {
        let mut tokens = vec![0; length];
        data.read(0, &mut tokens);
        let held_out = zoo_training::Dataset::encode(256, &tokens, length as u64).unwrap();
        evaluate(trainer.network(), &held_out, Part { shard: 0, shards: 1, batch_windows: 4 }).unwrap().nats
    };
    // Scoring one token more adds that token's loss, up to and beyond the end of a window.
    let mut before = score(65);
    for length in 66..=130 {
        let nats = score(length);
        assert!(nats > before + 3.0 && nats < before + 8.0, "{length} tokens: {nats} after {before}");
        before = nats;
    }
}

#[test]
fn a_step_that_diverges_names_the_step_and_the_vnode() {
    let data = text();
    let mut trainer = Trainer::new(TrainingSpec { clip: None, ..spec() }, &data).unwrap();
    trainer.step().unwrap();
    trainer.network_mut().vnodes_mut()[3].parameters_mut()[0].value[5] = f32::NAN;
    let vnode = trainer.network().vnodes()[3].id().to_owned();
    let error = trainer.step().unwrap_err();
    assert!(matches!(error, TrainError::NotFinite { step: 1, .. }), "{error}");
    let message = error.to_string();
    assert!(message.contains(&vnode) && message.contains("\nhint: "), "{message}");
}

#[test]
fn inputs_that_do_not_fit_are_refused_with_a_hint() {
    let (spec, data) = (spec(), text());
    let checkpoint = Trainer::new(spec.clone(), &data).unwrap().checkpoint();
    let other_words = zoo_training::Dataset::encode(300, &[0; 100], 100).unwrap();
    let other_text = bytes_as_tokens(&[b'x'; 500]);
    let refused = [
        Trainer::new(spec.clone(), &other_words).err(),
        Trainer::new(spec.clone(), &bytes_as_tokens(b"too short")).err(),
        Trainer::resume(spec.clone(), &other_text, &checkpoint).err(),
        Trainer::resume(TrainingSpec { seed: 99, ..spec.clone() }, &data, &checkpoint).err(),
        checkpoint.network(&TrainingSpec::new(zoo_model::preset::by_name("llama-1m").unwrap())).err(),
    ];
    let messages = [
        "vocabulary has 300 tokens, the model's has 256",
        "9 tokens are too few for one sequence of 64",
        "its data is",
        "its program is",
        "its network is",
    ];
    for (error, message) in refused.into_iter().zip(messages) {
        let error = error.expect(message).to_string();
        assert!(error.contains(message) && error.contains("\nhint: "), "{error}");
    }
}

#[test]
fn a_run_directory_keeps_two_checkpoints_and_belongs_to_one_process() {
    let (spec, data) = (spec(), text());
    let folder = tempfile::tempdir().unwrap();
    let directory = RunDirectory::open(folder.path()).unwrap();
    assert!(directory.load_latest().unwrap().is_none());
    let mut trainer = Trainer::new(spec.clone(), &data).unwrap();
    let names: Vec<Digest> = (0..3)
        .map(|_| {
            trainer.step().unwrap();
            directory.save(&spec, &trainer.checkpoint()).unwrap()
        })
        .collect();
    let kept: Vec<bool> = names.iter().map(|name| directory.store().contains(name)).collect();
    assert_eq!(kept, [false, true, true]);
    let in_use = RunDirectory::open(folder.path()).unwrap_err();
    assert!(matches!(in_use, RunDirectoryError::InUse(_)), "{in_use}");
    let (_, seen) = RunDirectory::peek(folder.path()).unwrap().unwrap();
    assert_eq!(name(&seen), names[2], "whoever only reads need not wait");
    drop(directory);

    let directory = RunDirectory::open(folder.path()).unwrap();
    let (_, checkpoint) = directory.load_latest().unwrap().unwrap();
    assert_eq!(name(&checkpoint), names[2]);
    for content in ["", "not a digest\n", "\u{fffd}"] {
        std::fs::write(folder.path().join("latest"), content).unwrap();
        let error = directory.load_latest().unwrap_err().to_string();
        assert!(error.contains("does not hold the name of a checkpoint\nhint: "), "{error}");
    }
    std::fs::write(folder.path().join("latest"), [0xff, 0xfe]).unwrap();
    assert!(matches!(directory.latest().unwrap_err(), RunDirectoryError::Latest(_)));
}
