//! Endpoints on loopback, well-behaved and otherwise.

use std::time::{Duration, Instant};

use iroh::endpoint::presets;
use iroh::{EndpointAddr, PublicKey, RelayMode};
use zoo_network::{BindOptions, Endpoint};
use zoo_protocol::{NodeKey, Peer};

pub fn key(seed: u8) -> NodeKey {
    NodeKey::from_seed([seed; 32])
}

pub async fn endpoint(seed: u8) -> Endpoint {
    let listen = "127.0.0.1:0".parse().unwrap();
    Endpoint::bind(BindOptions { key: &key(seed), listen, relay: None }).await.unwrap()
}

/// A transport without our protocol, for a peer that does not keep to it.
pub async fn raw(seed: u8, alpn: &[u8]) -> iroh::Endpoint {
    iroh::Endpoint::builder(presets::Minimal)
        .secret_key(iroh::SecretKey::from_bytes(&key(seed).seed()))
        .alpns(vec![alpn.to_vec()])
        .relay_mode(RelayMode::Disabled)
        .clear_ip_transports()
        .bind_addr("127.0.0.1:0")
        .unwrap()
        .bind()
        .await
        .unwrap()
}

pub fn raw_peer(seed: u8, raw: &iroh::Endpoint) -> Peer {
    Peer { node: key(seed).id(), addresses: raw.bound_sockets() }
}

pub fn raw_address(peer: &Peer) -> EndpointAddr {
    let id = PublicKey::from_bytes(&peer.node.0).unwrap();
    peer.addresses.iter().fold(EndpointAddr::new(id), |address, &ip| address.with_ip_addr(ip))
}

/// Runs `future`, and fails if it takes longer than `limit`.
pub async fn within<T>(limit: Duration, future: impl Future<Output = T>) -> T {
    let start = Instant::now();
    tokio::time::timeout(limit, future)
        .await
        .unwrap_or_else(|_| panic!("not done after {:?}", start.elapsed()))
}
