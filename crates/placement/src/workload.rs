//! What a network asks of the machines that train it.

use std::collections::BTreeMap;
use std::ops::Range;

use zoo_model::{DefinitionError, NetworkDefinition, NodeDefinition, NodeKind, Profile, TARGETS, TOKENS};

/// A plan cuts no finer than so many pieces; neighbours of longer networks go together.
pub const UNITS_MAX: usize = 256;
/// Bytes of an element of an activation on its way to another node, and of its gradient on the way back.
const ELEMENT_BYTES: f64 = 4.0;
/// Bytes of a token of text.
const TOKEN_BYTES: f64 = 4.0;
/// Operations of a multiply-add that is done once forward and twice backward.
const FLOPS: f64 = 6.0;
/// As many where the forward pass is done again.
const RECOMPUTED_FLOPS: f64 = 8.0;

/// What lies unused between buffers is this part of what they take (measured: `benches/RESULTS.md`).
const BETWEEN: u64 = 50;

/// How a network is trained, as far as it decides what that takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Tokens that pass through the network at once.
    pub micro_tokens: usize,
    /// Tokens of an inner step.
    pub step_tokens: usize,
    /// Tensors that the optimiser keeps of a parameter.
    pub moments: u64,
    /// Numeric profile.
    pub profile: Profile,
    /// Whether activations are computed again in the backward pass.
    pub recompute: bool,
    /// What a process takes beside parameters, gradients and activations, bytes.
    pub process_bytes: u64,
}

/// VNodes that no plan separates: one, or those of a `colocate_group`. Amounts are sums over them.
#[derive(Clone, Debug, PartialEq)]
pub struct Unit {
    /// Their ids, in the order in which they run.
    pub vnodes: Vec<String>,
    /// Floating-point operations per token, forward and backward.
    pub flops: f64,
    /// Parameters and optimiser state, bytes.
    pub state_bytes: u64,
    /// One version of the parameters, bytes.
    pub parameter_bytes: u64,
    gradient_bytes: u64,
    /// What a micro-batch leaves for its backward pass; less than nothing where it makes room.
    kept_bytes: i64,
    passing_bytes: u64,
}

/// A network as a chain of units. A unit of several VNodes stands where the first of them runs.
#[derive(Clone, Debug)]
pub struct Workload {
    units: Vec<Unit>,
    micro_tokens: f64,
    process_bytes: u64,
    alone_bytes: u64,
    least_bytes: u64,
    flops: f64,
    /// Bytes per token that cross the border of a range of units, either way, row by first unit.
    crossing: Vec<f64>,
    /// Cuts before these units let the fewest bytes through.
    cheap: Vec<bool>,
}

/// The output of a VNode: the unit that makes it, the units that read it, bytes per token.
struct Edge {
    from: usize,
    to: Vec<usize>,
    bytes: f64,
}

impl Workload {
    /// What `network` asks, trained on `terms`.
    ///
    /// # Errors
    /// What is wrong with the network.
    pub fn of(network: &NetworkDefinition, terms: &Terms) -> Result<Self, DefinitionError> {
        let accumulates = terms.micro_tokens < terms.step_tokens;
        let memory_of = |accumulates| {
            network.step_memory(terms.micro_tokens, accumulates, terms.profile, terms.recompute)
        };
        // Micro-batches in a pipeline follow each other, so its gradients are always added up.
        let memory = memory_of(true)?;
        let alone = if accumulates { memory.most } else { memory_of(false)?.most };

        let mut units: Vec<Unit> = Vec::new();
        let mut group_places: BTreeMap<&str, usize> = BTreeMap::new();
        let mut unit_of: BTreeMap<&str, usize> = BTreeMap::new();
        for vnode in &memory.vnodes {
            let node = &network.nodes[vnode.place];
            let parameter_bytes = 4 * node.parameter_count() as u64;
            let of_vnode = Unit {
                vnodes: vec![node.id.clone()],
                flops: flops(node, network.context, terms.recompute),
                state_bytes: parameter_bytes * (1 + terms.moments),
                parameter_bytes,
                gradient_bytes: vnode.gradients,
                kept_bytes: vnode.kept,
                passing_bytes: vnode.passing,
            };
            let place = match &node.colocate_group {
                Some(group) => *group_places.entry(group).or_insert(units.len()),
                None => units.len(),
            };
            match units.get_mut(place) {
                Some(unit) => unit.absorb(of_vnode),
                None => units.push(of_vnode),
            }
            unit_of.insert(&node.id, place);
        }
        let together = units.len().div_ceil(UNITS_MAX);
        let units: Vec<Unit> = units.chunks(together).map(Unit::joined).collect();
        unit_of.values_mut().for_each(|unit| *unit /= together);

        let edges = edges(network, &unit_of);
        let crossing = crossing(units.len(), &edges);
        let state: u64 = units.iter().map(|unit| unit.state_bytes).sum();
        let mut workload = Self {
            flops: units.iter().map(|unit| unit.flops).sum(),
            cheap: Vec::new(),
            micro_tokens: terms.micro_tokens as f64,
            process_bytes: terms.process_bytes,
            alone_bytes: with_process(state + alone, terms.process_bytes),
            least_bytes: 0,
            units,
            crossing,
        };
        workload.cheap = workload.cheap_cuts();
        let stages = (0..workload.units.len()).map(|unit| workload.unit_bytes(unit));
        workload.least_bytes = stages.min().unwrap_or(0);
        Ok(workload)
    }

