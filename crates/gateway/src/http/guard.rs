//! Who may ask.

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::AUTHORIZATION;
use axum::middleware::Next;
use axum::response::Response;
use zoo_content::Digest;
use zoo_http::names_another;

use super::App;
use super::error::ApiError;

/// What a request must show.
pub(crate) struct Guard {
    /// Digest of the key that every request must carry: digests are compared, so that the time it takes tells
    /// nothing about the key.
    key: Option<Digest>,
    /// Only names of this machine are answered to. A page of another site whose name was made to point here would
    /// otherwise talk to a server that thinks it is talking to its owner.
    local_only: bool,
}

impl Guard {
    /// `local_only`: the server listens on the loopback interface alone.
    pub fn new(key: Option<&str>, local_only: bool) -> Self {
        Self { key: key.map(|key| Digest::of(key.as_bytes())), local_only }
    }
}

pub(super) async fn require_key(
    State(app): State<App>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let Some(key) = app.guard.key else { return Ok(next.run(request).await) };
    let given = request.headers().get(AUTHORIZATION).and_then(|it| it.to_str().ok());
    let given = given.and_then(|it| it.strip_prefix("Bearer ").or_else(|| it.strip_prefix("bearer ")));
    if given.is_some_and(|given| Digest::of(given.trim().as_bytes()) == key) {
        return Ok(next.run(request).await);
    }
    let message = "the API key is missing or wrong\nhint: send the header Authorization: Bearer KEY";
    Err(ApiError::new(StatusCode::UNAUTHORIZED, "invalid_api_key", message))
}

pub(super) async fn require_own_name(
    State(app): State<App>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    if !app.guard.local_only || !names_another(request.headers()) {
        return Ok(next.run(request).await);
    }
    let message = "this server answers to names of its own machine only\nhint: use localhost, or let it listen elsewhere with --listen";
    Err(ApiError::new(StatusCode::FORBIDDEN, "unknown_host", message))
}
