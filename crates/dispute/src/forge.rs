//! A window in which one bit is wrong, to show that it is found.

use crate::account::Account;
use crate::replay::{Knowledge, Replay, ReplayError};
use crate::terms::{Ground, Task};
use crate::trace::{Blobs, State, Trace};

/// Where a bit is flipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flip {
    /// The inner step of the window, from 0.
    pub step: u32,
    /// The tensor, by its place in the step's [`crate::Program`].
    pub tensor: usize,
    /// The element.
    pub element: usize,
    /// The bit, 0 the lowest.
    pub bit: u32,
}

/// A window done with one bit flipped in one element of one tensor of one step; whatever follows is done as it should be, from there.
pub struct Forgery<'a> {
    honest: Replay<'a>,
    flip: Flip,
    /// The step with the flip, as long as it was not asked for.
    kept: Option<Trace>,
}

impl<'a> Forgery<'a> {
    /// Flips a bit.
    pub fn new(honest: Replay<'a>, flip: Flip) -> Self {
        Self { honest, flip, kept: None }
    }

    /// The traces from the flip to `last`, one after the other.
    fn traces(&self, mut state: State, last: u32, mut each: impl FnMut(Trace)) -> Result<(), ReplayError> {
        let Flip { step: flipped, tensor, element, bit } = self.flip;
        for step in flipped..=last {
            let before = std::mem::take(&mut state);
            let trace = Trace::of((self.task(), step), &self.blobs(), before, |at, values| {
                if (step, at) == (flipped, tensor) {
                    values[element] = f32::from_bits(values[element].to_bits() ^ 1 << bit);
                }
            })?;
            if step < last {
                state = trace.after();
            }
            each(trace);
        }
        Ok(())
    }
}

impl Knowledge for Forgery<'_> {
    fn task(&self) -> &Task {
        self.honest.task()
    }

    fn account(&mut self) -> Result<Account, ReplayError> {
        let (mut steps, state) = self.honest.before(self.flip.step)?;
        let Ground { definition, .. } = self.task().ground()?;
        let (mut kept, mut outcome) = (None, None);
        let count = self.task().steps() as usize;
        self.traces(state, self.task().steps() - 1, |trace| {
            steps.push(trace.said());
            if steps.len() == count {
                let ids = definition.nodes.iter().map(|node| node.id.clone()).collect();
                outcome = Some(trace.outcome(self.task(), ids));
            }
            kept.get_or_insert(trace);
        })?;
        let (updates, replica_out) = outcome.expect("a window has a last step")?;
        let account = Account::of(self.task(), definition.context, steps, updates, replica_out);
        self.kept = kept;
        Ok(account)
    }

    fn trace(&mut self, step: u32) -> Result<Trace, ReplayError> {
        if step < self.flip.step {
            return self.honest.trace(step);
        }
        if let Some(kept) = self.kept.take_if(|_| step == self.flip.step) {
            return Ok(kept);
        }
        let (_, state) = self.honest.before(self.flip.step)?;
        let mut last = None;
        self.traces(state, step, |trace| last = Some(trace))?;
        Ok(last.expect("there is at least one step"))
    }

    fn blobs(&self) -> Blobs<'_> {
        self.honest.blobs()
    }
}
