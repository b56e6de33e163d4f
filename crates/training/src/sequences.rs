//! Which tokens sequence `i` of a job is: a pure function of seed, data and `i`.
//!
//! An epoch cuts the data into windows of `context` tokens that do not overlap, starting at an
//! offset of its own, and visits them in an order of its own. Sequence `i` belongs to epoch
//! `i / sequences_per_epoch`. Two replicas with different indices therefore never train on the
//! same window of an epoch, and nobody needs to hold a shuffled copy or a generator's state.

use std::ops::Range;

use zoo_kernels::random::{self, Permutation};

use crate::dataset::{Dataset, DatasetError};

/// Streams of the job's seed that belong to the order of the data: one below for the offsets,
/// and one per epoch above it for the orders. Far from the small numbers that name parameters.
const OFFSET_STREAM: u64 = 0x6f72_6465_0000_0000;
const EPOCH_STREAM: u64 = OFFSET_STREAM + 1;

/// The training order of a dataset.
#[derive(Clone, Debug)]
pub struct Sequences {
    data: Dataset,
    order: Order,
}

/// Where every sequence of a job begins: the training order of so many tokens, whatever they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    seed: u64,
    context: usize,
    per_epoch: u64,
    offsets: u64,
}

impl Sequences {
    /// The order of `data` under `seed`, in sequences of `context` inputs (and one more target).
    ///
    /// # Errors
    /// When the data does not hold one sequence.
    pub fn new(data: &Dataset, seed: u64, context: usize) -> Result<Self, DatasetError> {
        Ok(Self { data: data.clone(), order: Order::new(data.len(), seed, context)? })
    }

    /// Sequences in one epoch.
    pub fn per_epoch(&self) -> u64 {
        self.order.per_epoch
    }

    /// Appends the inputs and the targets of the sequences in `range`, in order.
    pub fn batch(&self, range: Range<u64>, inputs: &mut Vec<u32>, targets: &mut Vec<u32>) {
        let context = self.order.context;
        let mut window = vec![0; context + 1];
        for index in range {
            self.data.read(self.start(index), &mut window);
            inputs.extend_from_slice(&window[..context]);
            targets.extend_from_slice(&window[1..]);
        }
    }

    /// Position of the first token of sequence `index`.
    pub fn start(&self, index: u64) -> u64 {
        self.order.start(index)
    }
}

impl Order {
    /// The order of `tokens` tokens under `seed`, in sequences of `context` inputs (and one more target).
    ///
    /// # Errors
    /// When that is less than one sequence.
    pub fn new(tokens: u64, seed: u64, context: usize) -> Result<Self, DatasetError> {
        if context == 0 || tokens <= context as u64 {
            return Err(DatasetError::TooShort { tokens, context });
        }
        // Every offset leaves the same number of windows. Short data gets fewer offsets, not none.
        let offsets = (context as u64).min(tokens - context as u64);
        let per_epoch = (tokens - offsets) / context as u64;
        debug_assert!(offsets >= 1 && per_epoch >= 1);
        Ok(Self { seed, context, per_epoch, offsets })
    }

    /// Position of the first token of sequence `index`.
    pub fn start(&self, index: u64) -> u64 {
        let epoch = index / self.per_epoch;
        let offset = random::bits(self.seed, OFFSET_STREAM, epoch) % self.offsets;
        let order = Permutation::new(self.seed, EPOCH_STREAM.wrapping_add(epoch), self.per_epoch);
        offset + order.at(index % self.per_epoch) * self.context as u64
    }
}

/// The held-out data as windows in their own order: window `w` takes the tokens from `w * context`
/// as inputs and the same, one further, as targets. Every token but the first is scored exactly
/// once; the last window may be short.
#[derive(Clone, Copy, Debug)]
pub struct Windows<'a> {
    data: &'a Dataset,
    context: usize,
}

impl<'a> Windows<'a> {
    /// Windows of `context` inputs over `data`.
    ///
    /// # Errors
    /// When the data does not fill one window.
    pub fn new(data: &'a Dataset, context: usize) -> Result<Self, DatasetError> {
        if context == 0 || data.len() <= context as u64 {
            return Err(DatasetError::TooShort { tokens: data.len(), context });
        }
        Ok(Self { data, context })
    }

    /// Number of windows, the short one included.
    pub fn count(&self) -> u64 {
        (self.data.len() - 1).div_ceil(self.context as u64)
    }

    /// The windows of shard `shard` of `shards`: contiguous, of equal size but for one window.
    ///
    /// # Panics
    /// When `shard >= shards`.
    pub fn shard(&self, shard: u32, shards: u32) -> Range<u64> {
        assert!(shard < shards, "shard {shard} of {shards}");
        let cut = |at: u32| (u128::from(self.count()) * u128::from(at) / u128::from(shards)) as u64;
        cut(shard)..cut(shard + 1)
    }

    /// Positions of the tokens that window `window` scores, its targets.
    pub fn targets(&self, window: u64) -> Range<u64> {
        let start = window * self.context as u64;
        start + 1..(start + 1 + self.context as u64).min(self.data.len())
    }

