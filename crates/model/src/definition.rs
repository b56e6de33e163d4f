//! What a network is made of: a directed acyclic graph of VNode definitions.

use serde::{Deserialize, Serialize};

use crate::error::DefinitionError;
use crate::execution::Execution;
use crate::optimizer::NodeOptimizer;
use crate::plan::Plan;

/// The input that stands for the token ids of a batch.
pub const TOKENS: &str = "tokens";
/// The input that stands for the ids to predict.
pub const TARGETS: &str = "targets";

/// A network before it has parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkDefinition {
    /// Positions of one sequence.
    pub context: usize,
    /// The VNodes; parameters are numbered in this order as far as the edges allow.
    pub nodes: Vec<NodeDefinition>,
}

/// What a checked definition comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outline {
    /// Ids of the nodes in the order in which they run.
    pub order: Vec<String>,
    /// Operators of a pass, where several nodes can be run as one.
    pub operators: usize,
}

/// One VNode before it has parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeDefinition {
    /// Unique name.
    pub id: String,
    /// What it computes.
    pub kind: NodeKind,
    /// One producer per slot: another node's id, [`TOKENS`] or [`TARGETS`].
    pub inputs: Vec<String>,
    /// Standard deviation of its initial weights.
    pub initial_std: f64,
    /// Standard deviation of the weights that write to the residual stream.
    pub output_initial_std: f64,
    /// Who shares its parameters.
    #[serde(default)]
    pub scope: Scope,
    /// Nodes of one group are placed on one PNode.
    #[serde(default)]
    pub colocate_group: Option<String>,
    /// How its parameters change; none: as the job says.
    #[serde(default)]
    pub optimizer: Option<NodeOptimizer>,
}

/// With whom a VNode's parameters are synchronised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// With every replica.
    #[default]
    Shared,
    /// With the replicas of the same cluster.
    Cluster,
    /// With nobody: they never leave the PNode.
    Personal,
}

/// What a VNode computes. Rows are tokens; all matrices are row-major.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum NodeKind {
    /// `table[token]`. Slot: [`TOKENS`].
    Embedding {
        /// Rows of the table.
        vocab_size: usize,
        /// Columns of the table.
        width: usize,
    },
    /// `x + table[position]`. Slot: x.
    PositionEmbedding {
        /// Rows of the table.
        context: usize,
        /// Columns of the table.
        width: usize,
    },
    /// Normalises every row. Slot: x.
    Norm {
        /// By root mean square, or by mean and variance.
        form: NormForm,
        /// Elements of a row.
        width: usize,
        /// Added to the (mean) square.
        epsilon: f32,
        /// Whether a layer norm has a bias.
        bias: bool,
    },
    /// Causal self-attention and its output projection. Slots: x, and optionally a residual to add to.
    Attention {
        /// Elements of a row of x and of the output.
        width: usize,
        /// Query heads.
        heads: usize,
        /// Key and value heads.
        kv_heads: usize,
        /// Elements of a head.
        head_dim: usize,
        /// Base of the rotary frequencies; none: queries and keys are not rotated.
        rope_theta: Option<f64>,
        /// Epsilon of the norm of every query and key head; none: they are not normalised.
        qk_norm_epsilon: Option<f32>,
        /// Whether both projections have a bias.
        bias: bool,
    },
    /// Two linear layers around an activation. Slots: x, and optionally a residual to add to.
    Mlp {
        /// Elements of a row of x and of the output.
        width: usize,
        /// Elements between the layers.
        hidden: usize,
        /// The function between the layers.
        activation: MlpActivation,
        /// Whether both layers have a bias.
        bias: bool,
    },
    /// `x w^T`, and a bias if there is one. Slot: x.
    Linear {
        /// Elements of a row of x.
        inputs: usize,
        /// Elements of a row of the output.
        outputs: usize,
        /// Whether it has a bias.
        bias: bool,
        /// The embedding whose table is w; none: w is its own.
        tied_to: Option<String>,
    },
    /// A function of every element. Slot: x.
    Activation {
        /// The function.
        function: Function,
        /// Elements of a row.
        width: usize,
    },
    /// `silu(gate) * up`, where a row of x is gate, then up. Slot: x.
    Swiglu {
        /// Elements of a row of the output, half of one of x.
        width: usize,
    },
    /// One head of causal self-attention with queries, keys and values of its own, and no output projection. Slot: x.
    AttentionHead {
        /// Elements of a row of x.
        width: usize,
        /// Elements of a row of the output.
        head_dim: usize,
        /// Base of the rotary frequencies; none: queries and keys are not rotated.
        rope_theta: Option<f64>,
    },
    /// Rotates every head of a row by its position. Slot: x.
    Rope {
        /// Elements of a row.
        width: usize,
        /// Elements of a head.
        head_dim: usize,
        /// Base of the frequencies.
        theta: f64,
    },
    /// Rows side by side. Slots: as many as it has widths.
    Stack {
        /// Elements of a row of each slot.
        widths: Vec<usize>,
    },
    /// The input as it is: where a file says that many nodes take it, or how its rows are to be read. Slot: x.
    Identity {
        /// Elements of a row.
        width: usize,
    },
    /// In training, elements set to zero at random, and the others enlarged for them. Slot: x.
    Dropout {
        /// Elements of a row.
        width: usize,
        /// Share of elements set to zero.
        rate: f64,
    },
    /// `a + b`. Slots: a, b.
    Add {
        /// Elements of a row.
        width: usize,
    },
    /// The head and the cost, as one: logits = x W^T, then cross-entropy. Slots: x, [`TARGETS`].
    CrossEntropy {
        /// Rows of W.
        vocab_size: usize,
        /// Columns of W.
        width: usize,
        /// The embedding whose table is W; none: W is its own.
        tied_to: Option<String>,
    },
    /// A cost of what the network says. Slots: x, [`TARGETS`].
    Cost {
        /// Which.
        cost: CostFunction,
        /// Elements of a row of x: what targets are below.
        width: usize,
    },
}

