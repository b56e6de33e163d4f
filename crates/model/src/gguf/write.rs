//! The bytes of a GGUF file.

use std::io::{self, Write};

/// A value of the metadata.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    U32(u32),
    F32(f32),
    Bool(bool),
    Text(String),
    Numbers(Vec<i32>),
    Texts(Vec<String>),
}

/// What the format calls the types of values.
const U32: u32 = 4;
const I32: u32 = 5;
const F32: u32 = 6;
const BOOL: u32 = 7;
const TEXT: u32 = 8;
const ARRAY: u32 = 9;

/// And the types of tensors.
const TENSOR_F32: u32 = 0;
const TENSOR_F16: u32 = 1;

const MAGIC: &[u8] = b"GGUF";
const VERSION: u32 = 3;

impl Value {
    pub fn text(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// Writes the parts of a file, one after the other, and knows where it is.
pub(super) struct Writer<W> {
    out: W,
    position: usize,
}

impl<W: Write> Writer<W> {
    pub fn new(out: W) -> Self {
        Self { out, position: 0 }
    }

    /// The start of the file.
    pub fn header(&mut self, tensors: usize, metadata: &[(String, Value)]) -> io::Result<()> {
        self.bytes(MAGIC)?;
        self.bytes(&VERSION.to_le_bytes())?;
        self.count(tensors)?;
        self.count(metadata.len())?;
        for (key, value) in metadata {
            self.text(key)?;
            self.value(value)?;
        }
        Ok(())
    }

    /// A tensor's place: `offset` counts from the first tensor's values.
    pub fn tensor(&mut self, name: &str, shape: &[usize], half: bool, offset: usize) -> io::Result<()> {
        self.text(name)?;
        self.bytes(&(shape.len() as u32).to_le_bytes())?;
        for extent in shape {
            self.count(*extent)?;
        }
        let kind = if half { TENSOR_F16 } else { TENSOR_F32 };
        self.bytes(&kind.to_le_bytes())?;
        self.count(offset)
    }

    /// Zeros up to the next multiple of `alignment`.
    pub fn align(&mut self, alignment: usize) -> io::Result<()> {
        let missing = self.position.next_multiple_of(alignment) - self.position;
        self.bytes(&vec![0; missing])
    }

    /// Values in f32.
    pub fn exact(&mut self, values: &[f32]) -> io::Result<()> {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.bytes(&bytes)
    }

    /// Values in f16; false where one is too large.
    pub fn rounded(&mut self, values: &[f32]) -> io::Result<bool> {
        let halves: Vec<u16> = values.iter().map(|value| to_f16(*value)).collect();
        let fits = halves.iter().all(|half| half >> 10 & 0x1f != 0x1f);
        let bytes: Vec<u8> = halves.into_iter().flat_map(u16::to_le_bytes).collect();
        self.bytes(&bytes)?;
        Ok(fits)
    }

    pub fn finish(mut self) -> io::Result<()> {
        self.out.flush()
    }

    fn value(&mut self, value: &Value) -> io::Result<()> {
        let kind = |kind: u32| kind.to_le_bytes();
        match value {
            Value::U32(number) => self.bytes(&[kind(U32), number.to_le_bytes()].concat()),
            Value::F32(number) => self.bytes(&[kind(F32), number.to_le_bytes()].concat()),
            Value::Bool(is) => {
                self.bytes(&kind(BOOL))?;
                self.bytes(&[u8::from(*is)])
            }
            Value::Text(text) => {
                self.bytes(&kind(TEXT))?;
                self.text(text)
            }
            Value::Numbers(numbers) => {
                self.bytes(&[kind(ARRAY), kind(I32)].concat())?;
                self.count(numbers.len())?;
                numbers.iter().try_for_each(|number| self.bytes(&number.to_le_bytes()))
            }
            Value::Texts(texts) => {
                self.bytes(&[kind(ARRAY), kind(TEXT)].concat())?;
                self.count(texts.len())?;
                texts.iter().try_for_each(|text| self.text(text))
            }
        }
    }

    fn text(&mut self, text: &str) -> io::Result<()> {
        self.count(text.len())?;
        self.bytes(text.as_bytes())
    }

    fn count(&mut self, count: usize) -> io::Result<()> {
        self.bytes(&(count as u64).to_le_bytes())
    }

    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.position += bytes.len();
        self.out.write_all(bytes)
    }
}

/// IEEE 754 binary32 to binary16, to nearest, ties to even; what is too large becomes infinity.
fn to_f16(value: f32) -> u16 {
    let bits = value.to_bits();
    let sign = (bits >> 16 & 0x8000) as u16;
    let (exponent, fraction) = ((bits >> 23 & 0xff) as i32 - 127, bits & 0x7f_ffff);
    let half = match exponent {
        128 if fraction != 0 => 0x7e00,
        16.. => 0x7c00,
        // A carry out of the fraction is a carry into the exponent, as it should be.
        -14..=15 => (((exponent + 15) as u32) << 10) + round_shift(fraction, 13),
        -25..=-15 => round_shift(fraction | 0x80_0000, (-exponent - 1) as u32),
        _ => 0,
    };
    sign | half as u16
}

/// `value / 2^shift`, to nearest, ties to even.
fn round_shift(value: u32, shift: u32) -> u32 {
    let (whole, rest, half) = (value >> shift, value & ((1 << shift) - 1), 1 << (shift - 1));
    whole + u32::from(rest > half || (rest == half && whole & 1 == 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f16_is_the_nearest() {
        let cases = [
            (0.0, 0x0000),
            (-0.0, 0x8000),
            (1.0, 0x3c00),
            (-2.0, 0xc000),
            (65504.0, 0x7bff),
            (65519.9, 0x7bff),
            (65520.0, 0x7c00),
            (f32::INFINITY, 0x7c00),
            (5.9604645e-8, 0x0001),
            (2.9802322e-8, 0x0000),
            (2.9802326e-8, 0x0001),
            (8.940_697e-8, 0x0002),
            (6.097555e-5, 0x03ff),
            (6.1035156e-5, 0x0400),
            (6.102e-5, 0x0400),
            (0.333_333_34, 0x3555),
            (1.000_488_3, 0x3c00),
            (1.001_464_8, 0x3c02),
            (1e-30, 0x0000),
        ];
        for (value, half) in cases {
            assert_eq!(to_f16(value), half, "{value:e}");
        }
        assert_eq!(to_f16(f32::NAN), 0x7e00);
    }
}
