//! Names by which a server on the loopback interface is spoken to.
//!
//! A page of another site whose name was made to point to this machine (DNS rebinding) would otherwise talk to a server that thinks it
//! is talking to its owner.

use axum::http::HeaderMap;
use axum::http::header::HOST;

/// Whether a request names another machine than this one.
pub fn names_another(headers: &HeaderMap) -> bool {
    headers.get(HOST).is_some_and(|host| !host.to_str().is_ok_and(is_own_name))
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
    use super::*;

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