/// A function of one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Function {
    /// `max(0, x)`.
    Relu,
    /// GELU in its tanh form.
    Gelu,
    /// `x * sigmoid(x)`.
    Silu,
}

/// What a row of predictions costs, given its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CostFunction {
    /// Cross-entropy, in nats; predictions are logits.
    CrossEntropy,
    /// Mean squared error against the row that is 1 at the target and 0 elsewhere.
    SquareError,
}

/// How a norm measures a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NormForm {
    /// RMSNorm (Zhang and Sennrich, 2019).
    Rms,
    /// LayerNorm (Ba et al., 2016).
    Layer,
}

/// The function inside an MLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MlpActivation {
    /// `silu(gate) * up`; the first layer makes both, gate rows first (Shazeer, 2020).
    Swiglu,
    /// GELU in its tanh form.
    Gelu,
    /// `max(0, x)`.
    Relu,
    /// `x * sigmoid(x)`.
    Silu,
}

/// One parameter before it has values.
#[derive(Clone, Debug, PartialEq)]
pub struct ParameterDefinition {
    /// Name within its VNode.
    pub name: &'static str,
    /// Rows and columns, or the length of a vector.
    pub shape: Vec<usize>,
    /// Its part in the network, which decides how the optimiser treats it.
    pub role: Role,
    /// Its values before training.
    pub initial: InitialValue,
}

/// A parameter's part in the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// A table of embeddings, or the head.
    Table,
    /// The weight of a hidden linear layer; the rows of each logical matrix that is stacked in it.
    Matrix(Vec<usize>),
    /// A gain or a bias.
    Vector,
}

/// The values of a parameter before training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum InitialValue {
    /// Every element the same.
    Constant(f32),
    /// Normal with mean 0 and this standard deviation.
    Normal(f64),
}

impl ParameterDefinition {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there is no element; no valid definition is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn new(name: &'static str, shape: &[usize], role: Role, initial: InitialValue) -> Self {
        Self { name, shape: shape.to_vec(), role, initial }
    }

    fn table(name: &'static str, shape: [usize; 2], std: f64) -> Self {
        Self::new(name, &shape, Role::Table, InitialValue::Normal(std))
    }

    fn matrix(name: &'static str, rows: &[usize], columns: usize, std: f64) -> Self {
        let shape = [rows.iter().sum(), columns];
        Self::new(name, &shape, Role::Matrix(rows.to_vec()), InitialValue::Normal(std))
    }

    fn gain(name: &'static str, length: usize) -> Self {
        Self::new(name, &[length], Role::Vector, InitialValue::Constant(1.0))
    }

    fn bias(name: &'static str, length: usize) -> Self {
        Self::new(name, &[length], Role::Vector, InitialValue::Constant(0.0))
    }
}

impl NodeKind {
    /// Elements of a row of the input in a slot, of those that come from other nodes; 0 where there is none.
    pub fn input_width(&self, slot: usize) -> usize {
        match *self {
            Self::Embedding { .. } => 0,
            Self::Linear { inputs, .. } => inputs,
            Self::Swiglu { width } => width.saturating_mul(2),
            Self::Stack { ref widths } => widths.get(slot).copied().unwrap_or(0),
            Self::AttentionHead { width, .. } => width,
            _ => self.output_width(),
        }
    }

