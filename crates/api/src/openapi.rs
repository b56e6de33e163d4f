//! What the interface is, for programs: generated from the handlers, so that it says what they do.

use std::sync::LazyLock;

use serde_json::{Value, json};
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
        events::all, events::of_job, events::history,
        network::nodes, network::node, network::checkpoints, network::blob,
        system::health, system::journal, system::metrics, system::job_schema,
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

/// What also a private orchestrator says to everybody.
const NEVER_NEED_A_KEY: [&str; 2] = ["/health", "/v1/schemas/job.json"];

struct Keys;

impl Modify for Keys {
    fn modify(&self, interface: &mut utoipa::openapi::OpenApi) {
        let components = interface.components.get_or_insert_default();
        components.add_security_scheme("key", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
    }
}

/// The description, as JSON.
pub fn text() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| {
        let mut described = serde_json::to_value(Interface::openapi()).expect("a description is plain data");
        describe_jobs(&mut described);
        describe_bytes(&mut described);
        describe_refusals(&mut described);
        describe_numbers(&mut described);
        describe_parameters(&mut described);
        serde_json::to_string_pretty(&described).expect("and so is this")
    });
    &TEXT
}

/// What is submitted is described by the one schema of a job, not by a Rust type.
fn describe_jobs(described: &mut Value) {
    let mut schema: Value = serde_json::from_str(zoo_job::SCHEMA).expect("a test reads it");
    schema.as_object_mut().map(|schema| schema.remove("$schema"));
    described["components"]["schemas"]["ComputeJob"] = schema;
    let job = json!({ "$ref": "#/components/schemas/ComputeJob" });
    let content = &mut described["paths"]["/v1/jobs"]["post"]["requestBody"]["content"];
    content["application/json"]["schema"] = job.clone();
    // A file with nothing in it, or only remarks, is the default preset.
    content["application/yaml"]["schema"] = json!({ "anyOf": [job, { "type": "null" }] });
    let text = &mut described["paths"]["/v1/texts"]["post"]["requestBody"]["content"]["text/plain"]["schema"];
    (text["minLength"], text["pattern"]) = (1.into(), r"^[^\u0000]*$".into());
}

/// The names of formats are those of signed numbers, and the numbers here are not: their bounds are said instead.
fn describe_numbers(described: &mut Value) {
    if described["minimum"] == 0 {
        let most = match described["format"].as_str() {
            Some("int32") => u64::from(u32::MAX),
            Some("int64") => u64::MAX,
            _ => return,
        };
        let schema = described.as_object_mut().expect("it has a minimum");
        schema.remove("format");
        schema.entry("maximum").or_insert(most.into());
    }
    match described {
        Value::Object(keys) => keys.values_mut().for_each(describe_numbers),
        Value::Array(values) => values.iter_mut().for_each(describe_numbers),
        _ => {}
    }
}

/// Parameters that are digests, keys of nodes, or kinds of events.
fn describe_parameters(described: &mut Value) {
    let paths = described["paths"].as_object_mut().expect("a description has paths");
    for (path, operations) in paths {
        for operation in operations.as_object_mut().expect("a path has operations").values_mut() {
            let parameters = operation.get_mut("parameters").and_then(Value::as_array_mut);
            for parameter in parameters.into_iter().flatten() {
                let name = parameter["name"].as_str().unwrap_or_default().to_owned();
                if ["id", "digest", "checkpoint"].contains(&name.as_str())
                    || (name == "cursor" && path == "/v1/nodes")
                {
                    parameter["schema"]["pattern"] = "^[0-9a-f]{64}$".into();
                }
                if name == "kinds" {
                    let kind = json!({ "type": "string", "enum": crate::json::kinds() });
                    parameter["schema"] = json!({ "type": "array", "minItems": 1, "items": kind });
                }
                // Blanks around the value of a header are no part of it.
                if name == "Idempotency-Key" {
                    parameter["schema"]["pattern"] = r"^\s*[!-~]([ -~]{0,253}[!-~])?\s*$".into();
                }
            }
        }
    }
}

/// A body that is any bytes is no list of numbers.
fn describe_bytes(described: &mut Value) {
    match described {
        Value::Object(keys) => keys.iter_mut().for_each(|(key, value)| match key.as_str() {
            "application/octet-stream" => value["schema"] = json!({ "type": "string", "format": "binary" }),
            _ => describe_bytes(value),
        }),
        Value::Array(values) => values.iter_mut().for_each(describe_bytes),
        _ => {}
    }
}

/// What every question may be answered by, said once.
fn describe_refusals(described: &mut Value) {
    let problem = |why: &str| {
        let schema = json!({ "$ref": "#/components/schemas/Problem" });
        json!({ "description": why, "content": { "application/problem+json": { "schema": schema } } })
    };
    let paths = described["paths"].as_object_mut().expect("a description has paths");
    for (path, operations) in
        paths.iter_mut().filter(|(path, _)| NEVER_NEED_A_KEY.iter().all(|free| path != free))
    {
        for (method, operation) in operations.as_object_mut().expect("a path has operations") {
            let responses = operation["responses"].as_object_mut().expect("an operation has responses");
            let mut may_be = |status: &str, why: &str| {
                responses.entry(status).or_insert_with(|| problem(why));
            };
            may_be("401", "A key is needed, where the orchestrator was started with --private");
            if method == "post" {
                may_be("403", "The key does not allow it");
                may_be("429", "There is too much already");
                may_be("503", "The orchestrator is stopping");
            }
            if path == "/v1/jobs" && method == "post" {
                may_be("413", "The body is too large");
            }
        }
    }
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
    fn a_job_is_described_by_its_own_schema_and_bytes_are_bytes() {
        let described: Value = serde_json::from_str(super::text()).unwrap();
        let content = &described["paths"]["/v1/jobs"]["post"]["requestBody"]["content"];
        let name = content["application/json"]["schema"]["$ref"].as_str().unwrap();
        let schema = described.pointer(name.strip_prefix('#').unwrap()).unwrap();
        assert_eq!(schema["properties"]["preset"]["default"], "qwen3-1m");
        let blob = &described["paths"]["/v1/blobs/{digest}"]["get"]["responses"]["200"]["content"];
        assert_eq!(blob["application/octet-stream"]["schema"]["format"], "binary");
    }

    #[test]
    fn every_operation_is_named_once_and_says_what_can_go_wrong() {
        let described: Value = serde_json::from_str(super::text()).unwrap();
        let mut names = BTreeSet::new();
        for (path, operations) in described["paths"].as_object().unwrap() {
            for (method, operation) in operations.as_object().unwrap() {
                let name = operation["operationId"].as_str().unwrap();
                assert!(names.insert(name.to_owned()), "{name} is there twice");
                assert!(operation.get("parameters").is_none_or(Value::is_array), "{path}");
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
        assert_eq!(names.len(), 21);
    }
}