    /// The pieces, in the order in which they run.
    pub fn units(&self) -> &[Unit] {
        &self.units
    }

    /// Tokens that pass through the network at once.
    pub fn micro_tokens(&self) -> f64 {
        self.micro_tokens
    }

    /// Operations per token of the whole network.
    pub fn flops(&self) -> f64 {
        self.flops
    }

    /// Memory of a node that hosts everything, bytes.
    pub fn alone_bytes(&self) -> u64 {
        self.alone_bytes
    }

    /// Parameters and optimiser state of a range, bytes.
    pub fn state_bytes(&self, units: Range<usize>) -> u64 {
        self.units[units].iter().map(|unit| unit.state_bytes).sum()
    }

    /// What the stages of a pipeline take together when nothing is in flight, bytes.
    pub(crate) fn pipeline_bytes(&self) -> u64 {
        self.units.iter().map(|unit| unit.state_bytes + unit.parameter_bytes + unit.gradient_bytes).sum()
    }

    /// Bytes per token that a node which hosts `units` sends, and as many that it receives: activations, and gradients back.
    pub fn crossing(&self, units: &Range<usize>) -> f64 {
        self.crossing[units.start * (self.units.len() + 1) + units.end]
    }

    /// Bytes per token of text that a node which hosts `units` reads.
    pub fn text(&self, units: &Range<usize>) -> f64 {
        if units.start == 0 { TOKEN_BYTES } else { 0.0 }
    }

    /// Whether a cut before this unit lets no more through than any other.
    pub fn is_cheap(&self, cut: usize) -> bool {
        self.cheap[cut]
    }

    /// Memory of a stage of a pipeline while `in_flight` micro-batches are on their way between its two passes, bytes. Beside
    /// its parameters a stage keeps the version with which micro-batches that are on their way began: one, where a step
    /// is at least as many micro-batches as the pipeline has stages (PipeDream-2BW, Narayanan et al., 2021).
    pub fn stage_bytes(&self, units: Range<usize>, in_flight: u64) -> u64 {
        let mut stage = StageMemory::default();
        self.units[units.clone()].iter().for_each(|unit| stage.add(unit));
        self.filled(&stage, &units, in_flight)
    }

    /// The memory of the smallest stage that hosts this unit and nothing else, bytes.
    pub fn unit_bytes(&self, unit: usize) -> u64 {
        self.stage_bytes(unit..unit + 1, 1)
    }

    /// The memory of the smallest stage there is, bytes.
    pub(crate) fn least_bytes(&self) -> u64 {
        self.least_bytes
    }

    pub(crate) fn filled(&self, stage: &StageMemory, units: &Range<usize>, in_flight: u64) -> u64 {
        let wire = (self.crossing(units) * self.micro_tokens) as u64;
        let kept = stage.kept.max(0) as u64 + wire;
        with_process(stage.fixed + stage.passing + in_flight * kept, self.process_bytes)
    }

    fn cheap_cuts(&self) -> Vec<bool> {
        let count = self.units.len();
        let cost = |cut: usize| self.crossing(&(cut..count));
        let least = (1..count).map(cost).fold(f64::INFINITY, f64::min);
        (0..=count).map(|cut| cut == 0 || cut == count || cost(cut) <= least).collect()
    }
}

