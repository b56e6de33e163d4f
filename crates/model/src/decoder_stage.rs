//! A contiguous part of a network that only continues sequences: rows in and rows out, or tokens in and reports out.
//!
//! It keeps nothing of a sequence but keys and values, in the pages that a pass names. So whoever hosts it knows neither whose texts
//! they are nor when one ends, and a stage that is lost is made good by computing its sequences again.

use std::collections::BTreeMap;
use std::sync::Arc;

use zoo_kernels::attention::{Cached, PAGE};
use zoo_kernels::{Profile, clip};

use crate::buffer::{Buffer, Pool};
use crate::component::{Cache, Pass};
use crate::definition::{NetworkDefinition, NodeDefinition, NodeKind};
use crate::error::NetworkError;
use crate::execution::Execution;
use crate::network::{Edges, Network, Outputs};
use crate::pages::Pages;
use crate::parameter::Parameter;
use crate::passes::{DecodePass, RowRequest, TokenReport, Wanted, answers};
use crate::plan::{Plan, PlannedNode};
use crate::stage::{StageError, starts};
use crate::vnode::VNode;

/// Some VNodes that follow each other, their weights as products read them.
pub struct DecoderStage {
    profile: Profile,
    context: usize,
    /// Those that run, and after them the table that the head borrows, if its embedding is in another stage.
    vnodes: Vec<VNode>,
    /// Of those that run. Producers as places among the stage's outputs: the rows that arrive, if any do, then its VNodes'.
    edges: Vec<Edges>,
    arriving_width: Option<usize>,
    /// None where the head is.
    leaving_width: Option<usize>,
    vocab_size: usize,
    pool: Pool,
}

/// What leaves a stage.
#[derive(Clone, Debug, PartialEq)]
pub enum StageOutput {
    /// For the next stage, `[rows, leaving width]`.
    Rows(Vec<f32>),
    /// From the last: one for every request.
    Reports(Vec<Option<TokenReport>>),
}

/// A stage whose parameters are still coming, VNode by VNode, so that no more than one of them is there twice.
pub struct ComingStage {
    stage: DecoderStage,
    missing: Vec<String>,
}

impl DecoderStage {
    /// A whole network as one stage; its parameters are finite.
    pub(crate) fn whole(network: Network) -> Self {
        let (profile, context, vocab_size) = (network.profile(), network.context(), network.vocab_size());
        let cost = network.cost_at();
        let Network { mut vnodes, mut edges, pool, .. } = network;
        vnodes.truncate(cost + 1);
        edges.truncate(cost + 1);
        let mut stage = Self {
            profile,
            context,
            vnodes,
            edges,
            arriving_width: None,
            leaving_width: None,
            vocab_size,
            pool,
        };
        (0..stage.vnodes.len()).for_each(|at| stage.prepare(at));
        stage
    }

    /// The stage of this number of a network cut into `stages` of about equal work. Where it is cut depends on the definition alone.
    ///
    /// # Errors
    /// When it cannot be cut into so many.
    pub fn one(
        definition: &NetworkDefinition,
        profile: Profile,
        stages: usize,
        stage: usize,
    ) -> Result<ComingStage, StageError> {
        let cut = Cut::new(definition, stages, stage)?;
        let borrowed = cut.borrowed().cloned();
        let Cut { mut nodes, start, end } = cut;
        let is_last = end == nodes.len();
        let vocab_size = vocab_size(definition);
        nodes.truncate(end);
        let arriving_width = start.checked_sub(1).map(|before| nodes[before].definition.kind.output_width());
        let leaving_width = (!is_last).then(|| nodes[end - 1].definition.kind.output_width());
        let part = nodes.split_off(start);
        let count = part.len();
        let mut tables = BTreeMap::new();
        let mut vnode = |node: NodeDefinition| VNode::new(node, definition.context, profile, &mut tables);
        let place = |producer: usize| producer + 1 - start.max(1);
        let (mut vnodes, edges): (Vec<VNode>, Vec<Edges>) = part
            .into_iter()
            .map(|PlannedNode { definition: node, inputs, last_use, borrows, .. }| {
                let producers = inputs.into_iter().map(place).collect();
                let borrows = borrows.map(|table| table.checked_sub(start).unwrap_or(count));
                (vnode(node), Edges { producers, last_use, borrows })
            })
            .unzip();
        vnodes.extend(borrowed.map(vnode));
        let missing = vnodes.iter().map(|vnode| vnode.id().to_owned()).collect();
        let (context, pool) = (definition.context, Pool::default());
        let stage = Self { profile, context, vnodes, edges, arriving_width, leaving_width, vocab_size, pool };
        Ok(ComingStage { stage, missing })
    }

    /// So many pages for its keys and values.
    pub fn pages(&self, count: usize) -> Pages {
        Pages::new(self.vnodes.iter().map(|vnode| kv_width(&vnode.definition().kind)), count)
    }

