//! The processes of a demo. None outlives it: their stdin is a pipe from here, and ends with us.

use std::collections::VecDeque;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::mpsc;
use tokio::time::timeout;
use zoo_network::Ticket;
use zoo_protocol::{Commitment, Sealed, decode};

use super::directories::Directories;

/// What the orchestrator's process is called.
pub const ORCHESTRATOR: &str = "orchestrator";
/// Things said and not yet heard; the processes wait beyond that.
const SAID_MAX: usize = 256;
/// A process that was told to stop and has not after this time is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(4);
/// Lines of a log that are worth showing.
const LOG_LINES: usize = 4;

/// What a process says that matters here.
#[derive(Debug)]
pub enum Said {
    /// The orchestrator can be joined.
    Listening(Ticket),
    /// A node has committed to a window.
    Trained(Sealed<Commitment>),
    /// It said its last word: it has ended.
    Ended,
}

/// All processes, by name.
pub struct Processes<'a> {
    /// This program, found once: an update that replaces the file must not end a running demo.
    program: PathBuf,
    directories: &'a Directories,
    running: Vec<Process>,
    said: mpsc::Receiver<(String, u32, Said)>,
    say: mpsc::Sender<(String, u32, Said)>,
}

struct Process {
    name: String,
    child: Child,
    /// Told to stop when this is dropped.
    stdin: Option<ChildStdin>,
    pid: u32,
}

impl<'a> Processes<'a> {
    /// None yet.
    pub fn new(directories: &'a Directories) -> Result<Self> {
        let program = own_program()?;
        let (say, said) = mpsc::channel(SAID_MAX);
        Ok(Self { program, directories, running: Vec::new(), said, say })
    }

    /// Starts `zoo up`.
    pub fn start_orchestrator(&mut self, listen: SocketAddr) -> Result<()> {
        self.start(ORCHESTRATOR, &["up", "--listen", &listen.to_string()])
    }

    /// Starts `zoo join` on one thread; in a directory that was used before it is the same node.
    pub fn start_node(&mut self, name: &str, ticket: &Ticket) -> Result<()> {
        self.start(name, &["join", &ticket.to_string(), "--name", name, "--threads", "1", "--no-page"])
    }

    /// The next thing that a process says. Cancel safe.
    pub async fn said(&mut self) -> (String, Said) {
        loop {
            let (name, pid, said) = self.said.recv().await.expect("this struct holds a sender");
            let is_current = self.running.iter().any(|process| process.name == name && process.pid == pid);
            if is_current || !matches!(said, Said::Ended) {
                return (name, said);
            } // the end of a process that was killed is no news
        }
    }

    /// `kill -9`. Returns when the process is gone.
    pub async fn kill(&mut self, name: &str) -> Result<()> {
        let Some(place) = self.running.iter().position(|process| process.name == name) else {
            return Err(anyhow!("{name} does not run"));
        };
        let mut process = self.running.remove(place);
        process.child.kill().await.with_context(|| format!("cannot kill {name}"))
    }

    /// Why a process ended that nobody stopped: what its log says, or its status.
    pub async fn post_mortem(&mut self, name: &str) -> anyhow::Error {
        let status = match self.running.iter().position(|process| process.name == name) {
            Some(place) => {
                let mut process = self.running.remove(place);
                let status = timeout(STOP_TIMEOUT, process.child.wait()).await;
                status.ok().and_then(Result::ok).map(|status: ExitStatus| status.to_string())
            }
            None => None,
        };
        let log = self.directories.log(name);
        let lines = last_lines(&fs::read_to_string(&log).unwrap_or_default());
        let cause = if lines.is_empty() { status.unwrap_or_else(|| "without a word".into()) } else { lines };
        anyhow!("{name} ended: {cause}\nhint: its log is {}", log.display())
    }

