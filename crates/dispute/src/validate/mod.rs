//! A step's tensors checked operator by operator, by who cannot afford to compute them.
//!
//! Given is what the maker of a step says that all its tensors are ([`Trace`]). Each is checked against those that it is made of, as they were said, so
//! a wrong one is found where it is and nothing that follows from it is held against it. Three checks:
//!
//! - **Freivalds** (R. Freivalds, *Probabilistic machines can use less running time*, 1977) for products: `C x` against `start x + A (B x)` for
//!   vectors `x` of signs, in f64. That takes rows times columns and not rows times columns times terms. Sums in f32 are rounded, so a row is
//!   suspicious only where the two are further apart than rounding can explain ([`Rounding`]); a suspicious row is computed again.
//! - **Spot checks**: elements drawn at random are computed again.
//! - **In whole**, every element, where that costs less, or where it is asked for and the operator is no product.
//!
//! Whatever is called wrong was computed again and is not equal: an honest step is never accused, whatever the seed and whatever its numbers are.
//! What a wrong element was found by, a dispute ends with ([`crate::Game`]).
//!
//! # Soundness
//!
//! The seed must be drawn when nothing of the tensors can be changed any more: [`Seed`]. Then, over seeds, for a tensor that is not what its operator says:
//!
//! - Of a product, with r rounds: if an element of some row is further from its true value than the row's limit, at most 2^-r of the seeds miss it.
//!   (Let `D` be how far the row is from the exact sums, and all signs but that of its largest element `d` be given. The two signs of `d` give two
//!   residuals that are `2 |d|` apart, so one of them is `|d|` or more.) One wrong element alone is found by every seed but 3 in 10^8 once it is
//!   wrong by two limits.
//! - Of any tensor, with k spots: if a part f of its elements is wrong, by however little, `(1 - f)^k` of the seeds miss it.
//! - What was compared in whole is right.
//!
//! So what can stay is, of a product, errors below the limit ([`Check::limit`]) in few elements; of another operator, when it is not compared in whole, few elements.
//! [`Check::missed`] says it in numbers.
//!
//! # What is not here
//!
//! That the state before the step is the agreed one, and that the tensors are those the maker stands by, is shown by digests: [`Trace::groups`], which
//! whoever reads tensors off a wire computes. Muon has no operators here, as in a dispute.

mod freivalds;
mod report;
mod rounding;
mod seed;
mod spot;

use rayon::prelude::*;

use crate::operator::{Operator, Unread};
use crate::trace::{Blobs, Trace};

pub use report::{Check, Limit, Report, Summary, Wrong};
pub use rounding::Rounding;
pub use seed::Seed;

use freivalds::Freivalds;
use spot::Spots;

/// Most rounds.
pub const ROUNDS_MAX: u32 = 64;
/// Most spots of a tensor.
pub const SPOTS_MAX: u32 = 1 << 20;
/// Suspicious rows of a tensor that are computed again.
const ROWS_MAX: usize = 16;

/// How much is spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Vectors that every product is multiplied with, 1 to [`ROUNDS_MAX`]. Eight cost as much as one.
    pub rounds: u32,
    /// Elements of every tensor that are drawn and computed again, at most [`SPOTS_MAX`].
    pub spots: u32,
    /// Whether every operator that is no product is computed again in whole.
    pub whole: bool,
}

impl Default for Budget {
    fn default() -> Self {
        Self { rounds: 8, spots: 16, whole: false }
    }
}

/// Why tensors cannot be checked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValidateError {
    /// There are too few or too many, or one has another length than its shape says.
    #[error("the tensors are not those of the step: {0}")]
    Shape(String),
    /// A blob that the step begins with is not there.
    #[error("a word of the data, the checkpoint or the replica's state is not there")]
    Blob,
    /// A number of the budget makes no sense.
    #[error("{0} cannot be {1}")]
    Budget(&'static str, u32),
}

/// Checks every tensor of a step. `blobs` are those that the step begins with.
///
/// # Errors
/// Tensors that do not fit their program, data that is not there, a budget out of bounds. A wrong tensor is no error: the report says it.
pub fn validate(
    claimed: &Trace,
    blobs: &Blobs,
    seed: &Seed,
    budget: Budget,
) -> Result<Report, ValidateError> {
    budget.check()?;
    fits(claimed)?;
    let tensors: Vec<usize> = (0..claimed.tensors.len())
        .filter(|&at| claimed.program.tensors[at].operator != Operator::Before)
        .collect();
    let check = |&at: &usize| check(claimed, at, blobs, seed, budget);
    let checks: Result<Vec<Check>, Unread> = tensors.par_iter().map(check).collect();
    Ok(Report { checks: checks.map_err(|Unread| ValidateError::Blob)? })
}

impl Budget {
    fn check(self) -> Result<(), ValidateError> {
        if !(1..=ROUNDS_MAX).contains(&self.rounds) {
            return Err(ValidateError::Budget("the number of rounds", self.rounds));
        }
        if self.spots > SPOTS_MAX {
            return Err(ValidateError::Budget("the number of spots", self.spots));
        }
        Ok(())
    }
}

fn fits(claimed: &Trace) -> Result<(), ValidateError> {
    let (program, tensors) = (&claimed.program.tensors, &claimed.tensors);
    if program.len() != tensors.len() {
        return Err(ValidateError::Shape(format!("{} instead of {}", tensors.len(), program.len())));
    }
    match program.iter().zip(tensors).find(|(tensor, values)| tensor.len() != values.len()) {
        None => Ok(()),
        Some((tensor, values)) => {
            let (name, length) = (&tensor.name, tensor.len());
            Err(ValidateError::Shape(format!("{name} has {} elements, not {length}", values.len())))
        }
    }
}

/// One tensor.
fn check(claimed: &Trace, at: usize, blobs: &Blobs, seed: &Seed, budget: Budget) -> Result<Check, Unread> {
    let tensor = &claimed.program.tensors[at];
    let inputs: Vec<&[f32]> = tensor.inputs.iter().map(|&input| &claimed.tensors[input][..]).collect();
    let spots = Spots { claimed, tensor: at, blobs };
    let Some((profile, panels)) = tensor.operator.panels(&inputs) else {
        let again = report::terms_of_all(&tensor.operator, tensor.len());
        let mut check = Check::new(at, again);
        if budget.whole || tensor.len() <= budget.spots as usize {
            spots.whole(&inputs, &mut check)?;
        } else {
            spots.drawn(seed, budget.spots, &mut check)?;
        }
        return Ok(check);
    };
    let freivalds = Freivalds {
        profile,
        panels,
        claimed: &claimed.tensors[at],
        start: tensor.operator.lands_on().map(|input| inputs[input]),
        rounds: budget.rounds,
    };
    let mut check = Check::new(at, freivalds.terms_of_all());
    if freivalds.cost() >= check.again {
        spots.whole(&inputs, &mut check)?;
        return Ok(check);
    }
    check.wrong = freivalds.masked().map(|element| Wrong {
        element,
        claimed: claimed.tensors[at][element].to_bits(),
        computed: 0,
    });
    let suspicious = freivalds.test(seed.key(at, seed::SIGNS), &mut check);
    for row in suspicious {
        if check.wrong.is_none() && check.rows_again < ROWS_MAX as u64 {
            check.rows_again += 1;
            spots.elements(row, &mut check)?;
        }
    }
    spots.drawn(seed, budget.spots, &mut check)?;
    Ok(check)
}
