//! What the page is made of, what it asks, and who may ask.

use std::path::PathBuf;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::CACHE_CONTROL;
use axum::http::{HeaderValue, Method, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::json;
use zoo_http::{OWN_FILES_ONLY, is_from_another_site, names_another};

use crate::record::Record;

/// Carried by every request that changes something. A browser lets a page of another site send it only after asking here, and
/// nobody answers that question.
const PAGE_HEADER: &str = "x-zoo-page";

const INDEX: &str = include_str!("../assets/index.html");
const SCRIPT: &str = include_str!("../assets/page.js");
const STYLE: &str = include_str!("../assets/page.css");

#[derive(Clone)]
struct App {
    directory: Arc<PathBuf>,
    record: Arc<Record>,
}

/// All routes.
pub fn router(directory: PathBuf, record: Arc<Record>) -> Router {
    let file = |kind: &'static str, text: &'static str| get(async move || ([("content-type", kind)], text));
    Router::new()
        .route("/", file("text/html; charset=utf-8", INDEX))
        .route("/page.js", file("text/javascript; charset=utf-8", SCRIPT))
        .route("/page.css", file("text/css; charset=utf-8", STYLE))
        .route("/v1/node", get(look))
        .route("/v1/node/pause", post(async |State(app): State<App>| app.change(zoo_home::pause)))
        .route("/v1/node/resume", post(async |State(app): State<App>| app.change(zoo_home::resume)))
        .fallback(async || refuse(StatusCode::NOT_FOUND, "there is no such page", "the node's page is at /"))
        .method_not_allowed_fallback(async || {
            let hint = "look with GET, pause and resume with POST";
            refuse(StatusCode::METHOD_NOT_ALLOWED, "the method does not exist here", hint)
        })
        .layer(from_fn(guard))
        .with_state(App { directory: Arc::new(directory), record })
}

async fn look(State(app): State<App>) -> Response {
    app.view()
}

impl App {
    fn view(&self) -> Response {
        Json(self.record.view(zoo_home::is_paused(&self.directory))).into_response()
    }

    /// Pauses or resumes, and says what is now.
    fn change(&self, change: impl Fn(&std::path::Path) -> Result<(), zoo_home::HomeError>) -> Response {
        match change(&self.directory) {
            Ok(()) => self.view(),
            Err(cause) => {
                let text = cause.to_string();
                let (cause, hint) = text.split_once("\nhint: ").unwrap_or((&text, "try again"));
                refuse(StatusCode::INTERNAL_SERVER_ERROR, cause, hint)
            }
        }
    }
}

async fn guard(request: Request, next: Next) -> Response {
    let headers = request.headers();
    let changes = !matches!(*request.method(), Method::GET | Method::HEAD);
    let mut response = if names_another(headers) {
        let detail = "this page answers to names of its own machine only";
        refuse(StatusCode::FORBIDDEN, detail, "use localhost")
    } else if changes && is_from_another_site(headers) {
        let detail = "a page of another site may not do this";
        refuse(StatusCode::FORBIDDEN, detail, "open the node's own page, at /")
    } else if changes && !headers.contains_key(PAGE_HEADER) {
        let detail = "what changes something has to carry the header X-Zoo-Page";
        refuse(StatusCode::FORBIDDEN, detail, "zoo pause and zoo resume do it from a terminal")
    } else {
        next.run(request).await
    };
    zoo_http::guard(response.headers_mut(), OWN_FILES_ONLY);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn refuse(status: StatusCode, detail: &str, hint: &str) -> Response {
    let problem = json!({ "status": status.as_u16(), "detail": detail, "hint": hint }).to_string();
    (status, [("content-type", "application/problem+json")], problem).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_names_no_other_host_has_nothing_inline_and_writes_no_html() {
        for word in
            ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"]
        {
            assert!(!SCRIPT.contains(word), "{word}");
        }
        for file in [INDEX, SCRIPT, STYLE] {
            assert!(!file.contains("http:") && !file.contains("https:") && !file.contains("url("));
        }
        assert!(!INDEX.contains("style=") && !INDEX.contains("<style") && !INDEX.contains("javascript:"));
        assert!(INDEX.matches("<script").count() == 1 && INDEX.contains("<script type=\"module\" src="));
    }
}
