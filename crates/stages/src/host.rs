//! The thread that an engine runs on.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedSender;

use crate::engine::{Engine, Input, Output};
use crate::message::NodeReport;

/// Who waits for so long says what it has: a message may be lost.
const STATUS_AFTER: Duration = Duration::from_millis(500);
/// A node says so often how it is doing.
const REPORT_EVERY: Duration = Duration::from_millis(500);

/// What comes of a host.
pub(crate) enum Told {
    Output(Output),
    Report(NodeReport),
}

/// Starts the thread, which ends when nobody can tell it anything any more. `told` has what comes of it: what its stages keep
/// for their neighbours bounds how much that is.
pub(crate) fn start(threads: usize, told: UnboundedSender<Told>) -> Result<Sender<Input>, String> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    let pool = pool.map_err(|cause| format!("cannot start {threads} threads: {cause}"))?;
    let (inputs, heard) = channel();
    let run = move || pool.install(move || run(&heard, &told));
    thread::Builder::new().name("stages".into()).spawn(run).map_err(|cause| cause.to_string())?;
    Ok(inputs)
}

fn run(heard: &Receiver<Input>, told: &UnboundedSender<Told>) {
    let mut engine = Engine::default();
    let (mut idle_since, mut reported) = (Instant::now(), Instant::now());
    loop {
        let mut has_worked = false;
        loop {
            match heard.try_recv() {
                Ok(input) => engine.hear(input),
                Err(std::sync::mpsc::TryRecvError::Empty) => break,
                Err(std::sync::mpsc::TryRecvError::Disconnected) => return,
            }
        }
        if engine.work() {
            has_worked = true;
            idle_since = Instant::now();
        } else if idle_since.elapsed() >= STATUS_AFTER {
            engine.hear(Input::SayStatus);
            idle_since = Instant::now();
        }
        let outputs = engine.take_outputs();
        // Whoever hears that a stage is finished knows how it went.
        let is_end = outputs.iter().any(|output| matches!(output, Output::Finished { .. }));
        if is_end || reported.elapsed() >= REPORT_EVERY {
            reported = Instant::now();
            if told.send(Told::Report(engine.report())).is_err() {
                return;
            }
        }
        for output in outputs {
            if told.send(Told::Output(output)).is_err() {
                return;
            }
        }
        if !has_worked {
            let wait = STATUS_AFTER.saturating_sub(idle_since.elapsed()).min(REPORT_EVERY);
            match heard.recv_timeout(wait) {
                Ok(input) => engine.hear(input),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }
}
