//! Events, as they happen: server-sent, resumable by their numbers; and those of before in pages.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Sse;
use axum::response::sse::{Event as Sent, KeepAlive};
use futures_util::Stream;
use futures_util::stream::unfold;
use tokio::sync::watch;
use zoo_protocol::JobId;

use super::jobs::unknown;
use super::limit;
use crate::app::App;
use crate::extract::{Asked, MayRead, Named};
use crate::feed::{Feed, Item};
use crate::problem::Problem;
use crate::schema::{Event, Events, EventsPage, WatchFrom};

/// What a browser sends when it connects again: the number of the last event that it got.
const LAST_EVENT_ID: &str = "last-event-id";
/// A sign of life so often, where nothing happens.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Pages of the journal that are read for one page of a job's events at most.
const READ_PAGES_MAX: usize = 64;

/// Watch everything that happens
///
/// Every event from `from` on, or after the one that `Last-Event-ID` names, then those that come. Each has its number as `id`, the
/// kind of event as `event`, and a JSON object as `data`. Who loses the connection asks again with the last number, and misses nothing.
#[utoipa::path(
    get, path = "/v1/events", tag = "events",
    params(WatchFrom, ("Last-Event-ID" = Option<u64>, Header, description = "Number of the last event that is known")),
    responses((status = 200, description = "Events", content_type = "text/event-stream", body = String),
        (status = 400, description = "No number", body = Problem, content_type = "application/problem+json")),
)]
pub(crate) async fn all(
    _: MayRead,
    State(app): State<App>,
    headers: HeaderMap,
    Asked(asked): Asked<WatchFrom>,
) -> Result<Sse<impl Stream<Item = Result<Sent, Infallible>>>, Problem> {
    let from = first(&headers, asked)?.unwrap_or(0);
    Ok(watch(&app, from, None, false))
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
) -> Result<Sse<impl Stream<Item = Result<Sent, Infallible>>>, Problem> {
    let (accepted, ended) = span(&app, &id)?;
    let from = first(&headers, asked)?.unwrap_or(accepted).max(accepted);
    let is_over = ended.is_some_and(|last| from > last);
    Ok(watch(&app, from, Some(id), is_over))
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
fn first(headers: &HeaderMap, asked: WatchFrom) -> Result<Option<u64>, Problem> {
    let Some(last) = headers.get(LAST_EVENT_ID) else { return Ok(asked.from) };
    let last = last.to_str().ok().and_then(|last| last.trim().parse::<u64>().ok());
    let last = last.ok_or_else(|| Problem::invalid("Last-Event-ID: it is not the number of an event"))?;
    Ok(Some(last.saturating_add(1)))
}

fn watch(
    app: &App,
    from: u64,
    job: Option<JobId>,
    is_over: bool,
) -> Sse<impl Stream<Item = Result<Sent, Infallible>> + use<>> {
    let feed = app.feed.clone();
    let watcher = Watcher {
        news: feed.next(),
        feed,
        stop: app.stop.clone(),
        next: from,
        job,
        waiting: VecDeque::new(),
        is_over,
    };
    let stream = unfold(watcher, |mut watcher| async move {
        let item = watcher.next().await?;
        Some((Ok(sent(&item)), watcher))
    });
    Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
}

fn sent(item: &Item) -> Sent {
    Sent::default().id(item.sequence.to_string()).event(item.kind.as_ref()).data(item.text.as_ref())
}

struct Watcher {
    feed: Feed,
    news: watch::Receiver<u64>,
    stop: watch::Receiver<bool>,
    next: u64,
    job: Option<JobId>,
    waiting: VecDeque<Item>,
    is_over: bool,
}

impl Watcher {
    /// The next event that is wanted; none when there will be no more.
    async fn next(&mut self) -> Option<Item> {
        loop {
            if let Some(item) = self.waiting.pop_front() {
                return Some(item);
            }
            if self.is_over {
                return None;
            }
            self.news.borrow_and_update();
            let page = self.feed.page(self.next).await.ok()?;
            if let Some(last) = page.last() {
                self.next = last.sequence + 1;
                let wanted = page.into_iter().filter(|item| self.job.is_none() || item.job == self.job);
                self.waiting.extend(wanted);
                self.is_over = self.job.is_some() && self.waiting.iter().any(|item| item.ends_job);
                continue;
            }
            tokio::select! {
                changed = self.news.changed() => changed.ok()?,
                _ = self.stop.wait_for(|stop| *stop) => return None,
            }
        }
    }
}
