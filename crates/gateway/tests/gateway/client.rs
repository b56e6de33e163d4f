//! A server on the loopback interface, and a client that writes requests byte by byte.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use zoo_gateway::{Engine, EngineSettings, Served, Server, ServerSettings};
use zoo_model::Profile;

use crate::model;

/// A running server; it stops when this is dropped.
pub struct Bench {
    pub address: SocketAddr,
    pub served: Arc<Served>,
    pub engine: Engine,
    _stop: oneshot::Sender<()>,
}

/// What a server answered.
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The message of an error, whose shape is checked.
    pub fn refusal(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{}", self.text());
        let error = &self.json()["error"];
        let fields = ["message", "type", "param", "code"].map(|field| error.get(field).is_some());
        assert_eq!(fields, [true; 4], "{error}");
        error["message"].as_str().expect("a text").to_owned()
    }
}

impl Bench {
    pub async fn start() -> Self {
        Self::with(None, None, Duration::from_secs(10)).await
    }

    pub async fn with(chat: Option<&str>, api_key: Option<&str>, patience: Duration) -> Self {
        let decoder = model::decoder(Profile::F32Exact);
        let served = model::served(&decoder, chat);
        let settings = EngineSettings { threads: 1, cache_positions: 1024, batch_max: 8 };
        let (engine, _) = Engine::start(decoder, Arc::clone(&served), settings).expect("threads");
        let settings = ServerSettings {
            listen: "127.0.0.1:0".parse().expect("an address"),
            api_key: api_key.map(str::to_owned),
            patience,
        };
        let server = Server::start(engine.clone(), Arc::clone(&served), settings).await.expect("a free port");
        let address = server.address();
        let (stop, stopped) = oneshot::channel();
        tokio::spawn(server.run_until(async move {
            let _ = stopped.await;
        }));
        Self { address, served, engine, _stop: stop }
    }

    /// Sends bytes as they are and reads to the end of the connection.
    pub async fn raw(&self, request: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect(self.address).await.expect("it listens");
        // A server that refuses early closes while we still write.
        let _ = stream.write_all(request).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        answer
    }

    pub async fn send(&self, request: &[u8]) -> Answer {
        parse(&self.raw(request).await)
    }

    pub async fn get(&self, path: &str) -> Answer {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        self.send(request.as_bytes()).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.post_with(path, &body.to_string(), "").await
    }

    pub async fn post_with(&self, path: &str, body: &str, headers: &str) -> Answer {
        let length = body.len();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n{headers}\r\n"
        );
        self.send((head + body).as_bytes()).await
    }

    /// The objects of a stream, which must end as it should.
    pub async fn stream(&self, path: &str, body: &Value) -> Vec<Value> {
        let answer = self.post(path, body).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(answer.head.contains("content-type: text/event-stream"), "{}", answer.head);
        let text = answer.text();
        let events: Vec<&str> = text.split("\n\n").filter(|event| !event.is_empty()).collect();
        let (last, objects) = events.split_last().expect("events");
        assert_eq!(*last, "data: [DONE]");
        let object = |event: &&str| {
            serde_json::from_str(event.strip_prefix("data: ").expect("an event")).expect("an object")
        };
        objects.iter().map(object).collect()
    }
}

pub fn parse(answer: &[u8]) -> Answer {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or_else(|| panic!("no answer"));
    let head = String::from_utf8(answer[..end].to_vec()).expect("a head is text").to_ascii_lowercase();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    let mut body = answer[end + 4..].to_vec();
    if head.contains("transfer-encoding: chunked") {
        body = joined(&body);
    }
    Answer { status, head, body }
}

/// The content of a body in chunks.
fn joined(mut chunks: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(line) = chunks.windows(2).position(|two| two == b"\r\n") {
        let size = str::from_utf8(&chunks[..line]).expect("a size");
        let size = usize::from_str_radix(size, 16).expect("a size");
        body.extend_from_slice(&chunks[line + 2..][..size]);
        chunks = &chunks[line + 2 + size + 2..];
    }
    body
}
