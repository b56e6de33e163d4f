//! As much of JSON Schema as the schema of a job uses; any other keyword is an error of the test.

use serde_json::Value;

/// The schema itself, and those of its `anyOf`.
pub fn alternatives(schema: &Value) -> impl Iterator<Item = &Value> {
    std::iter::once(schema).chain(schema["anyOf"].as_array().into_iter().flatten())
}

/// What the schema has against a value, if it has something.
pub fn complaint(schema: &Value, value: &Value) -> Option<String> {
    let keywords = schema.as_object().expect("a schema is an object");
    keywords.iter().find_map(|(keyword, says)| {
        let holds = match keyword.as_str() {
            "$schema" | "title" | "description" | "default" => true,
            "type" => match says {
                Value::Array(kinds) => kinds.iter().any(|kind| is(kind, value)),
                kind => is(kind, value),
            },
            "const" => says == value,
            "enum" => says.as_array().unwrap().contains(value),
            "minimum" => number(value).is_none_or(|value| value >= number(says).unwrap()),
            "maximum" => number(value).is_none_or(|value| value <= number(says).unwrap()),
            "exclusiveMinimum" => number(value).is_none_or(|value| value > number(says).unwrap()),
            "exclusiveMaximum" => number(value).is_none_or(|value| value < number(says).unwrap()),
            "multipleOf" => number(value).is_none_or(|value| value % number(says).unwrap() == 0.0),
            "pattern" => value.as_str().is_none_or(|text| matches(says.as_str().unwrap(), text)),
            "anyOf" => says.as_array().unwrap().iter().any(|schema| complaint(schema, value).is_none()),
            "properties" => {
                let properties = says.as_object().unwrap();
                return value.as_object()?.iter().find_map(|(key, value)| {
                    complaint(properties.get(key)?, value).map(|cause| format!("{key}: {cause}"))
                });
            }
            "additionalProperties" => {
                assert_eq!(says, false);
                let known = schema["properties"].as_object().unwrap();
                value.as_object().is_none_or(|keys| keys.keys().all(|key| known.contains_key(key)))
            }
            unknown => panic!("the evaluator does not know {unknown}"),
        };
        (!holds).then(|| format!("{value} against {keyword} {says}"))
    })
}

fn is(kind: &Value, value: &Value) -> bool {
    match kind.as_str().unwrap() {
        "object" => value.is_object(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "number" => value.is_number(),
        "integer" => value.is_u64() || value.is_i64(),
        unknown => panic!("the evaluator does not know the type {unknown}"),
    }
}

fn number(value: &Value) -> Option<f64> {
    value.as_f64()
}

fn matches(pattern: &str, text: &str) -> bool {
    regex::Regex::new(pattern).unwrap().is_match(text)
}
