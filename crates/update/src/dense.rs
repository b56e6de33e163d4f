//! The dense codec: every element as a 32-bit integer.
//!
//! The header (see [`Header`]) is followed by one little-endian `i32` per
//! element. Every such sequence of bytes is the encoding of exactly one update.

use crate::{Codec, Header, SCALE_EXPONENT, Update, UpdateError};

/// The dense codec's number in the header.
pub const CODEC: u8 = 0;

/// Elements checked together before they are converted; small enough for the first-level cache.
const BLOCK: usize = 2048;

/// Rounds every element to the nearest multiple of `2^-24`. The rounding error, at most
/// `2^-25`, is below what the parameters themselves resolve and is not fed back.
#[derive(Clone, Copy, Debug, Default)]
pub struct Dense;

impl Codec for Dense {
    fn encode(
        &self,
        header: &Header,
        pseudo_gradient: &[f32],
        _residual: &mut Vec<f32>,
    ) -> Result<Vec<u8>, UpdateError> {
        let values = quantise(header, pseudo_gradient)?;
        header.validate()?;
        Ok(encode(header, &values))
    }

    fn decode(&self, bytes: &[u8], expected: &Header) -> Result<Update, UpdateError> {
        let body = Header::decode(bytes, CODEC, expected)?;
        let header_bytes = (bytes.len() - body.len()) as u64;
        let length = header_bytes + expected.layout.elements() * size_of::<i32>() as u64;
        if bytes.len() as u64 != length {
            return Err(UpdateError::Length { expected: length, actual: bytes.len() as u64 });
        }
        let (elements, _) = body.as_chunks();
        let values = elements.iter().map(|element| i32::from_le_bytes(*element)).collect();
        Update::new(expected.clone(), values)
    }
}

/// Rounds `pseudo_gradient * 2^24` to the nearest integers, halves to even. An element that
/// is not a finite number below 128 is an error that names it.
pub fn quantise(header: &Header, pseudo_gradient: &[f32]) -> Result<Vec<i32>, UpdateError> {
    header.layout.check_len(pseudo_gradient)?;
    let mut values = Vec::with_capacity(pseudo_gradient.len());
    for block in pseudo_gradient.chunks(BLOCK) {
        // One test for a whole block, without a branch per element.
        if !block.iter().fold(true, |all, &value| all & fits(value)) {
            return Err(range_error(header, pseudo_gradient));
        }
        values.extend(block.iter().map(|&value| round(value)));
    }
    Ok(values)
}

/// The one encoding of `values`, which are those of the header's layout.
pub fn encode(header: &Header, values: &[i32]) -> Vec<u8> {
    let mut bytes = header.encode(CODEC);
    bytes.reserve_exact(size_of_val(values));
    bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    bytes
}

/// Whether the shared scale can hold `value`; false for NaN as well.
pub(crate) fn fits(value: f32) -> bool {
    value.abs() < 128.0
}

fn round(value: f32) -> i32 {
    to_units(f64::from(value))
}

/// Rounds `value * 2^24` half to even, for a value that fits.
///
/// The product is exact. Adding `1.5 * 2^52` leaves no bits for a fraction, so the addition
/// itself rounds (IEEE 754, to nearest, halves to even) and the integer stands in the low bits.
/// `round_ties_even` would be a call of the platform's library on older instruction sets.
pub fn to_units(value: f64) -> i32 {
    const SCALE: f64 = (1u64 << SCALE_EXPONENT) as f64;
    const INTEGERS_ONLY: f64 = (3u64 << 51) as f64;
    (value * SCALE + INTEGERS_ONLY).to_bits() as i32
}

#[cold]
pub(crate) fn range_error(header: &Header, pseudo_gradient: &[f32]) -> UpdateError {
    let (parameter, element, value) = header
        .layout
        .split(pseudo_gradient)
        .find_map(|(parameter, part)| {
            let element = part.iter().position(|&value| !fits(value))?;
            Some((parameter, element, part[element]))
        })
        .expect("a block was found to hold an element that does not fit");
    UpdateError::Range {
        vnode: header.vnode.clone(),
        parameter: parameter.name().to_string(),
        element: element as u64,
        value,
    }
}
