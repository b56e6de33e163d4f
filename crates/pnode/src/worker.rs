//! The compute thread: one task at a time, on a pool of its own.

use std::any::Any;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rayon::{ThreadPool, ThreadPoolBuilder};
use zoo_admission::BenchmarkError;
use zoo_agent::{Assignment, Input, Outcome, Task};
use zoo_content::{BlobStore, Digest, VerifiedBlob};
use zoo_protocol::{Aggregate, Benchmark, Commitment, Evaluate, Sum, TrainWindow, VNodeUpdate, VerifyWindow};
use zoo_tasks::{self as task, Added, Aggregated, AtHand, TaskError};
use zoo_training::{Evaluation, StepReport};

use crate::PNodeError;
use crate::event::Snapshot;
use crate::home::{Home, HomeError};
use crate::profile::MemoryLimit;
use crate::progress::Progress;
use crate::writer::Writer;

/// Handle of the compute thread. Dropping it cancels what runs; the thread ends with the step it is in.
pub(crate) struct Worker {
    jobs: mpsc::Sender<Job>,
    cancelled: Arc<AtomicBool>,
    ended: mpsc::Receiver<()>,
}

struct Job {
    assignment: Assignment,
    task: Task,
    cancelled: Arc<AtomicBool>,
}

/// What the compute thread works with.
struct Bench {
    home: Arc<Home>,
    pool: Arc<ThreadPool>,
    memory: MemoryLimit,
    progress: Arc<Progress>,
    at_hand: AtHand,
    inputs: tokio::sync::mpsc::Sender<Input>,
    writer: Writer,
}

/// What a task came to: an outcome that may be told once the blobs that it names are in the store.
struct Done {
    outcome: Outcome,
    names: Vec<VerifiedBlob>,
    /// What only this node has to know, and needs when it starts again.
    keeps: Option<VerifiedBlob>,
}

