//! Numeric profiles: which rule a job's matrix products follow.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::isa;

/// The rule of the linear layers' and attention's products (SPEC.md). A job has one, and everybody who
/// computes for it uses that one: two profiles give different bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Profile {
    /// Operands and sums in f32, by the chunk rule.
    #[default]
    #[serde(rename = "f32-exact")]
    F32Exact,
    /// Operands rounded to bf16, sums in f32 in the order of the AMX tile instruction, by the pair rule: several times
    /// faster where there is a tile unit, slower elsewhere.
    #[serde(rename = "bf16-exact")]
    Bf16Exact,
}

impl Profile {
    /// Every profile.
    pub const ALL: [Self; 2] = [Self::F32Exact, Self::Bf16Exact];

    /// The one that this process is fastest in, with the instruction set it uses.
    pub fn best_here() -> Self {
        if isa::tiles() { Self::Bf16Exact } else { Self::F32Exact }
    }

    /// Its name in files, commitments and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32Exact => "f32-exact",
            Self::Bf16Exact => "bf16-exact",
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The text names no numeric profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownProfile(pub String);

impl fmt::Display for UnknownProfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "numeric profile `{}`: no such name\nhint: use f32-exact or bf16-exact", self.0)
    }
}

impl std::error::Error for UnknownProfile {}

impl FromStr for Profile {
    type Err = UnknownProfile;

    fn from_str(text: &str) -> Result<Self, UnknownProfile> {
        Self::ALL
            .into_iter()
            .find(|profile| profile.name() == text)
            .ok_or_else(|| UnknownProfile(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_back_and_others_are_refused() {
        for profile in Profile::ALL {
            assert_eq!(profile.to_string().parse(), Ok(profile));
        }
        assert_eq!("bf16".parse::<Profile>(), Err(UnknownProfile("bf16".to_owned())));
    }
}
