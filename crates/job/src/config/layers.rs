//! Layers of keys and values over a configuration, and whose fault it is when they do not fit.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow, bail};
use serde_json::{Map, Value, json};
use zoo_training::SpecError;

use super::document::{Document, place, scalar};
use super::{DEFAULT_PRESET, RunConfig};

/// Values that go over those below.
#[derive(Debug)]
pub struct Layer {
    /// The file they are from, if they are from one.
    file: Option<PathBuf>,
    value: Value,
    lines: BTreeMap<String, u64>,
}

impl Layer {
    /// A file's values.
    pub fn file(path: &Path) -> Result<Self> {
        let Document { value, lines } = Document::read(path)?;
        Ok(Self { file: Some(path.to_owned()), value, lines })
    }

    /// What somebody sent, in JSON, YAML or TOML: `format` is the extension that a file of it would have.
    ///
    /// # Errors
    /// As of a file, with the line alone: what the sender calls it is not known.
    pub fn parse(text: &str, format: &str) -> Result<Self> {
        let Document { value, lines } = Document::parse(text, format, None)?;
        Ok(Self { file: None, value, lines })
    }

    /// What the command line sets: dotted paths and values.
    pub fn command_line(settings: &[(String, Value)]) -> Result<Self> {
        let mut value = json!({});
        for (path, setting) in settings {
            let mut place = &mut value;
            for key in path.split('.') {
                if key.is_empty() || !(place.is_object() || place.is_null()) {
                    bail!(
                        "--set {path}: not a path of keys\nhint: write keys with dots between, as in --set training.seed=7"
                    );
                }
                place = &mut place[key];
            }
            *place = setting.clone();
        }
        Ok(Self { file: None, value, lines: BTreeMap::new() })
    }

    /// A `key=value` of the command line.
    pub fn parse_setting(text: &str) -> Result<(String, Value), String> {
        let Some((path, value)) = text.split_once('=') else {
            return Err("write key=value, as in training.batch_sequences=8".to_owned());
        };
        Ok((path.trim().to_owned(), scalar(value.trim())?))
    }

    /// The preset that the layer names.
    fn preset(&self) -> Option<&Value> {
        self.value.get("preset")
    }

    /// Whether it says something at this JSON pointer.
    pub fn has(&self, pointer: &str) -> bool {
        self.value.pointer(pointer).is_some()
    }

    /// The text it gives for a key at the top.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.value.get(key)?.as_str()
    }

    /// Where a key is written, for the start of a message.
    fn place(&self, path: &str) -> String {
        place(self.file.as_deref(), self.lines.get(path).copied())
    }
}

/// The configuration of `layers`, later ones over earlier ones, over `base` or else the preset they name.
///
/// # Errors
/// The key at fault, where it is written, why it cannot be, and what may have been meant.
pub fn build(base: Option<&RunConfig>, layers: &[Layer]) -> Result<RunConfig> {
    let mut merged = match base {
        Some(config) => config.clone(),
        None => RunConfig::on_this_machine(preset_of(layers)?),
    }
    .to_value();
    for layer in layers {
        let below = merged.clone();
        overlay(&mut merged, &layer.value);
        follow(&mut merged, &below, layer)?;
        let Ok(read) = RunConfig::from_value(merged.clone()) else {
            return Err(culprit(&below, &merged, layer));
        };
        if let Some(path) = unread(&layer.value, &read.to_value(), "") {
            return Err(meaningless(&path, &merged, layer));
        }
    }
    let config = RunConfig::from_value(merged).map_err(|error| anyhow!("configuration: {error}"))?;
    config.validate().map_err(|error| located(error, layers))?;
    Ok(config)
}

fn preset_of(layers: &[Layer]) -> Result<RunConfig> {
    let named = layers.iter().rev().find_map(|layer| Some((layer, layer.preset()?)));
    let Some((layer, name)) = named else {
        return Ok(RunConfig::of_preset(DEFAULT_PRESET).expect("the default preset exists"));
    };
    let text = name.as_str().unwrap_or_default();
    RunConfig::of_preset(text).ok_or_else(|| {
        let nearest = nearest(text, zoo_model::preset::names());
        let meant = nearest.map(|nearest| format!("did you mean {nearest}? ")).unwrap_or_default();
        anyhow!("{}there is no preset {name}\nhint: {meant}zoo presets lists them all", layer.place("preset"))
    })
}

/// Lays `over` onto `value`, key by key. A table of another `type` replaces the one below whole.
fn overlay(value: &mut Value, over: &Value) {
    match (value, over) {
        (Value::Object(value), Value::Object(over)) if !is_other_type(value, over) => {
            for (key, over) in over {
                overlay(value.entry(key).or_insert(Value::Null), over);
            }
        }
        (value, over) => *value = over.clone(),
    }
}

