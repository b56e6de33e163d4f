//! What a tensor's elements are made of: chains of segments, each a small pure function of a few words and of the value before.
//!
//! An element is a fold over terms (products of a matrix product, elements of a row, tokens of a sum), cut into segments of [`SEGMENT`]
//! terms. Between segments stands a *state* of at most [`STATE_WORDS_MAX`] words; the last segment gives the element. An operator without terms is
//! one segment. The same code computes whole tensors for a party and one segment for the referee: it reads through [`Read`], and
//! what that is backed by is the only difference. `SPEC.md` of the kernels is what it follows.

mod clip;
mod fold;
mod panel;
mod point;
mod product;
mod queries;
mod row;
mod scatter;
mod token_sum;

use rayon::prelude::*;
use zoo_kernels::Profile;
use zoo_training::Order;

pub use clip::Clip;
pub use panel::Panel;
pub use point::{AdamWStep, Part, Point, Rotate};
pub use product::{Product, Terms, Walk};
pub use queries::OverQueries;
pub use row::{Fold, Row};
pub use scatter::Scatter;
pub use token_sum::{Sum, TokenSum};

use crate::tree::word;

/// Terms of one segment.
pub const SEGMENT: usize = 64;
/// Most words of a state between two segments.
pub const STATE_WORDS_MAX: usize = 16;
/// Queries, and tokens of other sums, in one chain.
pub(crate) const BLOCK: usize = 64;

/// A word that was to be read is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unread;

/// Where an operator reads.
pub trait Read {
    /// Word `index` of the operator's input number `input`.
    fn word(&mut self, input: usize, index: usize) -> Result<u32, Unread>;

    /// The token at a position of the data.
    fn token(&mut self, position: u64) -> Result<u32, Unread>;

    /// As [`Read::word`], as a value.
    fn value(&mut self, input: usize, index: usize) -> Result<f32, Unread> {
        self.word(input, index).map(f32::from_bits)
    }
}

/// How one tensor follows from others.
#[derive(Clone, Debug, PartialEq)]
pub enum Operator {
    /// It is part of the state before the step.
    Before,
    /// Token ids of the batch.
    Tokens(Tokens),
    /// A matrix product.
    Product(Product),
    /// The gradient of keys or values: a sum over queries.
    OverQueries(OverQueries),
    /// One number of every row.
    Row(Row),
    /// A sum over all tokens.
    TokenSum(TokenSum),
    /// The gradient of a table's rows.
    Scatter(Scatter),
    /// The factor that clips the gradient.
    Clip(Clip),
    /// An element from a few others.
    Point(Point),
}

/// The ids of a batch: which token of the data every one is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tokens {
    /// Where sequences begin.
    pub order: Order,
    /// The batch's first sequence.
    pub first_sequence: u64,
    /// Tokens of a sequence.
    pub context: usize,
    /// 0 for inputs, 1 for targets.
    pub shift: u64,
}

impl Tokens {
    fn position(&self, element: usize) -> u64 {
        let (sequence, at) = (element / self.context, element % self.context);
        self.order.start(self.first_sequence + sequence as u64) + at as u64 + self.shift
    }
}

