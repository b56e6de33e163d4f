//! What a training step takes of memory, found without taking it: the step's buffers are taken and dropped in the order in
//! which [`Network`](crate::Network) takes and drops them, but only counted.

use std::cell::Cell;
use std::rc::Rc;

use zoo_kernels::Profile;
use zoo_kernels::bf16::Bf16;

use crate::arena::room_of;
use crate::component::Head;
use crate::definition::{MlpActivation, NetworkDefinition, NodeDefinition, NodeKind, NormForm};
use crate::error::DefinitionError;
use crate::plan::Plan;

/// The activations and gradients of a training step, bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepMemory {
    /// The most that is in use at once.
    pub most: u64,
    /// What the forward pass of a micro-batch leaves for its backward pass, the head's input among it.
    pub kept: u64,
    /// What each VNode has to do with it, producers before consumers.
    pub vnodes: Vec<VNodeMemory>,
}

/// A VNode's part in a step's memory, bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VNodeMemory {
    /// Its place in the definition.
    pub place: usize,
    /// The gradients of its parameters, and of a table it borrows.
    pub gradients: u64,
    /// By how much more is kept after its forward pass than before: less than nothing where it makes room.
    pub kept: i64,
    /// The most that comes and goes while it works, beside what is kept up to it and all gradients.
    pub passing: u64,
}

impl NetworkDefinition {
    /// The memory of a step in micro-batches of `tokens` tokens: of its only one, or of one of several where it
    /// `accumulates`, whose gradients are there all along.
    ///
    /// # Errors
    /// What [`Network::build`](crate::Network::build) refuses.
    pub fn step_memory(
        &self,
        tokens: usize,
        accumulates: bool,
        profile: Profile,
        recompute: bool,
    ) -> Result<StepMemory, DefinitionError> {
        let plan = Plan::new(self)?;
        let mut step = Step::new(&plan, tokens, profile, recompute);
        step.micro_batch();
        let first_most = step.usage.most();
        // From the second micro-batch on all gradients are there.
        step.micro_batch();
        let most = if accumulates { step.usage.most() } else { first_most };
        let vnodes =
            plan.nodes.iter().zip(&step.gradients).zip(&step.watched).map(|((node, gradients), watched)| {
                VNodeMemory {
                    place: node.place,
                    gradients: gradients.iter().flatten().map(|room| room.bytes).sum(),
                    kept: watched.after as i64 - watched.before as i64,
                    passing: watched.forward.max(watched.backward).saturating_sub(watched.after),
                }
            });
        let vnodes: Vec<_> = vnodes.collect();
        let kept = vnodes.iter().map(|vnode| vnode.kept).sum::<i64>().max(0) as u64;
        Ok(StepMemory { most, kept, vnodes })
    }
}

/// Bytes in use, and the most since it was last asked.
#[derive(Clone, Default)]
struct Usage(Rc<(Cell<u64>, Cell<u64>, Cell<u64>)>);

/// Bytes that are in use until this is dropped.
struct Room {
    bytes: u64,
    usage: Usage,
}

impl Usage {
    fn take(&self, elements: usize) -> Room {
        self.take_bytes(elements * size_of::<f32>())
    }

    fn take_bytes(&self, bytes: usize) -> Room {
        let (now, most, lately) = &*self.0;
        let bytes = room_of(bytes) as u64;
        now.set(now.get() + bytes);
        most.set(most.get().max(now.get()));
        lately.set(lately.get().max(now.get()));
        Room { bytes, usage: self.clone() }
    }

    fn own(&self, shared: Rc<Room>) -> Room {
        Rc::try_unwrap(shared).unwrap_or_else(|shared| self.take_bytes(shared.bytes as usize))
    }

    fn now(&self) -> u64 {
        self.0.0.get()
    }

    fn most(&self) -> u64 {
        self.0.1.get()
    }

    /// The most since this was asked before.
    fn lately(&self) -> u64 {
        self.0.2.replace(self.now())
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let now = &self.usage.0.0;
        now.set(now.get() - self.bytes);
    }
}

/// What was in use before and after a VNode's forward pass, and the most during each of its passes.
#[derive(Clone, Copy, Default)]
struct Watched {
    before: u64,
    after: u64,
    forward: u64,
    backward: u64,
}

/// A step that only counts.
struct Step<'a> {
    plan: &'a Plan,
    tokens: usize,
    profile: Profile,
    recompute: bool,
    usage: Usage,
    /// Of every VNode and each of its parameters, once taken; last, of the table that it borrows.
    gradients: Vec<Vec<Option<Room>>>,
    /// What every VNode keeps for its backward pass.
    kept: Vec<Vec<Rc<Room>>>,
    /// Gradients that have arrived at every VNode's output.
    arrived: Vec<Option<Room>>,
    watched: Vec<Watched>,
}

