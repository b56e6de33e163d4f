//! How a pseudo-gradient becomes an update: rounded to integers, or the largest of every chunk on four levels.
//!
//! A chunk has at most 4,096 elements: that is the most that one element here reads.

use zoo_update::sparse::{Bins, LEVELS_MAX};
use zoo_update::{Cut, to_units};

use super::tally::double;
use super::{Read, SEGMENT, Unread};
use crate::tree::word;

/// The value of one step of the scale of updates.
const UNIT: f32 = 1.0 / (1u32 << zoo_update::SCALE_EXPONENT) as f32;

/// A part of an update. Inputs are numbered as they are named; all but what is left are integers.
#[derive(Clone, Debug, PartialEq)]
pub enum Codec {
    /// An element on the scale of updates: x.
    Round,
    /// The places of the elements that are kept: x.
    Places(Cut),
    /// The elements that are kept: x, places.
    Kept {
        /// Elements of x.
        length: usize,
    },
    /// The levels of the elements that are kept: kept, mean, deviation, levels.
    Levels,
    /// What is left unsaid: x, places, levels of the kept.
    Left(Cut),
    /// How many bits a chunk takes: places, levels of the kept, levels.
    Bits(Cut),
    /// Where every chunk's bits begin, and where the last ends: the bits of every parameter.
    Starts {
        /// Chunks of every parameter.
        chunks: Vec<usize>,
    },
    /// The size of the update, bytes, two words: where bits begin, the levels of every parameter.
    Size(Body),
    /// The update, four bytes an element: where bits begin, then places, levels of the kept and levels of every parameter.
    Bytes(Body),
}

/// An update's bytes before any number is known.
#[derive(Clone, Debug, PartialEq)]
pub struct Body {
    /// What stands before the levels.
    pub head: Vec<u8>,
    /// How every parameter is cut.
    pub cuts: Vec<Cut>,
}

impl Codec {
    /// Its name, for people.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Round => "rounding to integers",
            Self::Places(_) => "choice of the largest",
            Self::Kept { .. } => "what is kept",
            Self::Levels => "level of what is kept",
            Self::Left(_) => "what is left unsaid",
            Self::Bits(_) | Self::Starts { .. } | Self::Size(_) => "size of an update",
            Self::Bytes(_) => "bytes of an update",
        }
    }

    /// Terms of an element.
    pub fn terms(&self, element: usize) -> usize {
        if let Self::Starts { .. } = self { element } else { 0 }
    }

    /// See [`super::Operator::segment`].
    pub fn segment(
        &self,
        element: usize,
        segment: usize,
        before: &[u32],
        read: &mut impl Read,
    ) -> Result<Vec<u32>, Unread> {
        let Self::Starts { chunks } = self else { return Ok(vec![self.at(element, read)?]) };
        let mut bits = before.first().copied().unwrap_or(0);
        for chunk in segment * SEGMENT..element.min((segment + 1) * SEGMENT) {
            let (input, chunk) = parameter_of(chunks.iter().copied(), chunk).ok_or(Unread)?;
            bits = bits.wrapping_add(read.word(input, chunk)?);
        }
        Ok(vec![bits])
    }

    /// An element of what is no sum.
    pub fn at(&self, element: usize, read: &mut impl Read) -> Result<u32, Unread> {
        Ok(match self {
            Self::Round => to_units(f64::from(read.value(0, element)?)) as u32,
            Self::Places(cut) => {
                let (chunk, at) = cut.chunk_of_kept(element);
                *places(cut, chunk, read)?.get(at).ok_or(Unread)?
            }
            Self::Kept { length } => match read.word(1, element)? as usize {
                place if place < *length => read.word(0, place)?,
                _ => 0,
            },
            Self::Levels => {
                let bins = Bins::of(double(1, read)?, double(2, read)?);
                let bin = bins.bin_of(read.value(0, element)?);
                read.word(3, bin)?
            }
            Self::Left(cut) => {
                let wanted = read.value(0, element)?;
                match kept_at(cut, element, read)? {
                    None => word(wanted),
                    Some(level) => word(wanted - level as f32 * UNIT),
                }
            }
            Self::Bits(cut) => written(cut, element, [0, 1, 2], read)?.1,
            Self::Starts { .. } => return Err(Unread),
            Self::Size(body) => {
                let mut bytes = body.head.len() as u64;
                for parameter in 0..body.cuts.len() {
                    bytes += 1 + 4 * levels(1 + parameter, read)?.len() as u64;
                }
                bytes += u64::from(read.word(0, body.chunks())?).div_ceil(8);
                (bytes >> (32 * element)) as u32
            }
            Self::Bytes(body) => body.word(element, read)?,
        })
    }

    /// Whole tensors of what is dear to compute one by one.
    pub fn compute(&self, length: usize, read: &mut impl Read) -> Option<Result<Vec<u32>, Unread>> {
        match self {
            Self::Places(cut) => {
                let chunks = (0..cut.chunks()).map(|chunk| places(cut, chunk, read));
                Some(chunks.collect::<Result<Vec<_>, Unread>>().map(|places| places.concat()))
            }
            Self::Starts { chunks } => {
                let inputs = chunks.iter().enumerate();
                let places = inputs.flat_map(|(input, count)| (0..*count).map(move |chunk| (input, chunk)));
                let mut starts = vec![0u32];
                for (input, chunk) in places {
                    let bits = match read.word(input, chunk) {
                        Ok(bits) => bits,
                        Err(unread) => return Some(Err(unread)),
                    };
                    starts.push(starts[starts.len() - 1].wrapping_add(bits));
                }
                debug_assert_eq!(starts.len(), length);
                Some(Ok(starts))
            }
            _ => None,
        }
    }
}

