//! From a window to the program of one of their steps: the order of groups, and what lies between VNodes.

use std::collections::BTreeMap;
use std::ops::Range;

use zoo_model::{AdamWSettings, Decay, NodeDefinition, NodeKind, Optimizer, Remembered, TARGETS, TOKENS};
use zoo_training::{Held, TrainingSpec};

use super::build::{Builder, Kept};
use super::{Pass, Program};
use crate::account::{Claim, is_covered};
use crate::operator::{AdamWStep, Clip, Fold, Operator, Part, Point, Row, Tally, Tokens, What};
use crate::terms::{Ground, Task, TermsError};

/// Elements of one block of a sum of squares.
pub const SQUARES_BLOCK: usize = 16_384;

impl Program {
    /// That of step `step` of the window, from 0. The last step's goes on to the outcome: `sizes` are those of the updates, bytes; without them it ends
    /// where they are known.
    ///
    /// # Errors
    /// A window that makes no sense.
    pub fn of(task: &Task, step: u32, sizes: Option<&[u64]>) -> Result<Self, TermsError> {
        let ground = task.ground()?;
        let Ground { spec, definition, .. } = &ground;
        let sequences = task.sequences(step);
        let tokens = (sequences.end - sequences.start) as usize * definition.context;
        let mut builder = Builder::new(spec, tokens);
        builder.batch(task, &ground, sequences.start);
        let before = builder.state_before(task, &ground, step);
        if step > 0 && step == task.lead_steps() {
            builder.join(&ground);
        }
        let kept = builder.forward(&definition.nodes);
        let nats = Tally { what: What::Loss, lengths: vec![tokens] };
        let nats = builder.tensor("summed loss", &[2], Operator::Tally(nats), &[builder.losses]);
        builder.claim("", Pass::Loss, nats, Claim::Nats);
        builder.backward(&definition.nodes, &kept);
        let factor = spec.clip.map(|most| builder.clip(&definition.nodes, most));
        let after = builder.update(task, spec, step, &definition.nodes, factor);
        if is_covered(step) {
            builder.hash_network(&definition.nodes);
        }
        let is_last = step + 1 == task.steps();
        let is_cut = is_last && !builder.close(task, &ground, sizes)?;
        let Builder { tensors, groups, claims, .. } = builder;
        Ok(Self { tensors, groups, before, after, claims, is_cut })
    }
}

impl Builder {
    fn batch(&mut self, task: &Task, ground: &Ground, first_sequence: u64) {
        let (vocab_size, context) = (ground.spec.model.vocab_size as u32, ground.definition.context);
        let batch = |shift| Tokens {
            blob: task.data,
            vocab_size,
            order: ground.order,
            first_sequence,
            context,
            shift,
        };
        let tokens = self.tokens;
        [self.ids, self.targets] = [(TOKENS, 0), (TARGETS, 1)]
            .map(|(name, shift)| self.tensor(name, &[tokens], Operator::Tokens(batch(shift)), &[]));
        self.end_group("", Pass::Batch);
    }

    /// The state before the step: agreed on, but for that before the first, which is stored.
    fn state_before(&mut self, task: &Task, ground: &Ground, step: u32) -> Range<usize> {
        let first = self.groups.len();
        for (at, node) in ground.definition.nodes.iter().enumerate() {
            for (place, parameter) in node.parameters().into_iter().enumerate() {
                let place = (at, place);
                let kept = |held| match ground.kept.get(&held) {
                    Some(stored) => Operator::Stored(*stored),
                    None => Operator::Point(Point::Zero),
                };
                let value = match task.lead {
                    Some(_) => kept(Held::Value(place)),
                    None => Operator::Stored(ground.base[&place]),
                };
                let mut parts = vec![("", value)];
                parts.extend(match ground.spec.optimizer.remembers(&parameter.role) {
                    Remembered::AdamW => {
                        vec![(" mean", kept(Held::Mean(place))), (" square", kept(Held::Square(place)))]
                    }
                    Remembered::Muon => vec![(" momentum", kept(Held::Momentum(place)))],
                });
                let parts = parts.into_iter().map(|(part, first)| {
                    let operator = if step == 0 { first } else { Operator::Before };
                    self.tensor(&format!("{}{part}", parameter.name), &parameter.shape, operator, &[])
                });
                let parts = parts.collect();
                self.state.insert(place, parts);
            }
            self.end_group(&node.id, Pass::Before);
        }
        if step == 0 { 0..0 } else { first..self.groups.len() }
    }

    /// What the lead moved, from where the window before ended, is moved from where the round starts.
    fn join(&mut self, ground: &Ground) {
        for (at, node) in ground.definition.nodes.iter().enumerate() {
            for (place, parameter) in node.parameters().into_iter().enumerate() {
                let place = (at, place);
                let base = self.stored("base of", &parameter, ground.base[&place]);
                let end = self.stored("last end of", &parameter, ground.kept[&Held::Value(place)]);
                let inputs = [self.parameter(place), base, end];
                let join = Operator::Point(Point::Join);
                let joined = self.tensor(parameter.name, &parameter.shape, join, &inputs);
                self.state.get_mut(&place).expect("every parameter has a state")[0] = joined;
            }
            self.end_group(&node.id, Pass::Join);
        }
    }

