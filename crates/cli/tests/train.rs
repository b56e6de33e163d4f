//! `zoo train` from the outside: what it prints, saves and exports, and that nothing stops it for good.

mod common;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command};
use std::thread::sleep;
use std::time::Duration;

use common::{Bench, Ran, tiny_run};
use serde_json::Value;

/// The first line a process prints that `wanted` accepts; panics when it ends without.
fn wait_for(child: &mut Child, wanted: impl Fn(&Value) -> bool) -> BufReader<std::process::ChildStdout> {
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    loop {
        let mut line = String::new();
        assert!(lines.read_line(&mut line).unwrap() > 0, "it ended before");
        if wanted(&serde_json::from_str(&line).unwrap()) {
            return lines;
        }
    }
}

#[test]
fn a_run_says_what_it_does_in_json_lines_and_leaves_a_model() {
    let bench = Bench::new();
    let ran = bench
        .train("run", &["--steps", "40", "--set", "evaluate_every=10", "--set", "checkpoint_every=20"])
        .succeeds();
    let events = ran.events();
    let named =
        |name: &str| events.iter().filter(|event| event["event"] == name).cloned().collect::<Vec<_>>();

    let start = &named("start")[0];
    assert_eq!(start, &events[0]);
    assert_eq!(start["data"]["held_out"].as_str().unwrap().len(), 64);
    assert_eq!((start["held_out_tokens"].as_u64(), start["first_step"].as_u64()), (Some(2_001), Some(0)));
    let steps: Vec<u64> = named("step").iter().map(|step| step["step"].as_u64().unwrap()).collect();
    assert_eq!(steps, (1..=40).collect::<Vec<_>>());
    let evaluated: Vec<u64> = named("evaluation").iter().map(|step| step["step"].as_u64().unwrap()).collect();
    assert_eq!(evaluated, [0, 10, 20, 30, 40]);
    let bits: Vec<f64> =
        named("evaluation").iter().map(|step| step["bits_per_byte"].as_f64().unwrap()).collect();
    assert!(bits.windows(2).all(|pair| pair[1] < pair[0]), "it did not learn: {bits:?}");
    assert_eq!(
        named("checkpoint").iter().map(|saved| saved["step"].as_u64()).collect::<Vec<_>>(),
        [Some(20), Some(40)]
    );

    let done = ran.last_event("done");
    assert_eq!((done["steps"].as_u64(), done["tokens"].as_u64()), (Some(40), Some(40 * 4 * 64)));
    // The vocabulary is bytes: a token is a byte.
    let (loss, bits) = (done["val_loss"].as_f64().unwrap(), done["bits_per_byte"].as_f64().unwrap());
    assert!((loss / std::f64::consts::LN_2 / bits - 1.0).abs() < 1e-3, "{loss} {bits}");
    let export = Path::new(done["export_path"].as_str().unwrap());
    for file in ["config.json", "model.safetensors", "tokenizer.json"] {
        assert!(bench.path("").join(export).join(file).is_file(), "{file}");
    }
    let log = fs::read_to_string(bench.path("run/log.jsonl")).unwrap();
    assert_eq!(log, ran.stdout, "the log holds what was printed");
    assert!(ran.stderr.is_empty(), "{}", ran.stderr);
}

#[test]
fn without_json_people_get_lines_on_stderr_and_stdout_stays_empty() {
    let bench = Bench::new();
    let arguments = tiny_run("run", &["--steps", "5"]).into_iter().filter(|argument| argument != "--json");
    let ran = bench.zoo(arguments).succeeds();
    assert_eq!(ran.stdout, "");
    for part in [
        "qwen3-tiny: qwen3",
        "held out (digest ",
        "held-out loss",
        "done: 5 steps",
        "try: zoo generate run/model",
    ] {
        assert!(ran.stderr.contains(part), "{part} in {}", ran.stderr);
    }
}

#[test]
fn threads_change_nothing_but_the_speed() {
    let bench = Bench::new();
    let digest = |threads: &str| {
        // Of two --threads, clap refuses the second: replace it.
        let arguments = tiny_run(threads, &["--steps", "8"]).into_iter();
        let arguments = arguments.map(|argument| if argument == "2" { threads.to_owned() } else { argument });
        bench.zoo(arguments).succeeds().last_event("done")["model_digest"].clone()
    };
    assert_eq!(digest("1"), digest("3"));
}

