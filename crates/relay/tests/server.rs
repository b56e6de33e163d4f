//! A relay's ports, certificate and bounds. What goes through it is tested with the endpoints, in `zoo-network`.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use zoo_relay::{Relay, RelayError, RelayOptions, TlsFiles};

fn anywhere() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

#[tokio::test]
async fn any_free_port_is_one_of_both_protocols_and_is_free_again_after_a_stop() {
    let relay = Relay::start(RelayOptions::on(anywhere())).await.unwrap();
    let address = relay.address();
    assert_eq!(relay.url(), format!("http://{address}"));
    assert!(UdpSocket::bind(address).is_err() && TcpListener::bind(address).is_err(), "both are taken");
    let error = Relay::start(RelayOptions::on(address)).await.unwrap_err();
    assert!(matches!(error, RelayError::AddressInUse { address: taken } if taken == address), "{error:?}");
    relay.stop().await;
    Relay::start(RelayOptions::on(address)).await.unwrap();
}

#[tokio::test]
async fn a_relay_on_every_interface_names_an_address_that_is_one() {
    let relay = Relay::start(RelayOptions::on("0.0.0.0:0".parse().unwrap())).await.unwrap();
    let address: SocketAddr = relay.url().strip_prefix("http://").unwrap().parse().unwrap();
    assert!(!address.ip().is_unspecified(), "{address}");
    assert!(TcpStream::connect(address).is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_certificate_it_speaks_https() {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["relay.example".to_string()]).unwrap();
    let files = TlsFiles { certificate: folder.path().join("chain.pem"), key: folder.path().join("key.pem") };
    fs::write(&files.certificate, made.cert.pem()).unwrap();
    fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
    let options = RelayOptions { tls: Some(files), ..RelayOptions::on(anywhere()) };
    let relay = Relay::start(options).await.unwrap();
    assert!(relay.url().starts_with("https://127.0.0.1:"), "{}", relay.url());

    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(config.with_root_certificates(roots).with_no_client_auth());
    let address = relay.address();
    let answer = tokio::task::spawn_blocking(move || {
        let name = ServerName::try_from("relay.example").unwrap();
        let connection = ClientConnection::new(config, name).unwrap();
        let mut stream = StreamOwned::new(connection, TcpStream::connect(address).unwrap());
        stream.write_all(b"GET /ping HTTP/1.1\r\nHost: relay.example\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = [0; 15];
        stream.read_exact(&mut answer).unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    });
    assert_eq!(answer.await.unwrap(), "HTTP/1.1 200 OK");
}

#[tokio::test]
async fn a_certificate_that_is_none_is_named_with_its_cause_and_a_hint() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let made = rcgen::generate_simple_self_signed(vec!["relay.example".to_string()]).unwrap();
    let other = rcgen::generate_simple_self_signed(vec!["other.example".to_string()]).unwrap();
    fs::write(path("chain"), made.cert.pem()).unwrap();
    fs::write(path("key"), made.signing_key.serialize_pem()).unwrap();
    fs::write(path("other key"), other.signing_key.serialize_pem()).unwrap();
    fs::write(path("empty"), "").unwrap();
    for (certificate, key, named) in [
        ("missing", "key", "missing"),
        ("chain", "missing", "missing"),
        ("empty", "key", "empty"),
        ("chain", "empty", "empty"),
        ("key", "key", "key"),
        ("chain", "other key", "chain"),
    ] {
        let files = TlsFiles { certificate: path(certificate), key: path(key) };
        let options = RelayOptions { tls: Some(files), ..RelayOptions::on(anywhere()) };
        let error = Relay::start(options).await.unwrap_err();
        assert!(matches!(&error, RelayError::Tls { path: it, .. } if *it == path(named)), "{error:?}");
        assert!(error.to_string().contains("hint: "), "{error}");
    }
}
