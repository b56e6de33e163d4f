//! Whether a result replaces what is there or is added to it.

/// What an operator's result lands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Onto {
    /// The result is written, as if it were added onto +0.
    Zero,
    /// The result is added onto the value already there.
    Value,
}

impl Onto {
    /// The value a result is added onto, given what is there now.
    #[inline(always)]
    pub fn start(self, there: f32) -> f32 {
        match self {
            Onto::Zero => 0.0,
            Onto::Value => there,
        }
    }

    /// Makes `values` what a sum starts from: +0, or as they are.
    pub fn prepare(self, values: &mut [f32]) {
        if self == Onto::Zero {
            values.fill(0.0);
        }
    }
}
