//! Which texts are continued in a pass, and by how much.
//!
//! * Every text that is being written goes on by one token in every pass; what is left of a pass's room is filled
//!   with pieces of prompts, oldest first. So a long prompt delays nobody by more than one piece.
//! * When pages run out, the youngest text gives back its own and waits at the head of the queue. What it computes
//!   again has the same bits, so nobody notices but by the time. The oldest always goes on: a request is admitted
//!   only if the cache could hold it alone.

use std::collections::VecDeque;
use std::sync::Arc;

use rayon::prelude::*;
use tokio::sync::mpsc::Receiver;
use tokio::sync::mpsc::error::TryRecvError;
use zoo_model::{Decoder, NetworkError, PagePool, Positions, Step};

use super::text::{Outcome, Row, Text};
use super::{Counters, Finish, Job};
use crate::limits::QUEUE_MAX;
use crate::served::Served;

/// Tokens of a pass, about: enough that weights are read once for many of them, few enough that a pass of a large
/// model takes a fraction of a second.
const PASS_TOKENS: usize = 256;

pub(super) struct Schedule {
    decoder: Decoder,
    served: Arc<Served>,
    pool: PagePool,
    batch_max: usize,
    counters: Arc<Counters>,
    incoming: Receiver<Job>,
    /// Oldest first.
    waiting: VecDeque<Text>,
    /// Oldest first.
    running: Vec<Text>,
}

/// What one text does in a pass.
#[derive(Clone, Copy)]
struct Part {
    /// Its place among the running texts.
    text: usize,
    /// Tokens that it adds.
    count: usize,
}

/// What a part of a pass is to be looked at for.
struct Wanted {
    text: usize,
    /// Its first row of logits.
    first_row: usize,
    rows: Vec<Row>,
}

/// What became of a part: its outcomes, or why it cannot go on.
type Became = (usize, Result<Vec<Outcome>, NetworkError>);

impl Schedule {
    pub fn new(
        decoder: Decoder,
        served: Arc<Served>,
        pool: PagePool,
        batch_max: usize,
        counters: Arc<Counters>,
        incoming: Receiver<Job>,
    ) -> Self {
        let (waiting, running) = (VecDeque::new(), Vec::new());
        Self { decoder, served, pool, batch_max, counters, incoming, waiting, running }
    }

    /// Works until nobody can ask for anything any more.
    pub fn run(mut self) {
        loop {
            let is_open = self.take_in();
            self.drop_abandoned();
            self.admit();
            self.publish();
            if !self.running.is_empty() {
                self.pass();
            } else if !is_open && self.waiting.is_empty() {
                return;
            }
        }
    }

    /// Takes what has come; waits for it where there is nothing else to do. False when nothing will come any more.
    fn take_in(&mut self) -> bool {
        let mut is_open = true;
        if self.running.is_empty() && self.waiting.is_empty() {
            self.publish();
            match self.incoming.blocking_recv() {
                Some(job) => self.waiting.push_back(Text::new(job)),
                None => return false,
            }
        }
        while self.waiting.len() < QUEUE_MAX {
            match self.incoming.try_recv() {
                Ok(job) => self.waiting.push_back(Text::new(job)),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => {
                    is_open = false;
                    break;
                }
            }
        }
        is_open
    }

    /// Ends the texts whose clients went away.
    fn drop_abandoned(&mut self) {
        let before = self.waiting.len() + self.running.len();
        self.waiting.retain(|text| !text.is_abandoned());
        let gone = self.running.extract_if(.., |text| text.is_abandoned());
        for mut text in gone.collect::<Vec<_>>() {
            self.pool.release(&mut text.sequence);
        }
        self.counters.cancelled.add(before - self.waiting.len() - self.running.len());
    }

    /// Lets waiting texts begin while there is room for all of their tokens.
    fn admit(&mut self) {
        while self.running.len() < self.batch_max
            && let Some(mut text) = self.waiting.pop_front()
        {
            if text.is_trivial() {
                self.counters.finished.add(1);
                text.end(Finish::Length);
                continue;
            }
            let cached = text.open(&mut self.pool);
            if text.pages_missing() > self.pool.available() {
                self.pool.release(&mut text.sequence);
                self.waiting.push_front(text);
                return;
            }
            self.counters.cached_tokens.add(cached);
            self.running.push(text);
        }
    }

