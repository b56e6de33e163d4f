//! Memory that is handed out in pieces of any size and joined again when they come back.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::BytesMut;

/// Every piece starts at a multiple of this and is a multiple of it long: a line of the cache.
const LINE: usize = 64;
/// Memory is reserved from the system by at least this much. The system commits a page when it is first
/// touched, so what is never handed out costs nothing.
const SEGMENT: usize = 64 << 20;

/// A best-fit allocator of long-lived segments. Fresh memory costs a page fault for every page touched, and a
/// step needs the same few hundred pieces again and again, of kinds that never live at once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Arena(Arc<Mutex<Free>>);

/// What is not handed out.
#[derive(Debug, Default)]
struct Free {
    /// By place; no two of them touch.
    pieces: BTreeMap<Place, BytesMut>,
    /// Bytes of each segment, 0 for those given back.
    segments: Vec<usize>,
    usage: Usage,
}

/// Bytes handed out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub now: usize,
    pub peak: usize,
}

/// A segment, and an offset into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    segment: usize,
    offset: usize,
}

/// Memory of its own until it is dropped; what it holds at first is what was left there.
#[derive(Debug)]
pub(crate) struct Piece {
    bytes: BytesMut,
    place: Place,
    arena: Arena,
}

/// Bytes that `length` bytes take.
pub(crate) fn room_of(length: usize) -> usize {
    length.next_multiple_of(LINE).max(LINE)
}

impl Arena {
    /// At least `length` bytes, aligned to a line of the cache.
    pub fn take(&self, length: usize) -> Piece {
        let (place, bytes) = self.lock().take(room_of(length));
        Piece { bytes, place, arena: self.clone() }
    }

    /// Gives the segments of which nothing is handed out back to the system.
    pub fn release(&self) {
        self.lock().release();
    }

    /// Bytes handed out.
    pub fn usage(&self) -> Usage {
        self.lock().usage
    }

    fn lock(&self) -> MutexGuard<'_, Free> {
        // No panic can happen between two changes that belong together.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Piece {
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        self.arena.lock().put_back(self.place, bytes);
    }
}

impl Free {
    /// The head of the smallest piece that is large enough, or of a new segment.
    fn take(&mut self, length: usize) -> (Place, BytesMut) {
        self.usage.now += length;
        self.usage.peak = self.usage.peak.max(self.usage.now);
        let fitting = self.pieces.iter().filter(|(_, piece)| piece.len() >= length);
        let best = fitting.min_by_key(|(_, piece)| piece.len()).map(|(place, _)| *place);
        let place = best.unwrap_or_else(|| self.reserve(length));
        let mut piece = self.pieces.remove(&place).expect("it was found, or made");
        let rest = piece.split_off(length);
        if !rest.is_empty() {
            self.pieces.insert(Place { offset: place.offset + length, ..place }, rest);
        }
        (place, piece)
    }

    /// A new segment of at least `length` bytes, all free.
    fn reserve(&mut self, length: usize) -> Place {
        let reserved: usize = self.segments.iter().sum();
        let size = length.max(reserved).max(SEGMENT);
        let mut segment = BytesMut::zeroed(size + LINE);
        let skipped = segment.as_ptr().align_offset(LINE).min(LINE);
        let mut aligned = segment.split_off(skipped);
        aligned.truncate(size);
        let place = Place { segment: self.segments.len(), offset: 0 };
        self.segments.push(size);
        self.pieces.insert(place, aligned);
        place
    }

    /// Joins a piece with its free neighbours.
    fn put_back(&mut self, mut place: Place, mut piece: BytesMut) {
        self.usage.now -= piece.len();
        let after = Place { offset: place.offset + piece.len(), ..place };
        if let Some(next) = self.pieces.remove(&after) {
            piece.unsplit(next);
        }
        let before = self.pieces.range_mut(..place).next_back();
        if let Some((before, previous)) = before
            && before.segment == place.segment
            && before.offset + previous.len() == place.offset
        {
            place = *before;
            let mut joined = std::mem::take(previous);
            joined.unsplit(piece);
            piece = joined;
        }
        self.pieces.insert(place, piece);
    }

    fn release(&mut self) {
        let segments = &mut self.segments;
        self.pieces.retain(|place, piece| {
            let whole = piece.len() == segments[place.segment];
            if whole {
                segments[place.segment] = 0;
            }
            !whole
        });
        self.usage.peak = self.usage.now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where a piece lies, as a number.
    fn address(piece: &Piece) -> usize {
        piece.bytes().as_ptr() as usize
    }

    #[test]
    fn neighbours_that_came_back_are_one_piece_again() {
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let arena = Arena::default();
            let mut pieces: Vec<Option<Piece>> = (0..3).map(|_| Some(arena.take(SEGMENT / 4))).collect();
            let first = pieces[0].as_ref().map(address);
            order.iter().for_each(|at| drop(pieces[*at].take()));
            let whole = arena.take(SEGMENT);
            assert_eq!(Some(address(&whole)), first, "{order:?}");
            assert_eq!(arena.lock().segments, [SEGMENT], "{order:?}");
        }
    }

    #[test]
    fn pieces_never_overlap_and_start_on_lines() {
        let arena = Arena::default();
        let mut pieces: Vec<Piece> = Vec::new();
        for round in 0..400_usize {
            if round % 3 == 2 {
                pieces.swap_remove(round * 7 % pieces.len());
            } else {
                let mut piece = arena.take(1 + round * round * 37 % 300_000);
                piece.bytes_mut().fill(round as u8);
                pieces.push(piece);
            }
            let mut ranges: Vec<_> =
                pieces.iter().map(|it| address(it)..address(it) + it.bytes().len()).collect();
            ranges.sort_by_key(|range| range.start);
            assert!(ranges.iter().all(|range| range.start % LINE == 0));
            assert!(ranges.windows(2).all(|pair| pair[0].end <= pair[1].start), "round {round}");
        }
        let held: usize = pieces.iter().map(|piece| piece.bytes().len()).sum();
        assert_eq!(arena.usage().now, held);
        assert!(pieces.iter().all(|piece| piece.bytes().iter().all(|byte| *byte == piece.bytes()[0])));
    }

    #[test]
    fn a_released_arena_holds_nothing_and_serves_again() {
        let arena = Arena::default();
        drop(arena.take(3 * SEGMENT));
        arena.release();
        assert!(arena.lock().pieces.is_empty());
        assert_eq!(arena.take(1).bytes().len(), LINE);
    }
}
