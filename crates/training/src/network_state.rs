//! Between networks and their bytes: building, filling and reading them, VNode by VNode.

use serde::{Deserialize, Serialize, Serializer};
use zoo_content::{Digest, VerifiedBlob};
use zoo_model::{Network, NetworkDefinition, NetworkOptions, NodeDefinition, VNode};
use zoo_update::{Layout, Shape, UpdateError};

use crate::checkpoint::{Checkpoint, Lineage, Progress, VNodeState};
use crate::error::TrainError;
use crate::spec::TrainingSpec;

/// The network of `spec`, parameters not yet filled.
///
/// # Errors
/// A model that cannot be built.
pub fn network_of(spec: &TrainingSpec) -> Result<Network, TrainError> {
    build(spec).map(|(network, _)| network)
}

/// The network of `spec`, parameters not yet filled, and the digest of its definition.
pub fn build(spec: &TrainingSpec) -> Result<(Network, Digest), TrainError> {
    let definition = NetworkDefinition::decoder(&spec.model)?;
    let network = Network::build(
        &definition,
        spec.profile,
        NetworkOptions { recompute: spec.recompute, ..NetworkOptions::default() },
    )?;
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
            memory: None,
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

    /// Puts the checkpoint under what `network` has moved since it was at `from`: every parameter becomes `checkpoint + (p - from)`.
    pub(crate) fn load_parameters_under(
        &self,
        network: &mut Network,
        from: &[Vec<f32>],
    ) -> Result<(), TrainError> {
        check_vnodes("checkpoint", network, self.vnodes.iter().map(|vnode| vnode.id.as_str()))?;
        for ((vnode, state), from) in network.vnodes_mut().iter_mut().zip(&self.vnodes).zip(from) {
            let moved = values(vnode);
            let failed = |cause| TrainError::State { what: "parameters", cause };
            vnode.load_state(state.parameters.bytes()).map_err(failed)?;
            let mut moves = moved.iter().zip(from).map(|(moved, from)| moved - from);
            for parameter in vnode.parameters_mut() {
                parameter.value.iter_mut().zip(&mut moves).for_each(|(place, moved)| *place += moved);
            }
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

/// The parameters of a VNode, one after the other.
pub fn values(vnode: &VNode) -> Vec<f32> {
    let mut values = Vec::with_capacity(vnode.parameter_count());
    vnode.parameters().iter().for_each(|parameter| values.extend_from_slice(&parameter.value));
    values
}

/// How the parameters of a VNode lie in an update.
pub fn layout(vnode: &VNode) -> Result<Layout, UpdateError> {
    Layout::new(vnode.parameters().iter().map(|parameter| (parameter.name(), shape(parameter.shape()))))
}

/// As [`layout`], of a VNode that was not built.
pub fn layout_of(node: &NodeDefinition) -> Result<Layout, UpdateError> {
    Layout::new(node.parameters().iter().map(|parameter| (parameter.name, shape(&parameter.shape))))
}

fn shape(dimensions: &[usize]) -> Shape {
    match *dimensions {
        [rows, cols] => Shape::matrix(rows as u32, cols as u32),
        _ => Shape::vector(dimensions.iter().product::<usize>() as u32),
    }
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
const REPLICA: &str = "replica state";
pub(crate) const REPLICA_FORMAT: u32 = 3;

/// What a replica keeps from round to round, as one blob.
#[derive(Deserialize)]
struct ReplicaState<'a> {
    format: u32,
    /// Updates the optimiser has seen: AdamW's bias correction counts from here.
    updates: u64,
    /// In network order.
    #[serde(borrow)]
    vnodes: Vec<KeptVNode<'a>>,
}

#[derive(Deserialize)]
struct KeptVNode<'a> {
    id: &'a str,
    /// Optimiser state.
    optimizer: &'a [u8],
    /// What its updates have left unsaid: an f32 for every element, little-endian, or nothing.
    residual: &'a [u8],
    /// Parameters at the end of the window, or nothing.
    parameters: &'a [u8],
}

/// [`ReplicaState`] on its way into a blob, VNode by VNode: all of it is several times the parameters.
#[derive(Serialize)]
struct ReplicaStateOf<'a> {
    format: u32,
    updates: u64,
    vnodes: VNodesOf<'a>,
}

struct VNodesOf<'a> {
    network: &'a Network,
    residuals: &'a [Vec<f32>],
    with_parameters: bool,
}

impl Serialize for VNodesOf<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.network.vnodes().iter().zip(self.residuals).map(|(vnode, residual)| {
            let parameters = if self.with_parameters { vnode.state_bytes() } else { Vec::new() };
            (vnode.id(), AtOnce(vnode.optimizer_bytes()), AtOnce(bytes_of(residual)), AtOnce(parameters))
        }))
    }
}

