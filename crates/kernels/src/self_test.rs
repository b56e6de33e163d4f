//! A quick check, at start-up, that this machine computes the right bits.
//!
//! It is for what tests cannot see: another compiler, a CPU with an erratum, a
//! platform whose software fma is not an fma. Sizes are small and awkward.

mod cases;

use std::fmt;

use cases::CASES;

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
            "self-test of {} on {}: its bits differ from the reference\n\
             hint: try another instruction set; if scalar fails too, this machine cannot take part",
            self.operator, self.isa
        )
    }
}

impl std::error::Error for SelfTestError {}

/// Runs every operator on the active instruction set and compares it with the
/// reference, bit for bit. Takes some milliseconds.
///
/// # Errors
/// Names the first operator whose bits differ.
pub fn self_test() -> Result<(), SelfTestError> {
    let isa = crate::isa::active();
    match CASES.iter().find(|(_, agrees)| !agrees()) {
        Some((operator, _)) => Err(SelfTestError { operator, isa }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_passes() {
        assert_eq!(self_test(), Ok(()));
    }

    #[test]
    fn the_message_names_operator_and_instruction_set() {
        let error = SelfTestError { operator: "norm::rms_forward", isa: crate::isa::Isa::Avx2 };
        assert!(error.to_string().starts_with("self-test of norm::rms_forward on avx2: "));
    }
}
