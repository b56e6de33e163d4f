//! Which updates of a round were given before.
//!
//! What a replica gives has little to do with what it gave in the round before, or anybody did: training goes on on other text, and what a sparse update
//! has said its replica does not say again. (Of a dense one the optimiser's moments remain, so every replica is nearer to itself.) So each update
//! has a nearest of an earlier round, about as far away for all; what is much nearer to one is that one, once more. The older of the two was
//! there first: only the newer is at fault.
//!
//! Products are those of sketches ([`Memory`]), whole numbers times powers of two, added in the order of VNodes: every machine finds the same.

use crate::agreement::{UPDATES_MIN, cosine_of, median, near};
use crate::{Memory, Sketch, UpdateError};

/// Of fewer buckets, over all VNodes, nothing is known again.
const BUCKETS_MIN: usize = 512;

/// What the updates of a round have to do with those of the rounds before, over all VNodes that were taken so far.
#[derive(Clone, Debug, PartialEq)]
pub struct Recurrence {
    replicas: usize,
    /// How many updates of each earlier round are remembered; nothing before the first VNode.
    earlier: Option<Vec<usize>>,
    /// The product of each update and each that is remembered, row by row, and of each with itself.
    products: Vec<f64>,
    squares: Vec<f64>,
    earlier_squares: Vec<f64>,
    buckets: usize,
}

impl Recurrence {
    /// Of so many replicas, nothing known yet.
    pub fn new(replicas: usize) -> Self {
        let (products, earlier_squares) = (Vec::new(), Vec::new());
        Self { replicas, earlier: None, products, squares: vec![0.0; replicas], earlier_squares, buckets: 0 }
    }

    /// Takes the sketches of one VNode: of every replica's update, in the order of replicas, and what is remembered.
    ///
    /// # Errors
    /// A memory of other rounds or updates than that of the VNodes before.
    pub fn take(&mut self, sketches: &[Sketch], memory: &Memory) -> Result<(), UpdateError> {
        assert_eq!(sketches.len(), self.replicas, "a sketch of every replica");
        let counts: Vec<usize> = memory.rounds().map(<[Sketch]>::len).collect();
        let all: usize = counts.iter().sum();
        if *self.earlier.get_or_insert_with(|| counts.clone()) != counts {
            return Err(UpdateError::NotCanonical("the memories of two vnodes are of other rounds"));
        }
        self.products.resize(self.replicas * all, 0.0);
        self.earlier_squares.resize(all, 0.0);
        self.buckets += sketches.first().map_or(0, Sketch::buckets);
        for (one, sketch) in sketches.iter().enumerate() {
            self.squares[one] += sketch.product(sketch);
            for (earlier, remembered) in memory.rounds().flatten().enumerate() {
                self.products[one * all + earlier] += sketch.product(remembered);
            }
        }
        for (square, remembered) in self.earlier_squares.iter_mut().zip(memory.rounds().flatten()) {
            *square += remembered.product(remembered);
        }
        Ok(())
    }

    /// Those whose update was given before, in order.
    ///
    /// Nobody, where there are fewer than three, and where sketches are too small to tell.
    pub fn repeated(&self) -> Vec<usize> {
        if self.replicas < UPDATES_MIN || self.buckets < BUCKETS_MIN {
            return Vec::new();
        }
        let mut repeated = vec![false; self.replicas];
        let mut first = 0;
        for &count in self.earlier.iter().flatten() {
            let round = first..first + count;
            first = round.end;
            let nearest = |one: usize| {
                let distances = round.clone().map(|earlier| self.distance(one, earlier));
                distances.fold(f64::INFINITY, f64::min)
            };
            let nearest: Vec<f64> = (0..self.replicas).map(nearest).collect();
            let near = near(median(nearest.iter().copied()));
            repeated.iter_mut().zip(nearest).for_each(|(repeated, nearest)| *repeated |= nearest < near);
        }
        (0..self.replicas).filter(|&one| repeated[one]).collect()
    }

