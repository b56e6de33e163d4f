//! JSON bodies: bounded in size and in time.

use axum::body::to_bytes;
use axum::extract::{FromRequest, Request};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::App;
use super::error::ApiError;
use crate::limits::BODY_BYTES_MAX;

/// The body of a request, parsed.
pub(crate) struct Body<T>(pub T);

impl<T: DeserializeOwned> FromRequest<App> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<Self, ApiError> {
        check_type(request.headers())?;
        let announced = request.headers().get(CONTENT_LENGTH).and_then(|it| it.to_str().ok()?.parse().ok());
        if announced.is_some_and(|bytes: u64| bytes > BODY_BYTES_MAX as u64) {
            return Err(too_large());
        }
        let bytes = match timeout(app.patience, to_bytes(request.into_body(), BODY_BYTES_MAX)).await {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(error)) if is_limit(&error) => return Err(too_large()),
            Ok(Err(error)) => return Err(ApiError::malformed(format!("the body cannot be read: {error}"))),
            Err(_) => {
                let message = format!("the body did not arrive within {} s", app.patience.as_secs_f32());
                return Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, "timeout", message));
            }
        };
        let parsed = serde_json::from_slice(&bytes);
        parsed
            .map(Self)
            .map_err(|error| ApiError::malformed(format!("the body is not what it should be: {error}")))
    }
}

/// Other sites' pages may send a browser's user here with any other type, and without asking first.
fn check_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let given = headers.get(CONTENT_TYPE).and_then(|it| it.to_str().ok()).unwrap_or_default();
    let kind = given.split(';').next().unwrap_or_default().trim();
    if kind.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let message = "the body must be JSON\nhint: send the header Content-Type: application/json";
    Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message))
}

fn is_limit(error: &axum::Error) -> bool {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        if error.is::<http_body_util::LengthLimitError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

fn too_large() -> ApiError {
    let message = format!("the body has more than {BODY_BYTES_MAX} bytes\nhint: send fewer prompts at once");
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "request_too_large", message)
}
