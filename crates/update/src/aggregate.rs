//! The weighted sum of updates, exact in any order.

use crate::{Header, Layout, SCALE_EXPONENT, Update, UpdateError};

/// Largest total weight of an aggregate.
///
/// An element is at most `2^31` in magnitude, so a sum of total weight `W` is at most
/// `2^31 W`: with `W < 2^32` it is below `2^63` and no 64-bit sum can overflow, whatever
/// the order. Checking the weight is therefore all the checking there is.
pub const MAX_TOTAL_WEIGHT: u64 = u32::MAX as u64;

/// The weight of a contribution: its tokens in units of 4, rounded up. A round of almost `2^34` tokens is then within
/// [`MAX_TOTAL_WEIGHT`], and a clipped update of a single sequence is still scaled finely.
pub fn weight_of_tokens(tokens: u64) -> u64 {
    tokens.div_ceil(4)
}

/// The weight of a contribution that came a round too late: half, since it starts from older parameters.
pub fn weight_of_late_tokens(tokens: u64) -> u64 {
    weight_of_tokens(tokens).div_ceil(2)
}

/// The norm that no update of a VNode counts for more than in its round: the median of all, of two middle ones the larger.
///
/// So no minority, however long its updates, moves the mean further than the others' own would; and of two replicas neither is
/// clipped for what the other says.
pub fn norm_limit(norms: impl IntoIterator<Item = u64>) -> u64 {
    let mut norms: Vec<u64> = norms.into_iter().collect();
    let middle = norms.len() / 2;
    if norms.is_empty() { u64::MAX } else { *norms.select_nth_unstable(middle).1 }
}

/// The weighted sum of the updates of one VNode in one round, and of every element the weight of those who spoke of it.
///
/// A sparse update says nothing of most elements, which is not the same as saying zero: the mean of an element
/// is over its speakers. (Over everybody, an element that one replica of eight speaks of would move an eighth as far, and
/// what it said is not said again.)
///
/// Adding and merging are associative and commutative, errors included: whether the total
/// weight fits does not depend on the order. Two aggregates of the same contributions are equal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aggregate {
    round: u32,
    vnode: String,
    layout: Layout,
    /// Contributions that were added, and the tokens they were trained on.
    contributions: u32,
    tokens: u64,
    sums: Vec<i64>,
    /// Weight of everything that was added.
    weight: u64,
    /// The weight of each element's speakers; none as long as everybody spoke of everything.
    spoken: Option<Vec<u32>>,
}

impl Aggregate {
    /// The sum of nothing yet.
    pub fn new(round: u32, vnode: impl Into<String>, layout: Layout) -> Self {
        Self {
            round,
            vnode: vnode.into(),
            contributions: 0,
            tokens: 0,
            sums: vec![0; layout.elements() as usize],
            layout,
            weight: 0,
            spoken: None,
        }
    }

    /// Adds `weight` times `update`, which may be of an earlier round. An update that is longer than `norm_limit` is scaled down to it:
    /// `w' = floor(weight * norm_limit / norm)` times its elements are added, and its speakers weigh `weight`.
    /// On an error nothing was added: the update is for another VNode or shape, or the weight is 0 or too much.
    pub fn add(&mut self, update: &Update, weight: u64, norm_limit: u64) -> Result<(), UpdateError> {
        update.header().require_place(&self.vnode, &self.layout)?;
        if weight == 0 {
            return Err(UpdateError::ZeroWeight);
        }
        let total = self.weight_with(weight)?;
        if update.is_sparse() || self.spoken.is_some() {
            let spoken = self.spoken_by_all();
            update.for_each(|index, _| spoken[index] += weight as u32);
        }
        let scaled = NormLimit(norm_limit).clip(weight, update.norm()) as i64;
        update.for_each(|index, value| self.sums[index] += i64::from(value) * scaled);
        self.contributions = self.contributions.saturating_add(1);
        self.tokens = self.tokens.saturating_add(update.header().tokens);
        self.weight = total;
        Ok(())
    }

    /// Takes out what [`Aggregate::add`] with the same arguments has added. What was not in it leaves no less than nothing of any weight.
    ///
    /// # Errors
    /// The update is for another VNode or shape; nothing was taken out.
    pub fn subtract(&mut self, update: &Update, weight: u64, norm_limit: u64) -> Result<(), UpdateError> {
        update.header().require_place(&self.vnode, &self.layout)?;
        if update.is_sparse() || self.spoken.is_some() {
            let spoken = self.spoken_by_all();
            update.for_each(|index, _| spoken[index] = spoken[index].saturating_sub(weight as u32));
        }
        let scaled = NormLimit(norm_limit).clip(weight, update.norm()) as i64;
        update.for_each(|index, value| {
            self.sums[index] = self.sums[index].saturating_sub(i64::from(value) * scaled)
        });
        self.contributions = self.contributions.saturating_sub(1);
        self.tokens = self.tokens.saturating_sub(update.header().tokens);
        self.weight = self.weight.saturating_sub(weight);
        Ok(())
    }

