//! What a run came to, pass by pass, and where two runs part.

use std::collections::BTreeMap;

use zoo_content::Digest;

use crate::schedule::{Operation, Schedule};

/// What anybody must come to in the same pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pass {
    /// Whose.
    pub stage: u32,
    /// Which.
    pub operation: Operation,
    /// Digest of the rows that it took from a neighbour.
    pub arrived: Option<Digest>,
    /// Digest of those that it made for one.
    pub sent: Option<Digest>,
    /// Of every VNode of the stage, where the pass ended a step.
    pub leaves: Vec<Leaf>,
}

/// A VNode after a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// Its id.
    pub vnode: String,
    /// Of its parameters.
    pub digest: Digest,
}

/// Where two runs part: a stage that made something else of the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Which stage.
    pub stage: u32,
    /// In which step, counted from 1.
    pub step: u64,
    /// Its first VNode that was something else after that step, if the step ended in both runs.
    pub vnode: Option<String>,
}

/// The first difference of two runs of one schedule, each stage's passes in its order. In a step everybody's rows depend on
/// everybody's, so what differs is no sign of fault: who took the same rows up to a pass, and then made others, is.
pub fn first_difference(schedule: &Schedule, one: &[Pass], other: &[Pass]) -> Option<Difference> {
    let (one, other) = (by_stage(one), by_stage(other));
    let differences = one.iter().filter_map(|(stage, passes)| {
        let others: &[&Pass] = other.get(stage).map_or(&[], Vec::as_slice);
        let at = passes.iter().zip(others).position(|(one, other)| one != other)?;
        if passes[at].arrived != others[at].arrived {
            return None;
        }
        let (step, _) = schedule.step_of(passes[at].operation.micro_batch());
        let vnode = changed(step_end(schedule, passes, step), step_end(schedule, others, step));
        Some(Difference { stage: *stage, step, vnode })
    });
    differences.min_by_key(|difference| (difference.step, difference.stage))
}

fn by_stage(passes: &[Pass]) -> BTreeMap<u32, Vec<&Pass>> {
    let mut stages: BTreeMap<u32, Vec<&Pass>> = BTreeMap::new();
    passes.iter().for_each(|pass| stages.entry(pass.stage).or_default().push(pass));
    stages
}

/// The leaves of a step, none if it did not end.
fn step_end<'a>(schedule: &Schedule, passes: &[&'a Pass], step: u64) -> &'a [Leaf] {
    let last = step * u64::from(schedule.micro_batches) - 1;
    let end = passes.iter().find(|pass| pass.operation == Operation::Backward(last));
    end.map_or(&[], |pass| pass.leaves.as_slice())
}

fn changed(one: &[Leaf], other: &[Leaf]) -> Option<String> {
    one.iter().zip(other).find(|(one, other)| one != other).map(|(one, _)| one.vnode.clone())
}
