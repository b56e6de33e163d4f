//! What goes wrong, as RFC 9457 says it: `application/problem+json`.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

/// Why a request was not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Problem {
    /// What kind of problem it is: a name that stays the same, for programs.
    #[serde(rename = "type")]
    #[schema(example = "not-found")]
    pub kind: &'static str,
    /// The kind, in words.
    pub title: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// What is wrong, with the thing and the cause.
    pub detail: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Problem {
    /// The problem with an error's text; what follows `hint: ` in it is the hint.
    pub fn new(status: StatusCode, detail: impl ToString) -> Self {
        let text = detail.to_string();
        let (detail, hint) = match text.split_once("hint: ") {
            Some((detail, hint)) => {
                (detail.trim_end_matches([' ', ';', '\n']).to_owned(), Some(hint.to_owned()))
            }
            None => (text, None),
        };
        let (kind, title) = named(status);
        Self { kind, title, status: status.as_u16(), detail, hint }
    }

    /// There is no such thing.
    pub fn not_found(detail: impl ToString) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    /// The request makes no sense.
    pub fn invalid(detail: impl ToString) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    /// The request is understood and cannot be done.
    pub fn refused(detail: impl ToString) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
    }

    /// Something here does not work; the cause is in the log, not in the answer.
    pub fn internal(cause: impl std::fmt::Display) -> Self {
        tracing::error!(%cause, "request failed");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "something went wrong here; the orchestrator's log says what",
        )
    }

    /// It is about to end.
    pub fn stopping() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "the orchestrator is stopping; hint: try again in a moment",
        )
    }
}

fn named(status: StatusCode) -> (&'static str, &'static str) {
    match status {
        StatusCode::BAD_REQUEST => ("invalid", "The request makes no sense"),
        StatusCode::UNAUTHORIZED => ("no-key", "A key is needed"),
        StatusCode::FORBIDDEN => ("not-allowed", "The key does not allow this"),
        StatusCode::NOT_FOUND => ("not-found", "There is no such thing"),
        StatusCode::METHOD_NOT_ALLOWED => ("method", "The method does not exist here"),
        StatusCode::REQUEST_TIMEOUT => ("timeout", "It took too long"),
        StatusCode::CONFLICT => ("conflict", "It does not fit what is there"),
        StatusCode::PAYLOAD_TOO_LARGE => ("too-large", "The body is too large"),
        StatusCode::UNSUPPORTED_MEDIA_TYPE => ("media-type", "The body is of another type"),
        StatusCode::UNPROCESSABLE_ENTITY => ("refused", "It cannot be done"),
        StatusCode::TOO_MANY_REQUESTS => ("busy", "Too much at once"),
        StatusCode::SERVICE_UNAVAILABLE => ("unavailable", "Not at the moment"),
        _ => ("internal", "Something went wrong here"),
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(self)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"zoo\""));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hint_of_an_error_is_a_field_of_its_own() {
        for text in ["no such job\nhint: list them", "no such job; hint: list them"] {
            let problem = Problem::not_found(text);
            assert_eq!(
                (problem.detail.as_str(), problem.hint.as_deref()),
                ("no such job", Some("list them"))
            );
            assert_eq!((problem.kind, problem.status), ("not-found", 404));
        }
        assert_eq!(Problem::invalid("no").hint, None);
    }
}