    /// Whether a window has fewer than `context` targets; only the last one may.
    pub fn is_short(&self, window: u64) -> bool {
        let targets = self.targets(window);
        targets.end - targets.start < self.context as u64
    }

    /// Appends the inputs and the targets of a window.
    pub fn read(&self, window: u64, inputs: &mut Vec<u32>, targets: &mut Vec<u32>) {
        let scored = self.targets(window);
        let mut tokens = vec![0; (scored.end - scored.start) as usize + 1];
        self.data.read(scored.start - 1, &mut tokens);
        inputs.extend_from_slice(&tokens[..tokens.len() - 1]);
        targets.extend_from_slice(&tokens[1..]);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn numbered(tokens: u32) -> Dataset {
        Dataset::encode(tokens, &(0..tokens).collect::<Vec<_>>(), u64::from(tokens)).unwrap()
    }

    #[test]
    fn an_epoch_visits_every_window_once() {
        for (tokens, context) in [(9, 8), (15, 8), (16, 8), (17, 8), (1000, 8), (1001, 64), (300, 1)] {
            let data = numbered(tokens);
            let sequences = Sequences::new(&data, 7, context).unwrap();
            for epoch in 0..3 {
                let first = epoch * sequences.per_epoch();
                let mut seen = BTreeSet::new();
                for index in first..first + sequences.per_epoch() {
                    let start = sequences.start(index);
                    assert!(start + (context as u64) < data.len());
                    for token in start..start + context as u64 {
                        assert!(seen.insert(token), "token {token} twice in epoch {epoch}");
                    }
                }
                assert_eq!(seen.len() as u64, sequences.per_epoch() * context as u64);
                assert!(seen.len() as u64 + 2 * context as u64 > data.len(), "an epoch leaves out too much");
            }
        }
    }

    #[test]
    fn targets_are_the_next_tokens_and_batches_cross_epochs() {
        let data = numbered(100);
        let sequences = Sequences::new(&data, 3, 8).unwrap();
        let (mut inputs, mut targets) = (Vec::new(), Vec::new());
        let range = sequences.per_epoch() - 2..sequences.per_epoch() + 3;
        sequences.batch(range.clone(), &mut inputs, &mut targets);
        assert_eq!(inputs.len(), 5 * 8);
        for (position, (&input, &target)) in inputs.iter().zip(&targets).enumerate() {
            assert_eq!(target, input + 1);
            let start = sequences.start(range.start + position as u64 / 8);
            assert_eq!(u64::from(input), start + position as u64 % 8);
        }
    }

    #[test]
    fn epochs_and_seeds_differ_in_order_and_offset() {
        let data = numbered(4000);
        let starts = |seed, epoch| {
            let sequences = Sequences::new(&data, seed, 16).unwrap();
            let first = epoch * sequences.per_epoch();
            (first..first + sequences.per_epoch()).map(|index| sequences.start(index)).collect::<Vec<_>>()
        };
        let orders = [starts(1, 0), starts(1, 1), starts(1, 2), starts(2, 0)];
        for (i, a) in orders.iter().enumerate() {
            for b in &orders[..i] {
                let equal = a.iter().zip(b).filter(|(a, b)| a == b).count();
                assert!(equal < a.len() / 10, "{equal} of {} sequences at the same place", a.len());
            }
        }
        let offsets: BTreeSet<u64> = (0..50).map(|epoch| starts(1, epoch)[0] % 16).collect();
        assert!(offsets.len() > 8, "offsets hardly move: {offsets:?}");
        assert_eq!(starts(1, 1), starts(1, 1));
    }

    #[test]
    fn the_order_of_released_jobs_does_not_change() {
        let data = numbered(1000);
        let sequences = Sequences::new(&data, 42, 8).unwrap();
        let starts = |first: u64| (first..first + 4).map(|index| sequences.start(index)).collect::<Vec<_>>();
        assert_eq!(
            (sequences.per_epoch(), starts(0), starts(124)),
            (124, vec![397, 293, 461, 93], vec![755, 163, 75, 411])
        );
    }

    #[test]
    fn shards_score_every_token_but_the_first_once() {
        for (tokens, context, shards) in [(9, 8, 1), (10, 8, 3), (100, 7, 4), (101, 10, 7), (64, 8, 64)] {
            let data = numbered(tokens);
            let windows = Windows::new(&data, context).unwrap();
            let mut scored = Vec::new();
            for shard in 0..shards {
                for window in windows.shard(shard, shards) {
                    scored.extend(windows.targets(window));
                }
            }
            assert_eq!(scored, (1..u64::from(tokens)).collect::<Vec<_>>());
        }
    }

    #[test]
    fn data_without_one_sequence_is_refused() {
        for (tokens, context) in [(1, 1), (8, 8), (5, 0), (3, 100)] {
            let error = Sequences::new(&numbered(tokens), 0, context).unwrap_err();
            assert!(error.to_string().contains("hint: give at least"), "{error}");
        }
    }
}
