//! Load on an orchestrator's HTTP interface: so many requests a second, answered how fast, while so many watch.
//!
//! ```text
//! cargo run --release -p zoo-api --example load -- http://127.0.0.1:4080 --rate 2000 --seconds 20 --watchers 1000
//! ```
//!
//! Requests are sent at their times, whether or not those before were answered: a server that is slow for a moment is seen to be slow
//! for all who would have asked in it. Asks for the newest job, or for /health if there is none. Ends with one JSON object.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::{Instant as Moment, sleep_until};

/// Connections that requests are spread over.
const CONNECTIONS: usize = 32;

struct Options {
    address: String,
    rate: u64,
    seconds: u64,
    watchers: usize,
}

fn options() -> Option<Options> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next()?.strip_prefix("http://")?.trim_end_matches('/').to_owned();
    let mut options = Options { address, rate: 2000, seconds: 10, watchers: 0 };
    while let Some(name) = arguments.next() {
        let value = arguments.next()?.parse::<u64>().ok()?;
        match name.as_str() {
            "--rate" => options.rate = value.max(1),
            "--seconds" => options.seconds = value.max(1),
            "--watchers" => options.watchers = value as usize,
            _ => return None,
        }
    }
    Some(options)
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let Some(Options { address, rate, seconds, watchers }) = options() else {
        eprintln!("usage: load http://ADDRESS:PORT [--rate N] [--seconds N] [--watchers N]");
        std::process::exit(2);
    };
    let path = newest_job(&address).await?;
    let (heard, events) = (Arc::new(AtomicU64::new(0)), events_so_far(&address).await?);
    // Watchers have a thread of their own, so that what they hear delays no request in this process.
    let watching = (address.clone(), heard.clone());
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime starts").block_on(async {
            let all =
                (0..watchers).map(|_| tokio::spawn(watch(watching.0.clone(), events, watching.1.clone())));
            for watcher in all.collect::<Vec<_>>() {
                let _ = watcher.await;
            }
        });
    });
    let start = Moment::now() + Duration::from_millis(500);
    let mut asking = Vec::new();
    for index in 0..CONNECTIONS {
        let (address, path) = (address.clone(), path.clone());
        asking.push(tokio::spawn(ask(address, path, start, index as u64, rate, rate * seconds)));
    }
    let mut latencies = Vec::new();
    for asked in asking {
        latencies.extend(asked.await.expect("asking does not panic")?);
    }
    let elapsed = start.elapsed().as_secs_f64();
    latencies.sort_unstable();
    let at = |part: f64| latencies[((latencies.len() - 1) as f64 * part) as usize].as_secs_f64() * 1000.0;
    let report = json!({
        "path": path, "requests": latencies.len(), "seconds": elapsed,
        "requests_per_second": latencies.len() as f64 / elapsed,
        "p50_ms": at(0.5), "p90_ms": at(0.9), "p99_ms": at(0.99), "max_ms": at(1.0),
        "watchers": watchers, "events_heard": heard.load(Ordering::Relaxed),
    });
    println!("{report}");
    Ok(())
}

async fn newest_job(address: &str) -> std::io::Result<String> {
    let mut connection = BufReader::new(TcpStream::connect(address).await?);
    let body = exchange(&mut connection, "/v1/jobs?limit=1").await?;
    let listed: Value = serde_json::from_slice(&body).unwrap_or_default();
    Ok(listed["jobs"][0]["id"].as_str().map_or_else(|| "/health".to_owned(), |id| format!("/v1/jobs/{id}")))
}

async fn events_so_far(address: &str) -> std::io::Result<u64> {
    let mut connection = BufReader::new(TcpStream::connect(address).await?);
    let head: Value =
        serde_json::from_slice(&exchange(&mut connection, "/v1/journal").await?).unwrap_or_default();
    Ok(head["events"].as_u64().unwrap_or(0))
}

/// Every `CONNECTIONS`th request from `first` on; how long each took, from when it was due.
async fn ask(
    address: String,
    path: String,
    start: Moment,
    first: u64,
    rate: u64,
    requests: u64,
) -> std::io::Result<Vec<Duration>> {
    let stream = TcpStream::connect(&address).await?;
    stream.set_nodelay(true)?;
    let mut connection = BufReader::new(stream);
    let mut latencies = Vec::new();
    for request in (first..requests).step_by(CONNECTIONS) {
        let due = start + Duration::from_nanos(request * 1_000_000_000 / rate);
        sleep_until(due).await;
        exchange(&mut connection, &path).await?;
        latencies.push(due.elapsed());
    }
    Ok(latencies)
}

/// One request and its answer's body, which has to be one that was wanted.
async fn exchange(connection: &mut BufReader<TcpStream>, path: &str) -> std::io::Result<Vec<u8>> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    connection.get_mut().write_all(request.as_bytes()).await?;
    let (mut line, mut bytes, mut is_first) = (String::new(), 0, true);
    loop {
        line.clear();
        if connection.read_line(&mut line).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if std::mem::take(&mut is_first) && !line.starts_with("HTTP/1.1 200") {
            return Err(std::io::Error::other(line.trim().to_owned()));
        }
        if line == "\r\n" {
            break;
        }
        if let Some(length) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            bytes = length.trim().parse().map_err(std::io::Error::other)?;
        }
    }
    let mut body = vec![0; bytes];
    connection.read_exact(&mut body).await?;
    Ok(body)
}

/// Counts the events that one watcher hears, from number `from` on.
async fn watch(address: String, from: u64, heard: Arc<AtomicU64>) -> std::io::Result<()> {
    let mut connection = BufReader::new(TcpStream::connect(&address).await?);
    let request = format!("GET /v1/events?from={from} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    connection.get_mut().write_all(request.as_bytes()).await?;
    let mut line = String::new();
    while connection.read_line(&mut line).await? > 0 {
        heard.fetch_add(u64::from(line.starts_with("id:")), Ordering::Relaxed);
        line.clear();
    }
    Ok(())
}
