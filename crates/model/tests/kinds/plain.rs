//! A network in plain f64 loops over one sequence at a time.

use std::collections::BTreeMap;

use zoo_content::Digest;
use zoo_kernels::dropout::{self, Dropout};
use zoo_kernels::random;
use zoo_model::{CostFunction, Function, Network, NetworkDefinition, NodeDefinition, NodeKind};

type Rows = Vec<Vec<f64>>;

pub struct Plain {
    definition: NetworkDefinition,
    pub weights: BTreeMap<(String, String), Vec<f64>>,
    /// The seed and step that dropout draws from; none in evaluation.
    noise: Option<(u64, u64)>,
}

impl Plain {
    pub fn new(network: &Network, noise: Option<(u64, u64)>) -> Self {
        let mut weights = BTreeMap::new();
        for vnode in network.vnodes() {
            for parameter in vnode.parameters() {
                let values = parameter.value.iter().copied().map(f64::from).collect();
                weights.insert((vnode.id().to_owned(), parameter.name().to_owned()), values);
            }
        }
        Self { definition: network.definition().clone(), weights, noise }
    }

    pub fn derivative(&mut self, place: &(String, String), at: usize, batch: &(Vec<u32>, Vec<u32>)) -> f64 {
        let step = 1e-5;
        let mut loss_at = |offset: f64| {
            self.weights.get_mut(place).expect("a weight")[at] += offset;
            let loss = self.loss(batch);
            self.weights.get_mut(place).expect("a weight")[at] -= offset;
            loss
        };
        (loss_at(step) - loss_at(-step)) / (2.0 * step)
    }

    pub fn loss(&self, (inputs, targets): &(Vec<u32>, Vec<u32>)) -> f64 {
        let context = self.definition.context;
        let sequences = inputs.chunks(context).zip(targets.chunks(context)).enumerate();
        let sum: f64 = sequences.map(|(at, (i, t))| self.sequence(at * context, i, t)).sum();
        sum / inputs.len() as f64
    }

    fn sequence(&self, first_row: usize, inputs: &[u32], targets: &[u32]) -> f64 {
        let mut outputs: BTreeMap<&str, Rows> = BTreeMap::new();
        for node in &self.definition.nodes {
            if let NodeKind::Cost { cost, .. } = node.kind {
                return cost_of(cost, &outputs[node.inputs[0].as_str()], targets);
            }
            let taken: Vec<&Rows> =
                node.inputs.iter().filter_map(|input| outputs.get(input.as_str())).collect();
            let rows = self.run(node, &taken, first_row, inputs);
            outputs.insert(&node.id, rows);
        }
        unreachable!("a network ends with a cost")
    }

    fn run(&self, node: &NodeDefinition, taken: &[&Rows], first_row: usize, tokens: &[u32]) -> Rows {
        let all =
            |act: &dyn Fn(&[f64]) -> Vec<f64>| -> Rows { taken[0].iter().map(|row| act(row)).collect() };
        let each = |act: &dyn Fn(f64) -> f64| all(&|row| row.iter().map(|x| act(*x)).collect());
        match &node.kind {
            NodeKind::Embedding { width, .. } => {
                let table = self.weight(node, "table");
                tokens.iter().map(|&token| table[token as usize * width..][..*width].to_vec()).collect()
            }
            NodeKind::PositionEmbedding { width, .. } => {
                let table = self.weight(node, "table").chunks(*width);
                taken[0].iter().zip(table).map(|(row, own)| sum(row, own)).collect()
            }
            NodeKind::Norm { epsilon, .. } => {
                let (gain, bias) = (self.weight(node, "gain"), self.weight(node, "bias"));
                all(&|row| layer_norm(row, gain, bias, f64::from(*epsilon)))
            }
            NodeKind::Linear { bias, tied_to, .. } => {
                let weight = match tied_to {
                    Some(id) => &self.weights[&(id.clone(), "table".to_owned())],
                    None => self.weight(node, "weight"),
                };
                let zeros = vec![0.0; weight.len()];
                let bias = if *bias { self.weight(node, "bias") } else { &zeros };
                all(&|row| sum(&product(weight, row), bias))
            }
            NodeKind::Activation { function, .. } => each(&|x| match function {
                Function::Relu => x.max(0.0),
                Function::Silu => x / (1.0 + (-x).exp()),
                Function::Gelu => {
                    let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
                    0.5 * x * (1.0 + inner.tanh())
                }
            }),
            NodeKind::Swiglu { width } => all(&|row| {
                let (gate, up) = row.split_at(*width);
                gate.iter().zip(up).map(|(gate, up)| gate / (1.0 + (-gate).exp()) * up).collect()
            }),
            NodeKind::AttentionHead { head_dim, rope_theta, .. } => {
                attend(self.weight(node, "qkv"), taken[0], *head_dim, *rope_theta)
            }
            NodeKind::Rope { head_dim, theta, .. } => {
                let rows = taken[0].iter().enumerate();
                rows.map(|(at, row)| {
                    row.chunks(*head_dim).flat_map(|head| turned(head, at, *theta)).collect()
                })
                .collect()
            }
            NodeKind::Stack { .. } => {
                (0..tokens.len()).map(|at| taken.iter().flat_map(|rows| rows[at].clone()).collect()).collect()
            }
            NodeKind::Identity { .. } => taken[0].clone(),
            NodeKind::Dropout { width, rate } => {
                let Some((seed, step)) = self.noise else { return taken[0].clone() };
                let seed = random::bits(seed, u64::from_le_bytes(*b"dropout "), step);
                let place = Dropout { rate: *rate, seed, stream: stream(&node.id) };
                let mut factors = vec![1.0; width * tokens.len()];
                dropout::apply(place, &mut factors, (first_row * width) as u64);
                let factors = factors.chunks(*width).map(|row| row.iter().copied().map(f64::from));
                taken[0]
                    .iter()
                    .zip(factors)
                    .map(|(row, m)| row.iter().zip(m).map(|(x, m)| x * m).collect())
                    .collect()
            }
            NodeKind::Add { .. } => taken[0].iter().zip(taken[1]).map(|(a, b)| sum(a, b)).collect(),
            other => unreachable!("{other:?} is tested elsewhere"),
        }
    }