/// Sums over the units of a stage, bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct StageMemory {
    /// Parameters in two versions, optimiser state, gradients.
    pub fixed: u64,
    /// By every micro-batch on its way.
    pub kept: i64,
    /// By the one that is worked on.
    pub passing: u64,
}

impl StageMemory {
    pub fn add(&mut self, unit: &Unit) {
        self.fixed += unit.state_bytes + unit.parameter_bytes + unit.gradient_bytes;
        self.kept += unit.kept_bytes;
        self.passing = self.passing.max(unit.passing_bytes);
    }
}

impl Unit {
    fn absorb(&mut self, other: Self) {
        self.vnodes.extend(other.vnodes);
        self.flops += other.flops;
        self.state_bytes += other.state_bytes;
        self.parameter_bytes += other.parameter_bytes;
        self.gradient_bytes += other.gradient_bytes;
        self.kept_bytes += other.kept_bytes;
        self.passing_bytes = self.passing_bytes.max(other.passing_bytes);
    }

    fn joined(units: &[Self]) -> Self {
        let mut joined = units[0].clone();
        units[1..].iter().for_each(|unit| joined.absorb(unit.clone()));
        joined
    }
}

/// What a process takes whose buffers take `bytes`.
fn with_process(bytes: u64, process_bytes: u64) -> u64 {
    bytes + bytes / BETWEEN + process_bytes
}

/// Multiply-adds of a token count as in [`zoo_model::ModelConfig::training_flops_per_token`]: tables are only read.
fn flops(node: &NodeDefinition, context: usize, recompute: bool) -> f64 {
    let parameters = node.parameter_count() as f64;
    let again = if recompute { RECOMPUTED_FLOPS } else { FLOPS };
    match node.kind {
        NodeKind::Embedding { .. }
        | NodeKind::PositionEmbedding { .. }
        | NodeKind::Add { .. }
        | NodeKind::Activation { .. }
        | NodeKind::Swiglu { .. }
        | NodeKind::Rope { .. }
        | NodeKind::Stack { .. }
        | NodeKind::Identity { .. }
        | NodeKind::Dropout { .. }
        | NodeKind::Cost { .. } => 0.0,
        NodeKind::Norm { .. } => FLOPS * parameters,
        NodeKind::Linear { inputs, outputs, .. } => FLOPS * (inputs * outputs) as f64,
        NodeKind::AttentionHead { head_dim, .. } => again * (parameters + (head_dim * context) as f64),
        NodeKind::Attention { heads, head_dim, .. } => {
            again * (parameters + (heads * head_dim * context) as f64)
        }
        NodeKind::Mlp { .. } => again * parameters,
        NodeKind::CrossEntropy { vocab_size, width, .. } => FLOPS * (vocab_size * width) as f64,
    }
}

/// The outputs that another unit reads.
fn edges(network: &NetworkDefinition, unit_of: &BTreeMap<&str, usize>) -> Vec<Edge> {
    let mut readers: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for node in &network.nodes {
        for input in node.inputs.iter().filter(|input| *input != TOKENS && *input != TARGETS) {
            readers.entry(input).or_default().push(unit_of[node.id.as_str()]);
        }
    }
    let made = |node: &NodeDefinition| {
        let from = unit_of[node.id.as_str()];
        let mut to: Vec<usize> = readers.remove(node.id.as_str()).unwrap_or_default();
        to.retain(|&unit| unit != from);
        to.sort_unstable();
        to.dedup();
        Edge { from, to, bytes: node.kind.output_width() as f64 * ELEMENT_BYTES }
    };
    network.nodes.iter().map(made).filter(|edge| !edge.to.is_empty()).collect()
}

/// For every range of units, the bytes of outputs that leave it and of those that enter it; each once.
fn crossing(units: usize, edges: &[Edge]) -> Vec<f64> {
    let mut table = vec![0.0; (units + 1) * (units + 1)];
    for start in 0..units {
        for end in start + 1..=units {
            let range = start..end;
            let crosses = |edge: &&Edge| match range.contains(&edge.from) {
                true => edge.to.iter().any(|to| !range.contains(to)),
                false => edge.to.iter().any(|to| range.contains(to)),
            };
            table[start * (units + 1) + end] = edges.iter().filter(crosses).map(|edge| edge.bytes).sum();
        }
    }
    table
}
