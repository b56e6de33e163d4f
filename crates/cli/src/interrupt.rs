//! Ctrl-C: the first asks, the second ends.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};

/// The exit code of a process that was interrupted.
pub const INTERRUPTED: u8 = 130;

/// Whether somebody asked this process to stop.
#[derive(Clone)]
pub struct Interrupt(Arc<AtomicU32>);

impl Interrupt {
    /// From now on, the first SIGINT, SIGTERM or SIGHUP only sets [`Interrupt::is_set`]; the second ends
    /// the process at once.
    ///
    /// # Errors
    /// When the system refuses a handler.
    pub fn install() -> Result<Self> {
        let asked = Self(Arc::default());
        let seen = asked.clone();
        ctrlc::set_handler(move || {
            if seen.0.fetch_add(1, Ordering::SeqCst) > 0 {
                std::process::exit(i32::from(INTERRUPTED));
            }
        })
        .context("cannot watch for Ctrl-C")?;
        Ok(asked)
    }

    /// Whether to stop at the next good moment.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst) > 0
    }

    /// For work that asks at its good moments.
    pub fn keep_going(&self) -> ControlFlow<()> {
        if self.is_set() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}