/// Why a task gave no outcome.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Task(#[from] TaskError),
    #[error(transparent)]
    Home(#[from] HomeError),
    #[error(transparent)]
    Benchmark(#[from] BenchmarkError),
}

/// A pool of `threads` threads that belongs to the node alone.
pub(crate) fn pool(threads: usize) -> Result<Arc<ThreadPool>, PNodeError> {
    let pool =
        ThreadPoolBuilder::new().num_threads(threads).thread_name(|index| format!("zoo-compute-{index}"));
    Ok(Arc::new(pool.build().map_err(|cause| PNodeError::Compute(cause.to_string()))?))
}

impl Worker {
    /// Starts the thread. What becomes of tasks goes to `inputs`.
    pub(crate) fn start(
        home: Arc<Home>,
        pool: Arc<ThreadPool>,
        memory: MemoryLimit,
        progress: Arc<Progress>,
        inputs: tokio::sync::mpsc::Sender<Input>,
    ) -> Result<Self, PNodeError> {
        let (jobs, queue) = mpsc::channel();
        let (ending, ended) = mpsc::channel();
        let writer = Writer::start(home.store().clone(), inputs.clone())?;
        let at_hand = AtHand::default();
        let mut bench = Bench { home, pool, memory, progress, at_hand, inputs, writer };
        thread::Builder::new()
            .name("zoo-tasks".into())
            .spawn(move || {
                bench.work_off(&queue);
                bench.writer.wait();
                drop(bench); // unlocks the home before the end is announced
                let _ = ending.send(());
            })
            .map_err(|cause| PNodeError::Compute(cause.to_string()))?;
        Ok(Self { jobs, cancelled: Arc::default(), ended })
    }

    /// Runs `task` after what runs now, which should have been cancelled.
    pub(crate) fn run(&mut self, assignment: Assignment, task: Task) {
        self.cancelled = Arc::default();
        let job = Job { assignment, task, cancelled: self.cancelled.clone() };
        self.jobs.send(job).expect("the thread lives as long as its handle: it catches panics of tasks");
    }

    /// Stops the running task after its present step.
    pub(crate) fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// Cancels, and waits for the thread to end, but no longer than `patience`.
    pub(crate) fn stop(mut self, patience: Duration) {
        self.cancel();
        self.jobs = mpsc::channel().0; // closes the queue
        let _ = self.ended.recv_timeout(patience);
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.cancel();
    }
}

impl Bench {
    /// Task after task; while there is none, the next window's lead.
    fn work_off(&mut self, queue: &mpsc::Receiver<Job>) {
        loop {
            let job = if self.at_hand.lead.as_ref().is_some_and(|lead| !lead.is_done()) {
                queue.try_recv()
            } else {
                queue.recv().map_err(|_| mpsc::TryRecvError::Disconnected)
            };
            match job {
                Ok(job) => self.work(job),
                Err(mpsc::TryRecvError::Empty) => self.go_on(),
                Err(mpsc::TryRecvError::Disconnected) => return,
            }
        }
    }

    /// Takes a step of the lead. What fails here fails again in the window that it belongs to, and is told there.
    fn go_on(&mut self) {
        let Some(mut lead) = self.at_hand.lead.take() else { return };
        let pool = self.pool.clone();
        let stepped = catch_unwind(AssertUnwindSafe(|| pool.install(|| lead.step())));
        self.at_hand.lead = matches!(stepped, Ok(Ok(()))).then_some(lead);
    }

    fn work(&mut self, job: Job) {
        if job.cancelled.load(Ordering::Relaxed) {
            return;
        }
        self.progress.set(Snapshot::default());
        let pool = self.pool.clone();
        let outcome = catch_unwind(AssertUnwindSafe(|| pool.install(|| self.perform(&job))));
        self.progress.set(Snapshot::default());
        let assignment = job.assignment;
        let failed = match outcome {
            Ok(Ok(Done { outcome, names, keeps })) => {
                self.writer.tell_of(names, Input::TaskFinished { assignment, outcome });
                return keeps.into_iter().for_each(|blob| self.writer.keep(blob));
            }
            Ok(Err(Failure::Task(cause))) if cause.is_stop() => return,
            Ok(Err(Failure::Benchmark(BenchmarkError::Stopped))) => return,
            Ok(Err(cause)) => {
                if let Failure::Task(cause) = &cause {
                    self.home.remove_if_corrupt(cause);
                }
                cause.to_string()
            }
            Err(panic) => {
                self.at_hand = AtHand::default();
                format!("bug in zoo: {}", panic_message(&*panic))
            }
        };
        // Without a receiver the daemon is gone, and nobody waits for the result.
        let _ = self.inputs.blocking_send(Input::TaskFailed { assignment, reason: failed });
    }

    fn perform(&mut self, job: &Job) -> Result<Done, Failure> {
        let available_mib = self.memory.available_mib();
        match &job.task {
            Task::Train(window) => self.train(window, available_mib, &job.cancelled),
            Task::Verify(work) => self.verify(work, available_mib, &job.cancelled),
            Task::Benchmark(work) => benchmark(work, available_mib, &job.cancelled),
            Task::Aggregate(aggregate) => {
                let available_mib = self.beside_lead(&aggregate.program, available_mib)?;
                self.check_memory(&aggregate.program, available_mib)?;
                self.aggregate(aggregate)
            }
            Task::Evaluate(evaluate) => {
                let available_mib = self.beside_lead(&evaluate.program, available_mib)?;
                self.evaluate(evaluate, available_mib)
            }
            Task::Sum(sum) => {
                let available_mib = self.beside_lead(&sum.program, available_mib)?;
                self.check_memory(&sum.program, available_mib)?;
                self.sum(sum)
            }
        }
    }

    /// What memory there is beside the lead; where that is not enough, the lead goes.
    fn beside_lead(&mut self, program: &Digest, available_mib: Option<u64>) -> Result<Option<u64>, Failure> {
        let (Some(all_mib), Some(lead)) = (available_mib, &self.at_hand.lead) else {
            return Ok(available_mib);
        };
        let rest_mib = all_mib.saturating_sub(lead.memory_mib());
        if task::adding_mib(self.home.store().as_ref(), program)? <= rest_mib {
            return Ok(Some(rest_mib));
        }
        self.at_hand = AtHand::default();
        Ok(available_mib)
    }

    /// Refuses what the system would kill the process for.
    fn check_memory(&self, program: &Digest, available_mib: Option<u64>) -> Result<(), Failure> {
        let needed_mib = task::adding_mib(self.home.store().as_ref(), program)?;
        match available_mib {
            Some(available_mib) if needed_mib > available_mib => {
                Err(TaskError::Memory { needed_mib, available_mib }.into())
            }
            _ => Ok(()),
        }
    }

    fn train(
        &mut self,
        window: &TrainWindow,
        available_mib: Option<u64>,
        cancelled: &AtomicBool,
    ) -> Result<Done, Failure> {
        let (replica_in, taken) = self.replica_before(window);
        let progress = self.progress.clone();
        let mut progress = tell_progress(&progress, steps_of(window, replica_in), taken, cancelled);
        let (store, at_hand) = (self.home.store().as_ref(), &mut self.at_hand);
        let trained = task::train(store, at_hand, window, replica_in, available_mib, &mut progress)?;

        // The commitment too: whoever knows its digest can fetch it from here and check it.
        let key = self.home.key();
        let commitment = Commitment::new(window.clone(), replica_in, trained.outcome, key);
        let mut names = trained.updates;
        names.push(VerifiedBlob::new(zoo_protocol::encode(&commitment)));
        // Whoever verifies the window starts from what it started from.
        let used = names.iter().map(VerifiedBlob::digest).chain(replica_in).chain([trained.replica.digest()]);
        used.for_each(|blob| self.home.note(window.job, window.round, blob));
        self.home.tidy()?;
        Ok(Done { outcome: Outcome::Trained(commitment.into()), names, keeps: Some(trained.replica) })
    }

    /// What the replica kept before the window, if it has it still, and how many steps of its lead were taken since.
    fn replica_before(&self, window: &TrainWindow) -> (Option<Digest>, u32) {
        if let Some(lead) = self.at_hand.lead_of(window, window.kept) {
            return (window.kept, lead.steps_taken());
        }
        self.writer.wait();
        (window.kept.filter(|state| self.home.store().contains(state)), 0)
    }

    /// Trains another node's window again.
    fn verify(
        &mut self,
        work: &VerifyWindow,
        available_mib: Option<u64>,
        cancelled: &AtomicBool,
    ) -> Result<Done, Failure> {
        // Who verifies has no part in the round, and so no lead that would be asked for.
        self.at_hand.lead = None;
        let progress = self.progress.clone();
        let steps = steps_of(&work.window, work.replica_in);
        let mut progress = tell_progress(&progress, steps, 0, cancelled);
        let (store, at_hand) = (self.home.store().as_ref(), &mut self.at_hand);
        let trained =
            task::train(store, at_hand, &work.window, work.replica_in, available_mib, &mut progress);
        self.at_hand.lead = None;
        Ok(Done::saying(Outcome::Verified { outcome: trained?.outcome.digest() }))
    }

    fn aggregate(&mut self, work: &Aggregate) -> Result<Done, Failure> {
        let store = self.home.store().as_ref();
        let Aggregated { checkpoint, left_out, alike } =
            match task::aggregate(store, &mut self.at_hand, work)? {
                Added::Is(aggregated) => aggregated,
                Added::Refused(summands) => return Ok(Done::saying(Outcome::Refused { summands })),
            };
        // The round after this one starts from these blobs: they are noted as its own.
        let next = work.round.saturating_add(1);
        let manifest = VerifiedBlob::new(checkpoint.manifest().to_bytes());
        let mut names: Vec<_> = checkpoint.blobs().cloned().collect();
        let name = manifest.digest();
        names.push(manifest);
        names.iter().for_each(|blob| self.home.note(work.job, next, blob.digest()));
        self.at_hand.made(name, checkpoint);
        self.home.tidy()?;
        Ok(Done { outcome: Outcome::Aggregated { checkpoint: name, left_out, alike }, names, keeps: None })
    }

    fn sum(&self, work: &Sum) -> Result<Done, Failure> {
        let store = self.home.store().as_ref();
        let added = match task::sum(store, work)? {
            Added::Is(added) => added,
            Added::Refused(summands) => return Ok(Done::saying(Outcome::Refused { summands })),
        };
        let (mut sums, mut names) = (Vec::with_capacity(added.len()), Vec::with_capacity(added.len()));
        for (vnode, blob) in added {
            self.home.note(work.job, work.round, blob.digest());
            sums.push(VNodeUpdate { vnode, update: blob.digest(), bytes: blob.len() as u64, norm: 0 });
            names.push(blob);
        }
        Ok(Done { outcome: Outcome::Summed { sums }, names, keeps: None })
    }

    fn evaluate(&mut self, work: &Evaluate, available_mib: Option<u64>) -> Result<Done, Failure> {
        let store = self.home.store().as_ref();
        let Evaluation { nats, tokens, bytes } =
            task::evaluate(store, &mut self.at_hand, work, available_mib)?;
        Ok(Done::saying(Outcome::Evaluated { nats, tokens, bytes }))
    }
}

impl Done {
    /// An outcome that names no blobs.
    fn saying(outcome: Outcome) -> Self {
        Self { outcome, names: Vec::new(), keeps: None }
    }
}

/// Shows how fast the node is, or checks what another showed.
fn benchmark(work: &Benchmark, available_mib: Option<u64>, cancelled: &AtomicBool) -> Result<Done, Failure> {
    let needed_mib = zoo_admission::memory_mib(work);
    if let Some(available_mib) = available_mib.filter(|available_mib| needed_mib > *available_mib) {
        return Err(TaskError::Memory { needed_mib, available_mib }.into());
    }
    let mut go_on = || {
        if cancelled.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    Ok(Done::saying(Outcome::Benchmarked { answer: zoo_admission::answer(work, &mut go_on)? }))
}

/// Steps of a window that starts from this.
fn steps_of(window: &TrainWindow, replica_in: Option<Digest>) -> u32 {
    let lead = window.lead.filter(|_| replica_in.is_some());
    lead.map_or(0, |lead| lead.inner_steps) + window.share.inner_steps
}

/// Tells after every step how far a window of so many is, of which some were taken before; stops it when it is cancelled.
fn tell_progress(
    progress: &Progress,
    steps: u32,
    taken: u32,
    cancelled: &AtomicBool,
) -> impl FnMut(&StepReport) -> ControlFlow<()> {
    let (mut last_step, mut step) = (Instant::now(), taken);
    move |report| {
        step += 1;
        let seconds = last_step.elapsed().as_secs_f64();
        last_step = Instant::now();
        progress.set(Snapshot {
            step,
            steps,
            loss: report.loss.mean() as f32,
            tokens_per_second: (report.loss.tokens as f64 / seconds) as u32,
        });
        if cancelled.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("a task panicked")
}
