//! Which texts are continued in a pass, and by how much.
//!
//! * Every text that is being written goes on by one token in every pass; what is left of a pass's room is filled
//!   with pieces of prompts, oldest first. So a long prompt delays nobody by more than one piece.
//! * When pages run out, the youngest text gives back its own and waits at the head of the queue. What it computes
//!   again has the same bits, so nobody notices but by the time. The oldest always goes on: a request is admitted
//!   only if the cache could hold it alone.
//! * Several passes may be under way, each with other texts: while the last stage of a network has one, the first has the next.
//! * Whoever computes may lose what is in the pages. That is as if every text had made room.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::mpsc::Receiver;
use tokio::sync::mpsc::error::TryRecvError;
use zoo_model::{DecodePass, PageTable, PassOutcome, PassPart, Passes, TokenReport};

use super::text::{Text, UnderWay};
use super::{Counters, Finish, Job};
use crate::limits::QUEUE_MAX;
use crate::served::Served;

/// Tokens of a pass, about: enough that weights are read once for many of them, few enough that a pass of a large
/// model takes a fraction of a second.
const PASS_TOKENS: usize = 256;
/// So many texts are never spread over several passes: weights are read once in each, and that is what a pass of few rows costs.
const TOGETHER: usize = 16;

const NOT_REPORTED: &str = "whoever computed this text reported something else\nhint: ask again; an answer is checked with zoo serve check";
const NOT_FINITE: &str = "what the model makes of this text is not finite\nhint: its parameters are damaged, or too large for its profile";

pub(super) struct Schedule {
    passes: Box<dyn Passes>,
    served: Arc<Served>,
    table: PageTable,
    batch_max: usize,
    counters: Arc<Counters>,
    incoming: Receiver<Job>,
    /// Oldest first.
    waiting: VecDeque<Text>,
    /// Oldest first.
    running: Vec<Text>,
    /// The numbers of the texts of each pass that is under way, oldest first.
    under_way: VecDeque<Vec<u64>>,
    /// Texts so far.
    texts: u64,
}

/// What one text does in a pass.
#[derive(Clone, Copy)]
struct Part {
    /// Its place among the running texts.
    text: usize,
    /// Tokens that it adds.
    count: usize,
}

impl Schedule {
    pub fn new(
        passes: Box<dyn Passes>,
        served: Arc<Served>,
        table: PageTable,
        batch_max: usize,
        counters: Arc<Counters>,
        incoming: Receiver<Job>,
    ) -> Self {
        let (waiting, running, under_way) = (VecDeque::new(), Vec::new(), VecDeque::new());
        Self { passes, served, table, batch_max, counters, incoming, waiting, running, under_way, texts: 0 }
    }

    /// Works until nobody can ask for anything any more.
    pub fn run(mut self) {
        loop {
            let is_open = self.take_in();
            self.drop_abandoned();
            self.admit();
            self.publish();
            while self.under_way.len() < self.passes.under_way_max() {
                let parts = self.plan();
                if parts.is_empty() {
                    break;
                }
                self.send_off(&parts);
            }
            if !self.under_way.is_empty() {
                self.arrive();
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
                Some(job) => self.enqueue(job),
                None => return false,
            }
        }
        while self.waiting.len() < QUEUE_MAX {
            match self.incoming.try_recv() {
                Ok(job) => self.enqueue(job),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => {
                    is_open = false;
                    break;
                }
            }
        }
        is_open
    }

    fn enqueue(&mut self, job: Job) {
        self.texts += 1;
        self.waiting.push_back(Text::new(self.texts, job));
    }

    /// Ends the texts whose clients went away.
    fn drop_abandoned(&mut self) {
        let before = self.waiting.len() + self.running.len();
        self.waiting.retain(|text| !text.is_abandoned());
        // Pages that a pass writes are nobody else's until it has.
        let gone = self.running.extract_if(.., |text| text.under_way.is_none() && text.is_abandoned());
        for mut text in gone.collect::<Vec<_>>() {
            self.table.release(&mut text.sequence);
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
            let cached = text.open(&mut self.table);
            if text.pages_missing() > self.table.available() {
                self.table.release(&mut text.sequence);
                self.waiting.push_front(text);
                return;
            }
            self.counters.cached_tokens.add(cached);
            self.running.push(text);
        }
    }

