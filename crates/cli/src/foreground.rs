//! Commands that run until they are told to stop: their runtime, and what tells them.

use std::future::pending;
use std::io::Read;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::runtime::Builder;
use tokio::sync::oneshot;

/// Threads that sockets and timers need; whatever computes has its own.
const IO_THREADS: usize = 2;
/// What still computes when a command has ended is not waited for longer than this.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(500);

/// Runs `command` to its end on a runtime of its own.
pub fn block_on<T>(command: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = Builder::new_multi_thread()
        .worker_threads(IO_THREADS)
        .enable_all()
        .build()
        .context("cannot start the threads for the network")?;
    let outcome = runtime.block_on(command);
    runtime.shutdown_timeout(SHUTDOWN_TIMEOUT);
    outcome
}

/// Completes at Ctrl-C, at SIGTERM and, if `with_stdin`, when stdin ends.
///
/// A process that holds the other end of a child's stdin ends the child by going away, in
/// whatever way it goes: the operating system closes the pipe also after `kill -9`.
pub async fn told_to_stop(with_stdin: bool) {
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => {
            if interrupted.is_err() {
                pending::<()>().await; // without the signal there are the other two
            }
        }
        () = terminated() => {}
        () = stdin_ended(), if with_stdin => {}
    }
}

async fn terminated() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            terminate.recv().await;
            return;
        }
    }
    pending().await
}

/// A thread of its own reads: one of the runtime's would hold up its end.
async fn stdin_ended() {
    let (ended, waiting) = oneshot::channel();
    std::thread::spawn(move || {
        let mut ignored = [0; 256];
        while std::io::stdin().read(&mut ignored).is_ok_and(|count| count > 0) {}
        let _ = ended.send(());
    });
    let _ = waiting.await;
}
