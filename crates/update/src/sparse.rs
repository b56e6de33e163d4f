//! The sparse codec: of every chunk the largest elements, on four levels, with error feedback (SparseLoCo,
//! Sarfi et al., 2025; the chunks and the feedback are DeMo's, Peng et al., 2024).
//!
//! ```text
//! header (see [`Header`])  keep u16
//! of every parameter: levels u8 (1 to 4), then of each: i32, strictly ascending
//! bits, lowest first: of every parameter, of every chunk: positions, then a level number for each
//! zeros up to a whole byte
//! ```
//!
//! A chunk of n elements keeps `ceil(n keep / 4096)`. Every level is used. Of the sequences of bytes that could stand for
//! the same update only one is accepted: `positions` has no two words for one choice, and the rest is checked.

use crate::bits::{BitReader, BitWriter};
use crate::chunks::{Chunk, WHOLE, chunks};
use crate::codec::{Body, Entry};
use crate::dense::{fits, range_error, to_units};
use crate::positions;
use crate::{Codec, Header, Layout, Parameter, SCALE_EXPONENT, Update, UpdateError};

/// The sparse codec's number in the header.
pub const CODEC: u8 = 1;

/// Most levels of one parameter.
pub const LEVELS_MAX: usize = 4;

/// Bytes after the header that say how much is kept.
const KEEP_BYTES: usize = 2;

/// Keeps the largest elements of every chunk, and feeds the rest back into the next update.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sparse {
    /// Of 4096 elements, how many are kept; 4096 is all of them, each on one of the levels.
    pub keep: u16,
    /// What is left of the feedback when the next update is added to it.
    pub decay: f32,
}

impl Default for Sparse {
    /// One element of 64, and a decay of 0.95.
    fn default() -> Self {
        Self { keep: 64, decay: 0.95 }
    }
}

impl Codec for Sparse {
    /// `residual` becomes `decay * residual + pseudo_gradient`, of which what is encoded is subtracted; each
    /// operation is rounded on its own.
    fn encode(
        &self,
        header: &Header,
        pseudo_gradient: &[f32],
        residual: &mut Vec<f32>,
    ) -> Result<Vec<u8>, UpdateError> {
        self.check()?;
        header.validate()?;
        header.layout.check_len(pseudo_gradient)?;
        if residual.is_empty() {
            // A decay of anything times nothing, added, would turn -0 into 0.
            check_range(header, pseudo_gradient.iter().copied())?;
            residual.extend_from_slice(pseudo_gradient);
        } else {
            header.layout.check_len(residual)?;
            let wanted = |(gradient, left): (&f32, &f32)| gradient + self.decay * left;
            check_range(header, pseudo_gradient.iter().zip(&*residual).map(wanted))?;
            let places = residual.iter_mut().zip(pseudo_gradient);
            places.for_each(|(left, gradient)| *left = wanted((gradient, left)));
        }
        let entries = choose(header, residual, self.keep);
        for Entry { index, value } in &entries {
            residual[*index as usize] -= *value as f32 * UNIT;
        }
        Ok(write(header, &entries, self.keep))
    }

    fn decode(&self, bytes: &[u8], expected: &Header) -> Result<Update, UpdateError> {
        self.check()?;
        let body = Header::decode(bytes, CODEC, expected)?;
        let Some((keep, body)) = body.split_first_chunk::<KEEP_BYTES>() else {
            return Err(UpdateError::NotCanonical("it ends early"));
        };
        let actual = u16::from_le_bytes(*keep);
        if actual != self.keep {
            return Err(UpdateError::Density { expected: self.keep, actual });
        }
        Update::sparse(expected.clone(), read(&expected.layout, body, self.keep)?)
    }
}

impl Sparse {
    fn check(&self) -> Result<(), UpdateError> {
        if (1..=WHOLE).contains(&u32::from(self.keep)) { Ok(()) } else { Err(UpdateError::Keep(self.keep)) }
    }
}

/// Refuses values that the shared scale has no room for.
fn check_range(header: &Header, wanted: impl Iterator<Item = f32> + Clone) -> Result<(), UpdateError> {
    // Every value is looked at, so that many can be at once.
    if wanted.clone().fold(true, |all, value| all & fits(value)) {
        return Ok(());
    }
    Err(range_error(header, &wanted.collect::<Vec<_>>()))
}

/// The value of one step of the shared scale.
pub(crate) const UNIT: f32 = 1.0 / (1u32 << SCALE_EXPONENT) as f32;

