//! Events as JSON objects: `{"event": "round_finished", "round": 3, ...}`.

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
}