    /// Stops all, nodes first, so that they can say goodbye.
    pub async fn stop(&mut self) {
        self.said.close();
        let (orchestrator, nodes): (Vec<_>, Vec<_>) =
            self.running.drain(..).partition(|process| process.name == ORCHESTRATOR);
        for mut group in [nodes, orchestrator] {
            group.iter_mut().for_each(|process| drop(process.stdin.take()));
            for process in &mut group {
                if timeout(STOP_TIMEOUT, process.child.wait()).await.is_err() {
                    let _ = process.child.kill().await;
                }
            }
        }
    }

    fn start(&mut self, name: &str, arguments: &[&str]) -> Result<()> {
        let log = self.directories.log(name);
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("cannot write {}", log.display()))?;
        let mut command = Command::new(&self.program);
        command
            .args(arguments)
            .args(["--json", "--exit-with-stdin", "--dir"])
            .arg(self.directories.process(name))
            .env("ZOO_ISA", zoo_kernels::isa::active().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true);
        // Ctrl-C in a terminal reaches a whole process group: these are stopped by us, in order.
        #[cfg(unix)]
        command.process_group(0);
        let mut child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().expect("it was asked for");
        let pid = child.id().expect("it has not been waited for");
        tokio::spawn(listen(name.to_owned(), pid, stdout, self.say.clone()));
        self.running.push(Process { name: name.to_owned(), child, stdin, pid });
        Ok(())
    }
}

fn own_program() -> Result<PathBuf> {
    std::env::current_exe().context("cannot tell where this program is")
}

/// Passes on what matters of a process's lines, until they end.
async fn listen(name: String, pid: u32, stdout: ChildStdout, say: mpsc::Sender<(String, u32, Said)>) {
    let mut lines = BufReader::new(stdout).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if let Some(said) = understand(&line)
            && say.send((name.clone(), pid, said)).await.is_err()
        {
            return;
        }
    }
    let _ = say.send((name, pid, Said::Ended)).await;
}

fn understand(line: &str) -> Option<Said> {
    let line: Value = serde_json::from_str(line).ok()?;
    match line["event"].as_str()? {
        "listening" => Some(Said::Listening(line["ticket"].as_str()?.parse().ok()?)),
        "trained" => Some(Said::Trained(decode(&from_hex(line["sealed_commitment"].as_str()?)?).ok()?)),
        _ => None,
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

/// The end of a log, an error's own words without its mark.
fn last_lines(log: &str) -> String {
    let mut last: VecDeque<&str> = log.lines().rev().take(LOG_LINES).collect();
    last.make_contiguous().reverse();
    let from = last.iter().rposition(|line| line.starts_with("error: ")).unwrap_or(0);
    let lines: Vec<&str> = last.range(from..).map(|line| line.trim_start_matches("error: ")).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_matters_is_understood_and_nothing_else_does_harm() {
        for line in ["", "{}", "[]", "no json", r#"{"event":7}"#, r#"{"event":"progress","step":3}"#] {
            assert!(understand(line).is_none(), "{line}");
        }
        for line in [
            r#"{"event":"listening"}"#,
            r#"{"event":"listening","ticket":"zoo1nonsense"}"#,
            r#"{"event":"trained","sealed_commitment":"0"}"#,
            r#"{"event":"trained","sealed_commitment":"zz"}"#,
            r#"{"event":"trained","sealed_commitment":"00ff"}"#,
            r#"{"event":"trained","sealed_commitment":"üü"}"#,
        ] {
            assert!(understand(line).is_none(), "{line}");
        }
    }

    #[test]
    fn a_log_ends_with_its_error() {
        let log = "2026 WARN x\nerror: address in use\n  by another\nhint: choose another port\n";
        assert_eq!(last_lines(log), "address in use\n  by another\nhint: choose another port");
        assert_eq!(last_lines("a\nb\nc\nd\ne"), "b\nc\nd\ne");
        assert_eq!(last_lines(""), "");
    }
}
