//! The schema says what the reader does: neither can change alone.

mod evaluator;

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Map, Value, json};
use zoo_job::{Layer, RunConfig, SCHEMA, build};

use evaluator::{alternatives, complaint};

fn schema() -> Value {
    serde_json::from_str(SCHEMA).unwrap()
}

/// What reads every job: `None`, or why it refuses.
fn refusal(document: &Value) -> Option<String> {
    let layer = Layer::parse(&document.to_string(), "json");
    layer.and_then(|layer| build(None, &[layer])).err().map(|cause| format!("{cause:#}"))
}

/// The presets, and one configuration for each table that has types.
fn configurations() -> Vec<Value> {
    let typed = [
        json!({ "schedule": { "type": "constant", "learning_rate": 1e-3, "warmup_steps": 0 } }),
        json!({ "schedule": { "type": "wsd", "learning_rate": 1e-3, "minimum_learning_rate": 0, "warmup_steps": 1,
            "stable_steps": 2, "decay_steps": 3 } }),
        json!({ "optimizer": { "type": "muon" } }),
        json!({ "update": { "type": "sparse" } }),
    ];
    let typed = typed.into_iter().map(|training| {
        let layer = Layer::parse(&json!({ "training": training }).to_string(), "json").unwrap();
        build(None, &[layer]).unwrap()
    });
    let presets = zoo_model::preset::names().map(|name| RunConfig::of_preset(name).unwrap());
    presets.chain(typed).map(|config| config.to_value()).collect()
}

/// The dotted paths of all values.
fn leaves(value: &Value, path: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(keys) => keys.iter().for_each(|(key, value)| leaves(value, &join(path, key), found)),
        _ => _ = found.insert(path.to_owned()),
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// A key of the schema: its path, what it may be, and the `type` that a table has to have for it.
struct Key {
    path: String,
    schema: Value,
    kind: Option<(String, Value)>,
}

/// Every key that has no keys of its own.
fn keys(schema: &Value, path: &str, kind: Option<&(String, Value)>, found: &mut Vec<Key>) {
    for table in alternatives(schema).filter(|table| table["properties"].is_object()) {
        let properties = table["properties"].as_object().unwrap();
        let own = properties.get("type").map(|kind| (join(path, "type"), kind["const"].clone()));
        let kind = own.as_ref().or(kind);
        for (key, schema) in properties {
            let path = join(path, key);
            if alternatives(schema).any(|schema| schema["properties"].is_object()) {
                keys(schema, &path, kind, found);
            } else {
                found.push(Key { path, schema: schema.clone(), kind: kind.cloned() });
            }
        }
    }
}

fn all_keys() -> Vec<Key> {
    let mut found = Vec::new();
    keys(&schema(), "", None, &mut found);
    found.retain(|key| key.path != "$schema");
    found
}

/// A document that says this alone, with the rest of a table of this `type` if its keys depend on one.
fn saying(path: &str, value: &Value, kind: Option<&(String, Value)>) -> Value {
    let mut document = json!({});
    if let Some((at, kind)) = kind {
        let (table, _) = at.rsplit_once('.').unwrap();
        let pointer = format!("/{}", table.replace('.', "/"));
        let complete = configurations().into_iter().find_map(|mut config| {
            let table = config.pointer_mut(&pointer)?.take();
            (table["type"] == *kind).then_some(table)
        });
        *at_path(&mut document, table) = complete.expect("a configuration of every type");
    }
    *at_path(&mut document, path) = value.clone();
    document
}

fn at_path<'a>(document: &'a mut Value, path: &str) -> &'a mut Value {
    path.split('.').fold(document, |place, key| &mut place[key])
}

#[test]
fn every_key_of_the_reader_is_in_the_schema_and_every_key_of_the_schema_is_read() {
    let mut read = BTreeSet::new();
    configurations().iter().for_each(|config| leaves(config, "", &mut read));
    let described: BTreeSet<String> = all_keys().into_iter().map(|key| key.path).collect();
    assert_eq!(described, read);
}

