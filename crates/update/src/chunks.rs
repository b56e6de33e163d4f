//! How a parameter is cut into the chunks of which each keeps its largest elements.

use std::ops::Range;

use crate::Shape;

/// Longest side of a chunk of a matrix, and length of a chunk of a vector.
const SIDE: u32 = 64;

/// Elements of a whole chunk of a matrix.
pub(crate) const WHOLE: u32 = SIDE * SIDE;

/// A rectangle of a parameter, its elements counted row by row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chunk {
    first: u32,
    rows: u32,
    cols: u32,
    stride: u32,
}

impl Chunk {
    /// The same with its elements one after the other.
    pub fn alone(self) -> Self {
        Self { first: 0, stride: self.cols, ..self }
    }

    /// The chunk of a parameter with this number, counted row by row.
    pub fn nth(shape: Shape, number: u32) -> Self {
        let (rows, width) = sides(shape);
        let across = shape.cols.div_ceil(width);
        let (row, col) = (number / across * rows, number % across * width);
        let stride = shape.cols;
        Self { first: row * stride + col, rows, cols: width.min(stride - col), stride }
    }

    pub fn elements(self) -> u32 {
        self.rows * self.cols
    }

    /// Where in the parameter the chunk's element `position` is.
    pub fn index(self, position: u32) -> u32 {
        self.first + position / self.cols * self.stride + position % self.cols
    }

    /// The opposite of [`Chunk::index`], for a place in the chunk.
    pub fn position(self, index: u32) -> u32 {
        let from_first = index - self.first;
        from_first / self.stride * self.cols + from_first % self.stride
    }

    /// Where in the parameter the chunk's rows are.
    pub fn rows(self) -> impl Iterator<Item = Range<usize>> {
        (0..self.rows).map(move |row| {
            let first = (self.first + row * self.stride) as usize;
            first..first + self.cols as usize
        })
    }

    /// How many elements it keeps, if `keep` of 4096 are kept.
    pub fn kept(self, keep: u16) -> u32 {
        (self.elements() * u32::from(keep)).div_ceil(WHOLE)
    }
}

/// The chunks of a parameter, row by row: of a matrix those whose sides are the largest divisors of its own up
/// to 64, of a vector 64 elements each, the last perhaps fewer.
pub(crate) fn chunks(shape: Shape) -> impl Iterator<Item = Chunk> {
    let Shape { rows, cols } = shape;
    let (height, width) = sides(shape);
    (0..rows).step_by(height as usize).flat_map(move |row| {
        (0..cols).step_by(width as usize).map(move |col| Chunk {
            first: row * cols + col,
            rows: height,
            cols: width.min(cols - col),
            stride: cols,
        })
    })
}

/// Rows and columns of a parameter's chunks.
pub(crate) fn sides(Shape { rows, cols }: Shape) -> (u32, u32) {
    if rows == 1 { (1, SIDE.min(cols)) } else { (side(rows), side(cols)) }
}

/// The largest divisor up to [`SIDE`].
fn side(length: u32) -> u32 {
    (1..=SIDE.min(length)).rev().find(|side| length.is_multiple_of(*side)).expect("1 divides everything")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_cover_every_element_once() {
        for (rows, cols) in [(1, 1), (1, 64), (1, 65), (1, 384), (128, 352), (29, 67), (2, 1), (1733, 3)] {
            let shape = Shape { rows, cols };
            let mut seen = vec![0; shape.elements() as usize];
            for (number, chunk) in chunks(shape).enumerate() {
                assert_eq!(chunk, Chunk::nth(shape, number as u32));
                assert!(chunk.elements() <= WHOLE);
                for (position, index) in chunk.rows().flatten().enumerate() {
                    let index = index as u32;
                    assert_eq!(chunk.index(position as u32), index);
                    assert_eq!(chunk.position(index), position as u32);
                    seen[index as usize] += 1;
                }
            }
            assert!(seen.iter().all(|times| *times == 1), "{shape}");
        }
    }

    #[test]
    fn sides_are_the_largest_divisors_up_to_64() {
        for (length, expected) in
            [(1, 1), (64, 64), (128, 64), (352, 44), (384, 64), (1024, 64), (67, 1), (50257, 29)]
        {
            assert_eq!(side(length), expected, "{length}");
        }
    }

    #[test]
    fn the_share_that_is_kept_is_at_least_one_element() {
        let kept = |rows, cols, keep| chunks(Shape { rows, cols }).next().expect("a chunk").kept(keep);
        assert_eq!(kept(64, 64, 64), 64);
        assert_eq!(kept(128, 352, 64), 44);
        assert_eq!(kept(1, 384, 64), 1);
        assert_eq!(kept(1, 5, 1), 1);
        assert_eq!(kept(64, 64, 4096), 4096);
        assert_eq!(kept(1, 33, 4096), 33);
    }
}
