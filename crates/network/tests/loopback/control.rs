//! The control protocol over real sockets.

use std::time::Duration;

use crate::common::{endpoint, key, raw, raw_address, within};
use iroh::endpoint::VarInt;
use tokio::runtime::Runtime;
use zoo_content::Digest;
use zoo_network::{BindOptions, ControlConnection, Endpoint, NetworkError, Ticket};
use zoo_protocol::{FromOrchestrator, MAX_FRAME_BYTES, Rejection, Role, ToOrchestrator, VERSION};

const HELLO: ToOrchestrator = ToOrchestrator::Hello { version: VERSION, role: Role::Client };
const QUICK: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn messages_arrive_in_order_both_ways_and_the_end_is_seen() {
    let (server, client) = (endpoint(1).await, endpoint(2).await);
    let mut accepted = server.control_connections();
    let mut here = client.connect(&server.ticket()).await.unwrap();
    assert_eq!(here.node(), server.id());
    here.send(&HELLO).await.unwrap();
    let (who, mut there) = within(QUICK, accepted.recv()).await.unwrap();
    assert_eq!(who, client.id(), "the caller's identity is proven by the transport");
    assert_eq!(there.recv().await.unwrap(), Some(HELLO));

    let large = FromOrchestrator::Event { sequence: 0, at_ms: 0, event: vec![7; MAX_FRAME_BYTES - 64] };
    there.send(&large).await.unwrap();
    for from in 0..1000 {
        here.send(&ToOrchestrator::Watch { from }).await.unwrap();
        there.send(&FromOrchestrator::StateRoot(Digest::of(&[from as u8]))).await.unwrap();
    }
    assert_eq!(here.recv().await.unwrap(), Some(large));
    for from in 0..1000 {
        assert_eq!(there.recv().await.unwrap(), Some(ToOrchestrator::Watch { from }));
        let root = FromOrchestrator::StateRoot(Digest::of(&[from as u8]));
        assert_eq!(here.recv().await.unwrap(), Some(root));
    }

    // What was sent before a close still arrives.
    let last = FromOrchestrator::Rejected(Rejection::Version { ours: 1, theirs: 2 });
    there.send(&last).await.unwrap();
    there.close().await;
    assert_eq!(here.recv().await.unwrap(), Some(last));
    assert_eq!(within(QUICK, here.recv()).await.unwrap(), None);
    within(QUICK, async { tokio::join!(server.close(), client.close()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receive_that_is_given_up_loses_nothing() {
    let (server, client) = (endpoint(3).await, endpoint(4).await);
    let mut accepted = server.control_connections();
    let mut here = client.connect(&server.ticket()).await.unwrap();
    here.send(&HELLO).await.unwrap();
    let (_, there) = accepted.recv().await.unwrap();
    let (_sender, mut there) = there.split();
    let sending = tokio::spawn(async move {
        for from in 0..500 {
            here.send(&ToOrchestrator::Watch { from }).await.unwrap();
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
        here
    });
    assert_eq!(there.recv().await.unwrap(), Some(HELLO));
    let mut next = 0;
    while next < 500 {
        if let Ok(message) = tokio::time::timeout(Duration::from_micros(50), there.recv()).await {
            assert_eq!(message.unwrap(), Some(ToOrchestrator::Watch { from: next }));
            next += 1;
        }
    }
    sending.await.unwrap();
}

/// What a stranger writes instead of frames, and how the receiver refuses it.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_a_frame_is_refused_with_its_reason() {
    let server = endpoint(5).await;
    let mut accepted = server.control_connections();
    let stranger = raw(6, b"none").await;
    let node = key(6).id();
    type Expected = fn(NetworkError) -> bool;
    let cases: [(&[u8], Expected); 5] = [
        (&u32::MAX.to_le_bytes(), |e| matches!(e, NetworkError::FrameTooLarge { bytes: 0xffff_ffff, .. })),
        (&(MAX_FRAME_BYTES as u32 + 1).to_le_bytes(), |e| matches!(e, NetworkError::FrameTooLarge { .. })),
        (&[1, 0, 0, 0, 99], |e| matches!(e, NetworkError::Wire { .. })),
        (&[0, 0, 0, 0], |e| matches!(e, NetworkError::Wire { .. })),
        (&[9, 0, 0, 0, 1, 2], |e| matches!(e, NetworkError::Truncated { .. })),
    ];
    for (bytes, expected) in cases {
        let connection = stranger.connect(raw_address(&server.peer()), b"zoo/control").await.unwrap();
        let (mut send, _receive) = connection.open_bi().await.unwrap();
        send.write_all(bytes).await.unwrap();
        send.finish().unwrap();
        let (who, mut stream) = within(QUICK, accepted.recv()).await.unwrap();
        assert_eq!(who, node);
        let error = within(QUICK, stream.recv()).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains(&node.short()), "the error names the sender: {text}");
        assert!(expected(error), "{bytes:?} gives {text}");
    }
    // A complaint given with the close is passed on.
    let connection = stranger.connect(raw_address(&server.peer()), b"zoo/control").await.unwrap();
    let (mut send, _receive) = connection.open_bi().await.unwrap();
    send.write_all(&[1]).await.unwrap();
    let (_, mut stream) = within(QUICK, accepted.recv()).await.unwrap();
    connection.close(VarInt::from_u32(9), b"out of patience");
    let error = within(QUICK, stream.recv()).await.unwrap_err().to_string();
    assert!(error.contains("out of patience"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_oversized_message_is_refused_before_it_is_sent() {
    let (server, client) = (endpoint(7).await, endpoint(8).await);
    let mut accepted = server.control_connections();
    let mut here = client.connect(&server.ticket()).await.unwrap();
    here.send(&HELLO).await.unwrap();
    let (_, mut there) = accepted.recv().await.unwrap();
    let oversized = FromOrchestrator::Event { sequence: 0, at_ms: 0, event: vec![0; MAX_FRAME_BYTES] };
    assert!(matches!(there.send(&oversized).await, Err(NetworkError::FrameTooLarge { .. })));
    there.send(&FromOrchestrator::Refused("still in step".into())).await.unwrap();
    assert_eq!(here.recv().await.unwrap(), Some(FromOrchestrator::Refused("still in step".into())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_is_named_with_a_hint() {
    let first = endpoint(9).await;
    let listen = first.addresses()[0];
    let error = Endpoint::bind(BindOptions { key: &key(10), listen, relay: None }).await.unwrap_err();
    assert!(matches!(error, NetworkError::AddressInUse { address } if address == listen), "{error:?}");
    assert!(
        error.to_string().contains(&listen.to_string()) && error.to_string().contains("hint:"),
        "{error}"
    );

    let foreign = "192.0.2.1:4040".parse().unwrap();
    let error =
        Endpoint::bind(BindOptions { key: &key(10), listen: foreign, relay: None }).await.unwrap_err();
    assert!(matches!(error, NetworkError::Bind { address, .. } if address == foreign), "{error:?}");
    assert!(error.to_string().contains("192.0.2.1:4040"), "{error}");

    // After a close the address is free again.
    first.close().await;
    drop(first);
    let again = within(QUICK, async {
        loop {
            match Endpoint::bind(BindOptions { key: &key(10), listen, relay: None }).await {
                Ok(endpoint) => break endpoint,
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    })
    .await;
    again.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn listening_everywhere_gives_addresses_that_others_can_call() {
    let listen = "0.0.0.0:0".parse().unwrap();
    let server = Endpoint::bind(BindOptions { key: &key(11), listen, relay: None }).await.unwrap();
    let addresses = server.addresses();
    assert!(!addresses.is_empty() && addresses.len() <= 8, "{addresses:?}");
    assert!(
        addresses.iter().all(|address| !address.ip().is_unspecified() && address.port() != 0),
        "{addresses:?}"
    );
    let mut accepted = server.control_connections();
    let client = Endpoint::bind(BindOptions { key: &key(12), listen, relay: None }).await.unwrap();
    let mut here = client.connect(&server.ticket()).await.unwrap();
    here.send(&HELLO).await.unwrap();
    assert!(within(QUICK, accepted.recv()).await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_home_is_said_in_time_and_with_the_address() {
    let client = endpoint(13).await;
    let addresses = vec!["127.0.0.1:9".parse().unwrap()];
    let ticket = Ticket { node: key(14).id(), addresses, relay: None };
    let error = within(QUICK, client.connect(&ticket)).await.unwrap_err();
    assert!(matches!(error, NetworkError::Unreachable { .. }), "{error:?}");
    assert!(error.to_string().contains("127.0.0.1:9") && error.to_string().contains("hint:"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_else_at_the_address_is_not_accepted_in_the_place_of_the_node() {
    let (impostor, client) = (endpoint(15).await, endpoint(16).await);
    let _accepted = impostor.control_connections();
    let ticket = Ticket { node: key(17).id(), addresses: impostor.addresses(), relay: None };
    let error = within(QUICK, client.connect(&ticket)).await.unwrap_err();
    assert!(matches!(error, NetworkError::Unreachable { .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_no_orchestrator_says_so() {
    let (worker, client) = (endpoint(18).await, endpoint(19).await);
    // Whether the refusal is there before the first message or after it is a matter of timing.
    let conversation = async {
        let mut here = client.connect(&worker.ticket()).await?;
        here.send(&HELLO).await?;
        here.recv().await
    };
    let error = within(QUICK, conversation).await.unwrap_err().to_string();
    assert!(error.contains("no orchestrator"), "{error}");
}

/// Sockets that vanish without a word, as with `kill -9`.
#[test]
fn a_peer_that_dies_is_noticed_within_the_idle_timeout() {
    let doomed = Runtime::new().unwrap();
    let survivor = Runtime::new().unwrap();
    let (server, mut accepted) = survivor.block_on(async {
        let server = endpoint(20).await;
        let accepted = server.control_connections();
        (server, accepted)
    });
    let ticket = server.ticket();
    let client = doomed.block_on(async {
        let client = endpoint(21).await;
        let mut here = client.connect(&ticket).await.unwrap();
        here.send(&HELLO).await.unwrap();
        (client, here)
    });
    survivor.block_on(async {
        let (_, mut there): ControlConnection = within(QUICK, accepted.recv()).await.unwrap();
        assert_eq!(there.recv().await.unwrap(), Some(HELLO));
        // Alive and silent for longer than the idle timeout: the keep-alive holds the connection.
        let silent = tokio::time::timeout(zoo_network::limits::IDLE_TIMEOUT + QUICK / 5, there.recv()).await;
        assert!(silent.is_err(), "{silent:?}");
        doomed.shutdown_background();
        std::mem::forget(client);
        let noticed = within(zoo_network::limits::IDLE_TIMEOUT + QUICK / 2, there.recv()).await;
        assert!(matches!(noticed, Err(NetworkError::Lost { .. })), "{noticed:?}");
    });
}

/// A process dies without a word; its successor has the same key and another port.
#[test]
fn a_successor_with_the_same_key_takes_over_from_a_predecessor_that_still_seems_alive() {
    let doomed = Runtime::new().unwrap();
    let survivor = Runtime::new().unwrap();
    let (server, mut accepted) = survivor.block_on(async {
        let server = endpoint(22).await;
        let accepted = server.control_connections();
        (server, accepted)
    });
    let ticket = server.ticket();
    let before = doomed.block_on(async {
        let client = endpoint(23).await;
        let mut here = client.connect(&ticket).await.unwrap();
        here.send(&HELLO).await.unwrap();
        (client, here)
    });
    survivor.block_on(async {
        let (_, mut old): ControlConnection = within(QUICK, accepted.recv()).await.unwrap();
        assert_eq!(old.recv().await.unwrap(), Some(HELLO));
        doomed.shutdown_background();
        std::mem::forget(before);
        let successor = endpoint(23).await;
        let start = std::time::Instant::now();
        let mut here = within(QUICK, successor.connect(&ticket)).await.unwrap();
        here.send(&HELLO).await.unwrap();
        let (_, mut new) = within(QUICK, accepted.recv()).await.unwrap();
        assert_eq!(new.recv().await.unwrap(), Some(HELLO));
        new.send(&FromOrchestrator::Refused("hello".into())).await.unwrap();
        assert!(within(QUICK, here.recv()).await.unwrap().is_some());
        assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
        // The predecessor's conversation is over; the new one lasts.
        let ended = within(QUICK, old.recv()).await;
        assert!(!matches!(ended, Ok(Some(_))), "{ended:?}");
        tokio::time::sleep(zoo_network::limits::IDLE_TIMEOUT + QUICK / 2).await;
        new.send(&FromOrchestrator::Refused("still here".into())).await.unwrap();
        assert!(within(QUICK, here.recv()).await.unwrap().is_some());
    });
}