/// The parameter of a chunk that is counted over all, and its number there.
fn parameter_of(chunks: impl Iterator<Item = usize>, chunk: usize) -> Option<(usize, usize)> {
    let mut rest = chunk;
    for (parameter, chunks) in chunks.enumerate() {
        if rest < chunks {
            return Some((parameter, rest));
        }
        rest -= chunks;
    }
    None
}

fn places(cut: &Cut, chunk: usize, read: &mut impl Read) -> Result<Vec<u32>, Unread> {
    let values: Vec<f32> =
        cut.elements(chunk).map(|element| read.value(0, element)).collect::<Result<_, _>>()?;
    Ok(cut.largest(chunk, &values))
}

/// The level of an element, if it is among those that are kept: a search in its chunk's places, which ascend.
fn kept_at(cut: &Cut, element: usize, read: &mut impl Read) -> Result<Option<i32>, Unread> {
    let chunk = cut.chunk_of(element);
    let (mut from, mut to) = (cut.kept_before(chunk), cut.kept_before(chunk) + cut.kept(chunk));
    while from < to {
        let middle = from.midpoint(to);
        let place = read.word(1, middle)? as usize;
        if place == element {
            return Ok(Some(read.word(2, middle)? as i32));
        }
        if place < element { from = middle + 1 } else { to = middle }
    }
    Ok(None)
}

/// The levels of a parameter, each once, ascending.
fn levels(input: usize, read: &mut impl Read) -> Result<Vec<i32>, Unread> {
    let mut levels = Vec::new();
    for bin in 0..LEVELS_MAX {
        if read.word(input, LEVELS_MAX + bin)? > 0 {
            levels.push(read.word(input, bin)? as i32);
        }
    }
    levels.sort_unstable();
    levels.dedup();
    Ok(levels)
}

/// A chunk's bits, and how many, from inputs that are places, levels of the kept, levels; none of what cannot be written.
fn written(
    cut: &Cut,
    chunk: usize,
    inputs: [usize; 3],
    read: &mut impl Read,
) -> Result<(Vec<u8>, u32), Unread> {
    let levels = levels(inputs[2], read)?;
    let mut kept = Vec::new();
    let first = cut.kept_before(chunk);
    for at in first..first + cut.kept(chunk) {
        let level = read.word(inputs[1], at)? as i32;
        let number = levels.binary_search(&level).unwrap_or(usize::MAX);
        kept.push((read.word(inputs[0], at)?, number as u32));
    }
    Ok(cut.write(chunk, &kept, levels.len() as u32).unwrap_or_default())
}

impl Body {
    /// Chunks of all parameters.
    pub fn chunks(&self) -> usize {
        self.cuts.iter().map(Cut::chunks).sum()
    }

    /// Bytes `4 word ..` of the update; zeros beyond its end.
    fn word(&self, word: usize, read: &mut impl Read) -> Result<u32, Unread> {
        let from = 4 * word as u64;
        let mut bytes = [0; 4];
        for (at, byte) in (from..).zip(&mut bytes) {
            if let Some(known) = self.head.get(at as usize) {
                *byte = *known;
            }
        }
        if from + 4 <= self.head.len() as u64 {
            return Ok(u32::from_le_bytes(bytes));
        }
        let mut tables = Vec::new();
        for parameter in 0..self.cuts.len() {
            let levels = levels(3 + 3 * parameter, read)?;
            tables.push(levels.len() as u8);
            tables.extend(levels.iter().flat_map(|level| level.to_le_bytes()));
        }
        let bits = (self.head.len() + tables.len()) as u64;
        for (at, byte) in (from..).zip(&mut bytes) {
            if at >= self.head.len() as u64 && at < bits {
                *byte = tables[at as usize - self.head.len()];
            }
        }
        if from + 4 > bits {
            self.put_bits(from.max(bits) - bits, &mut bytes[bits.saturating_sub(from) as usize..], read)?;
        }
        Ok(u32::from_le_bytes(bytes))
    }

    /// Fills in bytes `first ..` of the bits.
    fn put_bits(&self, first: u64, bytes: &mut [u8], read: &mut impl Read) -> Result<(), Unread> {
        let (from, to) = (8 * first, 8 * (first + bytes.len() as u64));
        // The last chunk that begins at the first bit, or before it.
        let (mut chunk, mut beyond) = (0, self.chunks());
        while beyond - chunk > 1 {
            let middle = chunk.midpoint(beyond);
            if u64::from(read.word(0, middle)?) <= from { chunk = middle } else { beyond = middle }
        }
        while chunk < self.chunks() {
            let start = u64::from(read.word(0, chunk)?);
            if start >= to {
                break;
            }
            let (parameter, at) = parameter_of(self.cuts.iter().map(Cut::chunks), chunk).ok_or(Unread)?;
            let inputs = [1, 2, 3].map(|input| input + 3 * parameter);
            let (written, count) = written(&self.cuts[parameter], at, inputs, read)?;
            for bit in from.max(start)..to.min(start + u64::from(count)) {
                let (here, there) = ((bit - start) as usize, (bit - from) as usize);
                bytes[there / 8] |= (written[here / 8] >> (here % 8) & 1) << (there % 8);
            }
            chunk += 1;
        }
        Ok(())
    }
}