    /// The rule of its matrix products.
    pub(crate) fn profile(&self) -> Profile {
        self.profile
    }

    /// Most positions of a sequence.
    pub(crate) fn context(&self) -> usize {
        self.context
    }

    /// Number of token ids.
    pub(crate) fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// Elements of a row that arrives; none for the first stage.
    pub fn arriving_width(&self) -> Option<usize> {
        self.arriving_width
    }

    /// Elements of a row that leaves; none for the stage with the head.
    pub fn leaving_width(&self) -> Option<usize> {
        self.leaving_width
    }

    /// Computes a pass, of which `arriving` are the rows from the stage before; there are none for the first.
    ///
    /// # Errors
    /// When it is not a pass of this stage; what is in the pages of its sequences' new positions is then undefined.
    pub fn run(
        &self,
        pages: &mut Pages,
        pass: &DecodePass,
        arriving: &[f32],
    ) -> Result<StageOutput, NetworkError> {
        pass.check(pages.count(), self.context)?;
        let sequences = pass.cached();
        let output = self.rows(pages, &pass.tokens, &pass.positions(), &sequences, arriving)?;
        if self.leaving_width.is_some() {
            // Rows that are not finite go on: they are one sequence's, and the others of the pass are not concerned.
            return Ok(StageOutput::Rows(output.to_vec()));
        }
        let given = |request: &RowRequest| match request.token {
            Wanted::Given(token) => Some(token),
            Wanted::Choice { .. } => None,
        };
        check_tokens(pass.requests.iter().filter_map(given), self.head_vocab_size())?;
        let wanted: Vec<usize> = pass.requests.iter().map(|request| request.row as usize).collect();
        let logits = self.logits(&output, &wanted, pass.tokens.len());
        Ok(StageOutput::Reports(answers(&pass.requests, &logits, self.head_vocab_size())))
    }

    /// What leaves the last of its VNodes, but for the head: of that, what arrives.
    pub(crate) fn rows(
        &self,
        pages: &mut Pages,
        tokens: &[u32],
        positions: &[u32],
        sequences: &[Cached],
        arriving: &[f32],
    ) -> Result<Arc<Buffer>, NetworkError> {
        assert_eq!(pages.nodes.len(), self.vnodes.len(), "the pages were made for another network");
        let (found, expected) = (arriving.len(), tokens.len() * self.arriving_width.unwrap_or(0));
        if found != expected {
            return Err(NetworkError::Length { found, expected });
        }
        if self.arriving_width.is_none() {
            self.check_tokens(tokens)?;
        }
        let pass = Pass {
            pool: &self.pool,
            tokens,
            context: tokens.len(),
            positions: Some(positions),
            profile: self.profile,
            recompute: false,
            noise: None,
        };
        let mut outputs = Outputs::new(&self.edges);
        let mut last = None;
        if self.arriving_width.is_some() {
            let rows = Arc::new(self.pool.copy_of(arriving));
            last = Some(Arc::clone(&rows));
            outputs.push(rows);
        }
        let count = self.edges.len() - usize::from(self.leaving_width.is_none());
        let nodes = self.vnodes.iter().zip(&self.edges).zip(&mut pages.nodes);
        for ((vnode, edges), pages) in nodes.take(count) {
            let mut cache = Cache { sequences, pages };
            let inputs = outputs.inputs(edges);
            // Who is the last to use a buffer writes on it, and must be the only one to hold it.
            drop(last.take());
            let output = vnode.decode(&pass, self.table(edges), inputs, &mut cache);
            last = Some(Arc::clone(&output));
            outputs.push(output);
        }
        Ok(last.expect("rows arrive, or an embedding makes them"))
    }

    /// The logits of some rows of what arrives at the head.
    pub(crate) fn logits(&self, hidden: &Buffer, wanted: &[usize], rows: usize) -> Buffer {
        let width = hidden.len() / rows;
        let table = self.edges.last().and_then(|edges| self.table(edges));
        if wanted.len() == rows {
            return self.head().logits(&self.pool, table, hidden);
        }
        let mut picked = self.pool.take(wanted.len() * width);
        for (to, row) in picked.chunks_exact_mut(width).zip(wanted) {
            to.copy_from_slice(&hidden[row * width..][..width]);
        }
        self.head().logits(&self.pool, table, &picked)
    }

    /// Logits of a row.
    pub(crate) fn head_vocab_size(&self) -> usize {
        match self.head().definition().kind {
            NodeKind::CrossEntropy { vocab_size, .. } => vocab_size,
            ref kind => kind.output_width(),
        }
    }

    pub(crate) fn check_tokens(&self, tokens: &[u32]) -> Result<(), NetworkError> {
        check_tokens(tokens.iter().copied(), self.vocab_size)
    }

    /// Parameters are finite, so it is what left the last VNode that is not.
    pub(crate) fn not_finite(&self) -> NetworkError {
        NetworkError::NotFinite { step: 1, vnode: self.head().id().to_owned(), what: "the output" }
    }

