//! Commands that run until they are told to stop: their runtime, and what tells them.

use std::io::{self, Read};
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

/// Completes at Ctrl-C, at SIGTERM and, if `with_stdin`, when stdin ends. It listens from this call on, so
/// whoever has read the first line of a command's output can end it cleanly.
///
/// A process that holds the other end of a child's stdin ends the child by going away, in
/// whatever way it goes: the operating system closes the pipe also after `kill -9`.
///
/// # Errors
/// When the system refuses a handler.
pub fn told_to_stop(with_stdin: bool) -> Result<impl Future<Output = ()>> {
    let signals = signals().context("cannot watch for Ctrl-C")?;
    Ok(async move {
        tokio::select! {
            () = signals => {}
            () = stdin_ended(), if with_stdin => {}
        }
    })
}

#[cfg(unix)]
fn signals() -> io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

#[cfg(windows)]
fn signals() -> io::Result<impl Future<Output = ()>> {
    use tokio::signal::windows::{ctrl_c, ctrl_close};
    let (mut interrupt, mut close) = (ctrl_c()?, ctrl_close()?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = close.recv() => {}
        }
    })
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
