//! Names by which a server on the loopback interface is spoken to.
//!
//! A page of another site whose name was made to point to this machine (DNS rebinding) would otherwise talk to a server that thinks it
//! is talking to its owner.

use axum::http::header::{HOST, ORIGIN};
use axum::http::{HeaderMap, HeaderName};

/// What browsers say of who makes a request.
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Whether a request names another machine than this one.
pub fn names_another(headers: &HeaderMap) -> bool {
    headers.get(HOST).is_some_and(|host| !host.to_str().is_ok_and(is_own_name))
}

/// Whether a page of another site makes a request, as far as its browser says. What changes something also asks for a header of its
/// own, which a browser lets no other site send unasked.
pub fn is_from_another_site(headers: &HeaderMap) -> bool {
    let text = |name: &HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let host = text(&HOST).unwrap_or_default();
    let is_own = |origin: &str| origin.split_once("://").is_some_and(|(_, name)| name == host);
    text(&ORIGIN).is_some_and(|origin| !is_own(origin))
        || text(&FETCH_SITE).is_some_and(|site| site != "same-origin" && site != "none")
}

/// Whether the text of a `Host` header means this machine.
pub fn is_own_name(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    let is_loopback = name.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback());
    is_loopback || name.eq_ignore_ascii_case("localhost") || name.to_ascii_lowercase().ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn a_page_of_another_site_is_told_from_ones_own() {
        let is_foreign = |headers: &[(&str, &'static str)]| {
            let headers = headers.iter().map(|(name, value)| {
                (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_static(value))
            });
            let host = (HOST, HeaderValue::from_static("127.0.0.1:4090"));
            is_from_another_site(&headers.chain([host]).collect())
        };
        for own in [
            &[][..],
            &[("origin", "http://127.0.0.1:4090")],
            &[("origin", "http://127.0.0.1:4090"), ("sec-fetch-site", "same-origin")],
            &[("sec-fetch-site", "none")],
        ] {
            assert!(!is_foreign(own), "{own:?}");
        }
        for foreign in [
            &[("origin", "http://example.org")][..],
            &[("origin", "null")],
            &[("origin", "http://127.0.0.1:4080")],
            &[("origin", "http://127.0.0.1:4090.example.org")],
            &[("origin", "")],
            &[("sec-fetch-site", "cross-site")],
            &[("origin", "http://127.0.0.1:4090"), ("sec-fetch-site", "same-site")],
        ] {
            assert!(is_foreign(foreign), "{foreign:?}");
        }
    }

    #[test]
    fn names_of_this_machine_are_known() {
        for host in
            ["localhost", "LOCALHOST:8080", "127.0.0.1:1", "127.0.0.1", "[::1]:80", "[::1]", "a.localhost:3"]
        {
            assert!(is_own_name(host), "{host}");
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
            assert!(!is_own_name(host), "{host}");
        }
    }
}
