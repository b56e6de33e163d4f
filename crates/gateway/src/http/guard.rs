//! Who may ask.

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::{AUTHORIZATION, HOST};
use axum::middleware::Next;
use axum::response::Response;
use zoo_content::Digest;

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
    let named = request.headers().get(HOST).and_then(|it| it.to_str().ok());
    if !app.guard.local_only || named.is_none_or(is_local) {
        return Ok(next.run(request).await);
    }
    let message = "this server answers to names of its own machine only\nhint: use localhost, or let it listen elsewhere with --listen";
    Err(ApiError::new(StatusCode::FORBIDDEN, "unknown_host", message))
}

/// Whether a `Host` header means this machine.
fn is_local(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    let is_loopback = name.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback());
    is_loopback || name.eq_ignore_ascii_case("localhost") || name.to_ascii_lowercase().ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_this_machine_are_known() {
        for host in
            ["localhost", "LOCALHOST:8080", "127.0.0.1:1", "127.0.0.1", "[::1]:80", "[::1]", "a.localhost:3"]
        {
            assert!(is_local(host), "{host}");
        }
        for host in [
            "example.org",
            "example.org:8080",
            "localhost.example.org",
            "10.0.0.1:80",
            "[2001::1]",
            "",
            ":80",
        ] {
            assert!(!is_local(host), "{host}");
        }
    }
}