impl<'a> Step<'a> {
    fn new(plan: &'a Plan, tokens: usize, profile: Profile, recompute: bool) -> Self {
        let nodes = plan.nodes.len();
        let slots = |node: &NodeDefinition| node.parameters().len() + 1;
        Self {
            plan,
            tokens,
            profile,
            recompute,
            usage: Usage::default(),
            gradients: plan
                .nodes
                .iter()
                .map(|node| (0..slots(&node.definition)).map(|_| None).collect())
                .collect(),
            kept: (0..nodes).map(|_| Vec::new()).collect(),
            arrived: (0..nodes).map(|_| None).collect(),
            watched: vec![Watched::default(); nodes],
        }
    }

    fn micro_batch(&mut self) {
        let hidden = self.forward();
        let cost = self.plan.nodes.len() - 1;
        let before = self.usage.now();
        self.usage.lately();
        let gradient = self.cost(cost, hidden);
        self.watched[cost] = Watched { before, after: before, forward: self.usage.lately(), backward: 0 };
        self.arrived[self.plan.nodes[cost].inputs[0]] = Some(gradient);
        for at in (0..cost).rev() {
            let arriving = self.arrived[at].take().expect("every VNode leads to the cost");
            self.usage.lately();
            self.backward(at, arriving);
            self.watched[at].backward = self.usage.lately();
        }
    }

    fn forward(&mut self) -> Rc<Room> {
        let plan = self.plan;
        let mut outputs: Vec<Option<Rc<Room>>> = Vec::new();
        let inputs_of = |outputs: &mut Vec<Option<Rc<Room>>>, at: usize| -> Vec<Rc<Room>> {
            let planned = &plan.nodes[at];
            let inputs = planned.inputs.iter().zip(&planned.last_use).map(|(&producer, &last)| {
                let output = &mut outputs[producer];
                if last { output.take() } else { output.clone() }.expect("outputs live until their last use")
            });
            inputs.collect()
        };
        let cost = plan.nodes.len() - 1;
        for at in 0..cost {
            let before = self.usage.now();
            self.usage.lately();
            let inputs = inputs_of(&mut outputs, at);
            let output = self.output(at, inputs);
            outputs.push(Some(output));
            let (after, forward) = (self.usage.now(), self.usage.lately());
            self.watched[at] = Watched { before, after, forward, backward: 0 };
        }
        inputs_of(&mut outputs, cost).pop().expect("a cost has an input")
    }

    /// The forward pass of a VNode.
    fn output(&mut self, at: usize, mut inputs: Vec<Rc<Room>>) -> Rc<Room> {
        let (usage, n) = (self.usage.clone(), self.tokens);
        if let NodeKind::Stack { widths } = &self.plan.nodes[at].definition.kind {
            return Rc::new(usage.take(n * widths.iter().sum::<usize>()));
        }
        let residual = if inputs.len() > 1 { inputs.pop() } else { None };
        let input = inputs.pop();
        let input = || input.expect("a checked network fills every slot");
        let continued = |residual: Option<Rc<Room>>, width: usize| match residual {
            Some(residual) => usage.own(residual),
            None => usage.take(n * width),
        };
        Rc::new(match self.plan.nodes[at].definition.kind {
            NodeKind::Embedding { width, .. } => usage.take(n * width),
            NodeKind::PositionEmbedding { .. }
            | NodeKind::Add { .. }
            | NodeKind::Rope { .. }
            | NodeKind::Dropout { .. } => usage.own(input()),
            NodeKind::Identity { .. } => return input(),
            NodeKind::Activation { width, .. } | NodeKind::Swiglu { width } => {
                let output = usage.take(n * width);
                self.kept[at] = vec![input()];
                output
            }
            NodeKind::Linear { outputs, .. } => {
                let x = self.operand(input());
                let output = usage.take(n * outputs);
                self.kept[at] = vec![x];
                output
            }
            NodeKind::AttentionHead { .. } => {
                let x = self.operand(input());
                let attended = self.attended_by_head(at);
                let output = Rc::clone(&attended[1]);
                self.kept[at] = vec![x];
                if !self.recompute {
                    self.kept[at].extend(attended);
                }
                return output;
            }
            NodeKind::Norm { form, width, .. } => {
                let output = usage.take(n * width);
                let numbers = if form == NormForm::Layer { 2 } else { 1 };
                self.kept[at] = vec![input()];
                self.kept[at].extend((0..numbers).map(|_| Rc::new(usage.take(n))));
                output
            }
            NodeKind::Attention { width, .. } => {
                let x = self.operand(input());
                let attended = self.attended(at);
                let output = continued(residual, width);
                self.kept[at] = vec![x];
                if !self.recompute {
                    self.kept[at].extend(attended);
                }
                output
            }
            NodeKind::Mlp { width, hidden, activation, .. } => {
                let x = self.operand(input());
                let inner = Rc::new(usage.take(n * inner_width(activation, hidden)));
                let activated = usage.take(n * hidden);
                let output = continued(residual, width);
                drop(activated);
                self.kept[at] = vec![x];
                if !self.recompute {
                    self.kept[at].push(inner);
                }
                output
            }
            NodeKind::Stack { .. } => unreachable!("it has as many inputs as it likes"),
            NodeKind::CrossEntropy { .. } | NodeKind::Cost { .. } => {
                unreachable!("the plan puts the cost last")
            }
        })
    }

