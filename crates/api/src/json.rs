//! Events as JSON objects: `{"event": "round_finished", "round": 3, ...}`; and the kinds there are.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::LazyLock;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::{Map, Value, json};
use zoo_state::Event;

/// An event of the state machine as a flat object: its name in snake case, its fields, and
/// floats where the state keeps their bits.
pub fn event_line(at_ms: u64, event: &Event) -> Value {
    let tagged = serde_json::to_value(event).expect("events are plain data with text keys");
    let (name, fields) = match tagged {
        Value::Object(tagged) => tagged.into_iter().next().expect("an enum has one variant"),
        name => (name.as_str().unwrap_or_default().to_owned(), Value::Null),
    };
    let mut line = Map::new();
    line.insert("event".into(), snake_case(&name).into());
    line.insert("at_ms".into(), at_ms.into());
    if let Value::Object(fields) = fields {
        line.extend(fields.into_iter().map(readable));
    }
    Value::Object(line)
}

/// Every kind of event, as lines name them, in the order in which the state machine declares them.
pub fn kinds() -> &'static [String] {
    static KINDS: LazyLock<Vec<String>> = LazyLock::new(|| {
        let Variants(names) = Event::deserialize(Variants(&[])).expect_err("it holds no event");
        names.iter().map(|name| snake_case(name)).collect()
    });
    &KINDS
}

/// Kinds of events that are wanted: at least one, and none that does not exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kinds(BTreeSet<String>);

impl Kinds {
    /// Whether events of this kind are.
    pub fn contains(&self, kind: &str) -> bool {
        self.0.contains(kind)
    }
}

impl<'de> Deserialize<'de> for Kinds {
    fn deserialize<D: Deserializer<'de>>(text: D) -> Result<Self, D::Error> {
        let text = String::deserialize(text)?;
        let wanted: BTreeSet<_> = text.split(',').map(str::to_owned).collect();
        match wanted.iter().find(|kind| !kinds().contains(kind)) {
            None => Ok(Self(wanted)),
            Some(unknown) => Err(de::Error::custom(format!(
                "{unknown:?} is no kind of event; hint: kinds are separated by commas; these are: {}",
                kinds().join(", ")
            ))),
        }
    }
}

/// Holds no enumeration, but learns the names of its variants when it is asked for one.
#[derive(Debug)]
struct Variants(&'static [&'static str]);

impl<'de> Deserializer<'de> for Variants {
    type Error = Self;

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Self> {
        Err(Self(variants))
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self> {
        Err(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

impl de::Error for Variants {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self(&[])
    }
}

impl std::error::Error for Variants {}

impl fmt::Display for Variants {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "one of {:?}", self.0)
    }
}

fn readable((name, value): (String, Value)) -> (String, Value) {
    match (name.strip_suffix("_bits"), value.as_u64()) {
        (Some(plain), Some(bits)) => (plain.to_owned(), json!(f64::from_bits(bits))),
        _ => (name, value),
    }
}

fn snake_case(name: &str) -> String {
    let mut text = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !text.is_empty() {
            text.push('_');
        }
        text.extend(letter.to_lowercase());
    }
    text
}

#[cfg(test)]
mod tests {
    use zoo_content::Digest;
    use zoo_protocol::NodeId;
    use zoo_state::LossCause;

    use super::*;

    #[test]
    fn events_are_flat_objects_with_readable_numbers() {
        let job = Digest::of(b"job");
        let line = event_line(
            7,
            &Event::EvaluationFinished {
                job,
                round: 3,
                nats_bits: 2.5f64.to_bits(),
                tokens: 10,
                bytes: 30,
                bits_per_byte_bits: 1.25f64.to_bits(),
            },
        );
        let expected = json!({
            "event": "evaluation_finished", "at_ms": 7, "job": job.to_string(), "round": 3, "nats": 2.5,
            "tokens": 10, "bytes": 30, "bits_per_byte": 1.25,
        });
        assert_eq!(line, expected);

        let node = NodeId([1; 32]);
        let line = event_line(0, &Event::NodeLost { node, cause: LossCause::LeaseExpired });
        assert_eq!(line["node"], node.to_string());
        assert_eq!((&line["event"], &line["cause"]), (&json!("node_lost"), &json!("LeaseExpired")));
    }

    #[test]
    fn kinds_are_those_of_lines_and_others_are_refused_with_those_there_are() {
        let job = Digest::of(b"job");
        let line = event_line(0, &Event::JobPaused { job });
        assert!(kinds().iter().any(|kind| line["event"] == **kind), "{:?}", kinds());
        assert_eq!((kinds()[0].as_str(), kinds()[1].as_str()), ("node_joined", "node_lost"));
        let wanted: Kinds = serde_json::from_value(json!("job_paused,node_lost")).unwrap();
        assert!(wanted.contains("node_lost") && !wanted.contains("node_joined"));
        for wrong in ["", "job_paused,", "JobPaused", "job_paused, node_lost"] {
            let refused = serde_json::from_value::<Kinds>(json!(wrong)).unwrap_err().to_string();
            assert!(refused.contains("no kind of event") && refused.contains("round_finished"), "{refused}");
        }
    }
}
