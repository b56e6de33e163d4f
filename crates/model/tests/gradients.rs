//! Losses and gradients against a plain f64 model and its finite differences.

#![allow(clippy::disallowed_methods, reason = "the plain model is compared with a tolerance, not bit by bit")]

mod common;

use std::collections::BTreeMap;

use zoo_kernels::optimizer::AdamW;
use zoo_model::{Family, ModelConfig, Network, NetworkOptions, Optimizer};

type Weights = BTreeMap<(String, &'static str), Vec<f64>>;

#[test]
fn losses_are_those_of_a_plain_f64_model() {
    for (name, config) in small_configs() {
        let network = common::build(&config, NetworkOptions::default());
        let (inputs, targets) = common::batch(&config, 2, 3);
        let loss = network.evaluate(&inputs, &targets).expect("finite").mean();
        let expected = Reference::new(&config, &network).loss(&inputs, &targets);
        assert!((loss - expected).abs() < 2e-6 * expected, "{name}: {loss} against {expected}");
    }
}

#[test]
fn gradients_are_finite_differences_of_a_plain_f64_model() {
    for (name, config) in small_configs() {
        let mut network = common::build(&config, NetworkOptions::default());
        let (inputs, targets) = common::batch(&config, 2, 3);
        let mut reference = Reference::new(&config, &network);
        network.forward_backward(&inputs, &targets, inputs.len()).expect("finite");
        let shares = tied_shares(&config, &network, &inputs, &targets);
        for vnode in network.vnodes() {
            for parameter in vnode.parameters() {
                let place = (vnode.id().to_owned(), parameter.name());
                let mut gradient = parameter.gradient().expect("every parameter has one").to_vec();
                if place.0 == "embedding" {
                    gradient.iter_mut().zip(&shares).for_each(|(sum, share)| *sum += share);
                }
                let largest = gradient.iter().fold(0f32, |largest, value| largest.max(value.abs()));
                let stride = (gradient.len() / 9).max(1);
                for at in (0..gradient.len()).step_by(stride) {
                    let expected = reference.derivative(&place, at, &inputs, &targets);
                    let error = (f64::from(gradient[at]) - expected).abs();
                    assert!(
                        error < 1e-4 * f64::from(largest) + 1e-8,
                        "{name} {place:?}[{at}]: {} against {expected}",
                        gradient[at]
                    );
                }
            }
        }
    }
}

#[test]
fn a_tied_table_is_updated_by_both_of_its_gradients() {
    for (name, config) in small_configs().into_iter().filter(|(_, config)| config.tied_embeddings) {
        let mut network = common::build(&config, NetworkOptions::default());
        let (inputs, targets) = common::batch(&config, 2, 3);
        network.forward_backward(&inputs, &targets, inputs.len()).expect("finite");
        let table = &network.vnodes()[0].parameters()[0];
        let (mut expected, mut gradient) =
            (table.value.clone(), table.gradient().expect("a gradient").to_vec());
        let shares = tied_shares(&config, &network, &inputs, &targets);
        gradient.iter_mut().zip(&shares).for_each(|(sum, share)| *sum += share);
        let (mut mean, mut square) = (vec![0.0; expected.len()], vec![0.0; expected.len()]);
        let adamw = AdamW { lr: 0.01, beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.1 };
        adamw.step(1, true, &mut expected, &gradient, &mut mean, &mut square, 1.0);
        network.apply(&Optimizer::default(), 1, 0.01, None).expect("finite");
        assert!(network.vnodes()[0].parameters()[0].value == expected, "{name}");
    }
}

/// A tied head's share of the table's gradient, which joins the embedding's own only when a step ends.
fn tied_shares(config: &ModelConfig, network: &Network, inputs: &[u32], targets: &[u32]) -> Vec<f32> {
    let table = config.vocab_size * config.width;
    if !config.tied_embeddings {
        return vec![0.0; table];
    }
    // The same network untied, with the table as its head: the head's gradient is the share.
    let untied = ModelConfig { tied_embeddings: false, ..config.clone() };
    let mut other = common::build(&untied, NetworkOptions::default());
    let mut values: Vec<f32> = Vec::new();
    network.vnodes().iter().flat_map(|it| it.parameters()).for_each(|it| values.extend(&it.value));
    values.extend_from_within(..table);
    other.load_flat(&values).expect("the same shape");
    other.forward_backward(inputs, targets, inputs.len()).expect("finite");
    let head = other.vnodes().last().expect("a head");
    head.parameters()[0].gradient().expect("a gradient").to_vec()
}

fn small_configs() -> Vec<(&'static str, ModelConfig)> {
    let small = |config| ModelConfig { context: 12, vocab_size: 29, ..config };
    common::configs().into_iter().map(|(name, config)| (name, small(config))).collect()
}

/// The decoder in plain f64 loops over one token at a time, straight from the papers.
struct Reference<'a> {
    config: &'a ModelConfig,
    weights: Weights,
}

