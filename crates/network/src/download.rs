//! A slice of a blob on its way here, checked leaf by leaf as it arrives.

use std::ops::Range;
use std::sync::atomic::Ordering;

use iroh::endpoint::{Connection, ReadError, RecvStream, VarInt};
use tokio::time::{Duration, timeout};
use zoo_content::slice::{Reader, SliceError};
use zoo_content::{Digest, LEAF_BYTES};

use crate::FetchFailure;
use crate::endpoint::TrafficCounters;
use crate::limits::{FIRST_BYTE_TIMEOUT, PROGRESS_TIMEOUT};
use crate::serve::{Ask, LAST, SLICE_BYTES, SMALL_ABSENT, SMALL_UNREADABLE, Status, slice_of};

const CUT_HEADER: &str = "it ends within its header";

/// Some leaves of a blob.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    pub digest: Digest,
    /// The blob cannot be larger, bytes.
    pub max_bytes: u64,
    /// Which; `None` is the last ones, which prove the size of the blob.
    pub leaves: Option<Range<u32>>,
}

impl Wish {
    /// Asks for it.
    fn to_bytes(&self) -> [u8; 1 + SLICE_BYTES] {
        let (first, count) = match &self.leaves {
            Some(leaves) => (leaves.start, leaves.end - leaves.start),
            None => (LAST, 0),
        };
        let mut bytes = [0; 1 + SLICE_BYTES];
        bytes[0] = Ask::Slice as u8;
        bytes[1..33].copy_from_slice(self.digest.as_bytes());
        bytes[33..37].copy_from_slice(&first.to_le_bytes());
        bytes[37..].copy_from_slice(&count.to_le_bytes());
        bytes
    }
}

/// A leaf that was checked.
pub(crate) struct Found<'a> {
    /// Size of the blob. It is proved once its last leaf was found.
    pub bytes: u64,
    /// Which leaf.
    pub leaf: usize,
    /// Its bytes.
    pub is: &'a [u8],
}

/// What is received over one stream.
pub(crate) struct Download<'a> {
    received_bytes: u64,
    traffic: &'a TrafficCounters,
}

impl<'a> Download<'a> {
    pub(crate) fn new(traffic: &'a TrafficCounters) -> Self {
        Self { received_bytes: 0, traffic }
    }

