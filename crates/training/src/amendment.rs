//! Taking contributions back out of an earlier round.
//!
//! Per VNode the round's sums are there once more, and what is to go is subtracted from them as it was added: the same integers. What the round
//! would have come to on average, less what it did come to, element by element in f32, is added to the mean of the present round:
//!
//! ```text
//! g <- g + (mean(sums - withdrawn - withdraws) - mean(sums - withdrawn))
//! ```
//!
//! The outer step is linear in `g`, its momentum included, so in time the model is where it would be if what was withdrawn had never been added,
//! but for what others trained from it meanwhile. In the last outer step there is no such time: what the momentum would have
//! brought is made up for by a factor.

use zoo_model::VNode;
use zoo_update::{Aggregate, UpdateError};

use crate::aggregate::{Adding, Summand, each_update, update_error, weight};
use crate::comparison::Counted;
use crate::error::TrainError;
use crate::spec::{Outer, TrainingSpec};

/// Summands, and of how many that were alike each was one.
#[derive(Clone, Copy, Debug)]
pub struct Given<'a> {
    /// What was given.
    pub summands: &'a [Summand<'a>],
    /// 1 of whatever counted whole; as many as there are summands.
    pub copies: &'a [u64],
}

/// An earlier round, and what is taken back out of it.
#[derive(Clone, Copy, Debug)]
pub struct Amendment<'a> {
    /// The round, from 0.
    pub round: u32,
    /// What the updates of each VNode were clipped to, in network order.
    pub norm_limits: &'a [u64],
    /// What its outer step added.
    pub summands: Given<'a>,
    /// Contributions in these that were taken back before.
    pub withdrawn: Given<'a>,
    /// Contributions in these that are taken back now.
    pub withdraws: Given<'a>,
}

impl Amendment<'_> {
    /// What a correction in the outer step of `round` is to be multiplied by to move parameters as far as what it corrects has moved them since, where
    /// no step follows: `(1 + m + ... + m^(n + 1)) / (1 + m)` for momentum m, n rounds later. In f32, from left to right.
    pub(crate) fn made_up(&self, outer: Outer, round: u32) -> f32 {
        let now = 1.0 + outer.momentum;
        let (mut since, mut power) = (now, outer.momentum);
        for _ in self.round..round {
            power *= outer.momentum;
            since += power;
        }
        since / now
    }

    /// What is to be added to the mean of the VNode at `place`.
    pub(crate) fn correction(
        &self,
        spec: &TrainingSpec,
        place: usize,
        vnode: &VNode,
    ) -> Result<Vec<f32>, TrainError> {
        let limit = self.norm_limits.get(place).copied().unwrap_or(0);
        let counted = &Counted { copies: self.summands.copies.to_vec() };
        let adding = Adding { spec, round: self.round, summands: self.summands.summands, counted };
        let mut aggregate = adding.sum(place, vnode, limit, None)?;
        self.subtract(spec, &mut aggregate, self.withdrawn, place, vnode, limit)?;
        let came_to = mean(&aggregate);
        self.subtract(spec, &mut aggregate, self.withdraws, place, vnode, limit)?;
        let would_be = mean(&aggregate);
        Ok(would_be.into_iter().zip(came_to).map(|(would_be, came_to)| would_be - came_to).collect())
    }

    fn subtract(
        &self,
        spec: &TrainingSpec,
        aggregate: &mut Aggregate,
        given: Given<'_>,
        place: usize,
        vnode: &VNode,
        limit: u64,
    ) -> Result<(), TrainError> {
        each_update(spec, given.summands, place, vnode, |at, update| {
            let weight = weight(&given.summands[at], self.round).div_ceil(given.copies[at]);
            aggregate.subtract(&update, weight, limit)
        })
        .map_err(|cause: UpdateError| update_error(vnode, cause))
    }
}

/// Of nothing it is zero.
fn mean(aggregate: &Aggregate) -> Vec<f32> {
    aggregate.mean().unwrap_or_else(|_| vec![0.0; aggregate.sums().len()])
}
