//! The side of the blob exchange that has blobs.
//!
//! A stream begins with one byte that says what is asked for ([`Ask`]):
//!
//! - a sign of life: the status of who has nothing comes at once;
//! - a slice of a blob: the 32 bytes of its digest, and which leaves are wanted: the first and how many, as u32 little-endian each,
//!   the first being [`LAST`] for the last slice. The answer: one status byte ([`Status`]); if it is `Held`, the size as u64
//!   little-endian, and the leaves with what it takes to check them ([`zoo_content::slice`]);
//! - small blobs: the first 8 bytes of the digests of up to [`SMALL_BLOBS_MAX`], to the end of the stream. The answers, one after the
//!   other: 24 bits little-endian, which are the size of the blob or [`SMALL_ABSENT`] or [`SMALL_UNREADABLE`], and the blob, unless it
//!   has more than one leaf: then nothing of it. Who asks knows whole digests, so it is enough that one blob in a store begins so.
//!
//! Both ends of a connection may ask, whoever opened it.

use std::fmt;
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use iroh::TransportAddr;
use iroh::endpoint::{Connection, IncomingAddr, RecvStream, SendStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::{debug, warn};
use zoo_content::slice::{Outline, Step};
use zoo_content::{BlobStore, Digest, DigestPrefix, LEAF_BYTES, StoreError, VerifiedBlob};

use crate::Relay;
use crate::endpoint::{TrafficCounters, lock};
use crate::limits::{
    ARRIVAL_TIMEOUT, ASKED_AT_ONCE_MAX, CONNECT_TIMEOUT, FIRST_BYTE_TIMEOUT, PROGRESS_TIMEOUT,
    RELAYED_BLOB_BYTES_MAX, SENDING_MAX, SENDING_MAX_EACH, SERVING_MAX, SLICE_TIMEOUT, SLOW_SLICE,
    SMALL_BLOBS_MAX,
};
use crate::meeting::is_relayed;
use crate::meter::{Arrived, Meter};
use crate::pace::Pace;
use crate::room::{GivesWay, Place, Room, Source};

/// First byte of a stream: what is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Ask {
    SignOfLife = 0,
    Slice = 1,
    SmallBlobs = 2,
}

impl Ask {
    fn from_byte(byte: u8) -> Option<Self> {
        [Self::SignOfLife, Self::Slice, Self::SmallBlobs].into_iter().find(|&ask| ask as u8 == byte)
    }
}

