//! The bf16 number format: the upper half of an f32.

use rayon::prelude::*;

use crate::matmul::round_slice;
use crate::parallel::elements_per_task;

/// A number of the format. Where a profile rounds the operands of a product anyway, an activation that only
/// products read is kept as this: half the memory, the same bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Bf16(pub(crate) u16);

// SAFETY: all bits zero are a number of the format.
unsafe impl bytemuck::Zeroable for Bf16 {}
// SAFETY: one u16, transparently: no padding, and every pattern of bits is a number of the format.
unsafe impl bytemuck::Pod for Bf16 {}

impl Bf16 {
    /// The nearest number of the format, see [`round`].
    #[inline(always)]
    pub fn of(x: f32) -> Self {
        Self(round(x))
    }

    /// The f32 of the same value.
    #[inline(always)]
    pub const fn to_f32(self) -> f32 {
        widen(self.0)
    }
}

/// `to = from`, rounded.
pub fn round_all(from: &[f32], to: &mut [Bf16]) {
    assert_eq!(from.len(), to.len(), "both tensors have one shape");
    let task = elements_per_task(from.len(), 64);
    (from.par_chunks(task), to.par_chunks_mut(task))
        .into_par_iter()
        .for_each(|(from, to)| round_slice(from, to));
}

/// Rounds to nearest, ties to even. Subnormals become zero of their sign; a NaN stays one, quiet.
#[inline(always)]
pub fn round(x: f32) -> u16 {
    let bits = x.to_bits();
    let magnitude = bits & 0x7fff_ffff;
    let nearest = (bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16) as u16;
    let upper = (bits >> 16) as u16;
    if magnitude < 0x0080_0000 {
        upper & 0x8000
    } else if magnitude > 0x7f80_0000 {
        upper | 0x40
    } else {
        nearest
    }
}

/// The f32 of the same value.
#[inline(always)]
pub const fn widen(x: u16) -> f32 {
    f32::from_bits((x as u32) << 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_the_format_stay_as_they_are_but_for_subnormals_and_nan() {
        for x in 0..=u16::MAX {
            let subnormal = x & 0x7f80 == 0;
            let found = round(widen(x));
            if widen(x).is_nan() {
                assert_eq!(found, x | 0x40);
            } else {
                assert_eq!(found, if subnormal { x & 0x8000 } else { x });
            }
        }
    }

    #[test]
    fn ties_go_to_even_and_the_greatest_overflow() {
        let near = |bits: u32| round(f32::from_bits(bits));
        assert_eq!(near(0x3f80_8000), 0x3f80);
        assert_eq!(near(0x3f80_8001), 0x3f81);
        assert_eq!(near(0x3f81_8000), 0x3f82);
        assert_eq!(near(0x7f7f_8000), 0x7f80);
        assert_eq!(near(0x7f7f_7fff), 0x7f7f);
        assert_eq!(near(0x007f_ffff), 0);
        assert_eq!(near(0x80ff_ffff), 0x8100);
    }
}
