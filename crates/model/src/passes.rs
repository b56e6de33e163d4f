//! Passes of writing as plain data: what is computed at once for many sequences, here or by stages on other machines.

use std::collections::VecDeque;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use zoo_kernels::attention::{Cached, PAGE};

use crate::decode::Decoder;
use crate::decoder_stage::StageOutput;
use crate::error::NetworkError;
use crate::likelihood::Likelihood;
use crate::pages::Pages;
use crate::sampling::Sampler;

/// One pass: new tokens of several sequences, and what is asked of their logits.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecodePass {
    /// The new tokens of all sequences, one after the other; each is a row.
    pub tokens: Vec<u32>,
    /// Whose they are, in the same order.
    pub parts: Vec<PassPart>,
    /// What is asked, in ascending order of the rows.
    pub requests: Vec<RowRequest>,
}

/// A sequence's part of a pass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PassPart {
    /// New tokens.
    pub rows: u32,
    /// The position of the first of them: as many are in its pages already.
    pub first: u32,
    /// The pages of all its positions, in order.
    pub pages: Vec<u32>,
}

/// What is asked of a row of logits.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RowRequest {
    /// Which row of the pass.
    pub row: u32,
    /// Which token to report.
    pub token: Wanted,
    /// Whether to say how likely it was, and so many of the likeliest in its place.
    pub likelihoods: Option<u32>,
}

/// Which token a row is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Wanted {
    /// The one that is chosen to follow.
    Choice {
        /// How.
        sampler: Sampler,
        /// The position that it will have in its text.
        position: u64,
    },
    /// This one, which follows already.
    Given(u32),
}

/// A token, and how likely it was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenReport {
    /// The token.
    pub token: u32,
    /// The logarithm of its probability; none for the first token of a text, and where nobody asked.
    pub log_probability: Option<f32>,
    /// The most likely tokens in its place.
    pub top: Vec<(u32, f32)>,
}

/// Where passes are computed, in the order in which they are handed over.
pub trait Passes: Send {
    /// How many may be under way at once.
    fn under_way_max(&self) -> usize;

    /// Hands over a pass.
    fn submit(&mut self, pass: DecodePass);

    /// Waits for the oldest pass that was handed over and has no outcome.
    fn wait(&mut self) -> PassOutcome;
}

/// What became of a pass.
#[derive(Clone, Debug, PartialEq)]
pub enum PassOutcome {
    /// A report for every request, in order; none where logits are not finite.
    Done(Vec<Option<TokenReport>>),
    /// It could not be computed.
    Failed(String),
    /// What is in the pages is lost, and with it every pass that was under way: whoever hands over the next one begins its sequences again.
    Lost,
}

impl DecodePass {
    /// Whether it can be computed with so many pages and positions. Tokens are checked by the stage that reads them.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check(&self, pages: usize, context: usize) -> Result<(), NetworkError> {
        let wrong = |cause: &'static str| Err(NetworkError::Pass(cause));
        let mut rows = 0;
        for part in &self.parts {
            let end = part.first as usize + part.rows as usize;
            if end > context {
                return Err(NetworkError::Context { positions: end, context });
            }
            if part.rows == 0 {
                return Err(NetworkError::Empty);
            }
            if part.pages.len() != end.div_ceil(PAGE) {
                return wrong("a sequence has not the pages of its positions");
            }
            if part.pages.iter().any(|page| *page as usize >= pages) {
                return wrong("there is no such page");
            }
            rows += part.rows as usize;
        }
        if rows == 0 {
            return Err(NetworkError::Empty);
        }
        if rows != self.tokens.len() {
            return wrong("its sequences have not as many rows as there are tokens");
        }
        let is_sorted = self.requests.is_sorted_by(|one, next| one.row < next.row);
        if !is_sorted || self.requests.last().is_some_and(|last| last.row as usize >= rows) {
            return wrong("a row is asked twice, or is not there");
        }
        Ok(())
    }

    /// The position of every row.
    pub(crate) fn positions(&self) -> Vec<u32> {
        self.parts.iter().flat_map(|part| part.first..part.first + part.rows).collect()
    }

    /// As attention reads it.
    pub(crate) fn cached<'a>(&'a self) -> Vec<Cached<'a>> {
        let cached = |part: &'a PassPart| Cached {
            rows: part.rows as usize,
            positions: (part.first + part.rows) as usize,
            pages: &part.pages,
        };
        self.parts.iter().map(cached).collect()
    }
}

impl RowRequest {
    /// The answer: a pure function of the logits.
    pub(crate) fn answer(&self, logits: &[f32]) -> TokenReport {
        let token = match &self.token {
            Wanted::Choice { sampler, position } => sampler.sample(logits, *position),
            Wanted::Given(token) => *token,
        };
        let mut report = TokenReport { token, log_probability: None, top: Vec::new() };
        if let Some(count) = self.likelihoods {
            let likelihood = Likelihood::new(logits);
            report.log_probability = Some(likelihood.log_probability(token));
            report.top = likelihood.top(count as usize);
        }
        report
    }
}

/// Answers requests, side by side.
pub(crate) fn answers(
    requests: &[RowRequest],
    logits: &[f32],
    vocab_size: usize,
) -> Vec<Option<TokenReport>> {
    let answer = |(request, logits): (&RowRequest, &[f32])| {
        zoo_kernels::clip::all_finite(logits).then(|| request.answer(logits))
    };
    if requests.len() > 1 {
        requests.par_iter().zip(logits.par_chunks_exact(vocab_size)).map(answer).collect()
    } else {
        requests.iter().zip(logits.chunks_exact(vocab_size)).map(answer).collect()
    }
}

/// Passes that are computed by whoever waits for them, one at a time.
pub struct LocalPasses {
    decoder: Decoder,
    pages: Pages,
    waiting: VecDeque<DecodePass>,
}

impl LocalPasses {
    /// With room for so many positions, rounded up to whole pages.
    pub fn new(decoder: Decoder, positions: usize) -> Self {
        let pages = decoder.stage().pages(positions.div_ceil(PAGE));
        Self { decoder, pages, waiting: VecDeque::new() }
    }
}

impl Passes for LocalPasses {
    fn under_way_max(&self) -> usize {
        1
    }

    fn submit(&mut self, pass: DecodePass) {
        self.waiting.push_back(pass);
    }

    fn wait(&mut self) -> PassOutcome {
        let Some(pass) = self.waiting.pop_front() else {
            return PassOutcome::Failed("no pass was handed over".to_owned());
        };
        match self.decoder.stage().run(&mut self.pages, &pass, &[]) {
            Ok(StageOutput::Reports(reports)) => PassOutcome::Done(reports),
            Ok(StageOutput::Rows(_)) => unreachable!("a whole network has a head"),
            Err(cause) => PassOutcome::Failed(cause.to_string()),
        }
    }
}