    /// Decides what each text does that is in no pass, and makes room for it; nothing, when there is nothing to do before a pass has arrived.
    fn plan(&mut self) -> Vec<Part> {
        let together = self.running.len().div_ceil(self.passes.under_way_max()).max(TOGETHER);
        loop {
            let is_idle = |at: &usize| self.running[*at].under_way.is_none();
            let idle: Vec<usize> = (0..self.running.len()).filter(is_idle).collect();
            let Some(&youngest) = idle.last() else { return Vec::new() };
            let chosen = &idle[..idle.len().min(together)];
            let mut room = PASS_TOKENS.saturating_sub(chosen.len());
            let mut parts = Vec::with_capacity(chosen.len());
            for &at in chosen {
                let text = &self.running[at];
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
                let (text, pending) = (chosen[0], self.running[chosen[0]].pending());
                parts.push(Part { text, count: pending.min(PASS_TOKENS) });
            }
            let pages: usize =
                parts.iter().map(|part| self.running[part.text].sequence.pages_for(part.count)).sum();
            if pages <= self.table.available() {
                return parts;
            }
            if idle.len() == 1 && !self.under_way.is_empty() {
                return Vec::new();
            }
            let mut youngest = self.running.remove(youngest);
            self.table.release(&mut youngest.sequence);
            self.waiting.push_front(youngest);
            self.counters.preempted.add(1);
        }
    }

    /// Hands over a pass.
    fn send_off(&mut self, parts: &[Part]) {
        self.counters.passes.add(1);
        let mut pass = DecodePass::default();
        let mut texts = Vec::with_capacity(parts.len());
        for Part { text, count } in parts {
            let text = &mut self.running[*text];
            if text.is_prefilling() {
                self.counters.prompt_tokens.add(*count);
            }
            let first = text.sequence.positions() as u32;
            self.table.grow(&mut text.sequence, *count).expect("the plan has made room");
            pass.requests.extend(text.depart(*count, pass.tokens.len()));
            pass.tokens.extend(text.next(*count));
            let pages = text.sequence.pages().to_vec();
            pass.parts.push(PassPart { rows: *count as u32, first, pages });
            texts.push(text.number());
        }
        self.under_way.push_back(texts);
        self.passes.submit(pass);
    }

    /// Waits for the oldest pass, and goes by what came of it.
    fn arrive(&mut self) {
        let mut reports = match self.passes.wait() {
            PassOutcome::Lost => return self.begin_again(),
            PassOutcome::Failed(cause) => Err(cause),
            PassOutcome::Done(reports) => Ok(reports.into_iter()),
        };
        let texts = self.under_way.pop_front().expect("a pass is under way");
        for number in texts {
            let at = self.running.iter().position(|text| text.number() == number);
            let at = at.expect("a text in a pass runs");
            let text = &mut self.running[at];
            let arrived = text.under_way.take().expect("it is in this pass");
            let outcome = match &mut reports {
                Err(cause) => Err(cause.clone()),
                Ok(reports) => {
                    sound(reports.by_ref().take(arrived.requests()), &arrived, self.served.vocab_size)
                }
            };
            let before = text.written();
            let ended = match outcome {
                Ok(reports) => {
                    text.advance(&mut self.table, arrived.count);
                    text.accept(&arrived, reports, &self.served).map(Ok)
                }
                Err(cause) => Some(Err(cause)),
            };
            if text.written() > before {
                self.counters.written_tokens.add(1);
                if before == 0 {
                    self.counters.first_token_after(text.since().elapsed());
                }
            }
            if let Some(ended) = ended {
                self.end(at, ended);
            }
        }
    }

    fn end(&mut self, at: usize, ended: Result<Finish, String>) {
        let mut text = self.running.remove(at);
        self.table.release(&mut text.sequence);
        match ended {
            Ok(finish) => {
                self.counters.finished.add(1);
                text.end(finish);
            }
            Err(cause) => {
                tracing::warn!(%cause, "a text cannot be written");
                self.counters.failed.add(1);
                text.fail(cause);
            }
        }
    }

    /// What was in the pages is lost: every text begins again, with what is written of it as its prompt.
    fn begin_again(&mut self) {
        self.counters.lost.add(1);
        self.counters.preempted.add(self.running.len());
        self.under_way.clear();
        while let Some(mut text) = self.running.pop() {
            text.under_way = None;
            self.table.release(&mut text.sequence);
            self.waiting.push_front(text);
        }
        self.table.forget();
    }

    fn publish(&self) {
        self.counters.running.set(self.running.len());
        self.counters.waiting.set(self.waiting.len() + self.incoming.len());
        self.counters.pages_used.set(self.table.pages() - self.table.available());
        self.counters.pages_cached.set(self.table.reusable());
    }
}

/// The reports of a part, if there is one for each of its requests: whoever computes may be another machine.
fn sound(
    reports: impl Iterator<Item = Option<TokenReport>>,
    arrived: &UnderWay,
    vocab_size: usize,
) -> Result<Vec<TokenReport>, String> {
    let reports: Vec<TokenReport> = reports.collect::<Option<_>>().ok_or(NOT_FINITE)?;
    let is_token = |report: &TokenReport| (report.token as usize) < vocab_size;
    if reports.len() == arrived.requests() && reports.iter().all(is_token) {
        Ok(reports)
    } else {
        Err(NOT_REPORTED.to_owned())
    }
}
