//! The side of the blob exchange that has blobs.
//!
//! A request is one stream: the 32 bytes of a digest, and which leaves of the blob are wanted: the first and how many, as u32
//! little-endian each, the first being [`LAST`] for the last slice. The answer: one status byte ([`Status`]); if it is `Held`, the
//! size as u64 little-endian, and the leaves with what it takes to check them ([`zoo_content::slice`]).
//! The digest of 32 zero bytes asks for a sign of life: the status comes at once.
//! Both ends of a connection may ask, whoever opened it.

use std::fmt;
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use iroh::endpoint::{Connection, RecvStream, SendStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::{debug, warn};
use zoo_content::slice::{Outline, Step};
use zoo_content::{BlobStore, Digest, LEAF_BYTES, StoreError, VerifiedBlob};

use crate::Relay;
use crate::endpoint::{TrafficCounters, lock};
use crate::limits::{
    ARRIVAL_TIMEOUT, CONNECT_TIMEOUT, PROGRESS_TIMEOUT, RELAYED_BLOB_BYTES_MAX, SERVING_MAX,
};
use crate::meeting::is_relayed;
use crate::meter::{Arrived, Meter};
use crate::pace::Pace;

/// Nobody has a blob of this digest: asking for it asks for a sign of life, which comes before all that waits.
pub(crate) const PING: Digest = Digest::from_bytes([0; 32]);
/// Bytes of a request.
pub(crate) const REQUEST_BYTES: usize = 40;
/// Asks for the last slice.
pub(crate) const LAST: u32 = u32::MAX;
/// Leaves of a slice, the most that one request gets: 1 MiB.
pub(crate) const SLICE_LEAVES: u32 = 16;
/// Blobs that were served lately stay in memory with their outlines up to this size in all, or one of any size.
const RECENT_BYTES_MAX: u64 = 256 << 20;

/// Where the wanted leaves of a blob of `bytes` bytes are; `None` if it has no such leaves.
pub(crate) fn slice_of(leaves: Option<Range<u32>>, bytes: u64) -> Option<Range<u64>> {
    let last = bytes.saturating_sub(1) / LEAF_BYTES;
    let leaves = match leaves {
        None => last - last % u64::from(SLICE_LEAVES)..last + 1,
        Some(leaves) => leaves.start.into()..leaves.end.into(),
    };
    let fits =
        !leaves.is_empty() && leaves.end <= last + 1 && leaves.end - leaves.start <= u64::from(SLICE_LEAVES);
    fits.then(|| leaves.start * LEAF_BYTES..(leaves.end * LEAF_BYTES).min(bytes))
}

/// A blob and what proves parts of it.
#[derive(Debug)]
struct Served {
    blob: VerifiedBlob,
    outline: Outline,
}

/// First byte of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Status {
    Held = 0,
    Absent = 1,
    Unreadable = 2,
    /// Held, but too large for the relay through which it is asked for.
    Relayed = 3,
}

impl Status {
    pub(crate) fn from_byte(byte: u8) -> Option<Self> {
        [Self::Held, Self::Absent, Self::Unreadable, Self::Relayed]
            .into_iter()
            .find(|&status| status as u8 == byte)
    }
}

pub(crate) struct BlobServer {
    store: Mutex<Option<Arc<dyn BlobStore>>>,
    traffic: Arc<TrafficCounters>,
    /// There is a relay, and it carries no bulk.
    spares_relay: bool,
    serving: Semaphore,
    /// The latest last.
    recent: Mutex<Vec<Arc<Served>>>,
    pub(crate) pace: Pace,
    pub(crate) meter: Meter,
}

impl fmt::Debug for BlobServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlobServer").finish_non_exhaustive()
    }
}

impl BlobServer {
    pub(crate) fn new(relay: Option<&Relay>, traffic: Arc<TrafficCounters>) -> Self {
        let spares_relay = relay.is_some_and(|relay| !relay.carries_bulk());
        let serving = Semaphore::new(SERVING_MAX);
        Self {
            store: Mutex::default(),
            traffic,
            spares_relay,
            serving,
            recent: Mutex::default(),
            pace: Pace::default(),
            meter: Meter::default(),
        }
    }

