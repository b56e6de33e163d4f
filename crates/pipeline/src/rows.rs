//! Activations and their gradients as bytes: exact, in bf16, or in 8 bits with a scale a row.
//!
//! Numbers are little-endian. `Eight` is, for every row, `scale:f32` and one signed byte an element.

use serde::{Deserialize, Serialize};
use zoo_kernels::bf16;

/// How rows travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// As they are: four bytes an element.
    F32,
    /// Rounded to the nearest: two bytes.
    Bf16,
    /// Multiples of a 127th of the row's greatest element: one byte.
    Eight,
}

/// What the sender of gradients has left unsaid so far, by element of a micro-batch; it is said with the next (Seide et al.,
/// 2014, "1-bit stochastic gradient descent"). Activations have none: what is missing of one micro-batch's means
/// nothing in another's, while gradients are added up.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Feedback(pub(crate) Vec<f32>);

/// Why bytes are not rows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RowsError {
    /// Too few or too many.
    #[error("{found} bytes of rows, not {expected}\nhint: both stages must run one schedule and one format")]
    Length {
        /// Bytes that came.
        found: usize,
        /// Bytes that such rows have.
        expected: usize,
    },
    /// NaN, infinity, or a second encoding of the same rows.
    #[error("row {row} is not in its only encoding\nhint: the sender's machine or program is at fault")]
    Encoding {
        /// Which.
        row: usize,
    },
}

const LEVELS: f32 = 127.0;

impl Format {
    /// Bytes of `rows` rows of `width` elements.
    pub fn bytes(self, rows: usize, width: usize) -> usize {
        match self {
            Self::F32 => 4 * rows * width,
            Self::Bf16 => 2 * rows * width,
            Self::Eight => rows * (4 + width),
        }
    }

    /// `values`, finite and of `width` to a row, as bytes.
    pub fn encode(self, values: &[f32], width: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.bytes(values.len() / width, width));
        match self {
            Self::F32 => values.iter().for_each(|value| bytes.extend(value.to_le_bytes())),
            Self::Bf16 => values.iter().for_each(|&value| bytes.extend(bf16::round(value).to_le_bytes())),
            Self::Eight => values.chunks(width).for_each(|row| encode_row(row, &mut bytes)),
        }
        bytes
    }

    /// As [`Format::encode`], of `values` and what was left unsaid before.
    pub fn encode_with(self, values: &[f32], width: usize, feedback: &mut Feedback) -> Vec<u8> {
        if self == Self::F32 {
            return self.encode(values, width);
        }
        feedback.0.resize(values.len(), 0.0);
        let meant: Vec<f32> = values.iter().zip(&feedback.0).map(|(value, left)| value + left).collect();
        let bytes = self.encode(&meant, width);
        let said = self.read(&bytes, width);
        for ((left, meant), said) in feedback.0.iter_mut().zip(meant).zip(said) {
            *left = meant - said;
        }
        bytes
    }

    /// The rows of bytes that came from elsewhere.
    pub fn decode(self, bytes: &[u8], rows: usize, width: usize) -> Result<Vec<f32>, RowsError> {
        let (found, expected) = (bytes.len(), self.bytes(rows, width));
        if found != expected {
            return Err(RowsError::Length { found, expected });
        }
        let values = self.read(bytes, width);
        let canonical = |row: usize, values: &[f32]| {
            let finite = values.iter().all(|value| value.is_finite());
            let bytes = &bytes[self.bytes(row, width)..self.bytes(row + 1, width)];
            finite && (self != Self::Eight || is_canonical_row(bytes))
        };
        match values.chunks(width).enumerate().find(|(row, values)| !canonical(*row, values)) {
            Some((row, _)) => Err(RowsError::Encoding { row }),
            None => Ok(values),
        }
    }

    fn read(self, bytes: &[u8], width: usize) -> Vec<f32> {
        match self {
            Self::F32 => bytes.as_chunks::<4>().0.iter().map(|it| f32::from_le_bytes(*it)).collect(),
            Self::Bf16 => {
                let halves = bytes.as_chunks::<2>().0.iter();
                halves.map(|it| bf16::widen(u16::from_le_bytes(*it))).collect()
            }
            Self::Eight => bytes.chunks(4 + width).flat_map(decode_row).collect(),
        }
    }
}

fn encode_row(row: &[f32], bytes: &mut Vec<u8>) {
    let greatest = row.iter().fold(0f32, |greatest, value| greatest.max(value.abs()));
    // A row so small that its scale would lose bits is a row of zeros.
    let scale = if greatest / LEVELS < f32::MIN_POSITIVE { 0.0 } else { greatest / LEVELS };
    bytes.extend(scale.to_le_bytes());
    let level = |value: &f32| if scale == 0.0 { 0 } else { (value / scale).round_ties_even() as i8 };
    bytes.extend(row.iter().map(|value| level(value) as u8));
}

fn decode_row(row: &[u8]) -> impl Iterator<Item = f32> + '_ {
    let scale = scale_of(row);
    row[4..].iter().map(move |&level| f32::from(level as i8) * scale)
}

fn scale_of(row: &[u8]) -> f32 {
    f32::from_le_bytes(*row.first_chunk().expect("a row begins with its scale"))
}

/// The greatest element has the greatest level, and a row of zeros has the scale zero.
fn is_canonical_row(row: &[u8]) -> bool {
    let greatest = row[4..].iter().map(|&level| (level as i8).unsigned_abs()).max().unwrap_or(0);
    match scale_of(row) {
        0.0 => row[..4] == [0; 4] && greatest == 0,
        scale => scale >= f32::MIN_POSITIVE && greatest == LEVELS as u8,
    }
}
