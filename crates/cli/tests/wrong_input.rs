//! Wrong input: a clear error, a hint, exit code 1, and nothing lost.

mod common;

use std::fs;
use std::path::Path;
use std::process::Stdio;

use common::{Bench, Ran, files_below, text, tiny_run};

/// `zoo train` with other data; no folder of a run may be left behind.
fn train_on(bench: &Bench, data: &str) -> Ran {
    let arguments = tiny_run("run", &["--steps", "2"]).into_iter();
    let ran =
        bench.zoo(arguments.map(|argument| if argument == "text.txt" { data.to_owned() } else { argument }));
    assert!(!bench.path("run").exists(), "a failed start leaves a folder behind");
    ran
}

#[test]
fn data_that_is_no_text() {
    let bench = Bench::new();
    bench.write("empty.txt", "");
    bench.write("spaces.txt", " \n\n ");
    bench.write(
        "junk.bin",
        (0..10_000u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect::<Vec<_>>(),
    );
    bench.write("latin1.txt", b"un caf\xe9 et encore un caf\xe9".repeat(100));
    bench.write("short.txt", "too short");
    fs::create_dir(bench.path("folder")).unwrap();
    let cases = [
        ("nowhere.txt", "nowhere.txt: no such file or folder"),
        ("empty.txt", "empty.txt: the file is empty"),
        ("spaces.txt", "spaces.txt: the file is empty"),
        ("junk.bin", "junk.bin: not a text: NUL byte at offset"),
        ("latin1.txt", "latin1.txt: not UTF-8: bad byte 0xe9 at offset 6"),
        ("short.txt", "too few"),
        ("folder", "folder: the folder holds no files"),
    ];
    for (data, message) in cases {
        train_on(&bench, data).refuses(message);
    }
}

#[cfg(unix)]
#[test]
fn a_folder_without_permission() {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;
    const NOBODY: u32 = 65_534;
    let bench = Bench::new();
    let set = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let forbidden = bench.path("forbidden");
    fs::create_dir(&forbidden).unwrap();
    set(&forbidden, 0o000);
    // Permissions do not stop root: it runs the binary as somebody whom they do stop.
    let is_root = fs::read_dir(&forbidden).is_ok();
    let binary = bench.path("zoo");
    fs::copy(env!("CARGO_BIN_EXE_zoo"), &binary).unwrap();
    set(&binary, 0o755);
    set(&bench.path(""), 0o755);
    let run = |more: &[&str]| -> Ran {
        let mut command = std::process::Command::new(&binary);
        command.args(["train", "--preset", "qwen3-tiny", "--steps", "2", "--json"]).args(more);
        command.current_dir(bench.path(""));
        if is_root {
            command.uid(NOBODY);
        }
        command.output().unwrap().into()
    };
    run(&["--data", "forbidden", "--out", "run"]).refuses("forbidden: permission denied");
    run(&["--data", "text.txt", "--out", "forbidden/run"]).refuses("permission denied for forbidden/run");
    set(&forbidden, 0o700);
    assert_eq!(fs::read_dir(&forbidden).unwrap().count(), 0);
}

#[test]
fn configurations_that_cannot_be() {
    let bench = Bench::new();
    let cases = [
        (
            "a.yaml",
            "steps: 3\ntraining:\n  batch_sequence: 4\n",
            "a.yaml:3: training.batch_sequence: there is no such key",
        ),
        ("b.toml", "steps = 3\n\n[model]\nwdith = 64\n", "b.toml:4: model.wdith: there is no such key"),
        (
            "c.yaml",
            "preset: nanogpt-shakespeare-char-cpu\nmodel:\n  heads: 3\n",
            "c.yaml:3: model.heads: 3 heads do not divide a width of 128",
        ),
        ("d.yaml", "model:\n  context: 0\n", "d.yaml:2: model.context: 0 is not possible"),
        ("e.yaml", "steps: [1, 2\n", "e.yaml:"),
        ("f.ini", "", "f.ini: neither YAML, TOML nor JSON"),
        ("g.yaml", "\x00\x01\x02", "g.yaml"),
        (
            "h.yaml",
            "training:\n  schedule: {type: cosine, warmup_steps: 500, decay_steps: 100}\n",
            "h.yaml:2: training.schedule",
        ),
    ];
    for (name, contents, message) in cases {
        bench.write(name, contents);
        let ran = bench.zoo(["train", name, "--data", "text.txt", "--out", "run"]);
        assert_eq!(ran.code, Some(1), "{name}: {}", ran.stderr);
        assert!(ran.stderr.contains(message), "{name}: {}", ran.stderr);
        assert!(!bench.path("run").exists());
    }
    for (setting, message) in [
        ("trainin.seed=3", "trainin: there is no such key"),
        ("model.heads=5", "model.heads: 5 heads do not divide a width of 32"),
        ("model.context=0", "model.context: 0 is not possible"),
        ("training.schedule.type=linear", "training.schedule: unknown variant `linear`"),
        ("vocabulary=12", "vocabulary: 12 tokens cannot hold 256 bytes"),
        ("steps=many", "steps: invalid type"),
    ] {
        bench.train("run", &["--set", setting]).refuses(message);
    }
    bench.zoo(["train", "nowhere.yaml"]).refuses("nowhere.yaml");
    bench
        .zoo(["train", "--preset", "qwen3-1n", "--data", "text.txt"])
        .refuses("there is no preset \"qwen3-1n\"");
    assert!(!bench.path("run").exists() && !bench.path("runs").exists());
}

#[test]
fn a_run_is_never_overwritten_or_continued_as_another() {
    let bench = Bench::new();
    let done = bench.train("run", &["--steps", "4"]).succeeds().last_event("done");
    bench.train("run", &["--steps", "4"]).refuses("run: the folder is not empty");
    bench.write("notes/todo.txt", "mine");
    bench.train("notes", &["--steps", "4"]).refuses("notes: the folder is not empty");
    bench.train("text.txt", &["--steps", "4"]).refuses("text.txt: not a folder");

    bench.train("run", &["--resume", "--set", "training.clip=0.5"]).refuses("training.clip was 1.0, now 0.5");
    bench.train("run", &["--resume", "--set", "model.layers=3"]).refuses("model.layers was 2, now 3");
    bench.write("text.txt", text(20_000).replace("rose", "nose"));
    bench
        .train("run", &["--resume"])
        .refuses("cannot resume with other data: the digest of the held-out text was");
    bench.zoo(["train", "--resume", "--out", "nowhere"]).refuses("nowhere: there is no run to resume");

    // The run has its own copy of the data.
    let again = bench.zoo(["train", "--resume", "--out", "run", "--json"]).succeeds().last_event("done");
    assert_eq!(again["model_digest"], done["model_digest"]);
}

#[test]
fn a_flipped_byte_in_what_a_run_has_saved() {
    let bench = Bench::new();
    let done = bench.train("run", &["--steps", "4"]).succeeds().last_event("done");
    let flip = |path: &Path, at: usize| {
        let mut bytes = fs::read(path).unwrap();
        bytes[at] ^= 0x10;
        fs::write(path, bytes).unwrap();
    };
    let checkpoint = done["checkpoint"].as_str().unwrap();
    let resume = || bench.zoo(["train", "--resume", "--out", "run", "--json"]);
    // The largest blob of the newest checkpoint is the embedding's; its manifest is a blob too.
    let blobs: Vec<_> = files_below(&bench.path("run/blobs"));
    let manifest = bench.path("run/blobs").join(&checkpoint[..2]).join(&checkpoint[2..]);
    for (path, message) in [
        (blobs[0].clone(), "is corrupt"),
        (manifest, "is corrupt"),
        (bench.path("run/data/training.tokens"), "training.tokens: the file was changed"),
        (bench.path("run/data/tokenizer.json"), "tokenizer.json: the file was changed"),
        (bench.path("run/latest"), "latest does not hold the name of a checkpoint"),
    ] {
        let at = fs::metadata(&path).unwrap().len() as usize / 2;
        flip(&path, at);
        let latest = fs::read(bench.path("run/latest")).unwrap();
        let ran = resume();
        if path.ends_with("latest") && ran.stderr.contains("not in the store") {
            // The byte became another hex digit: the name of a checkpoint that does not exist.
            ran.refuses("cannot resume run");
        } else {
            ran.refuses(message);
        }
        assert_eq!(fs::read(bench.path("run/latest")).unwrap(), latest, "{}", path.display());
        flip(&path, at);
    }
    assert_eq!(resume().succeeds().last_event("done")["model_digest"], done["model_digest"]);
}

/// Linux has a device on which no write ever fits.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_loses_nothing() {
    use std::os::unix::fs::symlink;
    let bench = Bench::new();
    let whole = bench.train("whole", &["--steps", "12"]).succeeds().last_event("done");
    bench.train("run", &["--steps", "5"]).succeeds();
    let longer = ["train", "--resume", "--out", "run", "--steps", "12", "--json"];
    let latest = || fs::read(bench.path("run/latest")).unwrap();
    let before = latest();

    symlink("/dev/full", bench.path("run/latest.new")).unwrap();
    bench.zoo(longer).refuses("no space left to write run/latest");
    assert_eq!(latest(), before, "the checkpoint before is still the newest");
    fs::remove_file(bench.path("run/latest.new")).unwrap();

    fs::rename(bench.path("run/log.jsonl"), bench.path("log")).unwrap();
    symlink("/dev/full", bench.path("run/log.jsonl")).unwrap();
    bench.zoo(longer).refuses("no space left to write run/log.jsonl");
    assert_eq!(latest(), before);
    fs::remove_file(bench.path("run/log.jsonl")).unwrap();
    fs::rename(bench.path("log"), bench.path("run/log.jsonl")).unwrap();

    let done = bench.zoo(longer).succeeds().last_event("done");
    assert_eq!(
        done["model_digest"], whole["model_digest"],
        "with room again, the run ends as if nothing had been"
    );
}

