//! Writes many texts at once: one thread decides which are continued in a pass, and has it computed here or elsewhere.

mod counters;
mod schedule;
mod text;

use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::mpsc;
use zoo_model::{Decoder, LocalPasses, PageTable, Passes, Sampler};

use crate::limits::{BATCH_MAX, QUEUE_MAX};
use crate::served::Served;
use schedule::Schedule;

pub use counters::Counters;
pub use zoo_model::TokenReport;

/// How much an engine takes on.
#[derive(Clone, Copy, Debug)]
pub struct EngineSettings {
    /// Threads that compute; 0: one for every core.
    pub threads: usize,
    /// Positions whose keys and values the cache holds, of all texts together.
    pub cache_positions: usize,
    /// Texts that are continued in one pass, at most.
    pub batch_max: usize,
}

/// One text to write.
#[derive(Clone, Debug, PartialEq)]
pub struct Work {
    /// What it starts with; at least one token.
    pub prompt: Vec<u32>,
    /// Tokens to write at most.
    pub tokens_max: usize,
    /// How each is chosen.
    pub sampler: Sampler,
    /// The text ends before the first of these.
    pub stops: Vec<String>,
    /// Go on where the model would end.
    pub ignore_end: bool,
    /// Say how likely each token was, and so many of the likeliest in its place.
    pub likelihoods: Option<usize>,
    /// Say it of the tokens of the prompt too.
    pub echo: bool,
}

/// What happens to a text, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Tokens of the prompt, if [`Work::echo`] asked for their likelihoods.
    Prompt(Vec<TokenReport>),
    /// A new token, and the text that is certain now.
    Token {
        /// The token.
        report: TokenReport,
        /// Perhaps nothing: part of a character, or what may become a stop sequence.
        text: String,
    },
    /// The last event.
    Done {
        /// Why.
        finish: Finish,
        /// What was held back.
        text: String,
    },
    /// The last event: the text cannot be written.
    Failed(String),
}

/// Why a text ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// A stop sequence, or a token that ends texts.
    Stop,
    /// As many tokens as were asked for, or as the context holds.
    Length,
}

impl Finish {
    /// The word for it in an answer.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
        }
    }
}

/// Sizes that requests are checked against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Positions of the longest text.
    pub positions: usize,
    /// Token ids.
    pub vocab_size: usize,
}

/// Why a text is not taken on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The queue is full.
    #[error("{QUEUE_MAX} texts are waiting already\nhint: try again in a moment")]
    Busy,
    /// The engine is gone.
    #[error("the engine has stopped\nhint: restart the server; its log says why")]
    Stopped,
}

/// Why an engine does not start.
#[derive(Debug, thiserror::Error)]
pub enum CannotStart {
    /// The system gives no thread.
    #[error("cannot start the threads that compute: {0}")]
    Threads(String),
}

/// A handle to the thread that writes. When all are gone, the thread ends.
#[derive(Clone)]
pub struct Engine {
    queue: mpsc::Sender<Job>,
    counters: Arc<Counters>,
    capacity: Capacity,
}

/// A text and who waits for it.
struct Job {
    work: Work,
    events: mpsc::UnboundedSender<Event>,
}

impl Engine {
    /// Starts the thread that writes, with `decoder`.
    ///
    /// # Errors
    /// When the system gives no threads.
    pub fn start(
        decoder: Decoder,
        served: Arc<Served>,
        settings: EngineSettings,
    ) -> Result<(Self, JoinHandle<()>), CannotStart> {
        Self::over(Box::new(LocalPasses::new(decoder, settings.cache_positions)), served, settings)
    }

    /// Starts the thread that writes, wherever its passes are computed.
    ///
    /// # Errors
    /// When the system gives no threads.
    pub fn over(
        passes: Box<dyn Passes>,
        served: Arc<Served>,
        settings: EngineSettings,
    ) -> Result<(Self, JoinHandle<()>), CannotStart> {
        let refuse = |cause: String| CannotStart::Threads(cause);
        let threads = rayon::ThreadPoolBuilder::new()
            .num_threads(settings.threads)
            .thread_name(|at| format!("zoo-engine-{at}"))
            .build()
            .map_err(|error| refuse(error.to_string()))?;
        let table = PageTable::new(settings.cache_positions);
        let positions = table.positions().min(served.context);
        let capacity = Capacity { positions, vocab_size: served.vocab_size };
        let counters = Arc::new(Counters::new(table.pages()));
        let (queue, incoming) = mpsc::channel(QUEUE_MAX);
        let batch_max = settings.batch_max.clamp(1, BATCH_MAX);
        let schedule = Schedule::new(passes, served, table, batch_max, Arc::clone(&counters), incoming);
        // Within the pool, so that a pass does not begin with waking a thread.
        let run = move || threads.install(|| schedule.run());
        let thread = std::thread::Builder::new().name("zoo-engine".to_owned()).spawn(run);
        let thread = thread.map_err(|error| refuse(error.to_string()))?;
        Ok((Self { queue, counters, capacity }, thread))
    }

    /// Hands over a text. Its events arrive as they happen; dropping the receiver ends it.
    ///
    /// # Errors
    /// When too many wait, or the engine is gone.
    pub fn submit(&self, work: Work) -> Result<mpsc::UnboundedReceiver<Event>, Refused> {
        // As many events as tokens, which the context bounds.
        let (events, receiver) = mpsc::unbounded_channel();
        self.queue.try_send(Job { work, events }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Refused::Busy,
            mpsc::error::TrySendError::Closed(_) => Refused::Stopped,
        })?;
        Ok(receiver)
    }

    /// What it has done and is doing.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Sizes that requests are checked against.
    pub fn capacity(&self) -> Capacity {
        self.capacity
    }
}
