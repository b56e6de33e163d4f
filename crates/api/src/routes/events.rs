//! Events, as they happen: server-sent, resumable by their numbers; and those of before in pages.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream::unfold;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use zoo_protocol::JobId;

use super::jobs::unknown;
use super::limit;
use crate::app::App;
use crate::extract::{Asked, MayRead, Named};
use crate::feed::{Feed, Item};
use crate::json::Kinds;
use crate::problem::Problem;
use crate::schema::{Event, Events, EventsPage, WatchFrom, Watched};

/// What a browser sends when it connects again: the number of the last event that it got.
const LAST_EVENT_ID: &str = "last-event-id";
/// A sign of life so often, where nothing happens.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// What a sign of life is: a comment.
const COMMENT: &[u8] = b":\n\n";
/// What is left between one watcher's turn and the next one's, when all of them have something to be told: time for a request.
const BETWEEN_TURNS: Duration = Duration::from_micros(200);
/// Nobody waits longer than this for its turn.
const TURN_MAX: Duration = Duration::from_secs(1);
/// Pages of the journal that are read for one page of a job's events at most.
const READ_PAGES_MAX: usize = 64;

/// Watch everything that happens
///
/// Every event from `from` on, or after the one that `Last-Event-ID` names, then those that come. Each has its number as `id`, the
/// kind of event as `event`, and a JSON object as `data`. Who loses the connection asks again with the last number, and misses nothing.
/// With `kinds` only events of those kinds are sent, under the numbers that they have among all.
#[utoipa::path(
    get, path = "/v1/events", tag = "events",
    params(Watched, ("Last-Event-ID" = Option<u64>, Header, description = "Number of the last event that is known")),
    responses((status = 200, description = "Events", content_type = "text/event-stream", body = String),
        (status = 400, description = "No number, or no kind of event", body = Problem, content_type = "application/problem+json")),
)]
pub(crate) async fn all(
    _: MayRead,
    State(app): State<App>,
    headers: HeaderMap,
    Asked(Watched { from, kinds }): Asked<Watched>,
) -> Result<Response, Problem> {
    let from = first(&headers, from)?.unwrap_or(0);
    Ok(watch(&app, from, Wanted::Kinds(kinds), false))
}

/// Watch what happens to a job
///
/// As above, of one job, from when it was accepted. The stream ends once the job is over.
#[utoipa::path(
    get, path = "/v1/jobs/{id}/events", tag = "events",
    params(WatchFrom, ("id" = String, Path, description = "The job's id"),
        ("Last-Event-ID" = Option<u64>, Header, description = "Number of the last event that is known")),
    responses((status = 200, description = "Events", content_type = "text/event-stream", body = String),
        (status = 400, description = "No number", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "No such job", body = Problem, content_type = "application/problem+json")),
)]
pub(crate) async fn of_job(
    _: MayRead,
    State(app): State<App>,
    Named(id): Named<JobId>,
    headers: HeaderMap,
    Asked(asked): Asked<WatchFrom>,
) -> Result<Response, Problem> {
    let (accepted, ended) = span(&app, &id)?;
    let from = first(&headers, asked.from)?.unwrap_or(accepted).max(accepted);
    let is_over = ended.is_some_and(|last| from > last);
    Ok(watch(&app, from, Wanted::Job(id), is_over))
}

/// List what happened to a job so far
///
/// The events that `/v1/jobs/{id}/events` sends, in pages: for who wants no stream. What happened since is on the page from the last
/// `id` and 1 on. A page may hold fewer than `limit`, also none, where much happened to other jobs in between: `next` says whether
/// there are more.
#[utoipa::path(
    get, path = "/v1/jobs/{id}/history", tag = "events",
    params(EventsPage, ("id" = String, Path, description = "The job's id")),
    responses((status = 200, description = "Some of them", body = Events),
        (status = 400, description = "The query makes no sense", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "No such job", body = Problem, content_type = "application/problem+json")),
)]
pub(crate) async fn history(
    _: MayRead,
    State(app): State<App>,
    Named(id): Named<JobId>,
    Asked(asked): Asked<EventsPage>,
) -> Result<Json<Events>, Problem> {
    let limit = limit(asked.limit, 100, 1000)?;
    let (accepted, ended) = span(&app, &id)?;
    let known = *app.feed.next().borrow();
    let end = ended.map_or(known, |last| known.min(last.saturating_add(1)));
    let (mut next, mut events) = (asked.from.unwrap_or(accepted).max(accepted), Vec::new());
    for _ in 0..READ_PAGES_MAX {
        let page = app.feed.page(next).await.map_err(Problem::internal)?;
        for item in page {
            if item.sequence >= end || events.len() == limit {
                break;
            }
            next = item.sequence + 1;
            if item.job == Some(id) {
                events.push(Event::of(&item)?);
            }
        }
        if next >= end || events.len() == limit {
            break;
        }
    }
    Ok(Json(Events { events, next: (next < end).then_some(next) }))
}