#[test]
fn killed_at_any_moment_and_resumed_is_as_if_it_never_happened() {
    let bench = Bench::new();
    let more = ["--steps", "150", "--set", "checkpoint_every=7", "--set", "evaluate_every=20"];
    let whole = bench.train("whole", &more).succeeds().last_event("done");

    let again: Vec<&str> = more.iter().copied().chain(["--resume"]).collect();
    let mut kills = 0;
    for milliseconds in [1, 40, 90, 20, 150, 60, 230] {
        let mut child = bench.spawn(tiny_run("killed", &again));
        let _lines = (milliseconds > 1).then(|| wait_for(&mut child, |event| event["event"] == "start"));
        sleep(Duration::from_millis(milliseconds));
        child.kill().unwrap(); // SIGKILL
        kills += usize::from(child.wait().unwrap().code().is_none());
    }
    assert!(kills >= 3, "the run was too short to be killed: {kills}");
    let healed = bench.train("killed", &again).succeeds().last_event("done");
    for key in ["model_digest", "checkpoint", "val_loss", "bits_per_byte", "tokens"] {
        assert_eq!(healed[key], whole[key], "{key}");
    }
    let log = fs::read_to_string(bench.path("killed/log.jsonl")).unwrap();
    assert!(log.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "a line of the log is cut");
}

#[test]
fn the_first_ctrl_c_saves_and_says_how_to_go_on() {
    let bench = Bench::new();
    let more = ["--steps", "400", "--set", "checkpoint_every=0"];
    let whole = bench.train("whole", &more).succeeds().last_event("done");

    let mut child = bench.spawn(tiny_run("stopped", &more));
    let lines = wait_for(&mut child, |event| event["event"] == "step");
    let interrupt = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(interrupt.success());
    let rest: Vec<String> = lines.lines().map(Result::unwrap).collect();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let last: Value = serde_json::from_str(rest.last().unwrap()).unwrap();
    assert_eq!(
        (&last["event"], &last["resume"]),
        (&"interrupted".into(), &"zoo train --resume --out stopped".into())
    );
    let step = last["step"].as_u64().unwrap();
    assert!((1..400).contains(&step), "{step}");

    let resumed = bench.zoo(["train", "--resume", "--out", "stopped", "--json"]).succeeds();
    assert_eq!(resumed.events()[0]["first_step"], step);
    assert_eq!(resumed.last_event("done")["model_digest"], whole["model_digest"]);
}

#[test]
fn a_finished_run_can_be_made_longer() {
    let bench = Bench::new();
    let whole = bench.train("whole", &["--steps", "20"]).succeeds().last_event("done");
    let short = bench.train("longer", &["--steps", "9"]).succeeds().last_event("done");
    assert_ne!(short["model_digest"], whole["model_digest"]);
    let again = bench.zoo(["train", "--resume", "--out", "longer", "--json"]).succeeds().last_event("done");
    assert_eq!(again["model_digest"], short["model_digest"], "nothing left to do, and nothing done");
    let longer = bench.zoo(["train", "--resume", "--out", "longer", "--steps", "20", "--json"]).succeeds();
    assert_eq!(longer.last_event("done")["model_digest"], whole["model_digest"]);
}

#[test]
fn a_dry_run_says_what_it_would_take_and_leaves_nothing() {
    let bench = Bench::new();
    let arguments = tiny_run("run", &["--dry-run"]);
    let plan = bench.zoo(&arguments).succeeds().last_event("dry-run");
    assert_eq!((plan["tokens_per_step"].as_u64(), plan["steps"].as_u64()), (Some(256), Some(1000)));
    assert_eq!((plan["tokens"].as_u64(), &plan["measured"]), (Some(256_000), &true.into()));
    for key in ["parameters", "memory_mib", "epochs", "tokens_per_s", "seconds"] {
        assert!(plan[key].as_f64().unwrap() > 0.0, "{key}: {plan}");
    }
    let words = bench.zoo(arguments.iter().filter(|argument| *argument != "--json")).succeeds().stdout;
    for part in [
        "2 layers, width 32",
        "parameters",
        "MiB",
        "256,000 tokens",
        "tokens/s on 2 threads, measured",
        "time ",
    ] {
        assert!(words.contains(part), "{part} in {words}");
    }
    assert!(!bench.path("run").exists());
}

#[test]
fn the_examples_train() {
    let bench = Bench::new();
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    for (name, small) in [
        ("train-shakespeare.yaml", &["--set", "training.batch_sequences=2"][..]),
        ("train-small.toml", &["--set", "training.batch_sequences=1", "--set", "vocabulary=300"]),
    ] {
        let example = examples.join(name);
        let fixed =
            [example.to_str().unwrap(), "--data", "text.txt", "--out", name, "--steps", "2", "--json"];
        let ran: Ran = bench.zoo(["train"].iter().chain(&fixed).chain(small)).succeeds();
        assert_eq!(ran.last_event("done")["steps"], 2, "{name}");
    }
}

