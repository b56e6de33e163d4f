//! What browsers are told not to do with an answer.

use axum::http::header::{CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS};
use axum::http::{HeaderMap, HeaderValue};

/// For pages that run their own files alone: nothing from elsewhere, nothing inline, no way from text to HTML, never in another site's
/// frame.
pub const OWN_FILES_ONLY: &str = "default-src 'none'; connect-src 'self'; img-src 'self' data:; script-src 'self'; style-src 'self'; \
                                  base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; \
                                  trusted-types 'none'";

/// Guards an answer: what it may load and run is what `policy` says, it is of the type that it says, no other site may show it in a frame or
/// hear where a link was followed.
pub fn guard(headers: &mut HeaderMap, policy: &'static str) {
    let guards = [
        (CONTENT_SECURITY_POLICY, policy),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "no-referrer"),
    ];
    for (name, value) in guards {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_guarded_once_and_by_the_policy_given_last() {
        let mut headers = HeaderMap::new();
        guard(&mut headers, "default-src *");
        guard(&mut headers, OWN_FILES_ONLY);
        assert_eq!(
            (headers.len(), &headers[CONTENT_SECURITY_POLICY]),
            (4, &HeaderValue::from_static(OWN_FILES_ONLY))
        );
        assert!(!OWN_FILES_ONLY.contains("unsafe"));
    }
}
