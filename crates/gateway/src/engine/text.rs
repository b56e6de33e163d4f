//! One text that is being written.

use std::time::Instant;

use tokio::sync::mpsc::UnboundedSender;
use zoo_model::{PageTable, RowRequest, Sequence, StoppedText, TokenReport, Wanted};

use super::{Event, Finish, Job, Work};
use crate::served::Served;

/// A text, from the queue to its end. It can lose its pages at any time and go on from its tokens.
pub(super) struct Text {
    number: u64,
    work: Work,
    events: UnboundedSender<Event>,
    /// The prompt, and what has been written.
    tokens: Vec<u32>,
    pub sequence: Sequence,
    /// Tokens of the prompt whose likelihood has been reported.
    reported: usize,
    shown: StoppedText,
    since: Instant,
    /// The part of it that is in a pass, if any is.
    pub under_way: Option<UnderWay>,
}

/// A part of a text that a pass computes.
pub(super) struct UnderWay {
    /// Tokens.
    pub count: usize,
    /// For every request, whether it chooses a token.
    chooses: Vec<bool>,
}

impl UnderWay {
    /// How many reports it waits for.
    pub fn requests(&self) -> usize {
        self.chooses.len()
    }
}

impl Text {
    /// The text of a job; no two have one number.
    pub fn new(number: u64, Job { work, events }: Job) -> Self {
        let (tokens, shown) = (work.prompt.clone(), StoppedText::new(work.stops.clone()));
        let since = Instant::now();
        let (sequence, under_way) = (Sequence::default(), None);
        Self { number, work, events, tokens, sequence, reported: 0, shown, since, under_way }
    }

    /// Its number.
    pub fn number(&self) -> u64 {
        self.number
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

    /// Takes what the table remembers of its tokens; returns how many those are.
    pub fn open(&mut self, table: &mut PageTable) -> usize {
        // The likelihoods of a prompt need all of its logits, and those are not remembered.
        if !self.reports_prompt() {
            self.sequence = table.open(&self.tokens);
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

    /// The next `count` pending tokens.
    pub fn next(&self, count: usize) -> &[u32] {
        &self.tokens[self.sequence.positions()..][..count]
    }

    /// The next `count` pending tokens are in its pages.
    pub fn advance(&mut self, table: &mut PageTable, count: usize) {
        let first = self.sequence.positions();
        table.advance(&mut self.sequence, &self.tokens[first..first + count]);
    }

    /// Sends the next `count` pending tokens on their way: what is asked of their rows, of which `row` is the first.
    pub fn depart(&mut self, count: usize, row: usize) -> Vec<RowRequest> {
        let first = self.sequence.positions();
        let likelihoods = self.work.likelihoods.map(|count| count as u32);
        let wanted = (first..first + count).filter_map(|position| Some((position, self.wanted(position)?)));
        let request = |(position, token): (usize, Wanted)| RowRequest {
            row: (row + position - first) as u32,
            token,
            likelihoods,
        };
        let requests: Vec<RowRequest> = wanted.map(request).collect();
        let chooses = |request: &RowRequest| matches!(request.token, Wanted::Choice { .. });
        self.under_way = Some(UnderWay { count, chooses: requests.iter().map(chooses).collect() });
        requests
    }

    /// What is asked of the logits of a position.
    fn wanted(&self, position: usize) -> Option<Wanted> {
        let next = position + 1;
        if next == self.tokens.len() {
            let choice = Wanted::Choice { sampler: self.work.sampler, position: next as u64 };
            return (self.work.tokens_max > 0).then_some(choice);
        }
        let is_new = next < self.work.prompt.len() && next >= self.reported.max(1);
        (self.reports_prompt() && is_new).then(|| Wanted::Given(self.tokens[next]))
    }

    /// Takes in what a pass has reported of it, in order; whether and why the text ends with that.
    pub fn accept(
        &mut self,
        arrived: &UnderWay,
        reports: impl IntoIterator<Item = TokenReport>,
        served: &Served,
    ) -> Option<Finish> {
        let mut prompt = Vec::new();
        if self.reports_prompt() && self.reported == 0 {
            prompt.push(TokenReport { token: self.tokens[0], log_probability: None, top: Vec::new() });
        }
        let mut chosen = None;
        for (chooses, report) in arrived.chooses.iter().zip(reports) {
            if *chooses {
                chosen = Some(report);
            } else {
                prompt.push(report);
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
    pub fn fail(self, cause: String) {
        self.send(Event::Failed(cause));
    }

    fn reports_prompt(&self) -> bool {
        self.work.echo && self.work.likelihoods.is_some()
    }

    fn send(&self, event: Event) {
        // Who went away is noticed before the next pass.
        let _ = self.events.send(event);
    }
}