#[test]
fn a_run_from_a_model_starts_where_that_one_ended_and_needs_it_no_longer() {
    let bench = Bench::new();
    let first = bench
        .train(
            "first",
            &[
                "--steps",
                "30",
                "--profile",
                "f32-exact",
                "--set",
                "vocabulary=300",
                "--set",
                "training.seed=5",
            ],
        )
        .succeeds();
    let ended = first.last_event("done")["val_loss"].as_f64().unwrap();
    let shape = |start: &Value| ["family", "parameters", "vocab_size"].map(|key| start[key].clone());

    // Shape and tokenizer are the model's, whatever the preset says.
    let more = |steps: &'static str| {
        let fixed = [
            "train", "--json", "--preset", "llama-1m", "--from", "first", "--data", "text.txt", "--out",
            "more",
        ];
        let settings = [
            "evaluate_tokens_max=0",
            "checkpoint_every=1",
            "training.batch_sequences=2",
            "training.profile=f32-exact",
            "training.seed=5",
        ];
        let settings = settings.into_iter().flat_map(|setting| ["--set", setting]);
        fixed.into_iter().chain(settings).chain(["--steps", steps, "--resume"]).collect::<Vec<_>>()
    };
    let ran = bench.zoo(more("2")).succeeds();
    let events = ran.events();
    assert_eq!(shape(&events[0]), shape(&first.events()[0]));
    assert_eq!((&events[1]["event"], &events[1]["step"]), (&"checkpoint".into(), &0.into()));
    assert_eq!((&events[2]["event"], &events[2]["step"]), (&"evaluation".into(), &0.into()));
    assert_eq!(events[2]["val_loss"].as_f64(), Some(ended), "the same bits score the same");

    fs::remove_dir_all(bench.path("first")).unwrap();
    let resumed = bench.zoo(more("4")).succeeds();
    assert_eq!(resumed.events()[0]["first_step"], 2);
    let fresh = |out| {
        let from = ["train", "--from", "first", "--data", "text.txt", "--out", out];
        bench.zoo(from)
    };
    fresh("another").refuses("first: there is no such folder");
}

#[test]
fn a_text_depends_on_model_prompt_and_seed_alone() {
    let bench = Bench::new();
    bench.train("run", &["--steps", "30"]).succeeds();
    let write = |more: &[&str]| {
        let fixed = ["generate", "run", "a rose", "--tokens", "100"];
        bench.zoo(fixed.iter().chain(more)).succeeds().stdout
    };
    // 100 tokens are more than the context of 64.
    assert!(write(&[]).starts_with("a rose"));
    assert_eq!(write(&["--seed", "7"]), write(&["--seed", "7"]));
    assert_ne!(write(&["--seed", "7"]), write(&["--seed", "8"]));
    assert_eq!(write(&["--greedy"]), write(&["--temperature", "0", "--seed", "3"]));

    let json = bench.zoo(["generate", "run/model", "a rose", "--tokens", "5", "--json"]).succeeds();
    let object: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!((object["tokens"].as_array().unwrap().len(), &object["prompt"]), (5, &"a rose".into()));
    bench.zoo(["generate", "run", "a rose", "--tokens", "4", "--logits", "logits.json"]).succeeds();
    let logits: Value = serde_json::from_slice(&fs::read(bench.path("logits.json")).unwrap()).unwrap();
    assert_eq!(logits["tokens"].as_array().unwrap().len(), 6);
    assert_eq!(
        logits["logits"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| row.as_array().unwrap().len())
            .collect::<Vec<_>>(),
        [256; 6]
    );
    assert_eq!(logits["greedy"].as_array().unwrap().len(), 4);
}

#[test]
fn a_prompt_may_come_from_stdin_and_a_conversation_ends_with_the_input() {
    use std::io::Write;
    use std::process::Stdio;
    let bench = Bench::new();
    bench.train("run", &["--steps", "3"]).succeeds();
    let with_input = |arguments: &[&str], input: &str| -> Ran {
        let mut child = bench.command(arguments).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap().into()
    };
    let generated = with_input(&["generate", "run", "-", "--tokens", "3"], "the sea").succeeds();
    assert!(generated.stdout.starts_with("the sea"));
    let chat =
        with_input(&["chat", "run", "--tokens", "4"], "hello\n/reset\nhello again\n/quit\nnever read\n")
            .succeeds();
    assert!(chat.stdout.lines().count() >= 2, "{}", chat.stdout);
    with_input(&["chat", "run"], "").succeeds();
}

#[test]
fn presets_are_listed_with_their_shapes() {
    let bench = Bench::new();
    let words = bench.zoo(["presets"]).succeeds().stdout;
    assert!(words.contains("nanogpt-shakespeare-char-cpu") && words.contains("qwen3-1m"), "{words}");
    let lines = bench.zoo(["presets", "--json"]).succeeds();
    assert!(lines.events().iter().all(|preset| preset["parameters"].as_u64().unwrap() > 1000));
}
