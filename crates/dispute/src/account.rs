//! What a party says of a window as a whole: its outcome, and what every step came to.

use serde::{Deserialize, Serialize};
use zoo_content::{Digest, MAX_BLOB_BYTES, merkle_root};
use zoo_model::LossSum;
use zoo_protocol::WindowOutcome;
use zoo_training::{PARAMETERS_EVERY, step_leaf};

use crate::program::dense_sizes;
use crate::terms::{Ground, Task};

/// No step comes near it, and sums of so much are still numbers.
const NATS_MAX: f64 = 1e15;

/// The outcome, and all that it takes to see that it follows from the steps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// What was committed to.
    pub outcome: WindowOutcome,
    /// Every step of the window, those of its lead first.
    pub steps: Vec<Step>,
}

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The state after it ([`crate::state_digest`]).
    pub state: Digest,
    /// Its summed loss, nats, as f64 bits.
    pub nats: u64,
    /// The digest of the network after every [`PARAMETERS_EVERY`]th.
    pub parameters: Option<Digest>,
}

/// Words of a tensor that an account says itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// The step's summed loss.
    Nats,
    /// The digest of the network after the step.
    Parameters,
    /// The size of a VNode's update.
    Size(usize),
    /// Its norm.
    Norm(usize),
    /// Its digest.
    Update(usize),
    /// The digest of what the replica keeps.
    Replica,
}

/// Whether the leaf of a step covers all parameters.
pub fn is_covered(step: u32) -> bool {
    (step as usize + 1).is_multiple_of(PARAMETERS_EVERY)
}

impl Account {
    /// The account of these steps and these parts of an outcome.
    pub(crate) fn of(
        task: &Task,
        context: usize,
        steps: Vec<Step>,
        updates: Vec<zoo_protocol::VNodeUpdate>,
        replica_out: Digest,
    ) -> Self {
        let (steps_root, mean_loss_bits) = summary(task, context, &steps);
        let tokens = task.tokens(context);
        let count = task.steps();
        let outcome =
            WindowOutcome { tokens, replica_out, steps_root, steps: count, updates, mean_loss_bits };
        Self { outcome, steps }
    }

    /// Whether it is one of this window, and its outcome follows from its steps as far as that is said there.
    pub(crate) fn check(&self, task: &Task, ground: &Ground, outcome: &Digest) -> Result<(), &'static str> {
        let Self { outcome: said, steps } = self;
        if said.digest() != *outcome {
            return Err("the outcome is not the one that was committed to");
        }
        if steps.len() != task.steps() as usize || said.steps != task.steps() {
            return Err("the window has another number of steps");
        }
        if (0..).zip(steps).any(|(step, said)| said.parameters.is_some() != is_covered(step)) {
            return Err("other steps cover the parameters");
        }
        let is_loss = |step: &Step| f64::from_bits(step.nats).abs() < NATS_MAX;
        if !steps.iter().all(is_loss) {
            return Err("a step has no such loss");
        }
        let context = ground.definition.context;
        if said.tokens != task.tokens(context) {
            return Err("the window has another number of tokens");
        }
        if (said.steps_root, said.mean_loss_bits) != summary(task, context, steps) {
            return Err("the steps are not those of the outcome");
        }
        let ids = said.updates.iter().map(|update| &update.vnode);
        if !ids.eq(ground.definition.nodes.iter().map(|node| &node.id)) {
            return Err("the updates are not those of the network");
        }
        let known = dense_sizes(task, ground).map_err(|_| "the network has no updates")?;
        let is_other = known.is_some_and(|known| known != self.sizes());
        if is_other || said.updates.iter().any(|update| !(1..=MAX_BLOB_BYTES).contains(&update.bytes)) {
            return Err("no update has that size");
        }
        Ok(())
    }

    /// Sizes of the updates, bytes.
    pub fn sizes(&self) -> Vec<u64> {
        self.outcome.updates.iter().map(|update| update.bytes).collect()
    }

    /// The words that it says.
    pub fn words(&self, step: u32, claim: Claim) -> Option<Vec<u32>> {
        let halves = |number: u64| vec![number as u32, (number >> 32) as u32];
        let said = self.steps.get(step as usize)?;
        Some(match claim {
            Claim::Nats => halves(said.nats),
            Claim::Parameters => words(&said.parameters?),
            Claim::Size(vnode) => halves(self.outcome.updates.get(vnode)?.bytes),
            Claim::Norm(vnode) => halves(self.outcome.updates.get(vnode)?.norm),
            Claim::Update(vnode) => words(&self.outcome.updates.get(vnode)?.update),
            Claim::Replica => words(&self.outcome.replica_out),
        })
    }

    /// The first step that differs; the last, if it is only the outcome that does.
    pub fn first_difference(&self, other: &Self) -> Option<u64> {
        let first = self.steps.iter().zip(&other.steps).position(|(one, other)| one != other);
        let last = (self.outcome != other.outcome).then(|| self.steps.len() - 1);
        first.or(last).map(|step| step as u64)
    }
}

fn words(digest: &Digest) -> Vec<u32> {
    crate::operator::words_of(digest.as_bytes()).to_vec()
}

/// The root over the leaves of all steps, and the mean loss.
fn summary(task: &Task, context: usize, steps: &[Step]) -> (Digest, u64) {
    let (mut loss, mut leaves) = (LossSum::default(), Vec::with_capacity(steps.len()));
    for (step, said) in (0..).zip(steps) {
        let sequences = task.sequences(step);
        let tokens = (sequences.end - sequences.start) * context as u64;
        let step_loss = LossSum { nats: f64::from_bits(said.nats), tokens };
        loss += step_loss;
        leaves.push(step_leaf(task.job_step(step), step_loss, said.parameters));
    }
    (merkle_root(&leaves), loss.mean().to_bits())
}
