//! What handlers take out of requests, refused as problems.

use axum::RequestPartsExt;
use axum::extract::{FromRequestParts, Path, Query};
use axum::http::StatusCode;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;
use zoo_content::Digest;
use zoo_protocol::JobId;

use crate::app::App;
use crate::keys::{Key, Scope};
use crate::problem::Problem;

/// The query, as this.
pub struct Asked<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + 'static> FromRequestParts<S> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let Query(query) =
            parts.extract::<Query<T>>().await.map_err(|cause| refused_query(&cause.body_text()))?;
        Ok(Self(query))
    }
}

fn refused_query(cause: &str) -> Problem {
    let cause = cause.strip_prefix("Failed to deserialize query string: ").unwrap_or(cause);
    let hint = if cause.contains("hint: ") { "" } else { "; hint: GET /openapi.json says what can be asked" };
    Problem::invalid(format!("the query: {cause}{hint}"))
}

/// What the path names, as this.
pub struct Named<T>(pub T);

impl<S: Send + Sync, T: std::str::FromStr<Err: std::fmt::Display> + Send> FromRequestParts<S> for Named<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let Path(text) =
            parts.extract::<Path<String>>().await.map_err(|cause| Problem::invalid(cause.body_text()))?;
        text.parse().map(Self).map_err(|cause| {
            Problem::invalid(format!(
                "{text:?} in the path: {cause}; hint: /v1/jobs, /v1/nodes and /v1/checkpoints list what there is"
            ))
        })
    }
}

/// Who asks may look.
pub struct MayRead;
/// Who asks may submit; with the digest of the key.
pub struct MaySubmit(pub Digest);
/// Who asks may manage jobs.
pub struct MayManage;
/// Who asks may cancel this job: because it may manage jobs, or has submitted this one.
pub struct MayCancel(pub JobId);

impl FromRequestParts<App> for MayRead {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        if app.reading_needs_a_key {
            check(parts, app, Scope::Read)?;
        }
        Ok(Self)
    }
}

impl FromRequestParts<App> for MaySubmit {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        check(parts, app, Scope::Submit).map(|key| Self(key.digest))
    }
}

impl FromRequestParts<App> for MayManage {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        check(parts, app, Scope::Manage).map(|_| Self)
    }
}

impl FromRequestParts<App> for MayCancel {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let key = check(parts, app, Scope::Submit)?;
        let Named(job) = Named::<JobId>::from_request_parts(parts, app).await?;
        if key.scope < Scope::Manage && !app.owners.owns(&key.digest, &job) {
            let detail =
                "the key has not submitted this job; hint: only a key for manage cancels those of others";
            return Err(Problem::new(StatusCode::FORBIDDEN, detail));
        }
        Ok(Self(job))
    }
}

/// The key that came with the request, if it is one that is enough.
fn check(parts: &Parts, app: &App, needed: Scope) -> Result<Key, Problem> {
    let unauthorized = |detail: &str| Err(Problem::new(StatusCode::UNAUTHORIZED, detail));
    let Some(header) = parts.headers.get(AUTHORIZATION) else {
        return unauthorized(
            "this needs a key; hint: send the header Authorization: Bearer KEY; zoo keys create makes a key",
        );
    };
    let key = header.to_str().ok().and_then(|text| {
        let (scheme, key) = text.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
    });
    match key.and_then(|key| app.keys.find(key)) {
        None => unauthorized("no such key; hint: it may have been revoked; zoo keys lists those there are"),
        Some(Key { scope, .. }) if scope < needed => {
            let detail = format!("the key is for {scope}, and this needs {needed}");
            Err(Problem::new(StatusCode::FORBIDDEN, detail))
        }
        Some(key) => Ok(key),
    }
}
