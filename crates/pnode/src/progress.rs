//! Where the running task is, readable while it runs.

use std::sync::{Mutex, PoisonError};

use crate::event::Snapshot;

/// Written by the compute thread, read by heartbeats.
#[derive(Debug, Default)]
pub(crate) struct Progress(Mutex<Snapshot>);

impl Progress {
    pub(crate) fn set(&self, snapshot: Snapshot) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = snapshot;
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