fn is_other_type(value: &Map<String, Value>, over: &Map<String, Value>) -> bool {
    over.get("type").is_some_and(|kind| value.get("type") != Some(kind))
}

/// Values that follow from others of the same layer unless they are written there too.
fn follow(merged: &mut Value, below: &Value, layer: &Layer) -> Result<()> {
    if !merged["model"].is_object() {
        return Ok(()); // refused with its line when the whole is read
    }
    match (layer.has("/vocabulary"), layer.has("/model/vocab_size")) {
        (true, false) if merged["vocabulary"] == "bytes" => merged["model"]["vocab_size"] = 256.into(),
        (true, false) => merged["model"]["vocab_size"] = merged["vocabulary"].clone(),
        (false, true) if merged["model"]["vocab_size"] == 256 => merged["vocabulary"] = "bytes".into(),
        (false, true) => merged["vocabulary"] = merged["model"]["vocab_size"].clone(),
        _ => {}
    }
    let all_heads_had_keys = below["model"]["kv_heads"] == below["model"]["heads"];
    if layer.has("/model/heads") && !layer.has("/model/kv_heads") && all_heads_had_keys {
        merged["model"]["kv_heads"] = merged["model"]["heads"].clone();
    }
    let is_reshaped = layer.has("/model/heads") || layer.has("/model/width");
    if is_reshaped && !layer.has("/model/head_dim") {
        let (width, heads) = (merged["model"]["width"].as_u64(), merged["model"]["heads"].as_u64());
        // Zero, and what is no number, is refused by the checks of the value itself.
        if let (Some(width), Some(heads @ 1..)) = (width, heads) {
            if !width.is_multiple_of(heads) {
                let field = if layer.has("/model/heads") { "model.heads" } else { "model.width" };
                bail!(
                    "{}{field}: {heads} heads do not divide a width of {width}\nhint: choose heads so that they divide width, or write model.head_dim too",
                    layer.place(field)
                );
            }
            merged["model"]["head_dim"] = (width / heads).into();
        }
    }
    Ok(())
}

/// The first key that is written and was not read.
fn unread(written: &Value, read: &Value, path: &str) -> Option<String> {
    written.as_object()?.iter().find_map(|(key, value)| {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        match read.get(key) {
            None => Some(path),
            Some(read) => unread(value, read, &path),
        }
    })
}

/// The error for a key of a table whose `type` does not have it.
fn meaningless(path: &str, merged: &Value, layer: &Layer) -> anyhow::Error {
    let table = path.rsplit_once('.').map_or("", |(table, _)| table);
    let pointer = format!("/{}/type", table.replace('.', "/"));
    let kind = merged.pointer(&pointer).and_then(Value::as_str).unwrap_or_default();
    let place = layer.place(path);
    anyhow!(
        "{place}{path}: it means nothing where {table}.type is {kind}\nhint: write {table}.type too, or leave it out"
    )
}

/// The error for the first key of `layer` that alone already does not fit.
fn culprit(below: &Value, merged: &Value, layer: &Layer) -> anyhow::Error {
    for unit in units(&layer.value, below, String::new()) {
        let mut alone = below.clone();
        let pointer = format!("/{}", unit.replace('.', "/"));
        let Some(value) = layer.value.pointer(&pointer) else { continue };
        set(&mut alone, &unit, value);
        if let Err(error) = RunConfig::from_value(alone) {
            return explain(&unit, &error.to_string(), layer);
        }
    }
    let error = RunConfig::from_value(merged.clone()).expect_err("only asked when it does not fit");
    anyhow!("{}configuration: {error}", layer.place(""))
}

/// The paths of a layer that can be judged one by one: values, and tables with a `type`.
fn units(layer: &Value, below: &Value, path: String) -> Vec<String> {
    match (layer, below) {
        (Value::Object(layer), Value::Object(known)) if !known.contains_key("type") => layer
            .iter()
            .flat_map(|(key, value)| {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                units(value, known.get(key).unwrap_or(&Value::Null), path)
            })
            .collect(),
        _ => vec![path],
    }
}

fn set(value: &mut Value, path: &str, over: &Value) {
    let place = path.split('.').fold(value, |place, key| &mut place[key]);
    overlay(place, over);
}

