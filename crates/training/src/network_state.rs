//! Between networks and their bytes: building, filling and reading them, VNode by VNode.

use serde::{Deserialize, Serialize};
use zoo_content::{Digest, VerifiedBlob};
use zoo_model::{Network, NetworkDefinition, NetworkOptions, VNode};
use zoo_update::{Layout, UpdateError};

use crate::checkpoint::{Checkpoint, Lineage, Progress, VNodeState};
use crate::error::TrainError;
use crate::spec::TrainingSpec;

/// The network of `spec`, parameters not yet filled, and the digest of its definition.
pub fn build(spec: &TrainingSpec) -> Result<(Network, Digest), TrainError> {
    let definition = NetworkDefinition::decoder(&spec.model)?;
    let network = Network::build(&definition, spec.profile, NetworkOptions { recompute: spec.recompute })?;
    let canonical = serde_json::to_vec(&definition).expect("a definition is plain data with text keys");
    Ok((network, Digest::of(&canonical)))
}

impl Checkpoint {
    /// The parameters of `network` as they are, and its optimiser state if it has seen an update.
    pub(crate) fn of(network: &Network, lineage: Lineage, progress: Progress) -> Self {
        let vnodes = network.vnodes().iter().map(|vnode| VNodeState {
            id: vnode.id().to_owned(),
            parameters: VerifiedBlob::new(vnode.state_bytes()),
            optimizer: (progress.optimizer_updates > 0).then(|| VerifiedBlob::new(vnode.optimizer_bytes())),
            momentum: None,
        });
        Self { lineage, progress, vnodes: vnodes.collect() }
    }

    /// A network of `spec` with the checkpoint's parameters: to evaluate, generate or export.
    ///
    /// # Errors
    /// When the checkpoint belongs to another network.
    pub fn network(&self, spec: &TrainingSpec) -> Result<Network, TrainError> {
        let (mut network, definition) = build(spec)?;
        check("network", self.lineage.network, definition)?;
        self.load_parameters(&mut network)?;
        Ok(network)
    }

    pub(crate) fn load_parameters(&self, network: &mut Network) -> Result<(), TrainError> {
        check_vnodes("checkpoint", network, self.vnodes.iter().map(|vnode| vnode.id.as_str()))?;
        for (vnode, state) in network.vnodes_mut().iter_mut().zip(&self.vnodes) {
            let failed = |cause| TrainError::State { what: "parameters", cause };
            vnode.load_state(state.parameters.bytes()).map_err(failed)?;
        }
        Ok(())
    }

    /// Fills in the optimiser state; a checkpoint without any leaves the fresh one.
    pub(crate) fn load_optimizer(&self, network: &mut Network) -> Result<(), TrainError> {
        for (vnode, state) in network.vnodes_mut().iter_mut().zip(&self.vnodes) {
            if let Some(optimizer) = &state.optimizer {
                let failed = |cause| TrainError::State { what: OPTIMIZER, cause };
                vnode.load_optimizer(optimizer.bytes()).map_err(failed)?;
            }
        }
        Ok(())
    }

    pub(crate) fn check_lineage(&self, expected: &Lineage) -> Result<(), TrainError> {
        check("program", self.lineage.program, expected.program)?;
        check("network", self.lineage.network, expected.network)?;
        check("data", self.lineage.data, expected.data)
    }
}

/// How the parameters of a VNode lie in an update.
pub fn layout(vnode: &VNode) -> Result<Layout, UpdateError> {
    Layout::new(vnode.parameters().iter().map(|parameter| (parameter.name(), parameter.value.len() as u64)))
}

/// Refuses ids that are not the network's, in its order.
pub fn check_vnodes<'a>(
    what: &'static str,
    network: &Network,
    ids: impl Iterator<Item = &'a str>,
) -> Result<(), TrainError> {
    const NOTHING: &str = "missing";
    let mut ids = ids;
    let mut expected = network.vnodes().iter().map(|vnode| vnode.id());
    for place in 0.. {
        match (ids.next(), expected.next()) {
            (None, None) => break,
            (actual, expected) if actual == expected => {}
            (actual, expected) => {
                return Err(TrainError::OtherNetwork {
                    what,
                    place,
                    actual: actual.unwrap_or(NOTHING).to_owned(),
                    expected: expected.unwrap_or(NOTHING).to_owned(),
                });
            }
        }
    }
    Ok(())
}

fn check(what: &'static str, actual: Digest, expected: Digest) -> Result<(), TrainError> {
    if actual == expected {
        return Ok(());
    }
    Err(TrainError::OtherLineage { what, actual: actual.short(), expected: expected.short() })
}

const OPTIMIZER: &str = "optimiser state";
const OPTIMIZER_FORMAT: u32 = 1;

/// A replica's optimiser state as one blob: what it keeps from round to round.
#[derive(Serialize, Deserialize)]
struct OptimizerState<'a> {
    format: u32,
    /// Updates it has seen: AdamW's bias correction counts from here.
    updates: u64,
    /// Id and state of every VNode, in network order.
    #[serde(borrow)]
    vnodes: Vec<(&'a str, &'a [u8])>,
}

/// The optimiser state of `network` after `updates` updates.
pub fn save_optimizer(network: &Network, updates: u64) -> VerifiedBlob {
    let states: Vec<Vec<u8>> = network.vnodes().iter().map(|vnode| vnode.optimizer_bytes()).collect();
    let vnodes = network.vnodes().iter().zip(&states).map(|(vnode, state)| (vnode.id(), state.as_slice()));
    let state = OptimizerState { format: OPTIMIZER_FORMAT, updates, vnodes: vnodes.collect() };
    VerifiedBlob::new(postcard::to_stdvec(&state).expect("plain data always encodes"))
}

/// Fills in the optimiser state that [`save_optimizer`] wrote; returns the updates it has seen.
pub fn load_optimizer(network: &mut Network, bytes: &[u8]) -> Result<u64, TrainError> {
    let (state, rest) = postcard::take_from_bytes::<OptimizerState>(bytes)
        .map_err(|cause| TrainError::OptimizerState(cause.to_string()))?;
    if state.format != OPTIMIZER_FORMAT {
        return Err(TrainError::OptimizerState(format!(
            "format {} is not known, only {OPTIMIZER_FORMAT} is",
            state.format
        )));
    }
    if !rest.is_empty() {
        return Err(TrainError::OptimizerState(format!("{} bytes follow its end", rest.len())));
    }
    check_vnodes(OPTIMIZER, network, state.vnodes.iter().map(|(id, _)| *id))?;
    for (vnode, (_, bytes)) in network.vnodes_mut().iter_mut().zip(&state.vnodes) {
        let failed = |cause| TrainError::State { what: OPTIMIZER, cause };
        vnode.load_optimizer(bytes).map_err(failed)?;
    }
    Ok(state.updates)
}
