//! What a node's hardware vouches for: checked outside of the state machine, by whoever knows about hardware.
//!
//! What came of it is journalled; the evidence itself is kept as a blob, so that anybody can check it again.

use std::fmt;
use std::sync::Arc;

use zoo_protocol::{Attestation, NodeId};

/// Says what a file of evidence shows about a node of a network at the present time, or why it shows nothing.
#[derive(Clone)]
pub struct EvidenceCheck(Arc<Check>);

type Check = dyn Fn(&[u8], Whose) -> Result<Attestation, String> + Send + Sync;

/// Whom evidence has to be about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Whose {
    /// The orchestrator's key.
    pub network: NodeId,
    /// The node's.
    pub node: NodeId,
}

impl EvidenceCheck {
    /// Checks with `check`, which takes milliseconds.
    pub fn new(check: impl Fn(&[u8], Whose) -> Result<Attestation, String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(check))
    }

    pub(crate) fn check(&self, evidence: &[u8], whose: Whose) -> Result<Attestation, String> {
        (self.0)(evidence, whose)
    }
}

impl fmt::Debug for EvidenceCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EvidenceCheck")
    }
}
