//! The side of the blob exchange that has blobs.
//!
//! A request is one stream: the 32 bytes of a digest. The answer: one status
//! byte ([`Status`]); if it is `Held`, the size as u64 little-endian and the bytes.
//! The digest of 32 zero bytes asks for a sign of life: the status comes at once.
//! Both ends of a connection may ask, whoever opened it.

use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use iroh::endpoint::{Connection, RecvStream, SendStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::{debug, warn};
use zoo_content::{BlobStore, Digest, StoreError, VerifiedBlob};

use crate::endpoint::{TrafficCounters, lock};
use crate::limits::{ARRIVAL_TIMEOUT, CONNECT_TIMEOUT, PROGRESS_TIMEOUT, SERVING_MAX};
use crate::meter::{Arrived, Meter};
use crate::pace::Pace;

/// Nobody has a blob of this digest: asking for it asks for a sign of life, which comes before all that waits.
pub(crate) const PING: Digest = Digest::from_bytes([0; 32]);

/// First byte of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Status {
    Held = 0,
    Absent = 1,
    Unreadable = 2,
}

impl Status {
    pub(crate) fn from_byte(byte: u8) -> Option<Self> {
        [Self::Held, Self::Absent, Self::Unreadable].into_iter().find(|&status| status as u8 == byte)
    }
}

pub(crate) struct BlobServer {
    store: Mutex<Option<Arc<dyn BlobStore>>>,
    traffic: Arc<TrafficCounters>,
    serving: Semaphore,
    pub(crate) pace: Pace,
    pub(crate) meter: Meter,
}

impl fmt::Debug for BlobServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlobServer").finish_non_exhaustive()
    }
}

impl BlobServer {
    pub(crate) fn new(traffic: Arc<TrafficCounters>) -> Self {
        let serving = Semaphore::new(SERVING_MAX);
        Self { store: Mutex::default(), traffic, serving, pace: Pace::default(), meter: Meter::default() }
    }

    /// Serves from `store` from now on; from nothing if `None`.
    pub(crate) fn set_store(&self, store: Option<Arc<dyn BlobStore>>) {
        *lock(&self.store) = store;
    }

    /// Answers every request on `connection` until it closes.
    pub(crate) async fn serve(self: Arc<Self>, connection: Connection) {
        while let Ok((send, receive)) = connection.accept_bi().await {
            let (server, connection) = (self.clone(), connection.clone());
            tokio::spawn(async move {
                if let Err(cause) = server.answer(&connection, send, receive).await {
                    debug!(cause, "a blob request was not answered to its end");
                }
            });
        }
    }

    async fn answer(
        &self,
        connection: &Connection,
        mut send: SendStream,
        mut receive: RecvStream,
    ) -> Result<(), String> {
        let mut digest = [0; 32];
        timeout(CONNECT_TIMEOUT, receive.read_exact(&mut digest))
            .await
            .map_err(|_| "no digest in time".to_string())?
            .map_err(|cause| cause.to_string())?;
        let digest = Digest::from_bytes(digest);
        if digest == PING {
            self.write(&mut send, &[Status::Absent as u8]).await?;
            return send.finish().map_err(|cause| cause.to_string());
        }

        let permit = self.serving.acquire().await.map_err(|cause| cause.to_string())?;
        let store = lock(&self.store).clone();
        let get = move || store.map_or(Err(StoreError::NotFound(digest)), |store| store.get(&digest));
        let found = tokio::task::spawn_blocking(get).await.map_err(|cause| cause.to_string())?;
        match found {
            Ok(blob) => {
                self.meter.begin(Instant::now());
                let bytes = blob.bytes().len() as u64;
                let mut sent = self.send(&mut send, &blob).await;
                drop((blob, permit));
                if sent.is_ok() {
                    sent = arrive(&mut send).await;
                }
                let arrived = sent.is_ok().then(|| Arrived { bytes, rtt: round_trip(connection) });
                self.meter.end(Instant::now(), arrived);
                return sent;
            }
            Err(StoreError::NotFound(_)) => self.write(&mut send, &[Status::Absent as u8]).await?,
            Err(cause) => {
                warn!(%digest, %cause, "a peer asked for a blob that cannot be read");
                self.write(&mut send, &[Status::Unreadable as u8]).await?;
            }
        }
        send.finish().map_err(|cause| cause.to_string())
    }

    async fn send(&self, send: &mut SendStream, blob: &VerifiedBlob) -> Result<(), String> {
        let mut header = vec![Status::Held as u8];
        header.extend_from_slice(&(blob.bytes().len() as u64).to_le_bytes());
        self.write(send, &header).await?;
        for piece in blob.bytes().chunks(self.pace.piece_bytes()) {
            self.pace.wait_for(piece.len()).await;
            self.write(send, piece).await?;
        }
        Ok(())
    }

    async fn write(&self, send: &mut SendStream, bytes: &[u8]) -> Result<(), String> {
        timeout(PROGRESS_TIMEOUT, send.write_all(bytes))
            .await
            .map_err(|_| "the peer stopped reading".to_string())?
            .map_err(|cause| cause.to_string())?;
        self.traffic.sent.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(())
    }
}

/// Ends the stream and waits until all of it has been acknowledged: only then is it known how long it took.
async fn arrive(send: &mut SendStream) -> Result<(), String> {
    send.finish().map_err(|cause| cause.to_string())?;
    match timeout(ARRIVAL_TIMEOUT, send.stopped()).await {
        Err(_) => Err("it was not acknowledged in time".into()),
        Ok(Err(cause)) => Err(cause.to_string()),
        Ok(Ok(Some(_))) => Err("the peer did not want the rest".into()),
        Ok(Ok(None)) => Ok(()),
    }
}

/// The transport's estimate of how long an answer takes on the path in use.
fn round_trip(connection: &Connection) -> Option<Duration> {
    connection.paths().iter().find(|path| path.is_selected()).map(|path| path.rtt())
}
