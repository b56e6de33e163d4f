//! Exact sums, and sums in f64 in one order: of losses, of squares, and what the levels of an update are made of.
//!
//! Their results are longer than a word: each element is a word of the result, and folds all terms.

use zoo_kernels::optimizer::NORM_EPS;
use zoo_update::sparse::{Bins, LEVELS_MAX};
use zoo_update::to_units;

use super::{Read, SEGMENT, Unread};
use crate::tree::word;

/// A sum over all elements of its first inputs, one after the other.
#[derive(Clone, Debug, PartialEq)]
pub struct Tally {
    /// What is summed.
    pub what: What,
    /// Elements of every input that is summed.
    pub lengths: Vec<usize>,
}

/// What is summed, and what becomes of it. Inputs that are named are not summed; they stand after those that are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Losses in multiples of `2^-24`, in f64: two words.
    Loss,
    /// The norm of integers, rounded down: two words.
    Norm,
    /// The mean in f64: two words.
    Mean,
    /// The standard deviation in f64, two words: mean.
    Deviation,
    /// One over the root of the sum, in f32: one word.
    InverseRoot,
    /// Of each of four bins the mean as an integer, then of each whether anything is in it: mean, deviation.
    Bins,
}

/// Words of a state: four of a sum of squares, or two of a sum in f64 and one of a count.
pub const STATE_WORDS: usize = 4;

const GRAINS_PER_NAT: f64 = (1u64 << 24) as f64;

/// A sum on its way.
#[derive(Clone, Copy, Default)]
struct Sum {
    real: f64,
    count: u32,
    whole: u128,
}

impl Sum {
    fn of(what: What, state: &[u32]) -> Self {
        let [a, b, c, d] = [0, 1, 2, 3].map(|at| state.get(at).copied().unwrap_or(0));
        match what {
            What::Norm => {
                let whole = [d, c, b, a].iter().fold(0, |whole, word| whole << 32 | u128::from(*word));
                Self { whole, ..Self::default() }
            }
            _ => Self { real: f64_of([a, b]), count: c, whole: 0 },
        }
    }

    fn state(self, what: What) -> Vec<u32> {
        match what {
            What::Norm => (0..4).map(|at| (self.whole >> (32 * at)) as u32).collect(),
            _ => {
                let [low, high] = words_of(self.real);
                vec![low, high, self.count, 0]
            }
        }
    }
}

/// The words of an f64, the lower first. A NaN has one form here.
pub fn words_of(value: f64) -> [u32; 2] {
    let bits = if value.is_nan() { f64::NAN.to_bits() } else { value.to_bits() };
    [bits as u32, (bits >> 32) as u32]
}

/// The f64 of two words.
pub fn f64_of([low, high]: [u32; 2]) -> f64 {
    f64::from_bits(u64::from(high) << 32 | u64::from(low))
}

impl Tally {
    /// Its name, for people.
    pub fn name(&self) -> &'static str {
        match self.what {
            What::Loss => "sum of losses",
            What::Norm => "norm",
            What::Mean => "mean of what is kept",
            What::Deviation => "deviation of what is kept",
            What::InverseRoot => "inverse norm",
            What::Bins => "levels",
        }
    }

    /// Terms of an element.
    pub fn terms(&self) -> usize {
        self.lengths.iter().sum()
    }

    /// See [`super::Operator::segment`].
    pub fn segment(
        &self,
        element: usize,
        segment: usize,
        before: &[u32],
        read: &mut impl Read,
    ) -> Result<Vec<u32>, Unread> {
        let (from, to) = (segment * SEGMENT, self.terms().min((segment + 1) * SEGMENT));
        let sum = self.fold(element, from..to, Sum::of(self.what, before), read)?;
        if to < self.terms() { Ok(sum.state(self.what)) } else { Ok(vec![self.finish(element, sum)]) }
    }

    /// The whole sum.
    pub fn whole(&self, element: usize, read: &mut impl Read) -> Result<u32, Unread> {
        let sum = self.fold(element, 0..self.terms(), Sum::default(), read)?;
        Ok(self.finish(element, sum))
    }

    fn fold(
        &self,
        element: usize,
        terms: std::ops::Range<usize>,
        mut sum: Sum,
        read: &mut impl Read,
    ) -> Result<Sum, Unread> {
        let inputs = self.lengths.len();
        let mean =
            if matches!(self.what, What::Deviation | What::Bins) { double(inputs, read)? } else { 0.0 };
        let deviation = if self.what == What::Bins { double(inputs + 1, read)? } else { 0.0 };
        let bins = Bins::of(mean, deviation);
        let (mut input, mut first) = (0, 0);
        for term in terms {
            while term - first >= self.lengths[input] {
                first += self.lengths[input];
                input += 1;
            }
            let value = read.value(input, term - first)?;
            match self.what {
                What::Loss => {
                    sum.real += (f64::from(value) * GRAINS_PER_NAT).round_ties_even() / GRAINS_PER_NAT;
                }
                What::Norm => {
                    let magnitude = (value.to_bits() as i32).unsigned_abs();
                    sum.whole = sum.whole.wrapping_add(u128::from(magnitude).pow(2));
                }
                What::Mean | What::InverseRoot => sum.real += f64::from(value),
                What::Deviation => sum.real += (f64::from(value) - mean) * (f64::from(value) - mean),
                What::Bins => {
                    if bins.bin_of(value) == element % LEVELS_MAX {
                        sum.real += f64::from(value);
                        sum.count += 1;
                    }
                }
            }
        }
        Ok(sum)
    }

    /// A word of the result.
    fn finish(&self, element: usize, sum: Sum) -> u32 {
        let count = self.terms() as f64;
        match self.what {
            What::Loss => words_of(sum.real)[element],
            What::Norm => (sum.whole.isqrt() >> (32 * element)) as u32,
            What::Mean => words_of(sum.real / count)[element],
            What::Deviation => words_of((sum.real / count).sqrt())[element],
            What::InverseRoot => word((1.0 / (sum.real.sqrt() + NORM_EPS)) as f32),
            What::Bins if element < LEVELS_MAX => match sum.count {
                0 => 0,
                count => to_units(sum.real / f64::from(count)) as u32,
            },
            What::Bins => u32::from(sum.count > 0),
        }
    }
}

/// The f64 that an input is.
pub fn double(input: usize, read: &mut impl Read) -> Result<f64, Unread> {
    Ok(f64_of([read.word(input, 0)?, read.word(input, 1)?]))
}