/// Numbers of the event that accepted a job, and of the one that ended it.
fn span(app: &App, id: &JobId) -> Result<(u64, Option<u64>), Problem> {
    let known = app.feed.history(|history| history.job(id).map(|job| (job.sequence, job.ended_sequence)));
    known.ok_or_else(|| unknown(id))
}

/// The first event that is wanted, if one is named.
fn first(headers: &HeaderMap, asked: Option<u64>) -> Result<Option<u64>, Problem> {
    let Some(last) = headers.get(LAST_EVENT_ID) else { return Ok(asked) };
    let last = last.to_str().ok().and_then(|last| last.trim().parse::<u64>().ok());
    let last = last.ok_or_else(|| Problem::invalid("Last-Event-ID: it is not the number of an event"))?;
    Ok(Some(last.saturating_add(1)))
}

fn watch(app: &App, from: u64, wanted: Wanted, is_over: bool) -> Response {
    let feed = app.feed.clone();
    let (news, stop) = (feed.next(), app.stop.clone());
    let watcher = Watcher { news, feed, stop, turn: app.turns.take(), next: from, wanted, is_over };
    let stream = unfold(watcher, |mut watcher| async move {
        // What is interrupted here has taken nothing out of the feed.
        let text = match timeout(KEEP_ALIVE, watcher.next()).await {
            Ok(text) => text?,
            Err(_) => Bytes::from_static(COMMENT),
        };
        Some((Ok::<_, Infallible>(text), watcher))
    });
    let heads = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-cache")];
    (heads, Body::from_stream(stream)).into_response()
}

/// Which events a watcher is sent.
enum Wanted {
    /// Those of these kinds, or all.
    Kinds(Option<Kinds>),
    /// Those of a job, until it is over.
    Job(JobId),
}

impl Wanted {
    fn is(&self, item: &Item) -> bool {
        match self {
            Self::Kinds(kinds) => kinds.as_ref().is_none_or(|kinds| kinds.contains(&item.kind)),
            Self::Job(job) => item.job == Some(*job),
        }
    }
}

struct Watcher {
    feed: Feed,
    news: watch::Receiver<u64>,
    stop: watch::Receiver<bool>,
    turn: Turn,
    next: u64,
    wanted: Wanted,
    is_over: bool,
}

impl Watcher {
    /// The next events that are wanted, as they are sent; none when there will be no more.
    async fn next(&mut self) -> Option<Bytes> {
        while !self.is_over {
            self.news.borrow_and_update();
            let page = self.feed.page(self.next).await.ok()?;
            let Some(last) = page.last() else {
                tokio::select! {
                    changed = self.news.changed() => changed.ok()?,
                    _ = self.stop.wait_for(|stop| *stop) => return None,
                }
                sleep(self.turn.wait()).await;
                continue;
            };
            self.next = last.sequence + 1;
            let wanted = page.iter().filter(|item| self.wanted.is(item));
            let texts: Vec<_> = wanted.clone().map(|item| item.sent.as_bytes()).collect();
            self.is_over = matches!(self.wanted, Wanted::Job(_)) && wanted.clone().any(|item| item.ends_job);
            if !texts.is_empty() {
                return Some(texts.concat().into());
            }
        }
        None
    }
}

/// Whose turn it is, when an event has something for a thousand watchers: they are told one after the other, and whoever asks
/// something in that moment waits for a few of them and not for all. What happens until its turn, a watcher is told together.
#[derive(Clone, Default)]
pub(crate) struct Turns(Arc<AtomicU64>);

impl Turns {
    fn take(&self) -> Turn {
        /// 2^64 divided by the golden ratio: its multiples, modulo 2^64, lie evenly however many of them there are.
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let place = self.0.fetch_add(1, Ordering::Relaxed).wrapping_mul(STEP);
        Turn { turns: self.clone(), place: place as f64 / 2f64.powi(64) }
    }
}

/// A watcher's turn, while it watches.
struct Turn {
    turns: Turns,
    /// From 0 to 1, among all of them.
    place: f64,
}

impl Turn {
    fn wait(&self) -> Duration {
        // Every turn holds the rota, and so does the server itself.
        let watchers = Arc::strong_count(&self.turns.0) - 1;
        (BETWEEN_TURNS * watchers as u32).min(TURN_MAX).mul_f64(self.place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lone_watcher_is_told_at_once_and_a_thousand_one_after_the_other() {
        let turns = Turns::default();
        assert!(turns.take().wait() < BETWEEN_TURNS);
        let watchers: Vec<_> = (0..1000).map(|_| turns.take()).collect();
        let mut waits: Vec<_> = watchers.iter().map(Turn::wait).collect();
        waits.sort();
        assert!(*waits.last().expect("some") <= BETWEEN_TURNS * 1000);
        let crowded = waits.windows(8).filter(|some| some[7] - some[0] < BETWEEN_TURNS * 2).count();
        assert_eq!(crowded, 0, "nowhere are eight told within the time of two");
        drop(watchers);
        assert!(turns.take().wait() < BETWEEN_TURNS, "who has gone is not waited for");
    }
}
