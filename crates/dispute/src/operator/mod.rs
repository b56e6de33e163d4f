//! What a tensor's elements are made of: chains of segments, each a small pure function of a few words and of the value before.
//!
//! An element is a fold over terms (products of a matrix product, elements of a row, tokens of a sum), cut into segments of [`SEGMENT`]
//! terms. Between segments stands a *state* of at most [`STATE_WORDS_MAX`] words; the last segment gives the element. An operator without terms is
//! one segment. The same code computes whole tensors for a party and one segment for the referee: it reads through [`Read`], and
//! what that is backed by is the only difference. `SPEC.md` of the kernels is what it follows.

mod along;
mod clip;
mod codec;
mod fold;
mod hash;
mod panel;
mod point;
mod product;
mod queries;
mod row;
mod scatter;
mod stored;
mod tally;
mod token_sum;

use std::ops::Range;

use rayon::prelude::*;
use zoo_kernels::Profile;

pub use along::Along;
pub use clip::Clip;
pub use codec::{Body, Codec};
pub use hash::{DIGEST_WORDS, FAN, Hash, Layout};
pub use panel::Panel;
pub use point::{AdamWStep, Part, Point, Rotate};
pub use product::{Product, Terms, Walk};
pub use queries::OverQueries;
pub use row::{Fold, Row};
pub use scatter::Scatter;
pub use stored::{Blob, Stored, Tokens};
pub use tally::{Tally, What};
pub use token_sum::{Sum, TokenSum};

pub(crate) use hash::{digest_of, words_of};
pub(crate) use stored::number;

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

    /// At most four bytes of a blob, as a number, lowest first.
    fn stored(&mut self, blob: &Blob, range: Range<u64>) -> Result<u32, Unread>;

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
    /// Words of a blob that both parties know by name.
    Stored(Stored),
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
    /// A parameter after a step of Muon.
    Along(Along),
    /// A sum whose result is longer than a word.
    Tally(Tally),
    /// A part of an update.
    Codec(Codec),
    /// A part of a digest.
    Hash(Hash),
}

impl Operator {
    /// Its name, for people.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Before => "state before the step",
            Self::Stored(_) => "words of a blob",
            Self::Tokens(_) => "tokens of the batch",
            Self::Product(_) => "matrix product",
            Self::OverQueries(_) => "sum over queries",
            Self::Row(row) => row.fold.name(),
            Self::TokenSum(_) => "sum over tokens",
            Self::Scatter(_) => "gradient of a table",
            Self::Clip(_) => "clipping factor",
            Self::Point(point) => point.name(),
            Self::Along(_) => "Muon",
            Self::Tally(tally) => tally.name(),
            Self::Codec(codec) => codec.name(),
            Self::Hash(_) => "digest",
        }
    }

    /// Whether its elements are numbers: a NaN among them has one form, since its bits are not specified. All others are words.
    pub fn is_number(&self) -> bool {
        match self {
            Self::Before | Self::Stored(_) | Self::Tokens(_) => false,
            Self::Tally(_) | Self::Codec(_) | Self::Hash(_) => false,
            Self::Product(_) | Self::OverQueries(_) | Self::Row(_) | Self::TokenSum(_) => true,
            Self::Scatter(_) | Self::Clip(_) | Self::Point(_) | Self::Along(_) => true,
        }
    }

    /// Terms of an element; an operator that folds nothing has none.
    pub fn terms(&self, element: usize) -> usize {
        match self {
            Self::Before | Self::Stored(_) | Self::Tokens(_) => 0,
            Self::Point(_) | Self::Along(_) | Self::Hash(_) => 0,
            Self::Product(product) => product.terms(element),
            Self::OverQueries(sum) => sum.terms(element),
            Self::Row(row) => row.terms(element),
            Self::TokenSum(sum) => sum.terms(),
            Self::Scatter(scatter) => scatter.terms(),
            Self::Clip(clip) => clip.terms(),
            Self::Tally(tally) => tally.terms(),
            Self::Codec(codec) => codec.terms(element),
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
            Self::Before | Self::Stored(_) | Self::Tokens(_) => 0,
            Self::Point(_) | Self::Along(_) | Self::Hash(_) => 0,
            Self::Scatter(_) | Self::OverQueries(_) | Self::Codec(_) => 1,
            Self::Product(_) | Self::TokenSum(_) => 2,
            Self::Clip(_) => clip::STATE_WORDS,
            Self::Tally(_) => tally::STATE_WORDS,
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
            Self::Stored(stored) => Ok(vec![read.stored(&stored.blob, stored.range(element))?]),
            Self::Tokens(tokens) => Ok(vec![read.stored(&tokens.blob, tokens.range(element))?]),
            Self::Point(point) => value(point.at(element, read)?),
            Self::Product(product) => product.segment(element, segment, before, read),
            Self::OverQueries(sum) => sum.segment(element, segment, before, read),
            Self::Row(row) => row.segment(element, segment, before, read),
            Self::TokenSum(sum) => sum.segment(element, segment, before, read),
            Self::Scatter(scatter) => scatter.segment(element, segment, before, read),
            Self::Clip(clip) => clip.segment(segment, before, read),
            Self::Along(along) => value(along.at(element, read)?),
            Self::Tally(tally) => tally.segment(element, segment, before, read),
            Self::Codec(codec) => codec.segment(element, segment, before, read),
            Self::Hash(hash) => Ok(vec![hash.node(element / DIGEST_WORDS, read)?[element % DIGEST_WORDS]]),
        }
    }

    /// All `length` elements of the tensor, from its inputs. What is stored and the state before the step are no function of other tensors:
    /// they come out empty.
    pub fn compute(&self, inputs: &[&[f32]], length: usize) -> Vec<f32> {
        match self {
            Self::Before | Self::Stored(_) | Self::Tokens(_) => Vec::new(),
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
            Self::Along(along) => each(length, inputs, |element, read| along.at(element, read)),
            Self::Tally(tally) => {
                each(length, inputs, |element, read| tally.whole(element, read).map(f32::from_bits))
            }
            Self::Codec(codec) => match codec.compute(length, &mut Slices(inputs)) {
                Some(words) => {
                    let words = words.expect("a party has its tensors whole");
                    words.into_iter().map(f32::from_bits).collect()
                }
                None => each(length, inputs, |element, read| codec.at(element, read).map(f32::from_bits)),
            },
            Self::Hash(hash) => {
                let node =
                    |node| hash.node(node, &mut Slices(inputs)).expect("a party has its tensors whole");
                let nodes = (0..hash.nodes()).into_par_iter().map(node);
                nodes.flat_map_iter(|words| words.map(f32::from_bits)).collect()
            }
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

    fn stored(&mut self, _: &Blob, _: Range<u64>) -> Result<u32, Unread> {
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