    /// Asks for the slice, and hands on every leaf of it as soon as it is checked.
    pub(crate) async fn run(
        &mut self,
        connection: &Connection,
        wish: &Wish,
        found: &mut (dyn FnMut(Found<'_>) -> Result<(), FetchFailure> + Send),
    ) -> Result<(), FetchFailure> {
        let mut receive = self.ask(connection, &wish.to_bytes()).await?;
        self.read_status(&mut receive).await?;
        let mut bytes = [0; 8];
        self.read(&mut receive, &mut bytes, FIRST_BYTE_TIMEOUT, CUT_HEADER).await?;
        let (bytes, max_bytes) = (u64::from_le_bytes(bytes), wish.max_bytes);
        if bytes > max_bytes {
            // The rest is not wanted; a stream that has ended by itself is as good.
            let _ = receive.stop(VarInt::from_u32(0));
            return Err(FetchFailure::TooLarge { bytes, max_bytes });
        }
        self.read_slice(&mut receive, wish, bytes, found).await
    }

    /// Asks for a sign of life.
    pub(crate) async fn ping(&mut self, connection: &Connection) -> Result<(), FetchFailure> {
        let mut receive = self.ask(connection, &[Ask::SignOfLife as u8]).await?;
        match self.read_status(&mut receive).await {
            Err(FetchFailure::Absent) => Ok(()),
            Err(failure) => Err(failure),
            Ok(()) => Err(FetchFailure::Protocol("a sign of life is no blob")),
        }
    }

    /// Asks for small blobs.
    pub(crate) async fn ask_for(
        &mut self,
        connection: &Connection,
        digests: impl Iterator<Item = Digest>,
    ) -> Result<RecvStream, FetchFailure> {
        let mut request = vec![Ask::SmallBlobs as u8];
        digests.for_each(|digest| request.extend_from_slice(&digest.prefix()));
        self.ask(connection, &request).await
    }

    /// The next of the small blobs that were asked for.
    pub(crate) async fn read_small(
        &mut self,
        receive: &mut RecvStream,
        digest: &Digest,
        max_bytes: u64,
    ) -> Result<Vec<u8>, FetchFailure> {
        let mut bytes = [0; 4];
        self.read(receive, &mut bytes[..3], FIRST_BYTE_TIMEOUT, CUT_HEADER).await?;
        let bytes = match u32::from_le_bytes(bytes) {
            SMALL_ABSENT => return Err(FetchFailure::Absent),
            SMALL_UNREADABLE => return Err(FetchFailure::Unreadable),
            bytes => u64::from(bytes),
        };
        if bytes > max_bytes.min(LEAF_BYTES) {
            return Err(FetchFailure::TooLarge { bytes, max_bytes });
        }
        let mut blob = vec![0; bytes as usize];
        self.read(receive, &mut blob, PROGRESS_TIMEOUT, "it is shorter than announced").await?;
        if Digest::of(&blob) != *digest {
            return Err(FetchFailure::False(SliceError::False { offset: 0 }));
        }
        Ok(blob)
    }

    async fn ask(&mut self, connection: &Connection, request: &[u8]) -> Result<RecvStream, FetchFailure> {
        let (mut send, receive) = connection.open_bi().await.map_err(|cause| self.lost(&cause))?;
        send.write_all(request).await.map_err(|cause| self.lost(&cause))?;
        send.finish().map_err(|cause| self.lost(&cause))?;
        Ok(receive)
    }

    async fn read_status(&mut self, receive: &mut RecvStream) -> Result<(), FetchFailure> {
        let mut status = [0];
        self.read(receive, &mut status, FIRST_BYTE_TIMEOUT, CUT_HEADER).await?;
        match Status::from_byte(status[0]) {
            Some(Status::Held) => Ok(()),
            Some(Status::Absent) => Err(FetchFailure::Absent),
            Some(Status::Unreadable) => Err(FetchFailure::Unreadable),
            Some(Status::Relayed) => Err(FetchFailure::Relayed),
            None => Err(FetchFailure::Protocol("unknown status")),
        }
    }

    async fn read_slice(
        &mut self,
        receive: &mut RecvStream,
        wish: &Wish,
        bytes: u64,
        found: &mut (dyn FnMut(Found<'_>) -> Result<(), FetchFailure> + Send),
    ) -> Result<(), FetchFailure> {
        let slice =
            slice_of(wish.leaves.clone(), bytes).ok_or(FetchFailure::Protocol("it has another size"))?;
        let mut reader = Reader::new(wish.digest, bytes, LEAF_BYTES, slice);
        let mut buffer = vec![0; LEAF_BYTES as usize];
        while let Some(wants) = reader.wants() {
            let is = &mut buffer[..wants];
            self.read(receive, is, PROGRESS_TIMEOUT, "it is shorter than announced").await?;
            if let Some(at) = reader.take(is).map_err(FetchFailure::False)? {
                found(Found { bytes, leaf: (at / LEAF_BYTES) as usize, is })?;
            }
        }
        match timeout(PROGRESS_TIMEOUT, receive.read(&mut [0])).await {
            Ok(Ok(Some(1..))) => Err(FetchFailure::Protocol("it is longer than announced")),
            // All that was wanted is here, however the stream ends.
            _ => Ok(()),
        }
    }

    /// Fills `buffer`; between any two pieces of it passes at most `patience`.
    async fn read(
        &mut self,
        receive: &mut RecvStream,
        mut buffer: &mut [u8],
        patience: Duration,
        cut: &'static str,
    ) -> Result<(), FetchFailure> {
        while !buffer.is_empty() {
            match timeout(patience, receive.read(buffer)).await {
                Err(_) => return Err(self.stalled()),
                Ok(Err(cause)) => return Err(self.lost(&read_cause(cause))),
                Ok(Ok(None)) => return Err(FetchFailure::Protocol(cut)),
                Ok(Ok(Some(count))) => {
                    self.received_bytes += count as u64;
                    self.traffic.received.fetch_add(count as u64, Ordering::Relaxed);
                    buffer = &mut buffer[count..];
                }
            }
        }
        Ok(())
    }

    pub(crate) fn stalled(&self) -> FetchFailure {
        FetchFailure::Stalled { received_bytes: self.received_bytes }
    }

    fn lost(&self, cause: &dyn ToString) -> FetchFailure {
        FetchFailure::Lost { received_bytes: self.received_bytes, cause: cause.to_string() }
    }
}

/// What lies behind "connection lost".
fn read_cause(error: ReadError) -> String {
    match error {
        ReadError::ConnectionLost(cause) => cause.to_string(),
        other => other.to_string(),
    }
}
