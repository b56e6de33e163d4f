//! What the operands of a product are made of.

use super::View;
use super::bf16::convert::Convert;
use crate::bf16::Bf16;

/// f32, or bf16 where the profile would round to it. Both give the same bits.
pub trait Element: Convert {
    /// The view as f32-exact needs it.
    ///
    /// # Panics
    /// If the elements are bf16: what was rounded cannot follow that profile.
    fn exact(view: View<Self>) -> View<f32>;
}

impl Element for f32 {
    fn exact(view: View<Self>) -> View<f32> {
        view
    }
}

impl Element for Bf16 {
    fn exact(_: View<Self>) -> View<f32> {
        panic!("an operand in bf16 belongs to the profile bf16-exact")
    }
}

/// A row-major activation that only products read.
#[derive(Clone, Copy)]
pub enum Operand<'a> {
    /// As it was computed.
    F32(&'a [f32]),
    /// Rounded once, for a profile that rounds operands to bf16.
    Bf16(&'a [Bf16]),
}

impl Operand<'_> {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::Bf16(values) => values.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<'a> From<&'a [f32]> for Operand<'a> {
    fn from(values: &'a [f32]) -> Self {
        Self::F32(values)
    }
}

impl<'a> From<&'a Vec<f32>> for Operand<'a> {
    fn from(values: &'a Vec<f32>) -> Self {
        Self::F32(values)
    }
}

impl<'a, const N: usize> From<&'a [f32; N]> for Operand<'a> {
    fn from(values: &'a [f32; N]) -> Self {
        Self::F32(values)
    }
}

impl<'a> From<&'a [Bf16]> for Operand<'a> {
    fn from(values: &'a [Bf16]) -> Self {
        Self::Bf16(values)
    }
}

/// Runs the same code for either element.
macro_rules! with_elements {
    ($operand:expr, $values:ident => $body:expr) => {
        match $operand {
            $crate::matmul::Operand::F32($values) => $body,
            $crate::matmul::Operand::Bf16($values) => $body,
        }
    };
}

pub(crate) use with_elements;
