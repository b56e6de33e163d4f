//! A server over real sockets: with TLS, slow clients, and an end.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use zoo_http::{Patience, Tls, serve};

const PATIENCE: Patience = Patience {
    head: Duration::from_millis(500),
    reading: Duration::from_millis(500),
    farewell: Duration::from_secs(5),
};
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/// More than the buffers between two sockets take.
const LARGE: usize = 64 << 20;

fn routes() -> Router {
    let large = get(|| async { vec![b'x'; LARGE] });
    Router::new().route("/", get(|| async { "here" })).route("/large", large).route(
        "/slow",
        get(|| async {
            sleep(Duration::from_millis(700)).await;
            "at last"
        }),
    )
}

struct Running {
    address: std::net::SocketAddr,
    stop: oneshot::Sender<()>,
    ended: tokio::task::JoinHandle<()>,
}

async fn start(tls: Option<Arc<rustls::ServerConfig>>) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let told = async move { stopped.await.unwrap_or_default() };
    Running { address, stop, ended: tokio::spawn(serve(listener, routes(), tls, PATIENCE, told)) }
}

async fn say(address: std::net::SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn who_is_being_answered_when_the_server_stops_gets_the_answer() {
    let server = start(None).await;
    let slow = tokio::spawn(say(server.address, b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    sleep(Duration::from_millis(200)).await;
    server.stop.send(()).unwrap();
    assert!(slow.await.unwrap().ends_with("at last"));
    timeout(PATIENCE.farewell, server.ended).await.expect("it ends").unwrap();
    assert!(TcpStream::connect(server.address).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn who_says_nothing_is_let_go() {
    let server = start(None).await;
    for beginning in [&b""[..], b"GET / HT", b"GET / HTTP/1.1\r\nHost: lo"] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(beginning).await.unwrap();
        let mut answer = Vec::new();
        let ended = timeout(4 * PATIENCE.head, stream.read_to_end(&mut answer)).await;
        assert!(ended.is_ok(), "{beginning:?}");
    }
    assert!(say(server.address, REQUEST).await.ends_with("here"));
}

#[tokio::test]
async fn who_does_not_read_is_let_go() {
    let server = start(None).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    sleep(6 * PATIENCE.reading).await;
    let mut answer = Vec::new();
    let _ = timeout(PATIENCE.farewell, stream.read_to_end(&mut answer)).await.expect("it has ended");
    assert!(answer.len() < LARGE, "{} bytes were sent to nobody", answer.len());
    assert!(say(server.address, REQUEST).await.ends_with("here"));
}

#[tokio::test]
async fn with_a_certificate_it_speaks_https_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let tls = Tls { certificate: certificate.clone(), key };
    let server = start(Some(tls.config().unwrap())).await;

    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let client =
        rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let client = client.with_root_certificates(roots).with_no_client_auth();
    let stream = TcpStream::connect(server.address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = TlsConnector::from(Arc::new(client)).connect(name, stream).await.unwrap();
    stream.write_all(REQUEST).await.unwrap();
    let mut answer = Vec::new();
    // The server may end without saying goodbye.
    let _ = stream.read_to_end(&mut answer).await;
    assert!(answer.ends_with(b"here"), "{}", String::from_utf8_lossy(&answer));
    assert!(!say(server.address, REQUEST).await.contains("here"), "plain HTTP is not answered");

    let wrong = Tls { certificate: certificate.clone(), key: certificate };
    let error = wrong.config().unwrap_err().to_string();
    assert!(error.contains("cert.pem for HTTPS") && error.contains("hint: "), "{error}");
}
