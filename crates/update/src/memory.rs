//! What is remembered of a VNode's updates in the rounds before.
//!
//! ```text
//! rounds u8, ascending; of each:
//!   round u32  updates u16, at least 1  sketches
//! ```
//!
//! All integers are little-endian.

use crate::{Layout, Sketch, UpdateError};

/// Updates are remembered for so many rounds.
const ROUNDS_MAX: usize = 8;
/// And so many of them, an eighth of what the parameters take: of more, those of the newest rounds.
const UPDATES_MAX: usize = 256;

const NOT_CANONICAL: UpdateError =
    UpdateError::NotCanonical("a memory has at most 8 rounds, ascending, of at most 256 updates");

/// Sketches of a VNode's updates, by the rounds that they were part of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    rounds: Vec<(u32, Vec<Sketch>)>,
}

impl Memory {
    /// With what was given in `round`, and without what is too old by then.
    pub fn after(mut self, round: u32, given: Vec<Sketch>) -> Self {
        self.rounds.retain(|(earlier, _)| {
            *earlier < round && u64::from(*earlier) + ROUNDS_MAX as u64 > u64::from(round)
        });
        if !given.is_empty() {
            self.rounds.push((round, given));
        }
        while self.updates() > UPDATES_MAX {
            self.rounds.remove(0);
        }
        self
    }

    fn updates(&self) -> usize {
        self.rounds.iter().map(|(_, given)| given.len()).sum()
    }

    /// The sketches of each round, the oldest first; in a round in the order of contributions.
    pub fn rounds(&self) -> impl Iterator<Item = &[Sketch]> {
        self.rounds.iter().map(|(_, given)| &given[..])
    }

    /// The canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![self.rounds.len() as u8];
        for (round, given) in &self.rounds {
            bytes.extend(round.to_le_bytes());
            bytes.extend((given.len() as u16).to_le_bytes());
            given.iter().for_each(|sketch| sketch.encode(&mut bytes));
        }
        bytes
    }

    /// Decodes what is remembered of a VNode with this layout; only what [`after`](Self::after) leads to has an encoding.
    pub fn decode(bytes: &[u8], layout: &Layout) -> Result<Self, UpdateError> {
        let sketch_bytes = Sketch::bytes(layout);
        let (&count, mut rest) = bytes.split_first().ok_or(NOT_CANONICAL)?;
        let mut memory = Self::default();
        for _ in 0..count {
            let round = u32::from_le_bytes(take(&mut rest)?);
            let updates = usize::from(u16::from_le_bytes(take(&mut rest)?));
            // No size is believed before the bytes are there.
            let (sketches, tail) = rest.split_at_checked(updates * sketch_bytes).ok_or(NOT_CANONICAL)?;
            rest = tail;
            let sketches = sketches.chunks_exact(sketch_bytes).map(Sketch::decode);
            memory.rounds.push((round, sketches.collect::<Result<_, _>>()?));
        }
        let rounds = &memory.rounds;
        let ascends = rounds.windows(2).all(|pair| pair[0].0 < pair[1].0);
        let ends = rounds.first().zip(rounds.last());
        let are_young =
            ends.is_none_or(|(first, last)| u64::from(first.0) + ROUNDS_MAX as u64 > u64::from(last.0));
        let says_something = rounds.iter().all(|(_, given)| !given.is_empty());
        let is_canonical = ascends && are_young && says_something && memory.updates() <= UPDATES_MAX;
        if is_canonical && rest.is_empty() { Ok(memory) } else { Err(NOT_CANONICAL) }
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], UpdateError> {
    let (taken, tail) = rest.split_first_chunk().ok_or(NOT_CANONICAL)?;
    *rest = tail;
    Ok(*taken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Header, Shape, Update};

    fn layout() -> Layout {
        Layout::new([("weight", Shape::vector(1000))]).unwrap()
    }

    fn sketches(count: usize) -> Vec<Sketch> {
        let header = Header { round: 0, vnode: "v".into(), tokens: 64, layout: layout() };
        let update = |at| Update::new(header.clone(), (0..1000).map(|index| index * at).collect()).unwrap();
        (1..=count as i32).map(|at| Sketch::of(&update(at), u64::MAX)).collect()
    }

    fn remembered(memory: &Memory) -> Vec<usize> {
        memory.rounds().map(<[Sketch]>::len).collect()
    }

    #[test]
    fn what_is_old_or_too_much_is_forgotten() {
        let memory = (0..20).fold(Memory::default(), |memory, round| memory.after(round, sketches(3)));
        assert_eq!(remembered(&memory), [3; ROUNDS_MAX]);
        assert_eq!(remembered(&memory.clone().after(25, sketches(2))), [3, 3, 2]);
        assert_eq!(remembered(&memory.clone().after(20, sketches(250))), [3, 3, 250]);
        assert_eq!(remembered(&memory.clone().after(20, sketches(257))), [0usize; 0]);
        assert_eq!(remembered(&memory.after(u32::MAX, Vec::new())), [0usize; 0]);
    }

    #[test]
    fn every_memory_has_one_encoding() {
        let mut memory = Memory::default();
        for round in 0..12 {
            let bytes = memory.encode();
            assert_eq!(Memory::decode(&bytes, &layout()).unwrap(), memory);
            memory = memory.after(round, sketches(round as usize % 4));
        }
        let bytes = memory.encode();
        for end in 0..bytes.len() {
            assert!(Memory::decode(&bytes[..end], &layout()).is_err(), "{end}");
        }
        assert!(Memory::decode(&[&bytes[..], &[0]].concat(), &layout()).is_err());
        let other = Layout::new([("weight", Shape::vector(100_000))]).unwrap();
        assert!(Memory::decode(&bytes, &other).is_err());
        // A round twice, none of anything, and an exponent that no sum has.
        let one = Memory::default().after(7, sketches(1)).encode();
        let twice = [&[2], &one[1..], &one[1..]].concat();
        let nothing = [&[1], &7u32.to_le_bytes()[..], &[0, 0]].concat();
        let mut immense = one.clone();
        immense[7] = 65;
        for refused in [twice, nothing, immense, vec![]] {
            assert!(Memory::decode(&refused, &layout()).is_err());
        }
    }
}
