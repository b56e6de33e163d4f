//! Answers that come piece by piece, as server-sent events.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use super::answer::Request;
use super::error::ApiError;
use crate::engine::Event;

/// Pieces that wait for a slow client; then the texts are still written, and their pieces joined.
const PIECES_MAX: usize = 64;
/// A comment is sent after this long without a piece, so that nobody in between takes the connection for dead.
const SILENCE_MAX: Duration = Duration::from_secs(15);

/// How the events of a request's texts become objects.
pub(super) trait Pieces: Send + 'static {
    /// Objects before anything is known of the texts.
    fn begin(&mut self, request: &Request) -> Vec<Value>;
    /// Objects for events of one text, in order; the text's last event is its last.
    fn pieces(&mut self, request: &Request, text: usize, events: Vec<Event>) -> Vec<Value>;
    /// Objects after all texts.
    fn end(&mut self, request: &Request) -> Vec<Value>;
}

/// Answers with the pieces of a request.
pub(super) fn respond(request: Request, pieces: impl Pieces) -> Response {
    let (sender, receiver) = mpsc::channel(PIECES_MAX);
    tokio::spawn(send(request, pieces, sender));
    let headers = [(CONTENT_TYPE, "text/event-stream; charset=utf-8"), (CACHE_CONTROL, "no-cache")];
    (headers, Body::from_stream(Receiver(receiver))).into_response()
}

/// Ends when all texts have, or when the client is gone: the texts then are dropped, and the engine ends them.
async fn send(mut request: Request, mut pieces: impl Pieces, sender: mpsc::Sender<Bytes>) {
    let outcome = drive(&mut request, &mut pieces, &sender).await;
    if let Err(Some(error)) = outcome {
        let _ = sender.send(line(&error.json())).await;
    }
}

/// An error for the client, or none where the client is gone.
type Broken = Option<ApiError>;

async fn drive(
    request: &mut Request,
    pieces: &mut impl Pieces,
    sender: &mpsc::Sender<Bytes>,
) -> Result<(), Broken> {
    give(sender, pieces.begin(request)).await?;
    let mut open: Vec<usize> = (0..request.texts.len()).collect();
    let mut silence = interval(SILENCE_MAX);
    silence.set_missed_tick_behavior(MissedTickBehavior::Delay);
    silence.reset();
    while !open.is_empty() {
        let (at, first) = tokio::select! {
            next = next_of(request, &open) => next?,
            () = sender.closed() => return Err(None),
            _ = silence.tick() => {
                sender.send(Bytes::from_static(b": still here\n\n")).await.map_err(|_| None)?;
                continue;
            }
        };
        silence.reset();
        let mut events = vec![first];
        while let Some(event) = request.texts[at].next_now().map_err(Some)? {
            events.push(event);
        }
        if matches!(events.last(), Some(Event::Done { .. })) {
            open.retain(|text| *text != at);
        }
        give(sender, pieces.pieces(request, at, events)).await?;
    }
    give(sender, pieces.end(request)).await?;
    sender.send(Bytes::from_static(b"data: [DONE]\n\n")).await.map_err(|_| None)
}

/// The first event of any of the open texts.
async fn next_of(request: &mut Request, open: &[usize]) -> Result<(usize, Event), Broken> {
    use std::future::poll_fn;
    use std::task::Poll;
    let (at, event) = poll_fn(|context| {
        for &at in open {
            if let Poll::Ready(event) = request.texts[at].events.poll_recv(context) {
                return Poll::Ready((at, event));
            }
        }
        Poll::Pending
    })
    .await;
    request.texts[at].take(event).map(|event| (at, event)).map_err(Some)
}

async fn give(sender: &mpsc::Sender<Bytes>, objects: Vec<Value>) -> Result<(), Broken> {
    if objects.is_empty() {
        return Ok(());
    }
    let text: Vec<u8> = objects.iter().flat_map(|object| line(object).to_vec()).collect();
    sender.send(text.into()).await.map_err(|_| None)
}

fn line(object: &Value) -> Bytes {
    // JSON text has no line breaks of its own.
    format!("data: {object}\n\n").into()
}

/// The receiving end as a body.
struct Receiver(mpsc::Receiver<Bytes>);

impl futures_util::Stream for Receiver {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        self.0.poll_recv(context).map(|piece| piece.map(Ok))
    }
}