    fn distance(&self, one: usize, earlier: usize) -> f64 {
        let product = self.products[one * self.earlier_squares.len() + earlier];
        1.0 - cosine_of(product, self.squares[one], self.earlier_squares[earlier])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Header, Layout, Shape, Update};

    const ELEMENTS: u32 = 300_000;

    /// Updates of a round, which have something in common with all rounds'; `said` in place of a replica's own.
    fn of_round(round: u64) -> Vec<Vec<i32>> {
        let random = |stream: u64, index: u64| {
            let mut bits = (stream << 32 | index).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            bits = (bits ^ (bits >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            ((bits ^ (bits >> 32)) & 0xffff) as f64 - 32_767.5
        };
        let value =
            |replica: u64, index: u64| random(0, index) + 2.0 * random(100 * (round + 1) + replica, index);
        let update = |replica| (0..u64::from(ELEMENTS)).map(|index| value(replica, index) as i32).collect();
        (0..5).map(update).collect()
    }

    fn sketches(updates: &[Vec<i32>]) -> Vec<Sketch> {
        let layout = Layout::new([("weight", Shape::vector(ELEMENTS))]).unwrap();
        let header = Header { round: 0, vnode: "v".into(), tokens: 64, layout };
        let sketch =
            |values: &Vec<i32>| Sketch::of(&Update::new(header.clone(), values.clone()).unwrap(), 1 << 24);
        updates.iter().map(sketch).collect()
    }

    fn repeated(memory: &Memory, updates: &[Vec<i32>]) -> Vec<usize> {
        let mut recurrence = Recurrence::new(updates.len());
        recurrence.take(&sketches(updates), memory).unwrap();
        recurrence.repeated()
    }

    #[test]
    fn what_was_given_before_is_known_again_also_scaled_and_under_noise() {
        let rounds: Vec<_> = (0..4).map(of_round).collect();
        let memory = (0..3u32)
            .fold(Memory::default(), |memory, round| memory.after(round, sketches(&rounds[round as usize])));
        assert_eq!(repeated(&memory, &rounds[3]), [0usize; 0]);
        let mut updates = rounds[3].clone();
        updates[0] = rounds[2][0].clone();
        updates[1] = rounds[0][4].iter().map(|value| value * 3).collect();
        let noise = |(old, own): (&i32, &i32)| old + own / 3;
        updates[3] = rounds[1][1].iter().zip(&rounds[3][3]).map(noise).collect();
        assert_eq!(repeated(&memory, &updates), [0, 1, 3]);
    }

    #[test]
    fn who_resembles_itself_as_all_do_gives_nothing_again() {
        let (before, fresh) = (of_round(0), of_round(1));
        let memory = Memory::default().after(0, sketches(&before));
        let mixed = |(old, own): (&Vec<i32>, &Vec<i32>)| -> Vec<i32> {
            old.iter().zip(own).map(|(old, own)| old + own / 2).collect()
        };
        let mut now: Vec<_> = before.iter().zip(&fresh).map(mixed).collect();
        assert_eq!(repeated(&memory, &now), [0usize; 0]);
        now[3] = before[3].clone();
        assert_eq!(repeated(&memory, &now), [3]);
    }

    #[test]
    fn where_few_give_anything_nothing_is_usual() {
        let now = of_round(0);
        let memory = |count: usize| Memory::default().after(0, sketches(&now[..count]));
        assert_eq!(repeated(&memory(1), &now), [0]);
        assert_eq!(repeated(&memory(5), &now), [0usize; 0], "all of them");
        assert_eq!(repeated(&memory(1), &now[..2]), [0usize; 0]);
        assert_eq!(repeated(&Memory::default(), &now), [0usize; 0]);
    }

    #[test]
    fn memories_of_other_rounds_are_refused() {
        let now = sketches(&of_round(1));
        let memory = Memory::default().after(0, now.clone());
        let mut recurrence = Recurrence::new(now.len());
        recurrence.take(&now, &memory).unwrap();
        assert!(recurrence.take(&now, &memory.after(1, now.clone())).is_err());
    }
}