/// What serde says about one key, for a person.
fn explain(unit: &str, cause: &str, layer: &Layer) -> anyhow::Error {
    let quoted: Vec<&str> = cause.split('`').skip(1).step_by(2).collect();
    let (path, message, known) = match cause.strip_prefix("unknown field ") {
        Some(_) => {
            let field = quoted[0];
            let is_the_unit = unit == field || unit.ends_with(&format!(".{field}"));
            let path = if is_the_unit { unit.to_owned() } else { format!("{unit}.{field}") };
            (path, "there is no such key".to_owned(), &quoted[1..])
        }
        None if cause.starts_with("unknown variant ") => (unit.to_owned(), cause.to_owned(), &quoted[1..]),
        None => (unit.to_owned(), cause.to_owned(), &[][..]),
    };
    let place = layer.place(&path);
    let wrong = quoted.first().copied().unwrap_or_default();
    // `model` lies inside `training` for serde and beside it for people.
    let is_top = !path.contains('.');
    let mut known: Vec<&str> = known.iter().copied().filter(|key| *key != "model").collect();
    known.extend((is_top && !known.is_empty()).then_some("model"));
    let hint = match nearest(wrong, known.iter().copied()) {
        _ if known.is_empty() => "docs/model-builder.md lists every key and its values".to_owned(),
        Some(nearest) => format!("did you mean {nearest}? known here: {}", known.join(", ")),
        None => format!("known here: {}", known.join(", ")),
    };
    anyhow!("{place}{path}: {message}\nhint: {hint}")
}

/// An impossible value, with the place where it is written last.
fn located(error: SpecError, layers: &[Layer]) -> anyhow::Error {
    let SpecError { field, cause, hint } = error;
    let pointer = format!("/{}", field.replace('.', "/"));
    let layer = layers.iter().rev().find(|layer| layer.has(&pointer));
    let place = layer.map(|layer| layer.place(&field)).unwrap_or_default();
    anyhow!("{place}{field}: {cause}\nhint: {hint}")
}

/// The word that `wrong` starts, or that is at most a third of its letters away, if one is.
fn nearest<'a>(wrong: &str, words: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let away =
        |word: &str| if wrong.len() >= 3 && word.starts_with(wrong) { 1 } else { distance(wrong, word) };
    let (away, word) = words.map(|word| (away(word), word)).min()?;
    (away <= wrong.len().max(word.len()).div_ceil(3)).then_some(word)
}

/// Letters to insert, delete or replace (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}

/// A key with two values.
#[derive(Debug, PartialEq)]
pub(super) struct Difference {
    /// Its path.
    pub path: String,
    /// One value.
    pub before: Value,
    /// The other.
    pub after: Value,
}

/// Every key that is not the same in both.
pub(super) fn differences(before: &Value, after: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    compare(before, after, String::new(), &mut found);
    found
}