    /// The forward and backward pass of the cost: the gradient of its input.
    fn cost(&mut self, at: usize, hidden: Rc<Room>) -> Room {
        let NodeKind::CrossEntropy { vocab_size, width, .. } = self.plan.nodes[at].definition.kind else {
            let gradient = self.usage.own(hidden);
            let _losses = self.usage.take(self.tokens);
            return gradient;
        };
        let gradient = self.usage.take(self.tokens * width);
        let usage = &self.usage;
        self.gradients[at][0].get_or_insert_with(|| usage.take(vocab_size * width));
        let rows = Head::block_tokens(vocab_size).min(self.tokens);
        let (_logits, _losses) = (usage.take(rows * vocab_size), usage.take(rows));
        gradient
    }

    fn backward(&mut self, at: usize, arriving: Room) {
        let (usage, n) = (self.usage.clone(), self.tokens);
        let mut kept = std::mem::take(&mut self.kept[at]);
        match self.plan.nodes[at].definition.kind {
            NodeKind::Embedding { .. } => self.receive(at, &["table"]),
            NodeKind::PositionEmbedding { .. } => {
                self.receive(at, &["table"]);
                self.give(at, 0, arriving);
            }
            NodeKind::Identity { .. } | NodeKind::Rope { .. } | NodeKind::Dropout { .. } => {
                self.give(at, 0, arriving);
            }
            NodeKind::Activation { .. } | NodeKind::Swiglu { .. } => {
                let x = usage.own(kept.pop().expect("it keeps its input"));
                drop(arriving);
                self.give(at, 0, x);
            }
            NodeKind::Stack { ref widths } => {
                for (slot, width) in widths.iter().enumerate().rev() {
                    let part = usage.take(n * width);
                    self.give(at, slot, part);
                }
            }
            NodeKind::Linear { inputs, outputs, ref tied_to, .. } => {
                self.receive(at, &["bias", "weight"]);
                if tied_to.is_some() {
                    let borrowed = self.gradients[at].last_mut().expect("one more than it has parameters");
                    borrowed.get_or_insert_with(|| usage.take(inputs * outputs));
                }
                self.input_gradient(at, inputs);
            }
            NodeKind::AttentionHead { width, head_dim, .. } => {
                self.input_gradient(at, width);
                if self.recompute {
                    let attended = self.attended_by_head(at);
                    kept.extend(attended);
                }
                let x = Rc::clone(&kept[0]);
                let dqkv = usage.take(n * 3 * head_dim);
                drop((kept, arriving));
                self.receive(at, &["qkv"]);
                drop((dqkv, x));
            }
            NodeKind::Norm { width, .. } => {
                self.input_gradient(at, width);
                self.receive(at, &["gain", "bias"]);
            }
            NodeKind::Attention { width, heads, head_dim, .. } => {
                if self.recompute {
                    let attended = self.attended(at);
                    kept.extend(attended);
                }
                let (x, rest) = kept.split_first().expect("attention keeps its input");
                let [_qkv, _z, _lse, raw @ ..] = rest else {
                    unreachable!("attention keeps what it attended")
                };
                let raw = raw.to_vec();
                let x = Rc::clone(x);
                self.receive(at, &["output_bias", "output"]);
                let dz = usage.take(n * heads * head_dim);
                self.hand_on(at, arriving);
                let dqkv = usage.take(n * self.row_width(at));
                drop((kept, dz));
                self.receive(at, &["query_gain", "key_gain"]);
                drop(raw);
                self.receive(at, &["qkv_bias", "qkv"]);
                self.input_gradient(at, width);
                drop((dqkv, x));
            }
            NodeKind::Mlp { width, hidden, activation, .. } => {
                if self.recompute {
                    kept.push(Rc::new(usage.take(n * inner_width(activation, hidden))));
                }
                self.receive(at, &["down"]);
                let activated = usage.take(n * hidden);
                self.receive(at, &["down_bias"]);
                drop(activated);
                self.hand_on(at, arriving);
                self.receive(at, &["up_bias", "up", "gate_up"]);
                self.input_gradient(at, width);
            }
            NodeKind::Add { .. } => {
                let copy = usage.take_bytes(arriving.bytes as usize);
                self.give(at, 1, copy);
                self.give(at, 0, arriving);
            }
            NodeKind::CrossEntropy { .. } | NodeKind::Cost { .. } => {
                unreachable!("the plan puts the cost last")
            }
        }
    }