    /// Elements of a row of the output; of a cost, of its input.
    pub fn output_width(&self) -> usize {
        match *self {
            Self::Embedding { width, .. }
            | Self::PositionEmbedding { width, .. }
            | Self::Norm { width, .. }
            | Self::Attention { width, .. }
            | Self::Mlp { width, .. }
            | Self::Activation { width, .. }
            | Self::Swiglu { width }
            | Self::Rope { width, .. }
            | Self::Identity { width }
            | Self::Dropout { width, .. }
            | Self::Add { width }
            | Self::CrossEntropy { width, .. }
            | Self::Cost { width, .. } => width,
            Self::Linear { outputs, .. } => outputs,
            Self::AttentionHead { head_dim, .. } => head_dim,
            Self::Stack { ref widths } => widths.iter().fold(0, |sum, width| sum.saturating_add(*width)),
        }
    }

    /// Whether it ends a network.
    pub fn is_cost(&self) -> bool {
        matches!(self, Self::CrossEntropy { .. } | Self::Cost { .. })
    }

    /// The embedding whose table it borrows.
    pub fn tied_to(&self) -> Option<&str> {
        match self {
            Self::Linear { tied_to, .. } | Self::CrossEntropy { tied_to, .. } => tied_to.as_deref(),
            _ => None,
        }
    }
}

impl NodeDefinition {
    /// The parameters this VNode owns, in their canonical order.
    pub fn parameters(&self) -> Vec<ParameterDefinition> {
        type P = ParameterDefinition;
        let (std, output_std) = (self.initial_std, self.output_initial_std);
        match self.kind {
            NodeKind::Embedding { vocab_size, width } => vec![P::table("table", [vocab_size, width], std)],
            NodeKind::PositionEmbedding { context, width } => vec![P::table("table", [context, width], std)],
            NodeKind::Norm { width, bias, .. } => {
                let mut all = vec![P::gain("gain", width)];
                all.extend(bias.then(|| P::bias("bias", width)));
                all
            }
            NodeKind::Attention { width, heads, kv_heads, head_dim, qk_norm_epsilon, bias, .. } => {
                let (queries, keys) = (heads * head_dim, kv_heads * head_dim);
                let mut all = vec![P::matrix("qkv", &[queries, keys, keys], width, std)];
                all.extend(bias.then(|| P::bias("qkv_bias", queries + 2 * keys)));
                if qk_norm_epsilon.is_some() {
                    all.extend([P::gain("query_gain", head_dim), P::gain("key_gain", head_dim)]);
                }
                all.push(P::matrix("output", &[width], queries, output_std));
                all.extend(bias.then(|| P::bias("output_bias", width)));
                all
            }
            NodeKind::Mlp { width, hidden, activation, bias } => {
                let gated = activation == MlpActivation::Swiglu;
                let (name, rows): (_, &[usize]) =
                    if gated { ("gate_up", &[hidden, hidden]) } else { ("up", &[hidden]) };
                let mut all = vec![P::matrix(name, rows, width, std)];
                all.extend(bias.then(|| P::bias("up_bias", rows.iter().sum())));
                all.push(P::matrix("down", &[width], hidden, output_std));
                all.extend(bias.then(|| P::bias("down_bias", width)));
                all
            }
            NodeKind::Linear { inputs, outputs, bias, ref tied_to } => {
                let own = tied_to.is_none().then(|| P::matrix("weight", &[outputs], inputs, std));
                own.into_iter().chain(bias.then(|| P::bias("bias", outputs))).collect()
            }
            NodeKind::AttentionHead { width, head_dim, .. } => {
                vec![P::matrix("qkv", &[head_dim; 3], width, std)]
            }
            NodeKind::Activation { .. }
            | NodeKind::Swiglu { .. }
            | NodeKind::Rope { .. }
            | NodeKind::Stack { .. }
            | NodeKind::Identity { .. }
            | NodeKind::Dropout { .. }
            | NodeKind::Add { .. }
            | NodeKind::Cost { .. }
            | NodeKind::CrossEntropy { tied_to: Some(_), .. } => Vec::new(),
            NodeKind::CrossEntropy { vocab_size, width, tied_to: None } => {
                vec![P::table("weight", [vocab_size, width], std)]
            }
        }
    }

    /// Number of parameter elements.
    pub fn parameter_count(&self) -> usize {
        self.parameters().iter().map(ParameterDefinition::len).sum()
    }
}

impl NetworkDefinition {
    /// Checks the whole network, as building it does: every node, every edge, every size.
    ///
    /// # Errors
    /// The first thing that cannot be.
    pub fn check(&self) -> Result<Outline, DefinitionError> {
        let plan = Plan::new(self)?;
        let ids = plan.nodes.iter().map(|node| node.definition.id.clone()).collect();
        Ok(Outline { order: ids, operators: Execution::fused(&plan.nodes).operators() })
    }

    /// Number of parameter elements; a tied table counts once.
    pub fn parameter_count(&self) -> usize {
        self.nodes.iter().map(NodeDefinition::parameter_count).sum()
    }
}
