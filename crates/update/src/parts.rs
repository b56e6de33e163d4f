//! Updates in parts, for who looks at one part only: of the sparse codec a chunk at a time.

use crate::bits::BitWriter;
use crate::chunks::{Chunk, sides};
use crate::sparse::Largest;
use crate::{Header, Shape, dense, positions, sparse};

pub use crate::dense::to_units;

/// What stands before the levels of a sparse update, or before the elements of a dense one.
pub fn header_bytes(header: &Header, keep: Option<u16>) -> Vec<u8> {
    let mut bytes = header.encode(if keep.is_some() { sparse::CODEC } else { dense::CODEC });
    bytes.extend(keep.iter().flat_map(|keep| keep.to_le_bytes()));
    bytes
}

/// How the sparse codec cuts a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    shape: Shape,
    keep: u16,
}

impl Cut {
    /// Of a parameter of this shape, of which `keep` of 4096 elements are kept.
    pub fn of(shape: Shape, keep: u16) -> Self {
        Self { shape, keep }
    }

    fn chunk(&self, chunk: usize) -> Chunk {
        Chunk::nth(self.shape, chunk as u32)
    }

    /// Number of chunks.
    pub fn chunks(&self) -> usize {
        let (height, width) = sides(self.shape);
        (self.shape.rows.div_ceil(height) * self.shape.cols.div_ceil(width)) as usize
    }

    /// Elements that a chunk keeps.
    pub fn kept(&self, chunk: usize) -> usize {
        self.chunk(chunk).kept(self.keep) as usize
    }

    /// Elements that the chunks before this one keep together: all but the last chunk keep as many as the first.
    pub fn kept_before(&self, chunk: usize) -> usize {
        match chunk {
            0 => 0,
            _ if chunk < self.chunks() => chunk * self.kept(0),
            _ => (chunk - 1) * self.kept(0) + self.kept(chunk - 1),
        }
    }

    /// The chunk whose elements a kept one is among, and which of them.
    pub fn chunk_of_kept(&self, kept: usize) -> (usize, usize) {
        let chunk = (kept / self.kept(0)).min(self.chunks() - 1);
        (chunk, kept - self.kept_before(chunk))
    }

    /// The chunk of an element of the parameter.
    pub fn chunk_of(&self, element: usize) -> usize {
        let (height, width) = sides(self.shape);
        let (row, col) = (element as u32 / self.shape.cols, element as u32 % self.shape.cols);
        (row / height * self.shape.cols.div_ceil(width) + col / width) as usize
    }

    /// Where in the parameter a chunk's elements are, in order.
    pub fn elements(&self, chunk: usize) -> impl Iterator<Item = usize> {
        self.chunk(chunk).rows().flatten()
    }

    /// The places in the parameter of a chunk's largest elements, ascending; `values` are all of the chunk's.
    pub fn largest(&self, chunk: usize, values: &[f32]) -> Vec<u32> {
        let chunk = self.chunk(chunk);
        let mut largest = Largest::default();
        largest.of(chunk.alone(), values, self.keep).map(|position| chunk.index(position)).collect()
    }

    /// A chunk as it is written: bits, lowest first, and how many. `kept` are places in the parameter, ascending, and of each its level's
    /// number, of so many. Nothing of what is no choice of this chunk.
    pub fn write(&self, chunk: usize, kept: &[(u32, u32)], levels: u32) -> Option<(Vec<u8>, u32)> {
        let elements = self.shape.elements();
        let is_here = |place: u32| u64::from(place) < elements && self.chunk_of(place as usize) == chunk;
        let ascend = kept.windows(2).all(|pair| pair[0].0 < pair[1].0);
        if !ascend || !kept.iter().all(|&(place, level)| is_here(place) && level < levels) {
            return None;
        }
        let chunk = self.chunk(chunk);
        let mut bits = BitWriter::default();
        let places: Vec<u32> = kept.iter().map(|(place, _)| chunk.position(*place)).collect();
        positions::write(chunk.elements(), places.into_iter(), &mut bits);
        kept.iter().for_each(|(_, level)| positions::write_below(levels, *level, &mut bits));
        let count = bits.bits();
        Some((bits.finish(), count))
    }
}