    /// Adds everything that was added to `other`, which must be of the same round, VNode and shape.
    pub fn merge(&mut self, other: &Aggregate) -> Result<(), UpdateError> {
        if (self.round, &self.vnode, &self.layout) != (other.round, &other.vnode, &other.layout) {
            return Err(UpdateError::Unexpected {
                what: "the partial sum of",
                expected: format!("{} in round {}", self.vnode, self.round),
                actual: format!("{} in round {}", other.vnode, other.round),
            });
        }
        let total = self.weight_with(other.weight)?;
        if self.spoken.is_some() || other.spoken.is_some() {
            let spoken = self.spoken_by_all();
            match &other.spoken {
                Some(more) => spoken.iter_mut().zip(more).for_each(|(weight, more)| *weight += more),
                None => spoken.iter_mut().for_each(|weight| *weight += other.weight as u32),
            }
        }
        for (sum, &value) in self.sums.iter_mut().zip(&other.sums) {
            *sum += value;
        }
        self.contributions = self.contributions.saturating_add(other.contributions);
        self.tokens = self.tokens.saturating_add(other.tokens);
        self.weight = total;
        Ok(())
    }

    /// Weight of everything that was added.
    pub fn weight(&self) -> u64 {
        self.weight
    }

    /// Number of contributions that were added.
    pub fn contributions(&self) -> u32 {
        self.contributions
    }

    /// Tokens they were trained on.
    pub fn tokens(&self) -> u64 {
        self.tokens
    }

    /// The parameters that the sums belong to.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The sums, in units of `2^-24`.
    pub fn sums(&self) -> &[i64] {
        &self.sums
    }

    /// The weighted mean over those who spoke of an element: the aggregated pseudo-gradient, in the order of the
    /// layout. An element that nobody spoke of is zero.
    ///
    /// Element by element `f32(f64(sum) / f64(weight of its speakers) * 2^-24)`, each step rounded to nearest,
    /// halves to even.
    pub fn mean(&self) -> Result<Vec<f32>, UpdateError> {
        const UNIT: f64 = 1.0 / (1u64 << SCALE_EXPONENT) as f64;
        if self.weight == 0 {
            return Err(UpdateError::Empty);
        }
        let mean = |sum: i64, weight: f64| (sum as f64 / weight * UNIT) as f32;
        Ok(match &self.spoken {
            None => self.sums.iter().map(|&sum| mean(sum, self.weight as f64)).collect(),
            Some(spoken) => {
                let speakers = spoken.iter().map(|&weight| f64::from(weight.max(1)));
                self.sums.iter().zip(speakers).map(|(&sum, weight)| mean(sum, weight)).collect()
            }
        })
    }

    /// What it sums up: the header of its encoding.
    pub(crate) fn header(&self) -> Header {
        let (vnode, layout) = (self.vnode.clone(), self.layout.clone());
        Header { round: self.round, vnode, tokens: self.tokens, layout }
    }

    /// The weight of the speakers of each element, unless all spoke of all.
    pub(crate) fn speakers(&self) -> Option<&[u32]> {
        self.spoken.as_deref().filter(|spoken| spoken.iter().any(|&weight| u64::from(weight) != self.weight))
    }

    /// From what was decoded and checked.
    pub(crate) fn from_parts(
        header: Header,
        contributions: u32,
        weight: u64,
        sums: Vec<i64>,
        spoken: Option<Vec<u32>>,
    ) -> Self {
        let Header { round, vnode, tokens, layout } = header;
        Self { round, vnode, layout, contributions, tokens, sums, weight, spoken }
    }

    /// The weights of speakers, of what was added so far: all of it for every element, if none were kept yet.
    fn spoken_by_all(&mut self) -> &mut Vec<u32> {
        let (weight, elements) = (self.weight as u32, self.sums.len());
        self.spoken.get_or_insert_with(|| vec![weight; elements])
    }

    fn weight_with(&self, more: u64) -> Result<u64, UpdateError> {
        let total = self.weight.saturating_add(more);
        if total > MAX_TOTAL_WEIGHT { Err(UpdateError::Weight(total)) } else { Ok(total) }
    }
}

/// What the norms of a VNode's updates may be.
#[derive(Clone, Copy)]
pub(crate) struct NormLimit(pub u64);

impl NormLimit {
    /// `weight`, less what an update of `norm` is too long. Never more than `weight`.
    fn clip(self, weight: u64, norm: u64) -> u64 {
        if norm <= self.0 {
            weight
        } else {
            (u128::from(weight) * u128::from(self.0) / u128::from(norm)) as u64
        }
    }

    /// What an update of `norm` is scaled by.
    pub(crate) fn scale(self, norm: u64) -> f64 {
        if norm <= self.0 { 1.0 } else { self.0 as f64 / norm as f64 }
    }
}
