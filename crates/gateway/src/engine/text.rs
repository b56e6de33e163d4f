//! One text that is being written.

use std::time::Instant;

use tokio::sync::mpsc::UnboundedSender;
use zoo_model::{Likelihood, NetworkError, PagePool, Positions, Sequence, StoppedText};

use super::{Event, Finish, Job, TokenReport, Work};
use crate::served::Served;

/// A text, from the queue to its end. It can lose its pages at any time and go on from its tokens.
pub(super) struct Text {
    work: Work,
    events: UnboundedSender<Event>,
    /// The prompt, and what has been written.
    tokens: Vec<u32>,
    pub sequence: Sequence,
    /// Tokens of the prompt whose likelihood has been reported.
    reported: usize,
    shown: StoppedText,
    since: Instant,
}

/// What is to be done with one row of logits.
pub(super) enum Row {
    /// Report the token of the prompt that follows.
    Report(u32),
    /// Choose the token that follows.
    Choose,
    /// It was reported already.
    Skip,
}

/// What came out of one row of logits.
pub(super) struct Outcome {
    report: TokenReport,
    chosen: bool,
}

impl Text {
    pub fn new(Job { work, events }: Job) -> Self {
        let (tokens, shown) = (work.prompt.clone(), StoppedText::new(work.stops.clone()));
        let since = Instant::now();
        Self { work, events, tokens, sequence: Sequence::default(), reported: 0, shown, since }
    }

    /// Nobody waits for it.
    pub fn is_abandoned(&self) -> bool {
        self.events.is_closed()
    }

    /// Since when it has been there.
    pub fn since(&self) -> Instant {
        self.since
    }

    /// Whether there is nothing to compute.
    pub fn is_trivial(&self) -> bool {
        self.work.tokens_max == 0 && !self.reports_prompt()
    }

    /// Takes what the pool remembers of its tokens; returns how many those are.
    pub fn open(&mut self, pool: &mut PagePool) -> usize {
        // The likelihoods of a prompt need all of its logits, and those are not remembered.
        if !self.reports_prompt() {
            self.sequence = pool.open(&self.tokens);
        }
        self.sequence.positions()
    }

    /// Pages that all of its tokens need beside those that it has.
    pub fn pages_missing(&self) -> usize {
        self.sequence.pages_for(self.pending())
    }

    /// Tokens that have no keys and values yet.
    pub fn pending(&self) -> usize {
        self.tokens.len() - self.sequence.positions()
    }

    /// Whether its prompt is not computed yet, or has to be again.
    pub fn is_prefilling(&self) -> bool {
        self.pending() > 1
    }

    /// Tokens written so far.
    pub fn written(&self) -> usize {
        self.tokens.len() - self.work.prompt.len()
    }

    /// The next `count` pending tokens as a step of a pass.
    pub fn step(&mut self, count: usize) -> (&mut Sequence, &[u32], Positions) {
        let first = self.sequence.positions();
        let positions = self.positions(count);
        (&mut self.sequence, &self.tokens[first..first + count], positions)
    }

    fn positions(&self, count: usize) -> Positions {
        let (first, length) = (self.sequence.positions(), self.work.prompt.len());
        if self.reports_prompt() && first < length && self.reported < length {
            Positions::All
        } else if count == self.pending() {
            Positions::Last
        } else {
            Positions::None
        }
    }

    /// What to do with the rows of logits that a step of `count` tokens, which begins at `first`, has given.
    pub fn rows(&self, first: usize, count: usize, positions: Positions) -> Vec<Row> {
        let end = first + count;
        let row = |position: usize| {
            if position + 1 == self.tokens.len() {
                return if self.work.tokens_max == 0 { Row::Skip } else { Row::Choose };
            }
            let is_new = position + 1 < self.work.prompt.len() && position + 1 >= self.reported.max(1);
            if is_new { Row::Report(self.tokens[position + 1]) } else { Row::Skip }
        };
        match positions {
            Positions::None => Vec::new(),
            Positions::Last => vec![row(end - 1)],
            Positions::All => (first..end).map(row).collect(),
        }
    }

    /// Works out one row. A pure function of the logits: rows of a pass are done side by side.
    pub fn outcome(&self, row: &Row, logits: &[f32]) -> Option<Outcome> {
        let (token, chosen) = match row {
            Row::Skip => return None,
            Row::Report(token) => (*token, false),
            Row::Choose => (self.work.sampler.sample(logits, self.tokens.len() as u64), true),
        };
        let mut report = TokenReport { token, log_probability: None, top: Vec::new() };
        if let Some(count) = self.work.likelihoods {
            let likelihood = Likelihood::new(logits);
            report.log_probability = Some(likelihood.log_probability(token));
            report.top = likelihood.top(count);
        }
        Some(Outcome { report, chosen })
    }

    /// Takes in the outcomes of a pass, in order; whether and why the text ends with them.
    pub fn accept(&mut self, outcomes: Vec<Outcome>, served: &Served) -> Option<Finish> {
        let mut prompt = Vec::new();
        if self.reports_prompt() && self.reported == 0 {
            prompt.push(TokenReport { token: self.tokens[0], log_probability: None, top: Vec::new() });
        }
        let mut chosen = None;
        for outcome in outcomes {
            if outcome.chosen {
                chosen = Some(outcome.report);
            } else {
                prompt.push(outcome.report);
            }
        }
        if !prompt.is_empty() {
            self.reported += prompt.len();
            self.send(Event::Prompt(prompt));
        }
        match chosen {
            Some(report) => self.write(report, served),
            None if self.work.tokens_max == 0 && self.pending() == 0 => Some(Finish::Length),
            None => None,
        }
    }

    fn write(&mut self, report: TokenReport, served: &Served) -> Option<Finish> {
        let token = report.token;
        self.tokens.push(token);
        let ends = !self.work.ignore_end && served.ends.contains(&token);
        let text = if ends { String::new() } else { self.shown.push(served.tokenizer.token_bytes(token)) };
        self.send(Event::Token { report, text });
        if ends || self.shown.is_over() {
            Some(Finish::Stop)
        } else if self.written() == self.work.tokens_max {
            Some(Finish::Length)
        } else {
            None
        }
    }

    /// Says that it is over.
    pub fn end(mut self, finish: Finish) {
        let text = std::mem::take(&mut self.shown).finish();
        self.send(Event::Done { finish, text });
    }

    /// Says that it cannot be written.
    pub fn fail(self, cause: &NetworkError) {
        self.send(Event::Failed(cause.to_string()));
    }

    fn reports_prompt(&self) -> bool {
        self.work.echo && self.work.likelihoods.is_some()
    }

    fn send(&self, event: Event) {
        // Who went away is noticed before the next pass.
        let _ = self.events.send(event);
    }
}
