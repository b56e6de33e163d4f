//! What was checked, what it cost, and what it shows.

use std::collections::BTreeMap;

use crate::operator::{Operator, Scatter};
use crate::program::Program;

/// All tensors of a step but the state before it.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// In the order of the program.
    pub checks: Vec<Check>,
}

/// One tensor. Costs are in terms: multiply-adds of a product, elements of a row, tokens of a sum; one for an operator without.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    /// Its place in the program.
    pub tensor: usize,
    /// What it costs to compute it.
    pub again: u64,
    /// What was spent on it.
    pub spent: u64,
    /// Whether every element was computed again.
    pub whole: bool,
    /// Rounds of Freivalds' test; 0 for none.
    pub rounds: u32,
    /// Elements that were drawn and computed again.
    pub drawn: u64,
    /// From which size on the rounds notice an error.
    pub limit: Option<Limit>,
    /// Rows that rounding did not explain.
    pub suspicious: u64,
    /// How many of them were computed again. Where all those were right and some were left, the tensor is neither right nor wrong.
    pub rows_again: u64,
    /// The first element that was found wrong.
    pub wrong: Option<Wrong>,
}

/// From which error on Freivalds' test notices an element of any row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limit {
    /// The error.
    pub error: f64,
    /// The root of the mean square of the tensor's elements.
    pub size: f64,
}

/// An element that is not what its operator makes of what the maker said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// Its place in the tensor.
    pub element: usize,
    /// The word that the maker said.
    pub claimed: u32,
    /// The word that it comes to.
    pub computed: u32,
}

/// All tensors of one operator together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Summary {
    /// How many tensors.
    pub tensors: u64,
    /// How many of them were computed again in whole.
    pub whole: u64,
    /// How many were tested by Freivalds.
    pub freivalds: u64,
    /// Elements that were drawn.
    pub drawn: u64,
    /// What it costs to compute them.
    pub again: u64,
    /// What was spent.
    pub spent: u64,
    /// Of those that Freivalds tested the greatest limit, in sizes of the tensor.
    pub limit: f64,
}

impl Report {
    /// The tensors that are wrong, and where.
    pub fn wrong(&self) -> impl Iterator<Item = (&Check, Wrong)> {
        self.checks.iter().filter_map(|check| Some((check, check.wrong?)))
    }

    /// The tensors of which neither is known.
    pub fn unsettled(&self) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(|check| check.is_unsettled())
    }

    /// What it costs to compute everything.
    pub fn again(&self) -> u64 {
        self.checks.iter().map(|check| check.again).sum()
    }

    /// What was spent.
    pub fn spent(&self) -> u64 {
        self.checks.iter().map(|check| check.spent).sum()
    }

    /// By name of operator.
    pub fn by_operator(&self, program: &Program) -> BTreeMap<&'static str, Summary> {
        let mut summaries: BTreeMap<&'static str, Summary> = BTreeMap::new();
        for check in &self.checks {
            let summary = summaries.entry(program.tensors[check.tensor].operator.name()).or_default();
            summary.tensors += 1;
            summary.whole += u64::from(check.whole);
            summary.freivalds += u64::from(check.rounds > 0);
            summary.drawn += check.drawn;
            summary.again += check.again;
            summary.spent += check.spent;
            summary.limit = check.limit.map_or(0.0, Limit::in_sizes).max(summary.limit);
        }
        summaries
    }
}

impl Check {
    pub(super) fn new(tensor: usize, again: u64) -> Self {
        Self {
            tensor,
            again,
            spent: 0,
            whole: false,
            rounds: 0,
            drawn: 0,
            limit: None,
            suspicious: 0,
            rows_again: 0,
            wrong: None,
        }
    }

    /// Nothing was found wrong, and not everything suspicious was looked at.
    pub fn is_unsettled(&self) -> bool {
        self.wrong.is_none() && self.rows_again < self.suspicious
    }

    /// For which part of the seeds nothing is found, at most, when a part `wrong` of the elements is wrong and the greatest error is `error`.
    pub fn missed(&self, wrong: f64, error: f64) -> f64 {
        if self.whole && wrong > 0.0 {
            return 0.0;
        }
        let by_spots = libm::pow(1.0 - wrong, self.drawn as f64);
        match self.limit {
            Some(limit) if error > limit.error => by_spots.min(libm::exp2(-f64::from(self.rounds))),
            _ => by_spots,
        }
    }
}

impl Limit {
    /// The error as a multiple of what elements usually are; 0 where all are zero.
    pub fn in_sizes(self) -> f64 {
        if self.size > 0.0 { self.error / self.size } else { 0.0 }
    }
}

/// What it costs to compute a tensor that is no product.
pub(super) fn terms_of_all(operator: &Operator, length: usize) -> u64 {
    let terms = match operator {
        // Every token is added once, whatever its row.
        Operator::Scatter(Scatter::ById { tokens, width }) => tokens * width,
        Operator::Row(row) => (0..length).map(|element| row.terms(element)).sum(),
        _ => length * operator.terms(0).max(1),
    };
    terms as u64
}
