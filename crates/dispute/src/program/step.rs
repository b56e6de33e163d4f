//! From a window to the program of one of their steps: the order of groups, and what lies between VNodes.

use std::collections::BTreeMap;

use zoo_model::{
    AdamWSettings, Decay, NetworkDefinition, NodeDefinition, NodeKind, Optimizer, TARGETS, TOKENS,
};
use zoo_training::TrainingSpec;

use super::build::{Builder, Kept};
use super::{Pass, Program};
use crate::operator::{AdamWStep, Clip, Fold, Operator, Part, Point, Row, Tokens};
use crate::terms::{Task, TermsError};

/// Elements of one block of a sum of squares.
const SQUARES_BLOCK: usize = 16_384;

impl Program {
    /// That of inner step `step` of the window, from 0.
    ///
    /// # Errors
    /// A window that makes no sense.
    pub fn of(task: &Task, step: u32) -> Result<Self, TermsError> {
        let spec = task.check()?;
        let definition = NetworkDefinition::decoder(&spec.model)?;
        let tokens = task.share.sequences_per_step as usize * definition.context;
        let mut builder = Builder::new(&spec, tokens);
        let order = task.order(&spec)?;
        let batch = |shift| Tokens {
            order,
            first_sequence: task.first_sequence(step),
            context: definition.context,
            shift,
        };
        let [ids, targets] = [(TOKENS, 0), (TARGETS, 1)]
            .map(|(name, shift)| builder.tensor(name, &[tokens], Operator::Tokens(batch(shift)), &[]));
        (builder.ids, builder.targets) = (ids, targets);
        builder.end_group("", Pass::Batch);

        let before = builder.state_before(&definition.nodes);
        let kept = builder.forward(&definition.nodes);
        builder.backward(&definition.nodes, &kept);
        let factor = spec.clip.map(|most| builder.clip(&definition.nodes, most));
        let after = builder.update(task, &spec, step, &definition.nodes, factor);
        Ok(Self { tensors: builder.tensors, groups: builder.groups, before, after })
    }
}

impl Builder {
    fn state_before(&mut self, nodes: &[NodeDefinition]) -> std::ops::Range<usize> {
        let first = self.groups.len();
        for (at, node) in nodes.iter().enumerate() {
            for (place, parameter) in node.parameters().into_iter().enumerate() {
                let all = ["", " mean", " square"].map(|part| {
                    let name = format!("{}{part}", parameter.name);
                    self.tensor(&name, &parameter.shape, Operator::Before, &[])
                });
                self.state.insert((at, place), all);
            }
            self.end_group(&node.id, Pass::Before);
        }
        first..self.groups.len()
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

    fn update(
        &mut self,
        task: &Task,
        spec: &TrainingSpec,
        step: u32,
        nodes: &[NodeDefinition],
        factor: Option<usize>,
    ) -> std::ops::Range<usize> {
        let (Optimizer::AdamW(settings) | Optimizer::Muon(zoo_model::MuonSettings { adamw: settings, .. })) =
            spec.optimizer;
        let AdamWSettings { beta1, beta2, epsilon: eps, weight_decay, decay } = settings;
        let lr = task.learning_rate(spec, step);
        let settings = zoo_kernels::optimizer::AdamW { lr, beta1, beta2, eps, weight_decay };
        let update = task.updates + u64::from(step) + 1;
        let first = self.groups.len();
        for (at, node) in nodes.iter().enumerate() {
            for (place, parameter) in node.parameters().into_iter().enumerate() {
                let [value, mean, square] = self.state[&(at, place)];
                let mut inputs = vec![value, mean, square, self.gradients[&(at, place)]];
                inputs.extend(factor);
                let decay = decay == Decay::All || parameter.shape.len() > 1;
                for (part, suffix) in [(Part::Value, ""), (Part::Mean, " mean"), (Part::Square, " square")] {
                    let clips = factor.is_some();
                    let adamw = Point::AdamW(AdamWStep { settings, update, decay, clips, part });
                    let name = format!("{}{suffix}", parameter.name);
                    self.tensor(&name, &parameter.shape, Operator::Point(adamw), &inputs);
                }
            }
            self.end_group(&node.id, Pass::Update);
        }
        first..self.groups.len()
    }
}
