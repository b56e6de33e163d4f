//! An orchestrator with its interface, and a client that says exactly what it is told to.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use zoo_api::{Api, ApiOptions, Scope};
use zoo_orchestrator::{LEASE_MS, Orchestrator, OrchestratorOptions, TICK_MS};

/// Whatever is waited for takes less.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A small text, and a job that trains on it: small enough for a test, large enough for the smallest model.
pub const JOB: &str = "preset: qwen3-tiny\nvocabulary: bytes\nsteps: 6\nmodel: {context: 16}\nheld_out: {percent: 20, bytes_max: 4000}\n";

pub struct Bench {
    pub folder: TempDir,
    orchestrator: Option<Orchestrator>,
    api: Option<Api>,
    pub address: SocketAddr,
    pub submit_key: String,
    pub manage_key: String,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|cause| panic!("{cause}: {}", String::from_utf8_lossy(&self.body)))
    }

    /// Checks that it is a problem of this kind that says this, and has a hint if `hinted`.
    #[track_caller]
    pub fn is_problem(&self, status: u16, kind: &str, detail: &str) {
        assert_eq!(self.status, status, "{self:?}");
        assert!(
            self.header("content-type").is_some_and(|given| given == "application/problem+json"),
            "{}",
            self.head
        );
        let problem = self.json();
        assert_eq!((&problem["type"], &problem["status"]), (&kind.into(), &status.into()), "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains(detail), "{problem}");
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(given, _)| given.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }
}

impl Bench {
    pub async fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), false).await
    }

    pub async fn start_in(folder: TempDir, private: bool) -> Self {
        let directory = folder.path().join("orchestrator");
        let orchestrator = Orchestrator::start(OrchestratorOptions {
            directory: directory.clone(),
            listen: "127.0.0.1:0".parse().unwrap(),
            relay: None,
            lease_ms: LEASE_MS,
            tick_ms: TICK_MS,
            audits: None,
            operators: Default::default(),
            evidence: None,
            admission: None,
        })
        .await
        .unwrap();
        let keys = zoo_api::keys(&directory).unwrap();
        let key = |name: &str, scope| keys.create(name, scope).unwrap_or_default();
        let options = ApiOptions {
            listen: "127.0.0.1:0".parse().unwrap(),
            directory: directory.clone(),
            reading_needs_a_key: private,
            tls: None,
        };
        let api = Api::start(orchestrator.handle(), options).await.unwrap();
        Self {
            address: api.address(),
            orchestrator: Some(orchestrator),
            api: Some(api),
            submit_key: key("submit", Scope::Submit),
            manage_key: key("manage", Scope::Manage),
            folder,
        }
    }

    /// Stops everything, and returns the folder for another start.
    pub async fn stop(mut self) -> TempDir {
        self.api.take().unwrap().stop().await;
        self.orchestrator.take().unwrap().stop().await.unwrap();
        self.folder
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "", b"").await
    }

    pub async fn post(&self, path: &str, key: &str, body: &[u8]) -> Answer {
        self.ask("POST", path, &format!("Authorization: Bearer {key}\r\n"), body).await
    }

    /// `headers` are lines that end with `\r\n`.
    pub async fn ask(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Answer {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n",
            body.len()
        );
        self.say(&[head.as_bytes(), body].concat()).await
    }

    /// Says these bytes and reads to the end.
    pub async fn say(&self, bytes: &[u8]) -> Answer {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        // Who is refused before the end of its body may find the connection closed.
        let _ = stream.write_all(bytes).await;
        let mut answer = Vec::new();
        let _ = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("an answer in time");
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
        let end = end.unwrap_or_else(|| panic!("no head: {}", String::from_utf8_lossy(&answer)));
        let head = String::from_utf8(answer[..end].to_vec()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
        let body = answer.split_off(end + 4);
        Answer { status, head, body: if chunked { unchunk(&body) } else { body } }
    }

    /// One more key.
    pub fn another_key(&self, name: &str, scope: Scope) -> String {
        zoo_api::keys(&self.folder.path().join("orchestrator")).unwrap().create(name, scope).unwrap()
    }

    /// Uploads a text and returns what a job names it by.
    pub async fn upload(&self, text: &str) -> String {
        let answer = self.post("/v1/texts", &self.submit_key, text.as_bytes()).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.json()["data"].as_str().unwrap().to_owned()
    }

    /// Submits the small job under another name.
    pub async fn submit(&self, name: &str) -> Answer {
        self.submit_with(name, &self.submit_key).await
    }

    /// The same, with this key.
    pub async fn submit_with(&self, name: &str, key: &str) -> Answer {
        let answer = self.post("/v1/texts", key, text().as_bytes()).await;
        let data = answer.json()["data"].as_str().unwrap().to_owned();
        let body = format!("{JOB}run: {name}\ndata: \"{data}\"\n");
        let headers = format!("Authorization: Bearer {key}\r\nContent-Type: application/yaml\r\n");
        self.ask("POST", "/v1/jobs", &headers, body.as_bytes()).await
    }
}

/// Some text to train on.
pub fn text() -> String {
    (0..600).map(|at| format!("Sentence number {at} says that {} follows {at}.\n", at + 1)).collect()
}

fn unchunk(mut body: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    while let Some(end) = body.windows(2).position(|two| two == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&body[..end]).unwrap(), 16).unwrap();
        whole.extend(&body[end + 2..][..size]);
        body = &body[end + 2 + size + 2..];
    }
    whole
}
