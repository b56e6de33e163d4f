//! The canonical bytes of a partial sum: what an inner node of an aggregation tree hands on.
//!
//! ```text
//! header of an update, its tokens those of all contributions, codec 3
//! contributions u32  weight u64  1 if some spoke only of some elements, else 0
//! of every 64 elements, in bits:
//!   width of the weights of speakers (6), where there are any
//!   width of the sums (7)
//!   of every element: a bit that says whether anybody spoke of it, and the weight of its speakers, where there are any;
//!   its sum, as 2s for s not below 0 and -2s - 1 for s below
//! ```
//!
//! Widths are the least that hold the largest of the 64, so that a sum has one encoding. A sum of 2^31 in magnitude for
//! every unit of weight is the most that contributions can lead to; more is refused, so that decoded sums never overflow.

use crate::bits::{BitReader, BitWriter};
use crate::{Aggregate, Header, MAX_TOTAL_WEIGHT, UpdateError};

/// The number of this encoding among those of updates.
const CODEC: u8 = 3;
/// Elements that share their widths.
const BLOCK: usize = 64;
/// Bits of the width of weights, which are at most 32 bits wide, and of sums.
const SPEAKERS_WIDTH_BITS: u32 = 6;
const SUM_WIDTH_BITS: u32 = 7;

impl Aggregate {
    /// The canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = self.header().encode(CODEC);
        bytes.extend(self.contributions().to_le_bytes());
        bytes.extend(self.weight().to_le_bytes());
        let speakers = self.speakers();
        bytes.push(u8::from(speakers.is_some()));
        let mut writer = BitWriter::default();
        let mut speakers = speakers.map(|weights| weights.chunks(BLOCK));
        for sums in self.sums().chunks(BLOCK) {
            write_block(&mut writer, sums, speakers.as_mut().and_then(Iterator::next));
        }
        bytes.extend(writer.finish());
        bytes
    }

    /// Decodes the sum of `contributions` contributions that `expected` describes, with the tokens of all. Another's, and bytes
    /// that are not the canonical encoding of what they decode to, are refused; no size is believed before it is the
    /// expected one.
    pub fn decode(bytes: &[u8], expected: &Header, contributions: u32) -> Result<Self, UpdateError> {
        let mut rest = Header::decode(bytes, CODEC, expected)?;
        let count = u32::from_le_bytes(take(&mut rest)?);
        let weight = u64::from_le_bytes(take(&mut rest)?);
        let [some] = take(&mut rest)?;
        if count != contributions {
            return Err(UpdateError::Unexpected {
                what: "a number of contributions of",
                expected: contributions.to_string(),
                actual: count.to_string(),
            });
        }
        if weight == 0 || weight > MAX_TOTAL_WEIGHT {
            return Err(UpdateError::Weight(weight));
        }
        if some > 1 {
            return Err(UpdateError::NotCanonical("whether all spoke is neither yes nor no"));
        }
        let elements = expected.layout.elements() as usize;
        let mut sums = Vec::with_capacity(elements);
        let mut speakers = (some == 1).then(|| Vec::with_capacity(elements));
        let mut reader = BitReader::new(rest);
        while sums.len() < elements {
            let block = BLOCK.min(elements - sums.len());
            read_block(&mut reader, block, weight, &mut sums, speakers.as_mut())?;
        }
        reader.finish()?;
        let sum = Self::from_parts(expected.clone(), count, weight, sums, speakers);
        if some == 1 && sum.speakers().is_none() {
            return Err(UpdateError::NotCanonical("all spoke of all"));
        }
        Ok(sum)
    }
}

fn write_block(writer: &mut BitWriter, sums: &[i64], speakers: Option<&[u32]>) {
    let weights_width = speakers.map(|weights| width_of(weights.iter().map(|&weight| weight.into())));
    let sums_width = width_of(sums.iter().map(|&sum| zigzag(sum)));
    if let Some(width) = weights_width {
        writer.put(width, SPEAKERS_WIDTH_BITS);
    }
    writer.put(sums_width, SUM_WIDTH_BITS);
    for (at, &sum) in sums.iter().enumerate() {
        if let (Some(weights), Some(width)) = (speakers, weights_width) {
            writer.put(u32::from(weights[at] > 0), 1);
            if weights[at] == 0 {
                continue;
            }
            writer.put(weights[at], width);
        }
        put_wide(writer, zigzag(sum), sums_width);
    }
}

fn read_block(
    reader: &mut BitReader,
    elements: usize,
    weight: u64,
    sums: &mut Vec<i64>,
    mut speakers: Option<&mut Vec<u32>>,
) -> Result<(), UpdateError> {
    let first = sums.len();
    let weights_width = speakers.as_ref().map(|_| reader.take(SPEAKERS_WIDTH_BITS)).transpose()?;
    let sums_width = reader.take(SUM_WIDTH_BITS)?;
    if weights_width.is_some_and(|width| width > u32::BITS) || sums_width > u64::BITS {
        return Err(UpdateError::NotCanonical("a width is larger than its numbers can be"));
    }
    for _ in 0..elements {
        let mut spoken = weight;
        if let (Some(speakers), Some(width)) = (&mut speakers, weights_width) {
            let heard = reader.take(1)? == 1;
            spoken = if heard { reader.take(width)?.into() } else { 0 };
            if (heard && spoken == 0) || spoken > weight {
                return Err(UpdateError::NotCanonical(
                    "the speakers of an element weigh nothing, or more than all",
                ));
            }
            speakers.push(spoken as u32);
        }
        let sum = if spoken > 0 { unzigzag(take_wide(reader, sums_width)?) } else { 0 };
        if sum.unsigned_abs() > spoken << 31 {
            return Err(UpdateError::NotCanonical("a sum is larger than its contributions can be"));
        }
        sums.push(sum);
    }
    let least = width_of(sums[first..].iter().map(|&sum| zigzag(sum)));
    let least_weights =
        speakers.map(|weights| width_of(weights[first..].iter().map(|&weight| weight.into())));
    if (least, least_weights) != (sums_width, weights_width) {
        return Err(UpdateError::NotCanonical("a width is larger than needed"));
    }
    Ok(())
}

/// Bits of the largest of `values`.
fn width_of(values: impl Iterator<Item = u64>) -> u32 {
    values.map(|value| u64::BITS - value.leading_zeros()).max().unwrap_or(0)
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

fn put_wide(writer: &mut BitWriter, value: u64, width: u32) {
    let low = width.min(32);
    writer.put((value & ((1 << low) - 1)) as u32, low);
    writer.put((value >> low) as u32, width - low);
}

fn take_wide(reader: &mut BitReader, width: u32) -> Result<u64, UpdateError> {
    let low = width.min(32);
    let value = u64::from(reader.take(low)?);
    Ok(value | u64::from(reader.take(width - low)?) << low)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], UpdateError> {
    let (taken, after) = rest.split_first_chunk().ok_or(UpdateError::NotCanonical("it ends early"))?;
    *rest = after;
    Ok(*taken)
}
