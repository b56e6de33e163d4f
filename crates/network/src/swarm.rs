//! One blob from several peers at once.
//!
//! The first peer that has the blob sends its end, which proves its size. A blob of more than one slice is then fetched in slices, from
//! up to [`SOURCES_MAX`] peers at a time: who is done with one gets the next, so the fastest sends most; and when none is left, those
//! that have been on their way for long are asked of others too. What arrived and was checked stays, whatever becomes of who sent it, and if
//! there is a store to keep it in, also over the end of this process.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::sleep;
use zoo_content::{Digest, FileStore, LEAF_BYTES, Partial, VerifiedBlob};
use zoo_protocol::{NodeId, Peer};

use crate::blobs::BlobClient;
use crate::download::{Found, Wish};
use crate::endpoint::lock;
use crate::limits::SOURCES_MAX;
use crate::serve::SLICE_LEAVES;
use crate::{FetchError, FetchFailure};

/// A slice that has been on its way for so long is asked of another peer too.
const LATE_AFTER: Duration = Duration::from_secs(4);

/// A blob on its way from several peers.
struct Swarm {
    client: Arc<BlobClient>,
    digest: Digest,
    max_bytes: u64,
    progress: Mutex<Progress>,
}

struct Progress {
    partial: Partial,
    /// Slices that nobody was asked for, in the order in which they are.
    open: VecDeque<u32>,
    /// Slices that somebody was asked for: since when, and how many are.
    asked: BTreeMap<u32, (Instant, usize)>,
    /// Peers that were not asked yet, the likeliest first.
    sources: VecDeque<Peer>,
    attempts: Vec<(NodeId, FetchFailure)>,
}

/// What a peer is to be asked for.
enum Next {
    Slice(u32, Range<u32>),
    /// Nothing yet: all that is missing is on its way.
    Wait,
    Nothing,
}

/// Fetches a blob; in part from `store` if there is one and a process has left something there.
pub(crate) async fn fetch(
    client: Arc<BlobClient>,
    peers: &[Peer],
    digest: Digest,
    max_bytes: u64,
    store: Option<&FileStore>,
) -> Result<VerifiedBlob, FetchError> {
    let mut attempts = Vec::new();
    let mut sources: VecDeque<Peer> = peers.iter().cloned().collect();
    let left = store.and_then(|store| store.partial(&digest, max_bytes).ok().flatten());
    let partial = match left {
        Some(left) => left,
        None => match first_slice(&client, &mut sources, digest, max_bytes, store, &mut attempts).await {
            Some(partial) => partial,
            None => return Err(FetchError { digest, attempts }),
        },
    };
    let slices = (partial.leaves() as u32).div_ceil(SLICE_LEAVES);
    let mut open: VecDeque<u32> = (0..slices).filter(|slice| missing(&partial, *slice).is_some()).collect();
    // Each node begins elsewhere, and goes round.
    let start = usize::from(client.id().0[0]) * open.len() / 256;
    open.rotate_left(start);
    let progress = Progress { partial, open, asked: BTreeMap::new(), sources, attempts };
    let swarm = Arc::new(Swarm { client, digest, max_bytes, progress: Mutex::new(progress) });
    let mut workers = JoinSet::new();
    for _ in 0..SOURCES_MAX {
        workers.spawn(swarm.clone().work());
    }
    while workers.join_next().await.is_some() {
        if lock(&swarm.progress).partial.is_whole() {
            // Whoever still waits for a slow peer waits for what is here.
            workers.shutdown().await;
        }
    }
    let progress = Arc::into_inner(swarm).expect("every worker has ended").progress;
    let Progress { partial, attempts, .. } = progress.into_inner().expect("no worker panics with the lock");
    let error = |attempts| FetchError { digest, attempts };
    if !partial.is_whole() {
        return Err(error(attempts));
    }
    let finished = spawn_blocking(move || partial.finish(digest)).await;
    match finished.expect("reading and hashing do not panic") {
        Ok(Ok(blob)) => Ok(blob),
        // What an earlier process had left was not all there.
        Ok(Err(_)) | Err(_) => Err(error(Vec::new())),
    }
}

/// Asks one peer after the other for the end of the blob; leaves in `sources` who may have the rest.
async fn first_slice(
    client: &Arc<BlobClient>,
    sources: &mut VecDeque<Peer>,
    digest: Digest,
    max_bytes: u64,
    store: Option<&FileStore>,
    attempts: &mut Vec<(NodeId, FetchFailure)>,
) -> Option<Partial> {
    while let Some(peer) = sources.pop_front() {
        let mut leaves: BTreeMap<usize, Vec<u8>> = BTreeMap::new();
        let mut size = 0;
        let mut found = |found: Found<'_>| {
            size = found.bytes;
            leaves.insert(found.leaf, found.is.to_vec());
            Ok(())
        };
        let wish = Wish { digest, max_bytes, leaves: None };
        let outcome = client.download(&peer, &wish, &mut found).await;
        let kept = outcome.and_then(|()| {
            let partial = begin(&digest, size, store);
            partial.and_then(|partial| keep_all(partial, &leaves)).map_err(|cause| unkept(&cause))
        });
        match kept {
            Ok(partial) => {
                sources.push_front(peer);
                return Some(partial);
            }
            Err(failure) => attempts.push((peer.node, failure)),
        }
    }
    None
}

