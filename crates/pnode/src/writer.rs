//! What is written while the next task runs: waiting for the disk between two windows would take a node's time from training.

use std::sync::{Arc, mpsc};
use std::thread;

use tokio::sync::mpsc as inputs;
use tracing::warn;
use zoo_agent::Input;
use zoo_content::{BlobStore, FileStore, StoreError, VerifiedBlob};

use crate::PNodeError;

/// Handle of two threads: one writes blobs and then tells of them, the other lets what was written reach the disk.
pub(crate) struct Writer {
    orders: mpsc::SyncSender<Order>,
}

enum Order {
    Keep(VerifiedBlob),
    /// Keep these, then say so: or, instead, why it cannot be said.
    TellOf(Vec<VerifiedBlob>, Box<Input>),
    /// Say that everything before this is done.
    Tell(mpsc::Sender<()>),
}

/// Orders that wait: who gives more waits for the disk.
const ORDERS_MAX: usize = 2;

impl Writer {
    /// What is told goes to `inputs`.
    pub(crate) fn start(store: Arc<FileStore>, inputs: inputs::Sender<Input>) -> Result<Self, PNodeError> {
        let (flushes, told) = mpsc::sync_channel(1);
        let flushed = store.clone();
        spawn("zoo-flush", move || {
            for () in told {
                report(flushed.flush());
            }
        })?;
        let (orders, given) = mpsc::sync_channel(ORDERS_MAX);
        spawn("zoo-writer", move || {
            for order in given {
                match order {
                    Order::Keep(blob) => report(store.keep(&blob)),
                    Order::TellOf(blobs, input) => {
                        let kept = blobs.iter().try_for_each(|blob| store.keep(blob));
                        // Without a receiver the daemon is gone, and nobody waits for the result.
                        let _ = inputs.blocking_send(if_kept(*input, kept));
                    }
                    Order::Tell(done) => _ = done.send(()),
                }
                // A flush that waits already will do it too.
                let _ = flushes.try_send(());
            }
        })?;
        Ok(Self { orders })
    }

    /// Writes a blob of which only this node has to know. Until it is written, it is not there.
    pub(crate) fn keep(&self, blob: VerifiedBlob) {
        let _ = self.orders.send(Order::Keep(blob));
    }

    /// Writes blobs that others may ask for as soon as `input` is told, which is when they are written.
    pub(crate) fn tell_of(&self, blobs: Vec<VerifiedBlob>, input: Input) {
        let _ = self.orders.send(Order::TellOf(blobs, Box::new(input)));
    }

    /// Returns when everything that was to be kept is written.
    pub(crate) fn wait(&self) {
        let (done, told) = mpsc::channel();
        if self.orders.send(Order::Tell(done)).is_ok() {
            let _ = told.recv();
        }
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), PNodeError> {
    let spawned = thread::Builder::new().name(name.into()).spawn(run);
    spawned.map(|_| ()).map_err(|cause| PNodeError::Compute(cause.to_string()))
}

/// A task has not come to what nobody can be given.
fn if_kept(input: Input, kept: Result<(), StoreError>) -> Input {
    match (input, kept) {
        (Input::TaskFinished { assignment, .. }, Err(cause)) => {
            Input::TaskFailed { assignment, reason: cause.to_string() }
        }
        (input, _) => input,
    }
}

fn report(written: Result<(), StoreError>) {
    if let Err(cause) = written {
        warn!(%cause, "blobs have not reached the disk");
    }
}