/// The one encoding of `update`, which this codec has decoded with the same `keep`.
pub fn encode(update: &Update, keep: u16) -> Vec<u8> {
    match update.body() {
        Body::Sparse(entries) => write(update.header(), entries, keep),
        Body::Dense(_) => unreachable!("the sparse codec decodes to sparse updates"),
    }
}

/// The entries of all chunks, in the order in which they are written.
fn choose(header: &Header, wanted: &[f32], keep: u16) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut largest = Largest::default();
    let mut first = 0;
    for (parameter, wanted) in header.layout.split(wanted) {
        let mut kept: Vec<u32> = Vec::new();
        for chunk in chunks(parameter.shape()) {
            kept.extend(largest.of(chunk, wanted, keep).map(|position| chunk.index(position)));
        }
        let levels = Levels::of(kept.iter().map(|index| wanted[*index as usize]));
        let entry =
            |index: u32| Entry { index: first + index, value: levels.nearest_bin(wanted[index as usize]) };
        entries.extend(kept.into_iter().map(entry));
        first += parameter.elements() as u32;
    }
    entries
}

/// Finds the largest elements of chunks, in the memory that it used for those before.
#[derive(Default)]
pub(crate) struct Largest {
    /// Of every element of the chunk, its magnitude; as bits, which are in the same order.
    magnitudes: Vec<u32>,
    /// Of elements that may be among the largest: first the complement of the magnitude, then the place in the chunk.
    keys: Vec<u64>,
}

impl Largest {
    /// The places of a chunk's largest elements, ascending; of equal ones the first.
    pub fn of(&mut self, chunk: Chunk, wanted: &[f32], keep: u16) -> impl Iterator<Item = u32> {
        let Self { magnitudes, keys } = self;
        magnitudes.clear();
        for row in chunk.rows() {
            magnitudes.extend(wanted[row].iter().map(|value| value.abs().to_bits()));
        }
        let kept = chunk.kept(keep) as usize;
        let least = least_of_largest(magnitudes, kept);
        keys.clear();
        keys.resize(magnitudes.len(), 0);
        let mut found = 0;
        for (place, magnitude) in magnitudes.iter().enumerate() {
            keys[found] = u64::from(!magnitude) << 32 | place as u64;
            found += usize::from(*magnitude >= least);
        }
        keys.truncate(found);
        if kept < found {
            keys.select_nth_unstable(kept - 1);
            keys.truncate(kept);
        }
        keys.sort_unstable_by_key(|key| *key as u32);
        keys.iter().map(|key| *key as u32)
    }
}

/// A magnitude that none of the `kept` largest is below: each of as many pieces has an element that is as large as the least of their maxima.
fn least_of_largest(magnitudes: &[u32], kept: usize) -> u32 {
    let maximum = |piece: &[u32]| piece.iter().fold(0, |most, magnitude| most.max(*magnitude));
    let pieces = magnitudes.chunks_exact(magnitudes.len() / kept).take(kept);
    pieces.map(maximum).min().unwrap_or(0)
}

/// Four equal bins over three standard deviations to either side of a mean.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bins {
    lowest: f64,
    bin: f64,
}

impl Bins {
    /// Those of elements with this mean and this standard deviation.
    pub fn of(mean: f64, deviation: f64) -> Self {
        Self { lowest: mean - 3.0 * deviation, bin: 6.0 * deviation / LEVELS_MAX as f64 }
    }

    /// The bin of an element.
    pub fn bin_of(self, value: f32) -> usize {
        // A deviation of zero makes this NaN or infinite, which casts to a bin that all elements share.
        (((f64::from(value) - self.lowest) / self.bin) as usize).min(LEVELS_MAX - 1)
    }
}

/// The levels that the kept elements of one parameter are on.
struct Levels {
    bins: Bins,
    /// The mean of every bin's elements, on the shared scale.
    values: [i32; LEVELS_MAX],
}

impl Levels {
    fn of(kept: impl ExactSizeIterator<Item = f32> + Clone) -> Self {
        let count = kept.len() as f64;
        let mean = kept.clone().map(f64::from).sum::<f64>() / count;
        let square = |value: f32| (f64::from(value) - mean) * (f64::from(value) - mean);
        let deviation = (kept.clone().map(square).sum::<f64>() / count).sqrt();
        let mut levels = Self { bins: Bins::of(mean, deviation), values: [0; LEVELS_MAX] };
        let (mut sums, mut counts) = ([0f64; LEVELS_MAX], [0u64; LEVELS_MAX]);
        for value in kept {
            let bin = levels.bins.bin_of(value);
            sums[bin] += f64::from(value);
            counts[bin] += 1;
        }
        for bin in 0..LEVELS_MAX {
            if counts[bin] > 0 {
                levels.values[bin] = to_units(sums[bin] / counts[bin] as f64);
            }
        }
        levels
    }

