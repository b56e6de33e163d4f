//! The dashboard: what people see of a network. Its sources are in `dashboard/`; what is made of them is in `assets/` and in the binary.
//!
//! # Invariants
//!
//! - **Nothing that a browser runs is in the page itself**: the policy of these files knows no `'unsafe-inline'`, and no way from text
//!   to HTML (`require-trusted-types-for`).
//! - **Nothing of it is ever old**: the page is asked for again each time, and names its files by their content.

use std::sync::LazyLock;

use axum::Router;
use axum::extract::RawQuery;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use zoo_content::Digest;

/// For what is asked for again each time; an unchanged file then is not sent again.
const ASK_AGAIN: &str = "no-cache";
/// For what is named by its content.
const KEEP: &str = "public, max-age=31536000, immutable";

/// The page.
const INDEX: &str = include_str!("../assets/index.html");
/// What runs in it.
const SCRIPT: &str = include_str!("../assets/dashboard.js");
/// How it looks.
const STYLE: &str = include_str!("../assets/dashboard.css");

/// The page and its files. It wants to be outside of what sets the policy of answers: its own is stricter.
pub(crate) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        .route("/", get(index))
        .route("/assets/dashboard.js", get(script))
        .route("/assets/dashboard.css", get(style))
}

async fn index(headers: HeaderMap) -> Response {
    static TAG: LazyLock<String> = LazyLock::new(|| tag(INDEX));
    answer(&headers, ASK_AGAIN, "text/html; charset=utf-8", INDEX, &TAG)
}

async fn script(RawQuery(query): RawQuery, headers: HeaderMap) -> Response {
    static TAG: LazyLock<String> = LazyLock::new(|| tag(SCRIPT));
    let caching = caching("dashboard.js", query.as_deref());
    answer(&headers, caching, "text/javascript; charset=utf-8", SCRIPT, &TAG)
}

async fn style(RawQuery(query): RawQuery, headers: HeaderMap) -> Response {
    static TAG: LazyLock<String> = LazyLock::new(|| tag(STYLE));
    let caching = caching("dashboard.css", query.as_deref());
    answer(&headers, caching, "text/css; charset=utf-8", STYLE, &TAG)
}

fn tag(content: &str) -> String {
    format!("\"{}\"", Digest::of(content.as_bytes()))
}

/// A file may be kept if it was asked for by the name that this very page has for it. Another version's page, open for long, asks by
/// another name, and must not keep under that what it gets.
fn caching(name: &str, query: Option<&str>) -> &'static str {
    match query {
        Some(query) if INDEX.contains(&format!("\"/assets/{name}?{query}\"")) => KEEP,
        _ => ASK_AGAIN,
    }
}

fn answer(
    asked: &HeaderMap,
    caching: &'static str,
    kind: &'static str,
    content: &'static str,
    tag: &str,
) -> Response {
    let headers = [(header::ETAG, tag), (header::CACHE_CONTROL, caching)];
    let known = asked.get(header::IF_NONE_MATCH).and_then(|known| known.to_str().ok()).unwrap_or_default();
    let is_known = known.split(',').any(|known| known.trim().trim_start_matches("W/") == tag);
    let mut response = if is_known {
        (StatusCode::NOT_MODIFIED, headers).into_response()
    } else {
        (headers, [(header::CONTENT_TYPE, kind)], content).into_response()
    };
    zoo_http::guard(response.headers_mut(), zoo_http::OWN_FILES_ONLY);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header<'a>(response: &'a Response, name: &header::HeaderName) -> &'a str {
        response.headers()[name].to_str().unwrap()
    }

    #[tokio::test]
    async fn the_page_is_asked_for_again_and_not_sent_again() {
        let first = index(HeaderMap::new()).await;
        assert_eq!((first.status(), header(&first, &header::CACHE_CONTROL)), (StatusCode::OK, ASK_AGAIN));
        assert_eq!(header(&first, &header::CONTENT_TYPE), "text/html; charset=utf-8");
        let known = HeaderMap::from_iter([(header::IF_NONE_MATCH, first.headers()[header::ETAG].clone())]);
        let second = index(known.clone()).await;
        assert_eq!(second.status(), StatusCode::NOT_MODIFIED);
        // Another file is another file.
        assert_eq!(script(RawQuery(None), known).await.status(), StatusCode::OK);
    }

    #[tokio::test]
    async fn a_file_is_kept_only_under_the_name_that_the_page_has_for_it() {
        let (_, named) =
            INDEX.split_once("/assets/dashboard.js?").expect("the page names its script by content");
        let (version, _) = named.split_once('"').unwrap();
        let kept = script(RawQuery(Some(version.to_owned())), HeaderMap::new()).await;
        assert_eq!(header(&kept, &header::CACHE_CONTROL), KEEP);
        for other in [None, Some("v=0".to_owned()), Some(String::new())] {
            let asked = script(RawQuery(other), HeaderMap::new()).await;
            assert_eq!(header(&asked, &header::CACHE_CONTROL), ASK_AGAIN);
        }
    }

    #[test]
    fn nothing_inline_is_allowed_and_nothing_inline_is_there() {
        assert!(!INDEX.contains("style=") && !INDEX.contains("<style") && !INDEX.contains("javascript:"));
        assert!(INDEX.matches("<script").count() == 1 && INDEX.contains("<script type=\"module\" src="));
    }
}