impl Operator {
    /// Its name, for people.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Before => "state before the step",
            Self::Tokens(_) => "tokens of the batch",
            Self::Product(_) => "matrix product",
            Self::OverQueries(_) => "sum over queries",
            Self::Row(row) => row.fold.name(),
            Self::TokenSum(_) => "sum over tokens",
            Self::Scatter(_) => "gradient of a table",
            Self::Clip(_) => "clipping factor",
            Self::Point(point) => point.name(),
        }
    }

    /// Terms of an element; an operator that folds nothing has none.
    pub fn terms(&self, element: usize) -> usize {
        match self {
            Self::Before | Self::Tokens(_) | Self::Point(_) => 0,
            Self::Product(product) => product.terms(element),
            Self::OverQueries(sum) => sum.terms(element),
            Self::Row(row) => row.terms(element),
            Self::TokenSum(sum) => sum.terms(),
            Self::Scatter(scatter) => scatter.terms(),
            Self::Clip(clip) => clip.terms(),
        }
    }

    /// Segments of an element's chain, at least one.
    pub fn segments(&self, element: usize) -> usize {
        match self {
            // Each of its blocks is a segment, also a short one.
            Self::OverQueries(sum) => sum.segments(element),
            _ => self.terms(element).div_ceil(SEGMENT).max(1),
        }
    }

    /// The input that a product lands on.
    pub fn lands_on(&self) -> Option<usize> {
        matches!(self, Self::Product(Product { onto: true, .. })).then_some(2)
    }

    /// The output of a product in parts, of its inputs; nothing for what is no product.
    pub fn panels<'a>(&self, inputs: &[&'a [f32]]) -> Option<(Profile, Vec<Panel<'a>>)> {
        match self {
            Self::Product(product) => Some((product.profile, product.panels(inputs))),
            Self::OverQueries(sum) => Some((sum.profile, sum.panels(inputs))),
            _ => None,
        }
    }

    /// Words of the state between two segments.
    pub fn state_words(&self) -> usize {
        match self {
            Self::Before | Self::Tokens(_) | Self::Point(_) => 0,
            Self::Scatter(_) | Self::OverQueries(_) => 1,
            Self::Product(_) | Self::TokenSum(_) => 2,
            Self::Clip(_) => clip::STATE_WORDS,
            Self::Row(_) => fold::LANES,
        }
    }

    /// One segment of an element's chain: from the state before it (nothing, for the first) to the state after it; the last gives the
    /// element, one word.
    ///
    /// # Errors
    /// A word that it takes cannot be read.
    pub fn segment(
        &self,
        element: usize,
        segment: usize,
        before: &[u32],
        read: &mut impl Read,
    ) -> Result<Vec<u32>, Unread> {
        let value = |value| Ok(vec![word(value)]);
        match self {
            Self::Before => Err(Unread),
            Self::Tokens(tokens) => Ok(vec![read.token(tokens.position(element))?]),
            Self::Point(point) => value(point.at(element, read)?),
            Self::Product(product) => product.segment(element, segment, before, read),
            Self::OverQueries(sum) => sum.segment(element, segment, before, read),
            Self::Row(row) => row.segment(element, segment, before, read),
            Self::TokenSum(sum) => sum.segment(element, segment, before, read),
            Self::Scatter(scatter) => scatter.segment(element, segment, before, read),
            Self::Clip(clip) => clip.segment(segment, before, read),
        }
    }

    /// All `length` elements of the tensor, from its inputs. Tokens and the state before the step are no function of other tensors:
    /// they come out empty.
    pub fn compute(&self, inputs: &[&[f32]], length: usize) -> Vec<f32> {
        match self {
            Self::Before | Self::Tokens(_) => Vec::new(),
            Self::Product(product) => product.compute(inputs, length),
            Self::OverQueries(sum) => sum.compute(inputs, length),
            Self::Scatter(scatter) => scatter.compute(inputs, length),
            Self::Point(Point::AdamW(adamw)) => adamw.compute(inputs),
            Self::Point(Point::Rotate(rotate)) => rotate.compute(inputs),
            Self::Point(Point::SwigluGradient { hidden }) => point::swiglu_gradient(*hidden, inputs),
            Self::Row(row) => each(length, inputs, |element, read| row.whole(element, read)),
            Self::TokenSum(sum) => each(length, inputs, |element, read| sum.whole(element, read)),
            Self::Point(point) => each(length, inputs, |element, read| point.at(element, read)),
            Self::Clip(_) => each(length, inputs, |element, read| {
                let mut state = Vec::new();
                for segment in 0..self.segments(element) {
                    state = self.segment(element, segment, &state, read)?;
                }
                Ok(f32::from_bits(state[0]))
            }),
        }
    }
}

/// Whole tensors, as a party has them.
struct Slices<'a>(&'a [&'a [f32]]);

impl Read for Slices<'_> {
    #[inline(always)]
    fn word(&mut self, input: usize, index: usize) -> Result<u32, Unread> {
        Ok(self.0[input][index].to_bits())
    }

    fn token(&mut self, _: u64) -> Result<u32, Unread> {
        Err(Unread)
    }
}

fn each(
    length: usize,
    inputs: &[&[f32]],
    element: impl Fn(usize, &mut Slices) -> Result<f32, Unread> + Sync,
) -> Vec<f32> {
    let value = |at| element(at, &mut Slices(inputs)).expect("a party has its tensors whole");
    (0..length).into_par_iter().with_min_len(256).map(value).collect()
}