/// Bytes with the same encoding as one by one, without a call for each.
struct AtOnce(Vec<u8>);

impl Serialize for AtOnce {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

fn bytes_of(values: &[f32]) -> Vec<u8> {
    let mut bytes = vec![0; size_of_val(values)];
    let (places, _) = bytes.as_chunks_mut::<4>();
    places.iter_mut().zip(values).for_each(|(place, value)| *place = value.to_le_bytes());
    bytes
}

/// What a replica kept, beside what is loaded into its network.
pub struct Kept {
    /// Updates that its optimiser has seen.
    pub updates: u64,
    /// By VNode, what its updates have left unsaid.
    pub residuals: Vec<Vec<f32>>,
    /// Whether the parameters at the end of its window were loaded too.
    pub has_parameters: bool,
}

/// The optimiser state of `network` after `updates` updates, what the codec left unsaid of each VNode, and perhaps the parameters.
pub fn save_replica(
    network: &Network,
    updates: u64,
    residuals: &[Vec<f32>],
    with_parameters: bool,
) -> VerifiedBlob {
    let vnodes = VNodesOf { network, residuals, with_parameters };
    let state = ReplicaStateOf { format: REPLICA_FORMAT, updates, vnodes };
    // Two moments, what is left unsaid and the parameters, and what is said about them.
    let most = 16 * network.parameter_count() + 1024 * network.vnodes().len();
    let bytes = postcard::to_extend(&state, Vec::with_capacity(most));
    VerifiedBlob::new(bytes.expect("plain data always encodes"))
}

/// What the bytes of a replica's state say of themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptFacts {
    /// Updates that its optimiser has seen.
    pub updates: u64,
    /// Whether anything was left unsaid.
    pub residuals: bool,
    /// Whether it says where the window ended.
    pub parameters: bool,
}

/// Looks at what a replica kept, without the network that it is of.
///
/// # Errors
/// What is no replica's state.
pub fn kept_facts(bytes: &[u8]) -> Result<KeptFacts, TrainError> {
    let state: ReplicaState =
        postcard::from_bytes(bytes).map_err(|cause| TrainError::ReplicaState(cause.to_string()))?;
    let any = |part: fn(&KeptVNode) -> bool| state.vnodes.iter().any(part);
    Ok(KeptFacts {
        updates: state.updates,
        residuals: any(|vnode| !vnode.residual.is_empty()),
        parameters: any(|vnode| !vnode.parameters.is_empty()),
    })
}

/// Fills in what [`save_replica`] wrote of the network, and returns the rest.
pub fn load_replica(network: &mut Network, bytes: &[u8]) -> Result<Kept, TrainError> {
    let refuse = |cause: String| Err(TrainError::ReplicaState(cause));
    let (state, rest) = postcard::take_from_bytes::<ReplicaState>(bytes)
        .map_err(|cause| TrainError::ReplicaState(cause.to_string()))?;
    if state.format != REPLICA_FORMAT {
        return refuse(format!("format {} is not known, only {REPLICA_FORMAT} is", state.format));
    }
    if !rest.is_empty() {
        return refuse(format!("{} bytes follow its end", rest.len()));
    }
    check_vnodes(REPLICA, network, state.vnodes.iter().map(|kept| kept.id))?;
    let mut residuals = Vec::with_capacity(state.vnodes.len());
    let has_parameters = state.vnodes.iter().any(|kept| !kept.parameters.is_empty());
    for (vnode, kept) in network.vnodes_mut().iter_mut().zip(&state.vnodes) {
        let failed = |cause| TrainError::State { what: OPTIMIZER, cause };
        vnode.load_optimizer(kept.optimizer).map_err(failed)?;
        let expected = [0, vnode.parameter_count() * size_of::<f32>()];
        if !expected.contains(&kept.residual.len()) {
            return refuse(format!("vnode {}: {} bytes are left unsaid", kept.id, kept.residual.len()));
        }
        let (values, _) = kept.residual.as_chunks();
        let residual: Vec<f32> = values.iter().map(|value| f32::from_le_bytes(*value)).collect();
        if !zoo_kernels::clip::all_finite(&residual) {
            return refuse(format!("vnode {}: what is left unsaid is not finite", kept.id));
        }
        residuals.push(residual);
        if has_parameters {
            let failed = |cause| TrainError::State { what: "parameters at the end of a window", cause };
            vnode.load_state(kept.parameters).map_err(failed)?;
        }
    }
    Ok(Kept { updates: state.updates, residuals, has_parameters })
}