    /// What attention makes of its input before the output projection: queries, keys and values, what they attend to, its
    /// normaliser, and, where heads are normalised, what they were before.
    fn attended(&self, at: usize) -> Vec<Rc<Room>> {
        let NodeKind::Attention { heads, kv_heads, head_dim, qk_norm_epsilon, .. } =
            self.plan.nodes[at].definition.kind
        else {
            unreachable!("only attention attends")
        };
        let (usage, n) = (&self.usage, self.tokens);
        let mut qkv = usage.take(n * self.row_width(at));
        let mut raw = Vec::new();
        if qk_norm_epsilon.is_some() {
            let normed = usage.take(n * self.row_width(at));
            raw.push(Rc::new(std::mem::replace(&mut qkv, normed)));
            raw.push(Rc::new(usage.take(n * (heads + kv_heads))));
        }
        let mut all = vec![self.operand(Rc::new(qkv))];
        all.extend([heads * head_dim, heads].map(|elements| Rc::new(usage.take(n * elements))));
        all.extend(raw);
        all
    }

    /// Queries, keys and values of a single head, what they attend to, and its normaliser.
    fn attended_by_head(&self, at: usize) -> Vec<Rc<Room>> {
        let NodeKind::AttentionHead { head_dim, .. } = self.plan.nodes[at].definition.kind else {
            unreachable!("only attention attends")
        };
        let (usage, n) = (&self.usage, self.tokens);
        let mut all = vec![self.operand(Rc::new(usage.take(n * 3 * head_dim)))];
        all.extend([head_dim, 1].map(|elements| Rc::new(usage.take(n * elements))));
        all
    }

    /// What only products read of an activation.
    fn operand(&self, activation: Rc<Room>) -> Rc<Room> {
        match self.profile {
            Profile::F32Exact => activation,
            Profile::Bf16Exact => {
                let elements = activation.bytes as usize / size_of::<f32>();
                Rc::new(self.usage.take_bytes(elements * size_of::<Bf16>()))
            }
        }
    }

    /// Takes the gradients of those of these parameters that the VNode has.
    fn receive(&mut self, at: usize, names: &[&str]) {
        let usage = &self.usage;
        let parameters = self.plan.nodes[at].definition.parameters();
        for (parameter, gradient) in parameters.iter().zip(&mut self.gradients[at]) {
            if names.contains(&parameter.name) {
                gradient.get_or_insert_with(|| usage.take(parameter.len()));
            }
        }
    }

    /// Takes the gradient of the first slot's input.
    fn input_gradient(&mut self, at: usize, width: usize) {
        let (usage, elements) = (&self.usage, self.tokens * width);
        self.arrived[self.plan.nodes[at].inputs[0]].get_or_insert_with(|| usage.take(elements));
    }

    /// Hands the gradient that arrived to the residual, if there is one.
    fn hand_on(&mut self, at: usize, arriving: Room) {
        if self.plan.nodes[at].inputs.len() > 1 {
            self.give(at, 1, arriving);
        }
    }

    fn give(&mut self, at: usize, slot: usize, gradient: Room) {
        self.arrived[self.plan.nodes[at].inputs[slot]].get_or_insert(gradient);
    }

    fn row_width(&self, at: usize) -> usize {
        match self.plan.nodes[at].definition.kind {
            NodeKind::Attention { heads, kv_heads, head_dim, .. } => (heads + 2 * kv_heads) * head_dim,
            _ => unreachable!("only attention has heads"),
        }
    }
}

fn inner_width(activation: MlpActivation, hidden: usize) -> usize {
    if activation == MlpActivation::Swiglu { 2 * hidden } else { hidden }
}
