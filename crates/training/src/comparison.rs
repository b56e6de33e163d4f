//! The contributions of a round beside each other, and beside those of the rounds before.

use zoo_content::{Digest, VerifiedBlob};
use zoo_update::{Agreement, Memory, Recurrence, Sketch, Update, UpdateError};

use crate::aggregate::{AggregateTask, Form, Summand};
use crate::checkpoint::Checkpoint;

/// What contributions that come one by one have to do with each other, over all VNodes that were taken so far.
pub(crate) struct Comparison<'a> {
    task: AggregateTask<'a>,
    /// Places of the contributions, in an order that is the same however they were given: that of their updates' digests.
    order: Vec<usize>,
    agreement: Agreement,
    recurrence: Recurrence,
    /// What is remembered of each VNode after the round.
    memories: Vec<VerifiedBlob>,
}

/// What each contribution counts for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Counted {
    /// Of each: 0 if it does not count, else of how many that are alike it is one.
    pub copies: Vec<u64>,
}

impl Counted {
    /// Of so many contributions, each as itself.
    pub fn all(contributions: usize) -> Self {
        Self { copies: vec![1; contributions] }
    }

    /// Places of those that do not count, in order.
    pub fn left_out(&self) -> Vec<usize> {
        (0..self.copies.len()).filter(|&at| self.copies[at] == 0).collect()
    }

    /// Places of those that count together with others, in order.
    pub fn alike(&self) -> Vec<usize> {
        (0..self.copies.len()).filter(|&at| self.copies[at] > 1).collect()
    }
}

impl<'a> Comparison<'a> {
    /// Of a round's summands, if each is what one replica says of every VNode.
    pub fn of(task: &AggregateTask<'a>) -> Option<Self> {
        let summands = task.summands;
        let is_whole =
            |summand: &Summand| matches!(summand.form, Form::Updates { .. }) && summand.first_vnode == 0;
        if !summands.iter().all(is_whole) {
            return None;
        }
        let names =
            |at: &usize| summands[*at].blobs.iter().map(VerifiedBlob::digest).collect::<Vec<Digest>>();
        let mut order: Vec<usize> = (0..summands.len()).collect();
        order.sort_by_cached_key(names);
        let (agreement, recurrence) = (Agreement::new(summands.len()), Recurrence::new(summands.len()));
        Some(Self { task: *task, order, agreement, recurrence, memories: Vec::new() })
    }

    /// Takes every contribution's update of the VNode at `place`, which is the next one.
    pub fn take(&mut self, place: usize, updates: &[Update], norm_limit: u64) -> Result<(), UpdateError> {
        let Some(layout) = updates.first().map(|update| &update.header().layout) else { return Ok(()) };
        let remembered = self.task.base.vnodes[place].memory.as_ref();
        let memory = remembered.map(|blob| Memory::decode(blob.bytes(), layout)).transpose()?;
        let memory = memory.unwrap_or_default();
        let sketches: Vec<Sketch> = updates.iter().map(|update| Sketch::of(update, norm_limit)).collect();
        self.agreement.take(updates, norm_limit);
        self.recurrence.take(&sketches, &memory)?;
        let given = self.order.iter().map(|&at| sketches[at].clone()).collect();
        self.memories.push(VerifiedBlob::new(memory.after(self.task.round, given).encode()));
        Ok(())
    }

    /// What each counts for, all VNodes having been taken. Most are never left out: where most seem to be given before, nothing is
    /// usual.
    pub fn counted(&self) -> Counted {
        let summands = self.task.summands;
        let tokens: Vec<u64> = summands.iter().map(|summand| summand.tokens).collect();
        let outliers = self.agreement.outliers(&tokens);
        let both = [&outliers[..], &self.recurrence.repeated()].concat();
        let counted_without = |left_out: &[usize]| {
            (0..summands.len()).filter(|at| !left_out.contains(at)).collect::<Vec<usize>>()
        };
        let mut counted = counted_without(&both);
        if 2 * counted.len() < summands.len() {
            counted = counted_without(&outliers);
        }
        Counted { copies: self.agreement.copies(&counted) }
    }

    /// Puts what is remembered into the checkpoint that the round ends with.
    pub fn remember(self, checkpoint: &mut Checkpoint) {
        for (vnode, memory) in checkpoint.vnodes.iter_mut().zip(self.memories) {
            vnode.memory = Some(memory);
        }
    }
}