#[test]
fn the_names_of_presets_and_every_default_are_the_readers() {
    let schema = schema();
    let presets: Vec<&str> = zoo_model::preset::names().collect();
    assert_eq!(schema["properties"]["preset"]["enum"], json!(presets));
    let defaults = build(None, &[]).unwrap().to_value();
    for Key { path, schema, .. } in all_keys() {
        let Some(default) = schema.get("default") else { continue };
        let pointer = format!("/{}", path.replace('.', "/"));
        assert_eq!(defaults.pointer(&pointer), Some(default), "{path}");
    }
}

#[test]
fn every_preset_and_example_is_what_the_schema_describes() {
    for config in configurations() {
        assert_eq!(complaint(&schema(), &config), None, "{config}");
    }
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let mut count = 0;
    let files = std::fs::read_dir(examples).unwrap().map(|entry| entry.unwrap().path());
    // Networks have a folder of their own.
    for path in files.filter(|path| path.is_file()) {
        let config = build(None, &[Layer::file(&path).unwrap()]).unwrap();
        assert_eq!(complaint(&schema(), &config.to_value()), None, "{}", path.display());
        count += 1;
    }
    assert!(count >= 2);
}

#[test]
fn what_the_reader_takes_and_refuses_the_schema_does_too() {
    let documents: Map<String, Value> = serde_json::from_str(include_str!("documents.json")).unwrap();
    for document in documents["accepted"].as_array().unwrap() {
        assert_eq!((refusal(document), complaint(&schema(), document)), (None, None), "{document}");
    }
    for document in documents["refused"].as_array().unwrap() {
        assert!(refusal(document).is_some(), "the reader takes {document}");
        assert!(complaint(&schema(), document).is_some(), "the schema takes {document}");
    }
}

/// Keys of which the reader knows more than a schema can say: their values have to fit those of other keys, or a float of 32 bits.
const FIT_OTHERS: [&str; 11] = [
    "model.biases",
    "model.family",
    "model.heads",
    "model.kv_heads",
    "model.rope_theta",
    "model.vocab_size",
    "model.width",
    "training.batch_sequences",
    "training.outer.learning_rate",
    "training.schedule.decay_steps",
    "training.schedule.minimum_learning_rate",
];

#[test]
fn one_key_at_a_time_schema_and_reader_agree_on_values_of_every_kind_and_at_every_bound() {
    let mut differ = BTreeSet::new();
    for Key { path, schema: own, kind } in all_keys() {
        let (mut taken, mut refused) = (0, 0);
        for value in candidates(&own) {
            let document = saying(&path, &value, kind.as_ref());
            match (refusal(&document), complaint(&schema(), &document)) {
                (None, None) => taken += 1,
                (Some(_), Some(_)) => refused += 1,
                (None, Some(complaint)) => panic!("only the schema refuses {document}: {complaint}"),
                (Some(_), None) => _ = differ.insert(path.clone()),
            }
        }
        assert!(refused > 0, "{path} is anything to the schema");
        assert!(taken > 0, "{path} is nothing to the reader");
    }
    assert_eq!(differ, FIT_OTHERS.map(str::to_owned).into(), "a key whose bounds the schema does not say");
}

/// Values of every kind, and those at the bounds that the schema states.
fn candidates(own: &Value) -> Vec<Value> {
    let mut values = vec![
        json!(null),
        json!(true),
        json!(false),
        json!(-1),
        json!(0),
        json!(1),
        json!(2),
        json!(256),
        json!(0.5),
        json!(1e300),
        json!("a word"),
        json!({ "a": 1 }),
        json!([]),
    ];
    for schema in alternatives(own) {
        values.extend(schema.get("const").cloned());
        values.extend(schema.get("enum").and_then(Value::as_array).into_iter().flatten().cloned());
        for bound in ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"] {
            match (schema[bound].as_u64(), schema[bound].as_f64()) {
                (Some(bound), _) => {
                    let around = [bound.checked_sub(1), Some(bound), bound.checked_add(1)];
                    values.extend(around.into_iter().flatten().map(Value::from));
                }
                (_, Some(bound)) => values.extend([bound / 2.0, bound, bound * 2.0].map(Value::from)),
                _ => {}
            }
        }
        values.extend(schema.get("default").cloned());
    }
    values
}