/// In place of the size of a small blob: it is not held, or cannot be read.
pub(crate) const SMALL_ABSENT: u32 = 0xff_ffff;
pub(crate) const SMALL_UNREADABLE: u32 = 0xff_fffe;
/// The size of a blob that has so many bytes or more.
const SMALL_LARGEST: u32 = 0xff_fffd;
/// Bytes of what says which slice of which blob.
pub(crate) const SLICE_BYTES: usize = 40;
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
    looking_up: Semaphore,
    sending: Arc<Room>,
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
        let looking_up = Semaphore::new(SERVING_MAX);
        let sending = Room::new(SENDING_MAX, SENDING_MAX_EACH, GivesWay::Oldest(SLOW_SLICE));
        Self {
            store: Mutex::default(),
            traffic,
            spares_relay,
            looking_up,
            sending,
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
        let asked = Arc::new(Semaphore::new(ASKED_AT_ONCE_MAX));
        loop {
            let turn = asked.clone().acquire_owned().await.expect("the semaphore is never closed");
            let Ok((send, receive)) = connection.accept_bi().await else { return };
            let (server, connection) = (self.clone(), connection.clone());
            tokio::spawn(async move {
                if let Err(cause) = server.answer(&connection, send, receive).await {
                    debug!(cause, "a blob request was not answered to its end");
                }
                drop(turn);
            });
        }
    }

    async fn answer(
        self: Arc<Self>,
        connection: &Connection,
        mut send: SendStream,
        mut receive: RecvStream,
    ) -> Result<(), String> {
        let mut ask = [0];
        in_time(receive.read_exact(&mut ask)).await?;
        match Ask::from_byte(ask[0]).ok_or("a request of an unknown kind")? {
            Ask::SignOfLife => {
                self.write(&mut send, &[Status::Absent as u8]).await?;
                send.finish().map_err(|cause| cause.to_string())
            }
            Ask::Slice => {
                let mut slice = [0; SLICE_BYTES];
                in_time(receive.read_exact(&mut slice)).await?;
                let (digest, leaves) = slice.split_first_chunk().expect("a request begins with a digest");
                let [first, count] =
                    [0, 4].map(|at| u32::from_le_bytes([0, 1, 2, 3].map(|byte| leaves[at + byte])));
                let leaves = (first != LAST).then(|| first..first.saturating_add(count));
                // Nothing more is read.
                drop(receive);
                let place = self.place_for(connection).await?;
                let answer = self.answer_slice(connection, send, Digest::from_bytes(*digest), leaves);
                in_its_place(&place, answer).await
            }
            Ask::SmallBlobs => {
                let most = SMALL_BLOBS_MAX * size_of::<DigestPrefix>();
                let prefixes = in_time(receive.read_to_end(most)).await?;
                let (prefixes, []) = prefixes.as_chunks() else { return Err("a digest is cut".into()) };
                let place = self.place_for(connection).await?;
                in_its_place(&place, self.answer_small_blobs(connection, send, prefixes)).await
            }
        }
    }

    /// A place for an answer, among those that are on their way.
    async fn place_for(&self, connection: &Connection) -> Result<Place, String> {
        let place = self.sending.enter_within(source_of(connection), FIRST_BYTE_TIMEOUT).await;
        place.ok_or_else(|| "too many answers are on their way".to_string())
    }

    async fn answer_slice(
        self: Arc<Self>,
        connection: &Connection,
        mut send: SendStream,
        digest: Digest,
        leaves: Option<Range<u32>>,
    ) -> Result<(), String> {
        match self.clone().look_up(digest).await? {
            Ok(served) if self.is_refused(&served, connection) => {
                self.write(&mut send, &[Status::Relayed as u8]).await?;
            }
            Ok(served) => match slice_of(leaves, served.outline.bytes()) {
                Some(slice) => {
                    self.meter.begin(Instant::now());
                    let bytes = slice.end - slice.start;
                    // Who reads slowly holds a slice in memory, not the blob.
                    let answer = held(&served, slice);
                    drop(served);
                    let mut sent = self.write_paced(&mut send, &answer).await;
                    if sent.is_ok() {
                        sent = arrive(&mut send).await;
                    }
                    let arrived = sent.is_ok().then(|| Arrived { bytes, rtt: round_trip(connection) });
                    self.meter.end(Instant::now(), arrived);
                    return sent;
                }
                None => self.write(&mut send, &[Status::Absent as u8]).await?,
            },
            Err(status) => self.write(&mut send, &[status as u8]).await?,
        }
        send.finish().map_err(|cause| cause.to_string())
    }

    async fn answer_small_blobs(
        self: Arc<Self>,
        connection: &Connection,
        mut send: SendStream,
        prefixes: &[DigestPrefix],
    ) -> Result<(), String> {
        self.meter.begin(Instant::now());
        let mut sent = self.clone().send_small_blobs(&mut send, prefixes).await;
        if sent.is_ok() {
            sent = arrive(&mut send).await.and(sent);
        }
        let arrived = sent.as_ref().ok().map(|&bytes| Arrived { bytes, rtt: round_trip(connection) });
        self.meter.end(Instant::now(), arrived);
        sent.map(drop)
    }

    /// Sends all answers, and says how many bytes of blobs were in them.
    async fn send_small_blobs(
        self: Arc<Self>,
        send: &mut SendStream,
        prefixes: &[DigestPrefix],
    ) -> Result<u64, String> {
        let (mut answers, mut bytes) = (Vec::new(), 0);
        for prefix in prefixes {
            let digest = self.clone().blob_called(*prefix).await?;
            let found = match digest {
                Ok(digest) => self.clone().look_up(digest).await?,
                Err(status) => Err(status),
            };
            let size = match &found {
                Ok(served) => served.outline.bytes().min(SMALL_LARGEST.into()) as u32,
                Err(Status::Unreadable) => SMALL_UNREADABLE,
                Err(_) => SMALL_ABSENT,
            };
            answers.extend_from_slice(&size.to_le_bytes()[..3]);
            if let Ok(served) = found
                && served.outline.bytes() <= LEAF_BYTES
            {
                answers.extend_from_slice(&served.blob);
                bytes += u64::from(size);
            }
            // What goes out together shares its packets.
            if answers.len() >= LEAF_BYTES as usize {
                self.write_paced(send, &answers).await?;
                answers.clear();
            }
        }
        self.write_paced(send, &answers).await?;
        Ok(bytes)
    }

    /// The blob of the store whose digest begins so, or what to answer instead.
    async fn blob_called(self: Arc<Self>, prefix: DigestPrefix) -> Result<Result<Digest, Status>, String> {
        let Some(store) = lock(&self.store).clone() else { return Ok(Err(Status::Absent)) };
        let found = tokio::task::spawn_blocking(move || store.find(&prefix)).await;
        Ok(match found.map_err(|cause| cause.to_string())? {
            Ok(found) => found.ok_or(Status::Absent),
            Err(cause) => {
                warn!(%cause, "a peer asked for a blob in a store that cannot be read");
                Err(Status::Unreadable)
            }
        })
    }

    /// A blob of the store, or what to answer instead.
    async fn look_up(self: Arc<Self>, digest: Digest) -> Result<Result<Arc<Served>, Status>, String> {
        let server = self.clone();
        let _permit = server.looking_up.acquire().await.map_err(|cause| cause.to_string())?;
        let found = tokio::task::spawn_blocking(move || self.find(&digest)).await;
        Ok(found.map_err(|cause| cause.to_string())?.map_err(|cause| match cause {
            StoreError::NotFound(_) => Status::Absent,
            cause => {
                warn!(%digest, %cause, "a peer asked for a blob that cannot be read");
                Status::Unreadable
            }
        }))
    }

    /// Whether a blob is too large for the way to who asks for it.
    fn is_refused(&self, served: &Served, connection: &Connection) -> bool {
        self.spares_relay && served.outline.bytes() > RELAYED_BLOB_BYTES_MAX && is_relayed(connection)
    }

    async fn write_paced(&self, send: &mut SendStream, bytes: &[u8]) -> Result<(), String> {
        for piece in bytes.chunks(self.pace.piece_bytes().min(LEAF_BYTES as usize)) {
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

/// An answer that has a slice of a blob.
fn held(served: &Served, slice: Range<u64>) -> Vec<u8> {
    let Served { blob, outline } = served;
    let mut answer = vec![Status::Held as u8];
    answer.extend_from_slice(&outline.bytes().to_le_bytes());
    outline.steps(slice, |step| match step {
        Step::Node(node) => answer.extend_from_slice(&node),
        Step::Leaf(at) => answer.extend_from_slice(&blob[at.start as usize..at.end as usize]),
    });
    answer
}

/// Answers, unless it takes too long, or others need the place and it is slow.
async fn in_its_place(place: &Place, answer: impl Future<Output = Result<(), String>>) -> Result<(), String> {
    tokio::select! {
        answered = timeout(SLICE_TIMEOUT, answer) => answered.map_err(|_| "it took too long".to_string())?,
        () = place.taken_away() => Err("it was slow, and others waited".into()),
    }
}

/// Who is on the other side, as far as room is shared.
fn source_of(connection: &Connection) -> Source {
    let paths = connection.paths();
    match paths.iter().find(|path| path.is_selected()).map(|path| path.remote_addr().clone()) {
        Some(TransportAddr::Ip(address)) => Source::of(&IncomingAddr::Ip(address)),
        _ => Source::Relay,
    }
}

/// Reads a part of a request.
async fn in_time<T, E: fmt::Display>(read: impl Future<Output = Result<T, E>>) -> Result<T, String> {
    let read = timeout(CONNECT_TIMEOUT, read).await.map_err(|_| "no request in time".to_string())?;
    read.map_err(|cause| cause.to_string())
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