    fn nearest_bin(&self, value: f32) -> i32 {
        self.values[self.bins.bin_of(value)]
    }
}

/// The values of a parameter's entries, each once, ascending.
fn levels_of(entries: &[Entry]) -> Vec<i32> {
    let mut levels: Vec<i32> = Vec::with_capacity(LEVELS_MAX);
    for Entry { value, .. } in entries {
        if let Err(place) = levels.binary_search(value) {
            levels.insert(place, *value);
        }
    }
    levels
}

fn write(header: &Header, entries: &[Entry], keep: u16) -> Vec<u8> {
    let mut bytes = header.encode(CODEC);
    bytes.extend_from_slice(&keep.to_le_bytes());
    let mut bits = BitWriter::default();
    let mut rest = entries;
    let mut first = 0;
    for parameter in header.layout.parameters() {
        let entries;
        (entries, rest) = rest.split_at(kept_of(parameter, keep) as usize);
        let levels = levels_of(entries);
        bytes.push(levels.len() as u8);
        bytes.extend(levels.iter().flat_map(|level| level.to_le_bytes()));
        write_chunks(parameter, entries, first, keep, &levels, &mut bits);
        first += parameter.elements() as u32;
    }
    bytes.extend(bits.finish());
    bytes
}

fn write_chunks(
    parameter: &Parameter,
    entries: &[Entry],
    first: u32,
    keep: u16,
    levels: &[i32],
    bits: &mut BitWriter,
) {
    let mut rest = entries;
    for chunk in chunks(parameter.shape()) {
        let entries;
        (entries, rest) = rest.split_at(chunk.kept(keep) as usize);
        let position = |entry: &Entry| chunk.position(entry.index - first);
        positions::write(chunk.elements(), entries.iter().map(position), bits);
        for entry in entries {
            let level = levels.binary_search(&entry.value).expect("levels are those of the entries");
            positions::write_below(levels.len() as u32, level as u32, bits);
        }
    }
}

fn read(layout: &Layout, body: &[u8], keep: u16) -> Result<Vec<Entry>, UpdateError> {
    let parameters = layout.parameters();
    let mut rest = body;
    let mut tables = Vec::with_capacity(parameters.len());
    for _ in parameters {
        tables.push(read_levels(&mut rest)?);
    }
    // The layout is the one that was expected, so its sizes are not the sender's to choose.
    let kept: u64 = parameters.iter().map(|parameter| kept_of(parameter, keep)).sum();
    let mut entries = Vec::with_capacity(kept as usize);
    let mut bits = BitReader::new(rest);
    let mut first = 0;
    for (parameter, levels) in parameters.iter().zip(&tables) {
        let mut used = [false; LEVELS_MAX];
        for chunk in chunks(parameter.shape()) {
            let start = entries.len();
            positions::read(chunk.elements(), chunk.kept(keep), &mut bits, |position| {
                entries.push(Entry { index: first + chunk.index(position), value: 0 });
            })?;
            for entry in &mut entries[start..] {
                let level = positions::read_below(levels.len() as u32, &mut bits)? as usize;
                used[level] = true;
                entry.value = levels[level];
            }
        }
        if !used[..levels.len()].iter().all(|used| *used) {
            return Err(UpdateError::NotCanonical("a level is not used"));
        }
        first += parameter.elements() as u32;
    }
    bits.finish()?;
    Ok(entries)
}

fn read_levels(rest: &mut &[u8]) -> Result<Vec<i32>, UpdateError> {
    let early = UpdateError::NotCanonical("it ends early");
    let (&count, tail) = rest.split_first().ok_or(early.clone())?;
    let count = usize::from(count);
    if !(1..=LEVELS_MAX).contains(&count) {
        return Err(UpdateError::NotCanonical("a parameter has 1 to 4 levels"));
    }
    let (levels, tail) = tail.split_at_checked(count * size_of::<i32>()).ok_or(early)?;
    *rest = tail;
    let (levels, _) = levels.as_chunks();
    let levels: Vec<i32> = levels.iter().map(|level| i32::from_le_bytes(*level)).collect();
    if !levels.is_sorted_by(|a, b| a < b) {
        return Err(UpdateError::NotCanonical("levels do not ascend"));
    }
    Ok(levels)
}

/// Elements that all chunks of a parameter keep together.
fn kept_of(parameter: &Parameter, keep: u16) -> u64 {
    chunks(parameter.shape()).map(|chunk| u64::from(chunk.kept(keep))).sum()
}