    /// Continues texts by one pass through the network.
    fn pass(&mut self) {
        let parts = self.plan();
        self.counters.passes.add(1);
        let mut steps = Vec::with_capacity(parts.len());
        let mut planned = Vec::with_capacity(parts.len());
        let mut left = self.running.iter_mut().enumerate();
        for part in &parts {
            let (_, text) = left.find(|(at, _)| *at == part.text).expect("parts are in order");
            if text.is_prefilling() {
                self.counters.prompt_tokens.add(part.count);
            }
            let first = text.sequence.positions();
            let (sequence, tokens, positions) = text.step(part.count);
            planned.push((*part, first, positions));
            steps.push(Step { sequence, tokens, positions });
        }
        let outcome = self.decoder.decode(&mut self.pool, &mut steps);
        drop(steps);
        let became: Vec<Became> = match outcome {
            Ok(logits) => {
                let wanted = wanted(&self.running, &planned);
                let work = |wanted: &Wanted| {
                    let text = &self.running[wanted.text];
                    let rows = wanted.rows.iter().zip(wanted.first_row..);
                    let outcomes = rows.map(|(row, at)| Ok(text.outcome(row, logits.row(at)?)));
                    (wanted.text, outcomes.filter_map(Result::transpose).collect())
                };
                if wanted.len() > 1 {
                    wanted.par_iter().map(work).collect()
                } else {
                    wanted.iter().map(work).collect()
                }
            }
            // No part of a pass can be made when one cannot; requests were checked so that this does not happen.
            Err(cause) => parts.iter().map(|part| (part.text, Err(cause.clone()))).collect(),
        };
        self.take_outcomes(became);
    }

    /// Decides what each text does, and makes room for it.
    fn plan(&mut self) -> Vec<Part> {
        loop {
            let mut room = PASS_TOKENS.saturating_sub(self.running.len());
            let mut parts = Vec::with_capacity(self.running.len());
            for (at, text) in self.running.iter().enumerate() {
                let count = if text.is_prefilling() { text.pending().min(room) } else { 1 };
                if text.is_prefilling() {
                    room -= count;
                }
                if count > 0 {
                    parts.push(Part { text: at, count });
                }
            }
            if parts.is_empty() {
                // The batch alone fills a pass: the oldest prompt goes on all the same.
                parts.push(Part { text: 0, count: self.running[0].pending().min(PASS_TOKENS) });
            }
            let pages = parts
                .iter()
                .map(|part| self.running[part.text].sequence.pages_for(part.count))
                .sum::<usize>();
            if pages <= self.pool.available() || self.running.len() == 1 {
                return parts;
            }
            let mut youngest = self.running.pop().expect("there are two or more");
            self.pool.release(&mut youngest.sequence);
            self.waiting.push_front(youngest);
            self.counters.preempted.add(1);
        }
    }

    fn take_outcomes(&mut self, became: Vec<Became>) {
        // From the last, so that places stay right when texts leave.
        for (at, outcomes) in became.into_iter().rev() {
            let text = &mut self.running[at];
            let before = text.written();
            let ended = match outcomes {
                Ok(outcomes) => text.accept(outcomes, &self.served).map(Ok),
                Err(cause) => Some(Err(cause)),
            };
            if text.written() > before {
                self.counters.written_tokens.add(1);
                if before == 0 {
                    self.counters.first_token_after(text.since().elapsed());
                }
            }
            let Some(ended) = ended else { continue };
            let mut text = self.running.remove(at);
            self.pool.release(&mut text.sequence);
            match ended {
                Ok(finish) => {
                    self.counters.finished.add(1);
                    text.end(finish);
                }
                Err(cause) => {
                    tracing::warn!(%cause, "a text cannot be written");
                    self.counters.failed.add(1);
                    text.fail(&cause);
                }
            }
        }
    }

    fn publish(&self) {
        self.counters.running.set(self.running.len());
        self.counters.waiting.set(self.waiting.len() + self.incoming.len());
        self.counters.pages_used.set(self.pool.pages() - self.pool.available());
        self.counters.pages_cached.set(self.pool.reusable());
    }
}

/// The rows of logits of each part.
fn wanted(running: &[Text], planned: &[(Part, usize, Positions)]) -> Vec<Wanted> {
    let mut first_row = 0;
    let parts = planned.iter().map(|(part, first, positions)| {
        let rows = running[part.text].rows(*first, part.count, *positions);
        let wanted = Wanted { text: part.text, first_row, rows };
        first_row += wanted.rows.len();
        wanted
    });
    parts.collect()
}
