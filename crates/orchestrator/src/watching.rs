//! What watchers see: every event from where they asked, then live, without gaps.
//!
//! Events are read from the journal, also the live ones: the host only says how far it is.
//! A watcher that is behind reads on at its own speed and costs nobody anything.

use tokio::sync::broadcast::error::RecvError;
use zoo_protocol::limits::reason;
use zoo_protocol::{FromOrchestrator, Rejection, ToOrchestrator};
use zoo_state::Event;

use crate::host::{Head, HostHandle};
use crate::sessions::{Receiver, Sender, SessionError, send};

/// Serves one watcher until it leaves.
pub(crate) async fn watch(
    host: &HostHandle,
    from: u64,
    sender: &mut Sender,
    receiver: &mut Receiver,
) -> Result<(), SessionError> {
    let mut heads = host.head.clone();
    let mut statuses = host.statuses.subscribe();
    let mut next = from;

    let events = heads.borrow().events;
    if from > events {
        let why = format!("event {from} was asked for and there are {events}: the journal is another one");
        return send(sender, &FromOrchestrator::Rejected(Rejection::Invalid(reason(why)))).await;
    }
    let mut caught_up = false;
    loop {
        let head = *heads.borrow_and_update();
        if send_until(host, head, &mut next, sender).await? {
            send(sender, &FromOrchestrator::StateRoot(head.root)).await?;
        }
        if !std::mem::replace(&mut caught_up, true) {
            send(sender, &FromOrchestrator::CaughtUp).await?;
        }
        tokio::select! {
            changed = heads.changed() => changed.map_err(|_| SessionError::Stopping)?,
            status = statuses.recv() => match status {
                Ok(status) => send(sender, &status).await?,
                // Newer heartbeats say all that the missed ones said.
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return Err(SessionError::Stopping),
            },
            message = receiver.recv() => match message? {
                None | Some(ToOrchestrator::Leave) => return Ok(()),
                Some(_) => {
                    let rejection = Rejection::Invalid("this connection watches; open another one".into());
                    return send(sender, &FromOrchestrator::Rejected(rejection)).await;
                }
            },
        }
    }
}

/// Sends the events from `next` up to `head`. True if a job ended among them.
async fn send_until(
    host: &HostHandle,
    head: Head,
    next: &mut u64,
    sender: &mut Sender,
) -> Result<bool, SessionError> {
    let mut job_ended = false;
    while *next < head.events {
        for stored in host.events.page(*next).await? {
            if stored.sequence >= head.events {
                break;
            }
            job_ended |= ends_job(&stored.bytes);
            let (sequence, at_ms, event) = (stored.sequence, stored.at_ms, stored.bytes.to_vec());
            send(sender, &FromOrchestrator::Event { sequence, at_ms, event }).await?;
            *next = sequence + 1;
        }
    }
    Ok(job_ended)
}

fn ends_job(event: &[u8]) -> bool {
    matches!(
        postcard::from_bytes(event),
        Ok(Event::JobFinished { .. } | Event::JobFailed { .. } | Event::JobStopped { .. })
    )
}
