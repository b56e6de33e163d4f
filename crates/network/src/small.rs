//! Small blobs that are wanted of one peer at the same time are asked for on one stream: of a sparse update most would otherwise be
//! spent on requests, streams and packets that are not full.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use iroh::endpoint::{Connection, RecvStream, VarInt};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};
use zoo_content::{Digest, LEAF_BYTES};
use zoo_protocol::Peer;

use crate::FetchFailure;
use crate::blobs::{BlobClient, Slot};
use crate::download::{Download, Wish};
use crate::endpoint::lock;
use crate::limits::{GATHERING, GATHERING_MAX, PROGRESS_TIMEOUT, SLICE_TIMEOUT, SMALL_BLOBS_MAX};

/// What is wanted of a peer and was not asked for yet.
#[derive(Debug, Default)]
pub(crate) struct Wanted(Mutex<Vec<Want>>);

#[derive(Debug)]
struct Want {
    digest: Digest,
    max_bytes: u64,
    answer: oneshot::Sender<Result<Vec<u8>, FetchFailure>>,
}

impl Wish {
    /// Whether it is for all of a blob that has one leaf at most.
    pub(crate) fn is_small(&self) -> bool {
        self.leaves.is_none() && self.max_bytes <= LEAF_BYTES
    }
}

impl Wanted {
    /// Whether it is the first, so that somebody has to ask.
    fn add(&self, want: Want) -> bool {
        let mut wants = lock(&self.0);
        wants.push(want);
        wants.len() == 1
    }

    /// Waits until no more come, and takes those that somebody still waits for.
    async fn gather(&self) -> VecDeque<Want> {
        let began = Instant::now();
        loop {
            let before = lock(&self.0).len();
            sleep(GATHERING).await;
            if lock(&self.0).len() == before || began.elapsed() >= GATHERING_MAX {
                return self.take();
            }
        }
    }

    fn take(&self) -> VecDeque<Want> {
        let wants = std::mem::take(&mut *lock(&self.0));
        wants.into_iter().filter(|want| !want.answer.is_closed()).collect()
    }
}

impl BlobClient {
    /// Fetches a small blob from `peer`, together with others that are wanted of it.
    pub(crate) async fn fetch_small(
        self: &Arc<Self>,
        slot: Arc<Slot>,
        peer: &Peer,
        wish: &Wish,
    ) -> Result<Vec<u8>, FetchFailure> {
        let Wish { digest, max_bytes, .. } = *wish;
        let (answer, answered) = oneshot::channel();
        if slot.wanted.add(Want { digest, max_bytes, answer }) {
            // Others wait for what is asked here: it is not given up with the fetch that came first.
            tokio::spawn(self.clone().ask_for_all(slot, peer.clone()));
        }
        answered.await.unwrap_or(Err(FetchFailure::Stalled { received_bytes: 0 }))
    }

    async fn ask_for_all(self: Arc<Self>, slot: Arc<Slot>, peer: Peer) {
        let connection = match self.connection(&slot, &peer).await {
            Ok(connection) => connection,
            Err(failure) => return fail(slot.wanted.take(), &failure),
        };
        let mut wants = slot.wanted.gather().await;
        let _permit = self.fetching.acquire().await.expect("the semaphore is never closed");
        while !wants.is_empty() {
            let rest = wants.split_off(wants.len().min(SMALL_BLOBS_MAX));
            self.ask_on_one_stream(&connection, wants).await;
            wants = rest;
        }
    }

    /// Asks for all of `wants`; again for those that come after an answer which cannot be read to its end.
    async fn ask_on_one_stream(&self, connection: &Connection, mut wants: VecDeque<Want>) {
        while !wants.is_empty() {
            let mut download = Download::new(&self.traffic);
            let digests = wants.iter().map(|want| want.digest);
            let mut receive = match download.ask_for(connection, digests).await {
                Ok(receive) => receive,
                Err(failure) => return fail(wants, &failure),
            };
            while let Some(Want { digest, max_bytes, answer }) = wants.pop_front() {
                let read = download.read_small(&mut receive, &digest, max_bytes);
                let read = timeout(SLICE_TIMEOUT, read).await;
                let read = read.unwrap_or_else(|_| Err(download.stalled()));
                // Who gave up waiting does not need it.
                let _ = answer.send(read.clone());
                match read {
                    Ok(_) | Err(FetchFailure::Absent | FetchFailure::Unreadable | FetchFailure::False(_)) => {
                    }
                    Err(failure @ (FetchFailure::Stalled { .. } | FetchFailure::Lost { .. })) => {
                        return fail(wants, &failure);
                    }
                    Err(_) => break,
                }
            }
            end(receive, wants.is_empty()).await;
        }
    }
}

/// Sees the stream's end, so that its sender learns that all has arrived; or stops it.
async fn end(mut receive: RecvStream, all: bool) {
    if all {
        let _ = timeout(PROGRESS_TIMEOUT, receive.read(&mut [0])).await;
    } else {
        // A stream that has ended by itself is as good.
        let _ = receive.stop(VarInt::from_u32(0));
    }
}

fn fail(wants: VecDeque<Want>, failure: &FetchFailure) {
    for want in wants {
        let _ = want.answer.send(Err(failure.clone()));
    }
}
