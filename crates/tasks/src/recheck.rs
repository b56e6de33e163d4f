//! Checking somebody's window: train it again and compare with `==`.

use std::ops::ControlFlow;

use zoo_content::BlobStore;
use zoo_protocol::{Commitment, WindowOutcome};
use zoo_training::StepReport;

use crate::{AtHand, TaskError, train};

/// What training a window again came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recheck {
    /// What was committed to.
    pub expected: WindowOutcome,
    /// What the same work on the same inputs gives here.
    pub got: WindowOutcome,
}

impl Recheck {
    /// Whether everything that was committed to holds: updates, optimiser state, steps, tokens and loss.
    pub fn equal(&self) -> bool {
        self.expected == self.got
    }

    /// The fields that differ, for people.
    pub fn differences(&self) -> Vec<String> {
        let Self { expected, got } = self;
        let fields = [
            ("tokens", expected.tokens == got.tokens),
            ("replica_out", expected.replica_out == got.replica_out),
            ("steps_root", expected.steps_root == got.steps_root),
            ("steps", expected.steps == got.steps),
            ("mean_loss", expected.mean_loss_bits == got.mean_loss_bits),
            ("number of updates", expected.updates.len() == got.updates.len()),
        ];
        let fields = fields.into_iter().filter(|(_, equal)| !equal).map(|(field, _)| field.to_owned());
        let updates = expected.updates.iter().zip(&got.updates).filter(|(expected, got)| expected != got);
        fields.chain(updates.map(|(expected, _)| format!("update of vnode {}", expected.vnode))).collect()
    }
}

/// Trains the window of `commitment` again from what is in `store`, which is not changed.
///
/// `progress` hears of every inner step and may stop the work, which is then an error
/// ([`TaskError::is_stop`]).
pub fn recheck(
    store: &dyn BlobStore,
    commitment: &Commitment,
    progress: &mut dyn FnMut(&StepReport) -> ControlFlow<()>,
) -> Result<Recheck, TaskError> {
    let mut at_hand = AtHand::default();
    let again = train(store, &mut at_hand, &commitment.work, commitment.replica_in, None, progress)?;
    Ok(Recheck { expected: commitment.outcome.clone(), got: again.outcome })
}
