//! How many inner steps rounds have, as people write it: `30`, or `10..100`.

use std::fmt;
use std::str::FromStr;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Bounds, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InnerSteps {
    /// At least so many,
    pub least: u32,
    /// and at most so many.
    pub most: u32,
}

impl FromStr for InnerSteps {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (least, most) = text.split_once("..").unwrap_or((text, text));
        let number = |text: &str| text.trim().parse().ok();
        match (number(least), number(most)) {
            (Some(least), Some(most)) if least <= most => Ok(Self { least, most }),
            _ => {
                let shown: String = text.chars().take(40).collect();
                Err(format!(
                    "{shown:?} is no number of inner steps; write 30, or 10..100 for as few of these as hide a round's traffic"
                ))
            }
        }
    }
}

impl fmt::Display for InnerSteps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { least, most } = self;
        if least == most { write!(f, "{least}") } else { write!(f, "{least}..{most}") }
    }
}

impl Serialize for InnerSteps {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.least == self.most {
            serializer.serialize_u32(self.least)
        } else {
            serializer.collect_str(self)
        }
    }
}

impl<'de> Deserialize<'de> for InnerSteps {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Written)
    }
}

struct Written;

impl Visitor<'_> for Written {
    type Value = InnerSteps;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a number of steps, or bounds as in 10..100")
    }

    fn visit_u64<E: Error>(self, steps: u64) -> Result<InnerSteps, E> {
        self.visit_str(&steps.to_string())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<InnerSteps, E> {
        text.parse().map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inner_steps_are_written_as_they_are_read() {
        for (text, least, most) in [("30", 30, 30), ("10..100", 10, 100), ("1..1", 1, 1)] {
            let steps: InnerSteps = text.parse().unwrap();
            assert_eq!(steps, InnerSteps { least, most });
            let value = serde_json::to_value(steps).unwrap();
            assert_eq!(serde_json::from_value::<InnerSteps>(value).unwrap(), steps);
        }
        assert_eq!(serde_json::to_value(InnerSteps { least: 4, most: 4 }).unwrap(), 4);
        for text in ["", "..", "3..2", "-1", "1...2", "4294967296", "many"] {
            let error = text.parse::<InnerSteps>().unwrap_err();
            assert!(error.contains("write 30, or 10..100"), "{error}");
        }
    }
}
