//! Events as texts, read from the journal once for everybody who watches.
//!
//! A watcher asks for the events from a number on, and then for those after. The newest are here; older ones are read again from the
//! journal. Nobody misses any: the journal has them all, under the same numbers, also after a restart.

use std::collections::VecDeque;
use std::sync::{Arc, RwLock};

use tokio::sync::watch;
use tracing::warn;
use zoo_orchestrator::Handle;
use zoo_orchestrator::journal::StoredEvent;
use zoo_protocol::JobId;
use zoo_state::Event;

use crate::history::History;
use crate::json::event_line;

/// The newest events are kept as texts: so many.
const RECENT_MAX: usize = 4096;

/// An event as watchers get it.
#[derive(Clone, Debug)]
pub struct Item {
    /// Its place in the order of events.
    pub sequence: u64,
    /// The job that it is about, if it is about one.
    pub job: Option<JobId>,
    /// What kind of event it is.
    pub kind: Arc<str>,
    /// Whether it is the last of its job.
    pub ends_job: bool,
    /// A JSON object.
    pub text: Arc<str>,
    /// All of that as a server-sent event.
    pub sent: Arc<str>,
}

/// The events so far, and what they say of every job.
#[derive(Clone)]
pub struct Feed {
    handle: Handle,
    shared: Arc<RwLock<Shared>>,
    /// Events that were taken in.
    next: watch::Receiver<u64>,
}

#[derive(Default)]
struct Shared {
    recent: VecDeque<Item>,
    history: History,
}

impl Feed {
    /// Takes in every event there is before it returns, and goes on with those that come.
    ///
    /// # Errors
    /// A journal that cannot be read.
    pub async fn start(
        handle: Handle,
        mut stop: watch::Receiver<bool>,
    ) -> Result<Self, zoo_orchestrator::JournalError> {
        let shared = Arc::new(RwLock::new(Shared::default()));
        let (sender, next) = watch::channel(0);
        let feed = Self { handle, shared, next };
        let mut head = feed.handle.head();
        let events = head.borrow_and_update().events;
        let mut taken = feed.take_in(0, events).await?;
        sender.send_replace(taken);
        let follower = feed.clone();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    changed = head.changed() => if changed.is_err() { return },
                    // The journal is about to close.
                    _ = stop.wait_for(|stop| *stop) => return,
                }
                let events = head.borrow_and_update().events;
                match follower.take_in(taken, events).await {
                    Ok(now) => taken = now,
                    Err(cause) => warn!(%cause, "events cannot be read"),
                }
                sender.send_replace(taken);
            }
        });
        Ok(feed)
    }

    /// What the events so far say of the jobs.
    pub fn history<T>(&self, look: impl FnOnce(&History) -> T) -> T {
        look(&self.shared.read().expect("taking in does not panic").history)
    }

    /// Events so far; whoever waits on it hears of more.
    pub fn next(&self) -> watch::Receiver<u64> {
        self.next.clone()
    }

    /// The next events from number `from` on: some of them, none if there are none yet.
    ///
    /// # Errors
    /// A journal that cannot be read.
    pub async fn page(&self, from: u64) -> Result<Vec<Item>, zoo_orchestrator::JournalError> {
        if let Some(items) = self.recent(from) {
            return Ok(items);
        }
        let known = *self.next.borrow();
        let stored = self.handle.events(from).await?;
        let stored = stored.into_iter().filter(|stored| stored.sequence < known);
        Ok(stored.filter_map(|stored| Some(item(&stored, &decode(&stored)?))).collect())
    }

    /// The next events, if they are all here.
    fn recent(&self, from: u64) -> Option<Vec<Item>> {
        const AT_ONCE: usize = 256;
        let shared = self.shared.read().expect("taking in does not panic");
        if shared.recent.front()?.sequence > from {
            return None;
        }
        let skipped = shared.recent.partition_point(|item| item.sequence < from);
        Some(shared.recent.iter().skip(skipped).take(AT_ONCE).cloned().collect())
    }

    async fn take_in(&self, from: u64, events: u64) -> Result<u64, zoo_orchestrator::JournalError> {
        let mut next = from;
        while next < events {
            let page = self.handle.events_at_once(next).await?;
            if page.is_empty() {
                break;
            }
            let mut shared = self.shared.write().expect("taking in does not panic");
            for stored in page {
                next = stored.sequence + 1;
                let Some(event) = decode(&stored) else { continue };
                shared.history.hear(stored.sequence, stored.at_ms, &event);
                shared.recent.push_back(item(&stored, &event));
                if shared.recent.len() > RECENT_MAX {
                    shared.recent.pop_front();
                }
            }
        }
        Ok(next)
    }
}

fn decode(stored: &StoredEvent) -> Option<Event> {
    postcard::from_bytes(&stored.bytes)
        .inspect_err(|cause| warn!(sequence = stored.sequence, %cause, "an event does not decode"))
        .ok()
}

fn item(stored: &StoredEvent, event: &Event) -> Item {
    let object = event_line(stored.at_ms, event);
    let text = |name: &str| object.get(name).and_then(|value| value.as_str());
    let ends_job =
        matches!(event, Event::JobFinished { .. } | Event::JobFailed { .. } | Event::JobStopped { .. });
    let (sequence, kind, data) = (stored.sequence, text("event").unwrap_or_default(), object.to_string());
    Item {
        sequence,
        job: text("job").and_then(|job| job.parse().ok()),
        kind: kind.into(),
        ends_job,
        // An object of JSON has no line breaks but those that its texts escape.
        sent: format!("id: {sequence}\nevent: {kind}\ndata: {data}\n\n").into(),
        text: data.into(),
    }
}
