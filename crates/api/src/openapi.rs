//! What the interface is, for programs: generated from the handlers, so that it says what they do.

use std::sync::LazyLock;

use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::{Modify, OpenApi};

use crate::routes::{events, jobs, models, network, system, texts};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Zoo",
        description = "The HTTP interface of an orchestrator: jobs, nodes, rounds, checkpoints, and everything that happens.\n\n\
            Looking needs no key, unless the orchestrator was started so that it does; whatever changes something needs one: \
            `zoo keys create` makes it. Problems come as `application/problem+json` (RFC 9457), with a hint of what to do."
    ),
    paths(
        jobs::submit, jobs::list, jobs::look, jobs::rounds, jobs::cancel, jobs::pause, jobs::resume,
        texts::upload, models::files, models::file,
        events::all, events::of_job,
        network::nodes, network::node, network::checkpoints, network::blob,
        system::health, system::journal, system::metrics,
    ),
    modifiers(&Keys),
    tags(
        (name = "jobs", description = "What is trained, and what comes of it"),
        (name = "events", description = "What happens, as it happens"),
        (name = "network", description = "Who trains it, and who keeps it"),
        (name = "system", description = "The orchestrator itself"),
    ),
)]
struct Interface;

struct Keys;

impl Modify for Keys {
    fn modify(&self, interface: &mut utoipa::openapi::OpenApi) {
        let components = interface.components.get_or_insert_default();
        components.add_security_scheme("key", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
    }
}

/// The description, as JSON.
pub fn text() -> &'static str {
    static TEXT: LazyLock<String> =
        LazyLock::new(|| Interface::openapi().to_pretty_json().expect("a description is plain data"));
    &TEXT
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    #[test]
    fn the_python_package_is_generated_from_this_description() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../python/openapi.json");
        let written: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let described: Value = serde_json::from_str(super::text()).unwrap();
        assert_eq!(written, described, "write /openapi.json there, and run python/tools/generate_models.py");
    }

    #[test]
    fn every_operation_is_named_once_and_says_what_can_go_wrong() {
        let described: Value = serde_json::from_str(super::text()).unwrap();
        let mut names = BTreeSet::new();
        for (path, operations) in described["paths"].as_object().unwrap() {
            for (method, operation) in operations.as_object().unwrap() {
                let name = operation["operationId"].as_str().unwrap();
                assert!(names.insert(name.to_owned()), "{name} is there twice");
                assert!(operation["summary"].as_str().is_some_and(|summary| !summary.is_empty()), "{path}");
                if method == "post" {
                    assert!(
                        operation["responses"]["401"].is_object(),
                        "{path} changes something without a key"
                    );
                    assert!(operation["security"].is_array(), "{path}");
                }
            }
        }
        assert_eq!(names.len(), 19);
    }
}
