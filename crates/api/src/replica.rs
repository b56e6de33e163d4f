//! The state, as of the latest durable command, for requests to read.
//!
//! State is replay: a copy that applies what became durable, in order, is the state. So a request never waits for the journal, and the
//! journal never for a request.

use std::sync::{Arc, RwLock};

use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tracing::debug;
use zoo_orchestrator::journal::Entry;
use zoo_orchestrator::{Followed, Handle, RequestError};
use zoo_state::State;

/// A copy of the state that follows it.
#[derive(Clone, Debug)]
pub struct Replica(Arc<RwLock<State>>);

impl Replica {
    /// Begins to follow; ends when the orchestrator does.
    ///
    /// # Errors
    /// The orchestrator is stopping.
    pub async fn start(handle: Handle) -> Result<Self, RequestError> {
        let Followed { state, entries } = handle.follow().await?;
        let replica = Self(Arc::new(RwLock::new(state)));
        tokio::spawn(replica.clone().follow(handle, entries));
        Ok(replica)
    }

    /// What `look` finds in the state.
    pub fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.0.read().expect("applying does not panic"))
    }

    async fn follow(self, handle: Handle, mut entries: Receiver<Arc<Vec<Entry>>>) {
        loop {
            match entries.recv().await {
                Ok(durable) => {
                    let mut state = self.0.write().expect("applying does not panic");
                    for Entry { command, .. } in durable.iter() {
                        state.apply(command).expect("what was applied once is applied again");
                    }
                }
                Err(RecvError::Lagged(missed)) => {
                    debug!(missed, "the replica is behind; it takes another copy");
                    let Ok(again) = handle.follow().await else { return };
                    *self.0.write().expect("applying does not panic") = again.state;
                    entries = again.entries;
                }
                Err(RecvError::Closed) => return,
            }
        }
    }
}
