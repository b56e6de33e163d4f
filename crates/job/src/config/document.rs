//! A configuration file as values, and the line of every key.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use serde_saphyr::Spanned;
use toml::de::{DeTable, DeValue};

/// Largest configuration file, bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// The key by which editors find the schema of a file; it says nothing of the job.
const FOR_EDITORS: &str = "$schema";

/// What is said of a list, wherever it stands.
const NO_LISTS: &str = "no key takes a list";

/// The keys and values of a file.
#[derive(Debug)]
pub struct Document {
    /// An object.
    pub value: Value,
    /// Line of every key, counted from 1, by its dotted path.
    pub lines: BTreeMap<String, u64>,
}

impl Document {
    /// Reads a YAML, TOML or JSON file, told apart by extension.
    ///
    /// # Errors
    /// A file that is missing, unreadable, too large, or not of its format, with the line.
    pub fn read(path: &Path) -> Result<Self> {
        let shown = path.display();
        let size = std::fs::metadata(path).map(|metadata| metadata.len());
        let size =
            size.with_context(|| format!("cannot read {shown}\nhint: check the path of the configuration"))?;
        if size > FILE_BYTES_MAX {
            bail!(
                "{shown}: {size} bytes are more than a configuration of {FILE_BYTES_MAX} may have\nhint: is it the data? give that with --data"
            );
        }
        let bytes = std::fs::read(path).with_context(|| format!("cannot read {shown}"))?;
        let Ok(text) = String::from_utf8(bytes) else {
            bail!("{shown}: not UTF-8\nhint: is it a configuration? give data with --data");
        };
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        Self::parse(&text, extension, Some(path))
    }

    /// Reads a text in the format that files with this extension have, from `file` if it is from one.
    ///
    /// # Errors
    /// What is wrong with it, with the line.
    pub fn parse(text: &str, extension: &str, file: Option<&Path>) -> Result<Self> {
        let parse = match extension {
            "yaml" | "yml" => from_yaml,
            "toml" => from_toml,
            "json" => from_json,
            _ => {
                let place = place(file, None);
                bail!("{place}neither YAML, TOML nor JSON\nhint: name the file .yaml, .toml or .json")
            }
        };
        let mut lines = BTreeMap::new();
        let node = parse(text).map_err(|(line, cause)| {
            // The line is said before; the parser says it again at the end.
            let cause =
                cause.lines().next().unwrap_or_default().split(" at line ").next().unwrap_or_default();
            anyhow::anyhow!("{}{cause}", place(file, line))
        })?;
        let mut value = match node {
            Node::Table(_) | Node::Leaf(Value::Object(_)) => node.flatten("", &mut lines),
            Node::Leaf(Value::Null) => Value::Object(Map::new()),
            Node::Leaf(_) => {
                let place = place(file, None);
                bail!("{place}not a list of keys and values\nhint: write one per line, as in steps: 500")
            }
        };
        value.as_object_mut().and_then(|keys| keys.remove(FOR_EDITORS));
        Ok(Self { value, lines })
    }
}

/// Where something is written, for the start of a message.
pub fn place(file: Option<&Path>, line: Option<u64>) -> String {
    match (file.map(Path::display), line) {
        (Some(file), Some(line)) => format!("{file}:{line}: "),
        (Some(file), None) => format!("{file}: "),
        (None, Some(line)) => format!("line {line}: "),
        (None, None) => String::new(),
    }
}

/// Line, where it is known, and cause.
type ParseError = (Option<u64>, String);

/// A value whose keys still know their lines.
enum Node {
    Leaf(Value),
    Table(Vec<(String, u64, Node)>),
}

impl Node {
    /// The value; the line of every key goes into `lines`.
    fn flatten(self, path: &str, lines: &mut BTreeMap<String, u64>) -> Value {
        match self {
            Self::Leaf(value) => value,
            Self::Table(entries) => {
                let flat = entries.into_iter().map(|(key, line, node)| {
                    let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                    lines.insert(path.clone(), line);
                    (key, node.flatten(&path, lines))
                });
                Value::Object(flat.collect())
            }
        }
    }
}

