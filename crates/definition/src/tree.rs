//! A file as texts, lists and keys that know their lines. Numbers stay texts until somebody wants one: in these files
//! `"512"` and `512` are the same.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

use crate::FILE_BYTES_MAX;
use crate::refusal::Refusal;

/// A value and the line of what names it.
#[derive(Clone, Debug)]
pub struct Tree {
    pub line: u64,
    pub value: Value,
}

/// A value.
#[derive(Clone, Debug)]
pub enum Value {
    Nothing,
    Text(String),
    List(Vec<Tree>),
    Keys(Vec<(String, Tree)>),
}

/// Reads YAML.
pub fn read(text: &str) -> Result<Tree, Refusal> {
    if text.len() > FILE_BYTES_MAX {
        let cause = format!("the file has {} bytes, more than {FILE_BYTES_MAX}", text.len());
        return Err(Refusal::new(1, cause, "write fewer nodes"));
    }
    let value: Value = serde_saphyr::from_str(text).map_err(|error| {
        // What is not closed is missed only after the last line.
        let last = text.lines().count().max(1) as u64;
        let line = error.location().map_or(1, |location| location.line()).clamp(1, last);
        let said = error.without_snippet().to_string();
        let cause = said.lines().next().unwrap_or_default().split(" at line ").next().unwrap_or_default();
        let hint = "check indentation, colons and quotes of this line and the one before; a key stands once";
        Refusal::new(line, format!("this is not YAML that can be read: {cause}"), hint)
    })?;
    Ok(Tree { line: 1, value })
}

impl Value {
    /// What it is, for messages.
    pub fn what(&self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Text(_) => "one value",
            Self::List(_) => "a list",
            Self::Keys(_) => "keys and values",
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str("a text, a number, a list, or keys and values")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Text(value.to_string()))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Text(value.to_string()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Text(value.to_string()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Text(value.to_string()))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Nothing)
    }

    fn visit_none<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Nothing)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = sequence.next_element::<Spanned<Value>>()? {
            items.push(Tree { line: item.referenced.line(), value: item.value });
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut keys: Vec<(String, Tree)> = Vec::new();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            let tree = Tree { line: key.referenced.line(), value: map.next_value()? };
            keys.push((key.value, tree));
        }
        Ok(Value::Keys(keys))
    }
}