#[test]
fn models_that_are_damaged() {
    let bench = Bench::new();
    bench.train("run", &["--steps", "2"]).succeeds();
    let model = bench.path("run/model");
    let generate = |folder: &str| bench.zoo(["generate", folder, "a rose", "--tokens", "3"]);
    generate("run/model").succeeds();
    let with = |name: &str, change: &dyn Fn(Vec<u8>) -> Vec<u8>| {
        let original = fs::read(model.join(name)).unwrap();
        fs::write(model.join(name), change(original.clone())).unwrap();
        let ran = generate("run/model");
        fs::write(model.join(name), original).unwrap();
        ran
    };
    with("model.safetensors", &|mut bytes| {
        bytes.truncate(bytes.len() / 2);
        bytes
    })
    .refuses("model.safetensors");
    with("model.safetensors", &|_| Vec::new()).refuses("model.safetensors");
    with("model.safetensors", &|mut bytes| {
        bytes[..8].copy_from_slice(&u64::MAX.to_le_bytes());
        bytes
    })
    .refuses("model.safetensors");
    with("tokenizer.json", &|mut bytes| {
        bytes.truncate(bytes.len() / 2);
        bytes
    })
    .refuses("tokenizer.json");
    with("tokenizer.json", &|_| b"\xff\x00junk".to_vec()).refuses("tokenizer.json");
    with("config.json", &|_| b"{}".to_vec()).refuses("config.json");
    generate("nowhere").refuses("nowhere: there is no such folder");
    fs::create_dir(bench.path("empty")).unwrap();
    generate("empty").refuses("empty: there is no config.json");
    fs::remove_file(model.join("model.safetensors")).unwrap();
    generate("run").refuses("there is no model.safetensors");
    bench.zoo(["generate", "run", "--temperature=-1"]).refuses("--temperature -1 is not possible");
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let bench = Bench::new();
    let mut child =
        bench.command(["submit", "--schema"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let ran = child.wait_with_output().unwrap();
    assert!(ran.status.success() && ran.stderr.is_empty(), "{}", String::from_utf8_lossy(&ran.stderr));
}
