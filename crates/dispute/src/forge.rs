//! A window in which one bit is wrong, to show that it is found.

use zoo_content::Digest;
use zoo_training::Dataset;

use crate::program::Program;
use crate::replay::{Knowledge, Replay, ReplayError};
use crate::terms::Task;
use crate::trace::{State, Trace};

/// Where a bit is flipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flip {
    /// The inner step of the window, from 0.
    pub step: u32,
    /// The tensor, by its place in the step's [`Program`].
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
    fn traces(&self, last: u32, mut each: impl FnMut(Trace)) -> Result<(), ReplayError> {
        let mut state: Option<State> = None;
        for step in self.flip.step..=last {
            let before = state.take().map_or_else(|| self.honest.state_before(step), Ok)?;
            let program = Program::of(self.honest.task(), step)?;
            let Flip { tensor, element, bit, .. } = self.flip;
            let trace = Trace::of(program, &self.honest.batch(step)?, before, |at, values| {
                if (step, at) == (self.flip.step, tensor) {
                    values[element] = f32::from_bits(values[element].to_bits() ^ 1 << bit);
                }
            });
            if step < last {
                state = Some(trace.after());
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

    fn steps(&mut self) -> Result<Vec<Digest>, ReplayError> {
        let mut digests = self.honest.first_steps(self.flip.step)?;
        let mut kept = None;
        self.traces(self.honest.task().share.inner_steps - 1, |trace| {
            digests.push(trace.digest());
            kept.get_or_insert(trace);
        })?;
        self.kept = kept;
        Ok(digests)
    }

    fn trace(&mut self, step: u32) -> Result<Trace, ReplayError> {
        if step < self.flip.step {
            return self.honest.trace(step);
        }
        if let Some(kept) = self.kept.take_if(|_| step == self.flip.step) {
            return Ok(kept);
        }
        let mut last = None;
        self.traces(step, |trace| last = Some(trace))?;
        Ok(last.expect("there is at least one step"))
    }

    fn data(&self) -> &Dataset {
        self.honest.data()
    }
}