fn from_yaml(text: &str) -> Result<Node, ParseError> {
    serde_saphyr::from_str(text).map_err(|error| {
        let line = error.location().map(|location| location.line());
        (line, error.without_snippet().to_string())
    })
}

/// Keys of JSON do not know their lines; errors do.
fn from_json(text: &str) -> Result<Node, ParseError> {
    let value: Value =
        serde_json::from_str(text).map_err(|error| (Some(error.line() as u64), error.to_string()))?;
    match &value {
        // What is no object at all is refused as such.
        Value::Object(keys) if keys.values().any(has_list) => Err((None, NO_LISTS.to_owned())),
        _ => Ok(Node::Leaf(value)),
    }
}

fn has_list(value: &Value) -> bool {
    match value {
        Value::Array(_) => true,
        Value::Object(keys) => keys.values().any(has_list),
        _ => false,
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str("a number, a text, true, false, null, or keys and values")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Leaf(value.into()))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Leaf(value.into()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Leaf(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Node, E> {
        match serde_json::Number::from_f64(value) {
            Some(number) => Ok(Node::Leaf(number.into())),
            None => Err(E::custom("infinity and NaN are not possible")),
        }
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Leaf(value.into()))
    }

    fn visit_unit<E: Error>(self) -> Result<Node, E> {
        Ok(Node::Leaf(Value::Null))
    }

    fn visit_none<E: Error>(self) -> Result<Node, E> {
        self.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        Node::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<Node, A::Error> {
        Err(A::Error::custom(NO_LISTS))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            let line = key.referenced.line();
            entries.push((key.value, line, map.next_value()?));
        }
        Ok(Node::Table(entries))
    }
}

fn from_toml(text: &str) -> Result<Node, ParseError> {
    let line_of = |at: usize| 1 + text.bytes().take(at).filter(|&byte| byte == b'\n').count() as u64;
    let table = DeTable::parse(text)
        .map_err(|error| (error.span().map(|span| line_of(span.start)), error.message().to_owned()))?;
    toml_table(table.get_ref(), &line_of)
}

fn toml_table(table: &DeTable, line_of: &dyn Fn(usize) -> u64) -> Result<Node, ParseError> {
    let entries = table.iter().map(|(key, value)| {
        let line = line_of(key.span().start);
        let node =
            toml_value(value.get_ref(), line_of).map_err(|(inner, cause)| (inner.or(Some(line)), cause))?;
        Ok((key.get_ref().to_string(), line, node))
    });
    Ok(Node::Table(entries.collect::<Result<_, ParseError>>()?))
}

fn toml_value(value: &DeValue, line_of: &dyn Fn(usize) -> u64) -> Result<Node, ParseError> {
    let refuse = |cause: &str| Err((None, cause.to_owned()));
    Ok(Node::Leaf(match value {
        DeValue::Table(table) => return toml_table(table, line_of),
        DeValue::String(text) => Value::from(text.as_ref()),
        DeValue::Boolean(value) => Value::from(*value),
        DeValue::Integer(integer) => {
            let (digits, radix) = (integer.as_str(), integer.radix());
            match (u64::from_str_radix(digits, radix), i64::from_str_radix(digits, radix)) {
                (Ok(value), _) => value.into(),
                (_, Ok(value)) => value.into(),
                _ => return refuse("the number is too large"),
            }
        }
        DeValue::Float(float) => {
            let number = float.as_str().parse().ok().and_then(serde_json::Number::from_f64);
            match number {
                Some(number) => number.into(),
                None => return refuse("infinity and NaN are not possible"),
            }
        }
        DeValue::Datetime(_) => return refuse("no key takes a date"),
        DeValue::Array(_) => return refuse(NO_LISTS),
    }))
}

/// A value as the command line gives it: a YAML scalar.
pub fn scalar(text: &str) -> Result<Value, String> {
    match from_yaml(text) {
        Ok(Node::Leaf(value)) => Ok(value),
        Ok(node @ Node::Table(_)) => Ok(node.flatten("", &mut BTreeMap::new())),
        Err((_, cause)) => Err(cause.lines().next().unwrap_or_default().to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(extension: &str, text: &str) -> Result<Document> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run").with_extension(extension);
        std::fs::write(&path, text).unwrap();
        Document::read(&path)
    }

    const YAML: &str = "# a comment\nsteps: 5\n\ntraining:\n  clip: null\n  schedule: {type: constant, learning_rate: 1e-3}\n  seed: 18446744073709551615\ndata: some/where\n";
    const TOML: &str = "# a comment\nsteps = 5\ndata = \"some/where\"\n\n[training]\nseed = 7\n\n[training.schedule]\ntype = \"constant\"\nlearning_rate = 1e-3\n";

    #[test]
    fn both_formats_give_values_and_lines() {
        let yaml = document("yaml", YAML).unwrap();
        assert_eq!(yaml.value["training"]["schedule"]["learning_rate"], 1e-3);
        assert_eq!(yaml.value["training"]["seed"], u64::MAX);
        assert_eq!(yaml.value["training"]["clip"], Value::Null);
        for (path, line) in
            [("steps", 2), ("training", 4), ("training.clip", 5), ("training.schedule.type", 6), ("data", 8)]
        {
            assert_eq!(yaml.lines.get(path), Some(&line), "{path}");
        }
        let toml = document("toml", TOML).unwrap();
        assert_eq!(toml.value["training"]["schedule"]["learning_rate"], 1e-3);
        for (path, line) in
            [("steps", 2), ("data", 3), ("training.seed", 6), ("training.schedule.learning_rate", 10)]
        {
            assert_eq!(toml.lines.get(path), Some(&line), "{path}");
        }
    }

    #[test]
    fn what_is_not_a_configuration_is_refused_with_its_line() {
        let cases = [
            ("yaml", "steps: 5\n  bad: [1\n", "run.yaml:"),
            ("yaml", "- 1\n- 2\n", "no key takes a list"),
            ("yaml", "just words\n", "not a list of keys and values"),
            ("yaml", "steps: .inf\n", "run.yaml:1: non-finite float"),
            ("yaml", "steps: 1\nsteps: 2\n", "run.yaml:2"),
            ("toml", "steps = 5\nx = = 3\n", "run.toml:2"),
            ("toml", "steps = 5\n\nx = [1]\n", "run.toml:3: no key takes a list"),
            ("toml", "x = inf\n", "run.toml:1: infinity"),
            ("toml", "x = 1979-05-27\n", "no key takes a date"),
            ("ini", "", "neither YAML, TOML nor JSON"),
            ("json", "{\n\"a\" 1}", "run.json:2: expected `:`"),
            ("json", "[1]", "run.json: not a list of keys and values"),
            ("json", "{\"held_out\": [5, 1000]}", "run.json: no key takes a list"),
            ("json", "{\"a\": {\"b\": []}}", "run.json: no key takes a list"),
        ];
        for (extension, text, message) in cases {
            let error = format!("{:#}", document(extension, text).unwrap_err());
            assert!(error.contains(message), "{text:?}: {error}");
        }
        assert!(document("yaml", "# nothing\n").unwrap().value.as_object().unwrap().is_empty());
        let for_editors = document("json", "{\"$schema\": \"job.schema.json\"}").unwrap();
        assert!(for_editors.value.as_object().unwrap().is_empty());
    }

    #[test]
    fn a_scalar_has_the_type_it_looks_like() {
        let cases = [
            ("5", 5.into()),
            ("1e-3", 1e-3.into()),
            ("true", true.into()),
            ("null", Value::Null),
            ("a/b.txt", "a/b.txt".into()),
        ];
        for (text, value) in cases {
            assert_eq!(scalar(text).unwrap(), value, "{text}");
        }
    }
}
