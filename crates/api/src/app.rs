//! What every handler uses.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use tokio::sync::{Semaphore, watch};
use zoo_orchestrator::Handle;
use zoo_protocol::NodeId;

use crate::feed::Feed;
use crate::keys::Keys;
use crate::owners::Owners;
use crate::replica::Replica;
use crate::routes::events::Turns;
use crate::schema::NodeStatus;
use crate::submission::Submissions;

/// Shared by all requests. Cheap to clone.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) handle: Handle,
    pub(crate) replica: Replica,
    pub(crate) feed: Feed,
    /// In which order watchers are told.
    pub(crate) turns: Turns,
    pub(crate) keys: Arc<Keys>,
    pub(crate) owners: Arc<Owners>,
    pub(crate) reading_needs_a_key: bool,
    pub(crate) statuses: Statuses,
    pub(crate) submissions: Submissions,
    /// Where uploaded text and exported models are.
    pub(crate) directory: Arc<PathBuf>,
    /// Models that are exported at once: one, it takes memory.
    pub(crate) exports: Arc<Semaphore>,
    /// Says when to end what would not end by itself.
    pub(crate) stop: watch::Receiver<bool>,
}

/// The latest heartbeat of every node.
#[derive(Clone, Default)]
pub(crate) struct Statuses(Arc<Mutex<BTreeMap<NodeId, NodeStatus>>>);

impl Statuses {
    /// Follows the heartbeats until the orchestrator ends.
    pub(crate) fn start(handle: &Handle) -> Self {
        use tokio::sync::broadcast::error::RecvError;
        use zoo_protocol::FromOrchestrator::NodeStatus as Heartbeat;

        let (statuses, mut heard) = (Self::default(), handle.statuses());
        let following = statuses.clone();
        tokio::spawn(async move {
            loop {
                match heard.recv().await {
                    Ok(Heartbeat {
                        node,
                        step,
                        loss_bits,
                        tokens_per_second,
                        sent_bytes,
                        received_bytes,
                    }) => {
                        let loss = f32::from_bits(loss_bits);
                        let status = NodeStatus { step, loss, tokens_per_second, sent_bytes, received_bytes };
                        following.0.lock().expect("inserting does not panic").insert(node, status);
                    }
                    // Newer heartbeats say all that the missed ones said.
                    Ok(_) | Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return,
                }
            }
        });
        statuses
    }

    /// The latest of a node.
    pub(crate) fn of(&self, node: &NodeId) -> Option<NodeStatus> {
        self.0.lock().expect("inserting does not panic").get(node).copied()
    }
}