    /// The last VNode that runs: the head, in the last stage.
    fn head(&self) -> &VNode {
        &self.vnodes[self.edges.len() - 1]
    }

    fn table(&self, edges: &Edges) -> Option<&Parameter> {
        edges.borrows.map(|table| &self.vnodes[table].parameters()[0])
    }

    fn prepare(&mut self, at: usize) {
        let is_borrowed = self.edges.iter().any(|edges| edges.borrows == Some(at));
        self.vnodes[at].prepare(self.profile, is_borrowed);
    }
}

impl ComingStage {
    /// The VNodes whose states are missing.
    pub fn missing(&self) -> &[String] {
        &self.missing
    }

    /// Takes the state of one of them.
    ///
    /// # Errors
    /// When it is not its state, or not finite.
    pub fn load(&mut self, id: &str, state: &[u8]) -> Result<(), NetworkError> {
        let Some(at) = self.stage.vnodes.iter().position(|vnode| vnode.id() == id) else { return Ok(()) };
        let vnode = &mut self.stage.vnodes[at];
        vnode.load_state(state)?;
        if !vnode.parameters().iter().all(|parameter| clip::all_finite(&parameter.value)) {
            return Err(NetworkError::NotFinite { step: 1, vnode: id.to_owned(), what: "a parameter" });
        }
        self.stage.prepare(at);
        self.missing.retain(|missing| missing != id);
        Ok(())
    }

    /// The stage, when nothing is missing.
    pub fn complete(self) -> Option<DecoderStage> {
        self.missing.is_empty().then_some(self.stage)
    }
}

/// Bytes of a page of keys and values, of all stages together.
pub fn page_bytes(definition: &NetworkDefinition) -> usize {
    page_of(&definition.nodes)
}

fn page_of<'a>(nodes: impl IntoIterator<Item = &'a NodeDefinition>) -> usize {
    let width: usize = nodes.into_iter().map(|node| kv_width(&node.kind)).sum();
    width * 2 * PAGE * size_of::<f32>()
}

fn check_tokens(mut tokens: impl Iterator<Item = u32>, vocab_size: usize) -> Result<(), NetworkError> {
    match tokens.find(|&token| token as usize >= vocab_size) {
        Some(token) => Err(NetworkError::Token { token, vocab_size }),
        None => Ok(()),
    }
}

/// Bytes of every stage's parameters, and of a page of it, in this order.
///
/// # Errors
/// When it cannot be cut into so many.
pub fn decoder_stage_bytes(
    definition: &NetworkDefinition,
    stages: usize,
) -> Result<Vec<(u64, u64)>, StageError> {
    let bytes = |stage: usize| {
        let cut = Cut::new(definition, stages, stage)?;
        let part = || cut.nodes[cut.start..cut.end].iter().map(|node| &node.definition);
        let elements: usize = part().chain(cut.borrowed()).map(NodeDefinition::parameter_count).sum();
        Ok((4 * elements as u64, page_of(part()) as u64))
    };
    (0..stages).map(bytes).collect()
}

/// Where a stage begins and ends.
struct Cut {
    /// All that run; the head is the last.
    nodes: Vec<PlannedNode>,
    start: usize,
    end: usize,
}

impl Cut {
    fn new(definition: &NetworkDefinition, stages: usize, stage: usize) -> Result<Self, StageError> {
        let Plan { mut nodes } = Plan::new(definition)?;
        // Of a linear layer and the cost of its output, the layer is the head.
        nodes.truncate(Execution::fused(&nodes).cost + 1);
        let starts = starts(&nodes, stages)?;
        let start = *starts.get(stage).ok_or(StageError::Stages { stages: stage + 1, most: stages })?;
        let end = starts.get(stage + 1).copied().unwrap_or(nodes.len());
        Ok(Self { nodes, start, end })
    }

    /// The embedding in another stage whose table is the head's weight.
    fn borrowed(&self) -> Option<&NodeDefinition> {
        let table = self.nodes[self.start..self.end].iter().find_map(|node| node.borrows);
        table.filter(|table| *table < self.start).map(|table| &self.nodes[table].definition)
    }
}

/// Width of the keys of a VNode, 0 where it is not attention.
fn kv_width(kind: &NodeKind) -> usize {
    match *kind {
        NodeKind::Attention { kv_heads, head_dim, .. } => kv_heads * head_dim,
        NodeKind::AttentionHead { head_dim, .. } => head_dim,
        _ => 0,
    }
}

/// Ids that every table of the network has.
pub(crate) fn vocab_size(definition: &NetworkDefinition) -> usize {
    let tables = definition.nodes.iter().filter_map(|node| match node.kind {
        NodeKind::Embedding { vocab_size, .. }
        | NodeKind::CrossEntropy { vocab_size, .. }
        | NodeKind::Cost { width: vocab_size, .. } => Some(vocab_size),
        _ => None,
    });
    tables.min().expect("a plan has a cost")
}