fn begin(digest: &Digest, bytes: u64, store: Option<&FileStore>) -> io::Result<Partial> {
    match store.filter(|_| bytes > LEAF_BYTES * u64::from(SLICE_LEAVES)) {
        Some(store) => store.begin(digest, bytes).map_err(io::Error::other),
        // One slice is here as a whole or not at all.
        None => Ok(Partial::in_memory(bytes)),
    }
}

fn keep_all(mut partial: Partial, leaves: &BTreeMap<usize, Vec<u8>>) -> io::Result<Partial> {
    leaves.iter().try_for_each(|(leaf, bytes)| partial.keep(*leaf, bytes))?;
    Ok(partial)
}

fn unkept(cause: &io::Error) -> FetchFailure {
    FetchFailure::Unkept(cause.to_string())
}

/// The leaves of a slice that are missing, from the first to the last.
fn missing(partial: &Partial, slice: u32) -> Option<Range<u32>> {
    let leaves = slice * SLICE_LEAVES..((slice + 1) * SLICE_LEAVES).min(partial.leaves() as u32);
    let mut missing = leaves.filter(|leaf| !partial.has(*leaf as usize));
    let first = missing.next()?;
    Some(first..missing.next_back().unwrap_or(first) + 1)
}

impl Swarm {
    /// Takes one peer after the other, and fetches from each until it fails or nothing is missing.
    async fn work(self: Arc<Self>) {
        while let Some(peer) = self.next_source() {
            loop {
                let (slice, leaves) = match self.next() {
                    Next::Slice(slice, leaves) => (slice, leaves),
                    Next::Wait => {
                        sleep(LATE_AFTER / 8).await;
                        continue;
                    }
                    Next::Nothing => return,
                };
                let wish = Wish { digest: self.digest, max_bytes: self.max_bytes, leaves: Some(leaves) };
                let mut found = |found: Found<'_>| self.keep(&found);
                let outcome = self.client.download(&peer, &wish, &mut found).await;
                if let Err(failure) = self.settle(slice, outcome) {
                    lock(&self.progress).attempts.push((peer.node, failure));
                    break;
                }
            }
        }
    }

    fn next_source(&self) -> Option<Peer> {
        lock(&self.progress).sources.pop_front()
    }

    /// What to ask for next: what nobody was asked for, or else what another peer has not sent for long.
    fn next(&self) -> Next {
        let Progress { partial, open, asked, .. } = &mut *lock(&self.progress);
        while let Some(slice) = open.pop_front() {
            if let Some(leaves) = missing(partial, slice) {
                asked.entry(slice).or_insert((Instant::now(), 0)).1 += 1;
                return Next::Slice(slice, leaves);
            }
        }
        let mut next = Next::Nothing;
        for (slice, (since, times)) in asked {
            let Some(leaves) = missing(partial, *slice) else { continue };
            if *times == 1 && since.elapsed() >= LATE_AFTER {
                *times += 1;
                return Next::Slice(*slice, leaves);
            }
            next = Next::Wait;
        }
        next
    }

    fn keep(&self, found: &Found<'_>) -> Result<(), FetchFailure> {
        let partial = &mut lock(&self.progress).partial;
        if found.bytes != partial.bytes() {
            return Err(FetchFailure::Protocol("it has another size"));
        }
        if partial.has(found.leaf) {
            return Ok(());
        }
        partial.keep(found.leaf, found.is).map_err(|cause| unkept(&cause))
    }

    /// A peer is done with a slice, one way or the other. One that sent something before it stalled is given another.
    fn settle(&self, slice: u32, outcome: Result<(), FetchFailure>) -> Result<(), FetchFailure> {
        let Progress { partial, open, asked, .. } = &mut *lock(&self.progress);
        if let Some((_, times)) = asked.get_mut(&slice) {
            *times -= 1;
            if *times == 0 {
                asked.remove(&slice);
            }
        }
        if missing(partial, slice).is_some() && !asked.contains_key(&slice) {
            open.push_back(slice);
        }
        match outcome {
            Err(FetchFailure::Stalled { received_bytes }) if received_bytes > LEAF_BYTES => Ok(()),
            outcome => outcome,
        }
    }
}