    /// Serves from `store` from now on; from nothing if `None`.
    pub(crate) fn set_store(&self, store: Option<Arc<dyn BlobStore>>) {
        *lock(&self.store) = store;
        lock(&self.recent).clear();
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
        self: Arc<Self>,
        connection: &Connection,
        mut send: SendStream,
        mut receive: RecvStream,
    ) -> Result<(), String> {
        let mut request = [0; REQUEST_BYTES];
        timeout(CONNECT_TIMEOUT, receive.read_exact(&mut request))
            .await
            .map_err(|_| "no request in time".to_string())?
            .map_err(|cause| cause.to_string())?;
        let (digest, leaves) = request.split_first_chunk().expect("a request begins with a digest");
        let digest = Digest::from_bytes(*digest);
        if digest == PING {
            self.write(&mut send, &[Status::Absent as u8]).await?;
            return send.finish().map_err(|cause| cause.to_string());
        }
        let [first, count] = [0, 4].map(|at| u32::from_le_bytes([0, 1, 2, 3].map(|byte| leaves[at + byte])));
        let leaves = (first != LAST).then(|| first..first.saturating_add(count));

        let permit = self.serving.acquire().await.map_err(|cause| cause.to_string())?;
        let server = self.clone();
        let found = tokio::task::spawn_blocking(move || server.find(&digest)).await;
        match found.map_err(|cause| cause.to_string())? {
            Ok(served) if self.is_refused(&served, connection) => {
                self.write(&mut send, &[Status::Relayed as u8]).await?;
            }
            Ok(served) => match slice_of(leaves, served.outline.bytes()) {
                Some(slice) => {
                    self.meter.begin(Instant::now());
                    let bytes = slice.end - slice.start;
                    let mut sent = self.send(&mut send, &served, slice).await;
                    drop((served, permit));
                    if sent.is_ok() {
                        sent = arrive(&mut send).await;
                    }
                    let arrived = sent.is_ok().then(|| Arrived { bytes, rtt: round_trip(connection) });
                    self.meter.end(Instant::now(), arrived);
                    return sent;
                }
                None => self.write(&mut send, &[Status::Absent as u8]).await?,
            },
            Err(StoreError::NotFound(_)) => self.write(&mut send, &[Status::Absent as u8]).await?,
            Err(cause) => {
                warn!(%digest, %cause, "a peer asked for a blob that cannot be read");
                self.write(&mut send, &[Status::Unreadable as u8]).await?;
            }
        }
        send.finish().map_err(|cause| cause.to_string())
    }

    /// Whether a blob is too large for the way to who asks for it.
    fn is_refused(&self, served: &Served, connection: &Connection) -> bool {
        self.spares_relay && served.outline.bytes() > RELAYED_BLOB_BYTES_MAX && is_relayed(connection)
    }

    async fn send(&self, send: &mut SendStream, served: &Served, slice: Range<u64>) -> Result<(), String> {
        let Served { blob, outline } = served;
        let mut header = vec![Status::Held as u8];
        header.extend_from_slice(&outline.bytes().to_le_bytes());
        self.write(send, &header).await?;
        let mut steps = Vec::new();
        outline.steps(slice, |step| steps.push(step));
        for step in steps {
            match step {
                Step::Node(node) => self.write_paced(send, &node).await?,
                Step::Leaf(at) => self.write_paced(send, &blob[at.start as usize..at.end as usize]).await?,
            }
        }
        Ok(())
    }

    async fn write_paced(&self, send: &mut SendStream, bytes: &[u8]) -> Result<(), String> {
        for piece in bytes.chunks(self.pace.piece_bytes()) {
            self.pace.wait_for(piece.len()).await;
            self.write(send, piece).await?;
        }
        Ok(())
    }

    /// A blob of the store: read, checked and outlined, unless it was served a moment ago.
    fn find(&self, digest: &Digest) -> Result<Arc<Served>, StoreError> {
        let is_it = |served: &Arc<Served>| served.blob.digest() == *digest;
        if let Some(served) = lock(&self.recent).iter().find(|served| is_it(served)) {
            return Ok(served.clone());
        }
        let store = lock(&self.store).clone().ok_or(StoreError::NotFound(*digest))?;
        let blob = store.get(digest)?;
        let served = Arc::new(Served { outline: Outline::of(&blob, LEAF_BYTES), blob });
        // What fits into one slice is not asked for again.
        if served.outline.bytes() > LEAF_BYTES * u64::from(SLICE_LEAVES) {
            let mut recent = lock(&self.recent);
            recent.retain(|served| !is_it(served));
            recent.push(served.clone());
            let total =
                |recent: &[Arc<Served>]| recent.iter().map(|served| served.outline.bytes()).sum::<u64>();
            while recent.len() > 1 && total(&recent) > RECENT_BYTES_MAX {
                recent.remove(0);
            }
        }
        Ok(served)
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
