//! The real binary, in a folder of its own.

// Every test file uses a part of this.
#![allow(dead_code)]

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use serde_json::Value;

/// What a process said and how it ended.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("zoo writes UTF-8");
        Self { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

impl Ran {
    /// It did what it was asked.
    #[track_caller]
    pub fn succeeds(self) -> Self {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        self
    }

    /// It refused with code 1, an error that says this, and a hint.
    #[track_caller]
    pub fn refuses(self, message: &str) -> Self {
        assert_eq!(self.code, Some(1), "not a clean failure: {self:?}");
        assert!(self.stderr.contains(message), "expected {message:?} in:\n{}", self.stderr);
        let last = self.stderr.lines().last().unwrap_or_default();
        assert!(
            self.stderr.starts_with("error: ") && last.starts_with("hint: "),
            "no error and hint:\n{}",
            self.stderr
        );
        self
    }

    /// Its lines of JSON.
    #[track_caller]
    pub fn events(&self) -> Vec<Value> {
        self.stdout
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
            .collect()
    }

    /// The last event, which has this name.
    #[track_caller]
    pub fn last_event(&self, name: &str) -> Value {
        let last = self.events().pop().expect("at least one line");
        assert_eq!(last["event"], name, "{last}\n{}", self.stderr);
        last
    }
}

/// A folder with a small text in it, gone at the end.
pub struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    pub fn new() -> Self {
        let bench = Self { folder: tempfile::tempdir().unwrap() };
        bench.write("text.txt", text(20_000));
        bench
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    pub fn command<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_zoo"));
        command.args(arguments).current_dir(self.folder.path());
        command.env_remove("ZOO_LOG").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub fn zoo<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Ran {
        self.command(arguments).output().unwrap().into()
    }

    pub fn spawn<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Child {
        self.command(arguments).spawn().unwrap()
    }

    /// `zoo train` of the smallest model on the small text, with JSON lines.
    pub fn train(&self, out: &str, more: &[&str]) -> Ran {
        self.zoo(tiny_run(out, more))
    }
}

/// A process that prints JSON lines, killed when it is no longer needed.
pub struct Running {
    pub child: Child,
    lines: Receiver<String>,
}

/// Nothing that is waited for takes so long.
const PATIENCE: Duration = Duration::from_secs(300);

/// What a process prints, read as it comes: who is not listened to must not wait for a full pipe.
fn lines_of(child: &mut Child) -> Receiver<String> {
    let stdout = BufReader::new(child.stdout.take().unwrap());
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
    lines
}

impl Running {
    pub fn start(bench: &Bench, arguments: &[&str]) -> Self {
        let mut child = bench.spawn(arguments);
        let lines = lines_of(&mut child);
        Self { child, lines }
    }

    /// The same, with what it says on stderr in a file of the bench.
    pub fn start_logging(bench: &Bench, arguments: &[&str], log: &str) -> Self {
        let log = fs::File::create(bench.path(log)).unwrap();
        let mut child = bench.command(arguments).stderr(log).spawn().unwrap();
        let lines = lines_of(&mut child);
        Self { child, lines }
    }

    /// `zoo up` on any free port, and its ticket.
    pub fn orchestrator(bench: &Bench) -> (Self, String) {
        let mut up =
            Self::start(bench, &["up", "--dir", "orchestrator", "--listen", "127.0.0.1:0", "--json"]);
        let ticket = up.event("listening")["ticket"].as_str().unwrap().to_owned();
        (up, ticket)
    }

    /// The next event of this name.
    #[track_caller]
    pub fn event(&mut self, name: &str) -> Value {
        self.until(name).pop().expect("the event itself")
    }

    /// All events up to the next of this name.
    #[track_caller]
    pub fn until(&mut self, name: &str) -> Vec<Value> {
        let mut events = Vec::new();
        loop {
            let line = self.lines.recv_timeout(PATIENCE);
            let line = line.unwrap_or_else(|cause| panic!("no {name}: {cause}"));
            let event: Value = serde_json::from_str(&line).unwrap();
            let is_it = event["event"] == name;
            events.push(event);
            if is_it {
                return events;
            }
        }
    }

    /// Interrupts it; it ends well.
    #[track_caller]
    pub fn interrupt(mut self, last_event: &str) {
        let sent = Command::new("kill").args(["-INT", &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
        self.event(last_event);
        assert!(self.child.wait().unwrap().success());
    }
}

impl Running {
    /// Interrupts it; it says nothing more and ends well.
    #[track_caller]
    pub fn interrupt_quietly(mut self) {
        let sent = Command::new("kill").args(["-INT", &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
        assert!(self.child.wait().unwrap().success());
    }
}

/// A network of two nodes that has trained a small job of three rounds, still running, and its root.
pub struct Network {
    pub bench: Bench,
    pub up: Running,
    pub nodes: Vec<Running>,
    pub ticket: String,
}

impl Network {
    pub fn trained() -> Self {
        let bench = Bench::new();
        let (up, ticket) = Running::orchestrator(&bench);
        let join = |name: &str| {
            let arguments = ["join", &ticket, "--dir", name, "--name", name, "--threads", "1", "--json"];
            Running::start(&bench, &arguments)
        };
        let mut nodes: Vec<_> = ["ibex", "lynx"].map(join).into();
        nodes.iter_mut().for_each(|node| _ = node.event("connected"));
        let job =
            ["submit", "--preset", "qwen3-tiny", "--data", "text.txt", "--steps", "12", "--name", "tiny"];
        let settings = [
            "--set",
            "training.batch_sequences=4",
            "--set",
            "rounds.inner_steps=4",
            "--set",
            "evaluate_every=4",
        ];
        let to = ["--set", "rounds.minimum_nodes=2", "--network", &ticket, "--json", "--wait"];
        bench.zoo([&job[..], &settings, &to].concat()).succeeds().last_event("job_finished");
        Self { bench, up, nodes, ticket }
    }

    /// Everybody leaves; the folder stays.
    pub fn stop(self) -> Bench {
        self.nodes.into_iter().for_each(|node| node.interrupt("left"));
        self.up.interrupt("stopped");
        self.bench
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Arguments of a run that takes a second: `more` comes last.
pub fn tiny_run(out: &str, more: &[&str]) -> Vec<String> {
    let fixed = ["train", "--preset", "qwen3-tiny", "--data", "text.txt", "--json", "--threads", "2"];
    let sizes = ["--set", "training.batch_sequences=4", "--set", "log_every=1", "--out", out];
    fixed.iter().chain(&sizes).chain(more).map(|argument| argument.to_string()).collect()
}

/// Words that repeat, with something to learn.
pub fn text(bytes: usize) -> String {
    let words = ["a rose", "is", "a rose", "by any", "other name", "and", "the sea", "sings\n"];
    let mut text = String::new();
    for at in 0.. {
        if text.len() >= bytes {
            break;
        }
        text.push_str(words[(at * at + at / 7) % words.len()]);
        text.push(' ');
    }
    text
}

/// Every file below `folder`, the largest first.
pub fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else {
                found.push((entry.metadata().unwrap().len(), entry.path()));
            }
        }
    }
    found.sort_by(|one, other| other.cmp(one));
    found.into_iter().map(|(_, path)| path).collect()
}

/// Sends one request and reads the answer to its end: its status and its body. Without a `Host` among the headers it is `localhost`.
pub fn ask(url: &str, method: &str, path: &str, headers: &str, body: &[u8]) -> (u16, Vec<u8>) {
    let mut stream = TcpStream::connect(url.strip_prefix("http://").unwrap()).unwrap();
    let host = if headers.contains("Host: ") { "" } else { "Host: localhost\r\n" };
    let head = format!("{method} {path} HTTP/1.0\r\n{host}Content-Length: {}\r\n{headers}\r\n", body.len());
    stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
    let body = answer.split_off(end);
    let status = String::from_utf8_lossy(&answer).split(' ').nth(1).unwrap().parse().unwrap();
    (status, body)
}

/// What is at a path.
pub fn get(url: &str, path: &str) -> Value {
    let (status, body) = ask(url, "GET", path, "", b"");
    assert_eq!(status, 200, "{path}: {}", String::from_utf8_lossy(&body));
    serde_json::from_slice(&body).unwrap()
}

/// Asks until what comes is what is waited for.
pub fn wait(url: &str, path: &str, is_it: impl Fn(&Value) -> bool) -> Value {
    let started = Instant::now();
    loop {
        let answer = get(url, path);
        if is_it(&answer) {
            return answer;
        }
        assert!(started.elapsed() < PATIENCE, "{path} stays {answer}");
        sleep(Duration::from_millis(200));
    }
}
