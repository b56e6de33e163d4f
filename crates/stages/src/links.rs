//! Messages to the nodes of other stages.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};
use zoo_network::Endpoint;
use zoo_protocol::{NodeId, Peer};

/// Messages that wait for one node; more are dropped, and asked for again.
const WAITING_MAX: usize = 256;
/// Who could not be reached is called again after this time at the earliest.
const CALL_AGAIN: Duration = Duration::from_millis(200);

/// The ways to other nodes, opened when there is something to say.
pub(crate) struct Links {
    endpoint: Endpoint,
    open: BTreeMap<NodeId, Link>,
    sent_bytes: u64,
}

struct Link {
    peer: Peer,
    messages: mpsc::Sender<(Instant, Vec<u8>)>,
}

impl Links {
    pub(crate) fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, open: BTreeMap::new(), sent_bytes: 0 }
    }

    /// Bytes sent so far.
    pub(crate) fn sent_bytes(&self) -> u64 {
        self.sent_bytes
    }

    /// Sends it after so long, in order; it may be lost.
    pub(crate) fn send(&mut self, peer: &Peer, message: Vec<u8>, latency: Duration) {
        // A node that comes back is elsewhere.
        if self.open.get(&peer.node).is_none_or(|link| link.peer != *peer || link.messages.is_closed()) {
            let (messages, waiting) = mpsc::channel(WAITING_MAX);
            tokio::spawn(deliver(self.endpoint.clone(), peer.clone(), waiting));
            self.open.insert(peer.node, Link { peer: peer.clone(), messages });
        }
        if let Some(link) = self.open.get(&peer.node) {
            let bytes = message.len() as u64;
            if link.messages.try_send((Instant::now() + latency, message)).is_ok() {
                self.sent_bytes += bytes;
            }
        }
    }
}

/// Waits until then. What is due already does not wait for the next tick of the clock, which is a millisecond away.
pub(crate) async fn held(due: Instant) {
    if due > Instant::now() {
        sleep_until(due).await;
    }
}

/// Sends what waits for a node. What is under way when a connection breaks is lost.
async fn deliver(endpoint: Endpoint, peer: Peer, mut waiting: mpsc::Receiver<(Instant, Vec<u8>)>) {
    let mut open = None;
    while let Some((due, message)) = waiting.recv().await {
        held(due).await;
        let mut sender = match open.take() {
            Some(sender) => sender,
            None => match endpoint.connect_frames(&peer).await {
                Ok(frames) => frames.split().0,
                Err(cause) => {
                    tracing::debug!(%cause, "cannot reach the node of a stage");
                    sleep(CALL_AGAIN).await;
                    continue;
                }
            },
        };
        if sender.send(&message).await.is_ok() {
            open = Some(sender);
        }
    }
}