fn compare(before: &Value, after: &Value, path: String, found: &mut Vec<Difference>) {
    match (before, after) {
        _ if before == after => {}
        (Value::Object(one), Value::Object(other)) => {
            let keys: std::collections::BTreeSet<&String> = one.keys().chain(other.keys()).collect();
            for key in keys {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                let value = |table: &Map<String, Value>| table.get(key).cloned().unwrap_or(Value::Null);
                compare(&value(one), &value(other), path, found);
            }
        }
        _ => found.push(Difference { path, before: before.clone(), after: after.clone() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(settings: &[&str]) -> Layer {
        let parsed: Vec<_> = settings.iter().map(|text| Layer::parse_setting(text).unwrap()).collect();
        Layer::command_line(&parsed).unwrap()
    }

    fn file(text: &str) -> Layer {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.yaml");
        std::fs::write(&path, text).unwrap();
        Layer { file: Some("run.yaml".into()), ..Layer::file(&path).unwrap() }
    }

    #[test]
    fn the_command_line_wins_over_the_file_and_the_file_over_the_preset() {
        let yaml =
            "preset: qwen3-tiny\nsteps: 5\ntraining:\n  seed: 3\n  batch_sequences: 4\nmodel: {layers: 1}\n";
        let layers = [file(yaml), settings(&["training.seed=7", "data=x.txt"])];
        let config = build(None, &layers).unwrap();
        assert_eq!((config.steps, config.training.seed, config.training.batch_sequences), (5, 7, 4));
        assert_eq!((config.training.model.layers, config.training.model.width), (1, 32));
        assert_eq!(config.data.as_deref(), Some(Path::new("x.txt")));
        let over = build(Some(&config), &[settings(&["steps=9"])]).unwrap();
        assert_eq!(over, RunConfig { steps: 9, ..config });
    }

    #[test]
    fn a_schedule_of_another_type_replaces_the_presets() {
        let wsd = "training: {schedule: {type: wsd, learning_rate: 0.01, minimum_learning_rate: 0, warmup_steps: 2, stable_steps: 5, decay_steps: 3}}";
        let config = build(None, &[file(wsd)]).unwrap();
        assert_eq!((config.training.schedule.peak(), config.training.schedule.warmup_steps()), (0.01, 2));
        let config = build(None, &[settings(&["training.schedule.decay_steps=77"])]).unwrap();
        assert_eq!(config.training.schedule.learning_rate(77), 1e-4);
    }

    #[test]
    fn sizes_follow_from_each_other() {
        let cases = [
            (&["vocabulary=bytes"][..], 256, (4, 2, 32)),
            (&["vocabulary=300"], 300, (4, 2, 32)),
            (&["model.vocab_size=512", "model.heads=8"], 512, (8, 2, 16)),
            (&["preset=gpt2-1m", "model.heads=8"], 2048, (8, 8, 16)),
            (&["model.width=64"], 2048, (4, 2, 16)),
            (&["model.heads=8", "model.head_dim=32"], 2048, (8, 2, 32)),
        ];
        for (set, vocab_size, heads) in cases {
            let model = build(None, &[settings(set)]).unwrap().training.model;
            assert_eq!(
                (model.vocab_size, (model.heads, model.kv_heads, model.head_dim)),
                (vocab_size, heads),
                "{set:?}"
            );
        }
    }

    #[test]
    fn a_wrong_key_is_named_with_its_line_and_the_one_that_was_meant() {
        let cases = [
            ("stepz: 5\n", "run.yaml:1: stepz: there is no such key\nhint: did you mean steps?"),
            (
                "steps: 5\nmodell:\n  width: 3\n",
                "run.yaml:2: modell: there is no such key\nhint: did you mean model?",
            ),
            (
                "model:\n  widht: 64\n",
                "run.yaml:2: model.widht: there is no such key\nhint: did you mean width?",
            ),
            (
                "training:\n  clip: 1\n  batch_sequence: 3\n",
                "run.yaml:3: training.batch_sequence: there is no such key\nhint: did you mean batch_sequences?",
            ),
            (
                "training:\n  schedule:\n    warmup: 3\n",
                "run.yaml:3: training.schedule.warmup: there is no such key\nhint: did you mean warmup_steps?",
            ),
            (
                "training:\n  schedule:\n    type: linear\n",
                "run.yaml:2: training.schedule: unknown variant `linear`",
            ),
            ("steps: many\n", "run.yaml:1: steps: invalid type: string \"many\""),
            ("model:\n  width: 1.5\n", "run.yaml:2: model.width: invalid type: floating point"),
            ("vocabulary: letters\n", "run.yaml:1: vocabulary: \"letters\" is neither bytes nor"),
            (
                "preset: qwen3-2m\n",
                "run.yaml:1: there is no preset \"qwen3-2m\"\nhint: did you mean qwen3-1m?",
            ),
            ("model:\n  heads: 3\n", "run.yaml:2: model.heads: 3 heads do not divide a width of 128"),
            ("model: {context: 0}\n", "run.yaml:1: model.context: 0 is not possible"),
            ("training:\n  batch_sequences: 0\n", "run.yaml:2: training.batch_sequences: 0 is not possible"),
            ("vocabulary: 100\n", "run.yaml:1: vocabulary: 100 tokens cannot hold 256 bytes"),
            ("steps: 0\n", "run.yaml:1: steps: 0 is not possible"),
            (
                "vocabulary: bytes\nmodel: {vocab_size: 300}\n",
                "run.yaml:1: vocabulary: bytes is not model.vocab_size, 300",
            ),
            ("training: {model: {width: 4}}\n", "run.yaml:1: training.model"),
            (
                "training:\n  update:\n    keep: 32\n",
                "run.yaml:3: training.update.keep: it means nothing where training.update.type is dense",
            ),
        ];
        for (yaml, message) in cases {
            let error = build(None, &[file(yaml)]).unwrap_err().to_string();
            assert!(error.starts_with(message) && error.contains("hint: "), "{yaml:?}: {error}");
        }
        let error = build(None, &[settings(&["training.sed=5"])]).unwrap_err().to_string();
        assert!(error.starts_with("training.sed: there is no such key\nhint: did you mean seed?"), "{error}");
        assert!(Layer::command_line(&[("a..b".to_owned(), Value::Null)]).is_err());
    }

    #[test]
    fn distance_counts_single_letters() {
        for (one, other, expected) in
            [("", "", 0), ("abc", "abc", 0), ("abc", "ab", 1), ("abc", "xbc", 1), ("kitten", "sitting", 3)]
        {
            assert_eq!(distance(one, other), expected, "{one} {other}");
            assert_eq!(distance(other, one), expected);
        }
    }
}