    /// The outputs and what the backward pass takes, by VNode.
    fn forward(&mut self, nodes: &[NodeDefinition]) -> Vec<Kept> {
        let places: BTreeMap<&str, usize> =
            nodes.iter().enumerate().map(|(at, node)| (node.id.as_str(), at)).collect();
        let mut kept: Vec<Kept> = Vec::new();
        for (at, node) in nodes.iter().enumerate() {
            let slots: Vec<usize> =
                node.inputs.iter().filter_map(|input| places.get(input.as_str()).copied()).collect();
            let inputs: Vec<usize> = slots.iter().map(|&slot| kept[slot].output).collect();
            let table = match &node.kind {
                NodeKind::CrossEntropy { tied_to: Some(tied_to), .. } => (places[tied_to.as_str()], 0),
                _ => (at, 0),
            };
            let mut made = self.node_forward(at, &node.kind, &inputs, table);
            made.slots = slots;
            kept.push(made);
            self.end_group(&node.id, Pass::Forward);
        }
        kept
    }

    fn backward(&mut self, nodes: &[NodeDefinition], kept: &[Kept]) {
        self.arrived = vec![None; nodes.len()];
        for (at, node) in nodes.iter().enumerate().rev() {
            let arriving = self.arrived[at];
            self.node_backward(at, &node.kind, &kept[at], arriving);
            if let NodeKind::Embedding { .. } = node.kind
                && let Some(share) = self.borrowed
            {
                self.add_borrowed((at, 0), share);
            }
            self.end_group(&node.id, Pass::Backward);
        }
    }

    /// The factor that every gradient is multiplied with.
    fn clip(&mut self, nodes: &[NodeDefinition], most: f64) -> usize {
        let (mut squares, mut blocks, mut is_last) = (Vec::new(), Vec::new(), Vec::new());
        for (at, node) in nodes.iter().enumerate() {
            let parameters = node.parameters();
            for (place, parameter) in parameters.iter().enumerate() {
                let words = parameter.len();
                let count = words.div_ceil(SQUARES_BLOCK);
                let row = Row::of(Fold::Squares, SQUARES_BLOCK, words);
                let name = format!("squares of {} {}", node.id, parameter.name);
                let gradient = self.gradients[&(at, place)];
                squares.push(self.tensor(&name, &[count], Operator::Row(row), &[gradient]));
                blocks.push(count);
                is_last.push(place + 1 == parameters.len());
            }
        }
        let clip = Operator::Clip(Clip { most, blocks, is_last });
        let factor = self.tensor("factor", &[1], clip, &squares);
        self.end_group("", Pass::Clip);
        factor
    }

    /// Every VNode's state after the step.
    fn update(
        &mut self,
        task: &Task,
        spec: &TrainingSpec,
        step: u32,
        nodes: &[NodeDefinition],
        factor: Option<usize>,
    ) -> Range<usize> {
        let lr = task.learning_rate(spec, step);
        let (adamw, muon) = match spec.optimizer {
            Optimizer::AdamW(adamw) => (adamw, None),
            Optimizer::Muon(muon) => (muon.adamw, Some(muon)),
        };
        let muon = muon.map(|settings| self.muon(&settings, lr, nodes, factor));
        let AdamWSettings { beta1, beta2, epsilon: eps, weight_decay, decay } = adamw;
        let settings = zoo_kernels::optimizer::AdamW { lr, beta1, beta2, eps, weight_decay };
        let update = task.update(step);
        let first = self.groups.len();
        for (at, node) in nodes.iter().enumerate() {
            for (place, parameter) in node.parameters().into_iter().enumerate() {
                let place = (at, place);
                if let Some(moved) = muon.as_ref().and_then(|muon| muon.get(&place)) {
                    self.move_along(place, &parameter, moved, factor);
                    continue;
                }
                let mut inputs = self.state[&place].clone();
                inputs.push(self.gradients[&place]);
                inputs.extend(factor);
                let decay = decay == Decay::All || parameter.shape.len() > 1;
                let parts = [(Part::Value, ""), (Part::Mean, " mean"), (Part::Square, " square")];
                let parts = parts.map(|(part, suffix)| {
                    let clips = factor.is_some();
                    let adamw = Point::AdamW(AdamWStep { settings, update, decay, clips, part });
                    let name = format!("{}{suffix}", parameter.name);
                    self.tensor(&name, &parameter.shape, Operator::Point(adamw), &inputs)
                });
                self.state.insert(place, parts.to_vec());
            }
            self.end_group(&node.id, Pass::Update);
        }
        first..self.groups.len()
    }
}