    fn weight(&self, node: &NodeDefinition, name: &str) -> &Vec<f64> {
        &self.weights[&(node.id.clone(), name.to_owned())]
    }
}

/// The stream that a VNode's dropout draws from.
fn stream(id: &str) -> u64 {
    let digest = Digest::of(format!("zoo/initial/1\0{id}\0dropout").as_bytes());
    u64::from_le_bytes(digest.as_bytes()[..8].try_into().expect("eight bytes"))
}

fn cost_of(cost: CostFunction, rows: &Rows, targets: &[u32]) -> f64 {
    let losses = rows.iter().zip(targets).map(|(row, &target)| match cost {
        CostFunction::CrossEntropy => row.iter().map(|x| x.exp()).sum::<f64>().ln() - row[target as usize],
        CostFunction::SquareError => {
            let wanted = |at: usize| if at == target as usize { 1.0 } else { 0.0 };
            let squares = row.iter().enumerate().map(|(at, x)| (x - wanted(at)).powi(2));
            squares.sum::<f64>() / row.len() as f64
        }
    });
    losses.sum()
}

fn layer_norm(row: &[f64], gain: &[f64], bias: &[f64], epsilon: f64) -> Vec<f64> {
    let mean = row.iter().sum::<f64>() / row.len() as f64;
    let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / row.len() as f64;
    let normed = row.iter().map(|x| (x - mean) / (variance + epsilon).sqrt());
    normed.zip(gain).zip(bias).map(|((x, gain), bias)| x * gain + bias).collect()
}

fn attend(weight: &[f64], rows: &Rows, head_dim: usize, theta: Option<f64>) -> Rows {
    let turn = |part: &[f64], at| theta.map_or(part.to_vec(), |theta| turned(part, at, theta));
    let projected: Vec<[Vec<f64>; 3]> = rows
        .iter()
        .enumerate()
        .map(|(at, row)| {
            let qkv = product(weight, row);
            let parts: Vec<&[f64]> = qkv.chunks(head_dim).collect();
            [turn(parts[0], at), turn(parts[1], at), parts[2].to_vec()]
        })
        .collect();
    let attended = projected.iter().enumerate().map(|(at, [query, ..])| {
        let past = &projected[..=at];
        let weights: Vec<f64> =
            past.iter().map(|[_, key, _]| (dot(query, key) / (head_dim as f64).sqrt()).exp()).collect();
        let total: f64 = weights.iter().sum();
        let element = |j: usize| past.iter().zip(&weights).map(|([.., value], w)| w * value[j]).sum::<f64>();
        (0..head_dim).map(|j| element(j) / total).collect()
    });
    attended.collect()
}

fn turned(head: &[f64], position: usize, theta: f64) -> Vec<f64> {
    let half = head.len() / 2;
    let mut turned = head.to_vec();
    for i in 0..half {
        let angle = position as f64 * theta.powf(-2.0 * i as f64 / head.len() as f64);
        turned[i] = head[i] * angle.cos() - head[half + i] * angle.sin();
        turned[half + i] = head[half + i] * angle.cos() + head[i] * angle.sin();
    }
    turned
}

fn product(weight: &[f64], x: &[f64]) -> Vec<f64> {
    weight.chunks(x.len()).map(|row| dot(row, x)).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn sum(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a + b).collect()
}