impl<'a> Reference<'a> {
    fn new(config: &'a ModelConfig, network: &Network) -> Self {
        let mut weights = Weights::new();
        for vnode in network.vnodes() {
            for parameter in vnode.parameters() {
                let values = parameter.value.iter().copied().map(f64::from).collect();
                weights.insert((vnode.id().to_owned(), parameter.name()), values);
            }
        }
        Self { config, weights }
    }

    fn derivative(
        &mut self,
        place: &(String, &'static str),
        at: usize,
        inputs: &[u32],
        targets: &[u32],
    ) -> f64 {
        let step = 1e-5;
        let mut loss_at = |offset: f64| {
            self.weights.get_mut(place).expect("a weight")[at] += offset;
            let loss = self.loss(inputs, targets);
            self.weights.get_mut(place).expect("a weight")[at] -= offset;
            loss
        };
        (loss_at(step) - loss_at(-step)) / (2.0 * step)
    }

    fn loss(&self, inputs: &[u32], targets: &[u32]) -> f64 {
        let context = self.config.context;
        let sequences = inputs.chunks(context).zip(targets.chunks(context));
        sequences.map(|(inputs, targets)| self.sequence(inputs, targets)).sum::<f64>() / inputs.len() as f64
    }

    fn sequence(&self, inputs: &[u32], targets: &[u32]) -> f64 {
        let width = self.config.width;
        let row = |table: &[f64], at: usize| table[at * width..][..width].to_vec();
        let mut stream: Vec<Vec<f64>> =
            inputs.iter().map(|&token| row(self.weight("embedding", "table"), token as usize)).collect();
        if self.config.family == Family::Gpt2 {
            for (position, x) in stream.iter_mut().enumerate() {
                add(x, &row(self.weight("position_embedding", "table"), position));
            }
        }
        for layer in 0..self.config.layers {
            let id = |name: &str| format!("block.{layer}.{name}");
            let normed: Vec<_> = stream.iter().map(|x| self.norm(&id("attention_norm"), x)).collect();
            let attended = self.attention(&id("attention"), &normed);
            stream.iter_mut().zip(attended).for_each(|(x, y)| add(x, &y));
            for x in &mut stream {
                let y = self.mlp(&id("mlp"), &self.norm(&id("mlp_norm"), x));
                add(x, &y);
            }
        }
        let head = self.weights.get(&("head".to_owned(), "weight"));
        let head = head.map_or(self.weight("embedding", "table"), |weight| &weight[..]);
        let losses = stream.iter().zip(targets).map(|(x, &target)| {
            let logits = product(head, &self.norm("final_norm", x));
            logits.iter().map(|logit| logit.exp()).sum::<f64>().ln() - logits[target as usize]
        });
        losses.sum()
    }

    fn norm(&self, id: &str, x: &[f64]) -> Vec<f64> {
        let gain = self.weight(id, "gain");
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let centre = if self.config.family == Family::Gpt2 { mean(x) } else { 0.0 };
        let x: Vec<f64> = x.iter().map(|value| value - centre).collect();
        let mut y = self.rms(&x, gain);
        if let Some(bias) = self.weights.get(&(id.to_owned(), "bias")) {
            add(&mut y, bias);
        }
        y
    }

    fn rms(&self, x: &[f64], gain: &[f64]) -> Vec<f64> {
        let square = x.iter().map(|value| value * value).sum::<f64>() / x.len() as f64;
        let deviation = (square + f64::from(self.config.norm_epsilon)).sqrt();
        x.iter().zip(gain).map(|(value, gain)| value / deviation * gain).collect()
    }

    fn attention(&self, id: &str, rows: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let ModelConfig { heads, kv_heads, head_dim, .. } = *self.config;
        let projected: Vec<Vec<Vec<f64>>> = rows
            .iter()
            .enumerate()
            .map(|(position, x)| {
                let qkv = self.linear(id, "qkv", "qkv_bias", x);
                let heads = qkv.chunks(head_dim).enumerate();
                heads.map(|(at, head)| self.turned(id, at, position, head)).collect()
            })
            .collect();
        let mut outputs = Vec::new();
        for (position, own) in projected.iter().enumerate() {
            let mut z = Vec::new();
            for (head, query) in own.iter().take(heads).enumerate() {
                let group = head / (heads / kv_heads);
                let (key, value) = (heads + group, heads + kv_heads + group);
                let score = |past: &Vec<Vec<f64>>| dot(query, &past[key]) / (head_dim as f64).sqrt();
                let weights: Vec<f64> = projected[..=position].iter().map(|past| score(past).exp()).collect();
                let total: f64 = weights.iter().sum();
                let weighted = |at: usize| {
                    let values =
                        projected.iter().zip(&weights).map(|(past, weight)| weight * past[value][at]);
                    values.sum::<f64>() / total
                };
                z.extend((0..head_dim).map(weighted));
            }
            outputs.push(self.linear(id, "output", "output_bias", &z));
        }
        outputs
    }

    /// A head of a row of [queries | keys | values]: queries and keys normalised and rotated.
    fn turned(&self, id: &str, at: usize, position: usize, head: &[f64]) -> Vec<f64> {
        let ModelConfig { family, heads, kv_heads, head_dim, rope_theta, .. } = *self.config;
        if family == Family::Gpt2 || at >= heads + kv_heads {
            return head.to_vec();
        }
        let gain = if at < heads { "query_gain" } else { "key_gain" };
        let head = match family {
            Family::Qwen3 => self.rms(head, self.weight(id, gain)),
            _ => head.to_vec(),
        };
        let half = head_dim / 2;
        let mut turned = head.clone();
        for i in 0..half {
            let angle = position as f64 * rope_theta.powf(-2.0 * i as f64 / head_dim as f64);
            turned[i] = head[i] * angle.cos() - head[half + i] * angle.sin();
            turned[half + i] = head[half + i] * angle.cos() + head[i] * angle.sin();
        }
        turned
    }

    fn mlp(&self, id: &str, x: &[f64]) -> Vec<f64> {
        let activated: Vec<f64> = if self.config.family == Family::Gpt2 {
            let gelu = |x: &f64| {
                let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
                0.5 * x * (1.0 + inner.tanh())
            };
            self.linear(id, "up", "up_bias", x).iter().map(gelu).collect()
        } else {
            let gate_up = self.linear(id, "gate_up", "up_bias", x);
            let (gate, up) = gate_up.split_at(self.config.hidden);
            gate.iter().zip(up).map(|(gate, up)| gate / (1.0 + (-gate).exp()) * up).collect()
        };
        self.linear(id, "down", "down_bias", &activated)
    }

    fn linear(&self, id: &str, weight: &'static str, bias: &'static str, x: &[f64]) -> Vec<f64> {
        let mut y = product(self.weight(id, weight), x);
        if let Some(bias) = self.weights.get(&(id.to_owned(), bias)) {
            add(&mut y, bias);
        }
        y
    }

    fn weight(&self, id: &str, name: &'static str) -> &[f64] {
        &self.weights[&(id.to_owned(), name)]
    }
}

fn product(weight: &[f64], x: &[f64]) -> Vec<f64> {
    weight.chunks(x.len()).map(|row| dot(row, x)).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn add(to: &mut [f64], from: &[f64]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
}
