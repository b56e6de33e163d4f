//! What liars do to a model: ten replicas, three of which attack, and the loss beside that of an honest run.
//!
//!     cargo run --release -p zoo-training --example attacks -- TEXT [ROUNDS [ATTACK [RULE]]]
//!     cargo run --release -p zoo-training --example attacks -- TEXT trials [ATTACK]
//!
//! The second trains every window of an attacker again as a verifier does, and compares what it gave; then, of a thousand attackers with lots of their own, after
//! how many such windows they are found out, beside `1 - (1 - s d)^x`.
//!
//! The rule `zoo` is the network's: contributions that have nothing to do with the others or were given before are left out, copies count once, windows are
//! trained again by lot (50 of 1,000) and those of whoever was left out or copied for certain, two rounds later whoever's was forged is in quarantine,
//! for 16 rounds and each time for twice as many.
//! `zoo-alone` is the same without verification. The other rules are those of `zoo_update::rules`; nobody is excluded there.
//!
//! Windows, updates and the outer step are those of the network: an attacker's update goes through the codec like any other, and it knows
//! what all honest ones say before it says anything.

use std::collections::VecDeque;
use std::ops::{ControlFlow, Range};

use zoo_content::{Digest, VerifiedBlob};
use zoo_model::VNode;
use zoo_training::{
    AggregateTask, Checkpoint, Dataset, Part, Progress, Schedule, Share, SparseSettings, Summand, Trainer,
    TrainingSpec, UpdateFormat, VNodeState, VNodeUpdate, WindowTask, aggregate, evaluate, layout, network_of,
    norm_limits, preset, train_window,
};
use zoo_update::rules::{CenteredClip, Krum, Mean, Median, Rule, TrimmedMean};
use zoo_update::{Header, Layout, Update};

const REPLICAS: usize = 10;
const ATTACKERS: usize = 3;
const INNER_STEPS: u32 = 10;
const SEQUENCES_PER_STEP: u32 = 2;
/// Windows of 1,000 that are trained again.
const VERIFIED_IN_1000: u64 = 50;
/// A window is drawn when the next round is sealed, and trained again in the one after.
const SETTLED_AFTER: u32 = 2;
const QUARANTINE_ROUNDS: u32 = 16;
const HELD_OUT_BYTES: usize = 60_000;

/// What honest replicas gave is known to attackers for so many rounds.
const LAST: usize = 12;

const ATTACKS: [&str; 23] = [
    "none",
    "lazy",
    "truncated",
    "random",
    "zero",
    "scaled",
    "flipped",
    "flipped-10",
    "replayed",
    "replayed-2",
    "replayed-8",
    "replayed-9",
    "replayed-mixed",
    "copied",
    "copied-noisy",
    "copied-one",
    "wrong-data",
    "wrong-seed",
    "withheld",
    "alie",
    "ipm",
    "constant",
    "colluding",
];
const RULES: [&str; 7] = ["zoo", "zoo-alone", "mean", "median", "trimmed-mean", "krum", "centered-clip"];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let path = arguments.first().expect("the path of a text");
    if arguments.get(1).is_some_and(|mode| mode == "trials") {
        return trials(&Text::read(path), arguments.get(2).map(String::as_str));
    }
    let rounds = arguments.get(1).map_or(60, |rounds| rounds.parse().expect("a number of rounds"));
    let wanted =
        |at: usize, name: &str| arguments.get(at).is_none_or(|wanted| wanted == name || wanted == "all");
    let text = Text::read(path);
    let rules: Vec<&str> = match arguments.get(3) {
        None => vec!["zoo"],
        Some(_) => RULES.into_iter().filter(|rule| wanted(3, rule)).collect(),
    };
    println!(
        "attack, rule: held-out loss, against an honest run by the network's rule; left out (and counted as copies), of all windows of attackers; convicted after rounds"
    );
    let honest = Run::new(&text, rounds, "none", "zoo").finish();
    println!(
        "none, zoo: {:.4}; honest contributions left out: {}, copied: {}",
        honest.loss, honest.wronged, honest.copied
    );
    for rule in rules {
        for attack in
            ATTACKS.into_iter().filter(|attack| wanted(2, attack) && (*attack, rule) != ("none", "zoo"))
        {
            let ended = Run::new(&text, rounds, attack, rule).finish();
            println!(
                "{attack}, {rule}: {:.4}, {:+.2} %; {} (copies {}) of {}; {:?}; honest contributions left out: {}, copied: {}",
                ended.loss,
                (ended.loss / honest.loss - 1.0) * 100.0,
                ended.left_out,
                ended.copies,
                ended.attacks,
                ended.convicted_after,
                ended.wronged,
                ended.copied,
            );
        }
    }
}

/// How soon each attack is found out.
fn trials(text: &Text, wanted: Option<&str>) {
    const ROUNDS: u32 = 6;
    const TRIALS: usize = 1000;
    /// Of the standard normal distribution: 99 % lie within.
    const QUANTILE: f64 = 2.576;
    let mut random = Random(991);
    println!(
        "attack: windows that do not come out again, of all that were forged; convicted after x: measured, formula +- 99 %"
    );
    for attack in ATTACKS
        .into_iter()
        .filter(|attack| *attack != "none" && wanted.is_none_or(|wanted| wanted == *attack))
    {
        let windows = Run::new(text, ROUNDS, attack, "zoo-alone").finish().found;
        if windows.is_empty() {
            println!("{attack}: nothing is given, so nothing is found wrong");
            continue;
        }
        let found = windows.iter().filter(|found| **found).count();
        let effectiveness = found as f64 / windows.len() as f64;
        let mut caught_at = |trial: usize| -> usize {
            let is_caught =
                |at: &usize| random.next() % 1000 < VERIFIED_IN_1000 && windows[(trial + at) % windows.len()];
            (1..=400).find(is_caught).unwrap_or(usize::MAX)
        };
        let caught: Vec<usize> = (0..TRIALS).map(&mut caught_at).collect();
        print!("{attack}: {found} of {};", windows.len());
        for within in [1, 5, 20, 60] {
            let measured = caught.iter().filter(|at| **at <= within).count() as f64 / TRIALS as f64;
            let expected = 1.0 - (1.0 - VERIFIED_IN_1000 as f64 / 1000.0 * effectiveness).powi(within as i32);
            let deviation = QUANTILE * (expected * (1.0 - expected) / TRIALS as f64).sqrt();
            let verdict = if (measured - expected).abs() <= deviation { "within" } else { "OUTSIDE" };
            print!(" {within}: {measured:.3}, {expected:.3} +- {deviation:.3}, {verdict};");
        }
        println!();
    }
}

/// The text, cut, and what those train on who train on something else.
struct Text {
    training: Dataset,
    other: Dataset,
    held_out: Dataset,
}

impl Text {
    fn read(path: &str) -> Self {
        let bytes = std::fs::read(path).unwrap_or_else(|cause| panic!("{path}: {cause}"));
        let (training, held_out) = bytes.split_at(bytes.len() * 9 / 10);
        let held_out = &held_out[..held_out.len().min(HELD_OUT_BYTES)];
        let dataset = |bytes: &[u8]| {
            let tokens: Vec<u32> = bytes.iter().map(|&byte| byte.into()).collect();
            Dataset::encode(256, &tokens, tokens.len() as u64).expect("bytes are tokens")
        };
        let mut random = Random(5);
        let noise: Vec<u8> = training.iter().map(|_| random.next() as u8).collect();
        Self { training: dataset(training), other: dataset(&noise), held_out: dataset(held_out) }
    }
}

/// A counter, hashed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 += 1;
        let digest = Digest::of(&self.0.to_le_bytes());
        u64::from_le_bytes(*digest.as_bytes().first_chunk().expect("32 bytes"))
    }

    /// Between -1 and 1.
    fn unit(&mut self) -> f64 {
        self.next() as f64 / (u64::MAX / 2) as f64 - 1.0
    }
}

/// What one replica has given to a round.
struct Given {
    tokens: u64,
    updates: Vec<VNodeUpdate>,
    /// Whether it is what comes of its window.
    is_true: bool,
    /// What whoever trains the window of an attacker again comes to.
    again: Vec<VNodeUpdate>,
}

struct Run<'a> {
    text: &'a Text,
    spec: TrainingSpec,
    /// The VNodes and their parameters' shapes, in network order.
    places: Vec<(String, Layout)>,
    rounds: u32,
    attack: &'a str,
    rule: &'a str,
    checkpoint: Checkpoint,
    kept: Vec<Option<VerifiedBlob>>,
    /// What replicas came to in the rounds before, the newest first.
    last: VecDeque<Vec<Vec<Vec<f32>>>>,
    /// By replica: through which round it is in quarantine, and how often it was.
    quarantine: Vec<(u32, u32)>,
    /// Who is convicted when a round begins.
    to_be_convicted: Vec<(u32, usize)>,
    rules: Vec<Box<dyn Rule + Send + Sync>>,
    random: Random,
    ended: Ended,
}

#[derive(Default)]
struct Ended {
    loss: f64,
    left_out: u32,
    attacks: u32,
    wronged: u32,
    /// Contributions of attackers, and of others, that counted only as a part.
    copies: u32,
    copied: u32,
    convicted_after: Vec<u32>,
    /// Of each window of an attacker, whether it does not come out again.
    found: Vec<bool>,
}

impl<'a> Run<'a> {
    fn new(text: &'a Text, rounds: u32, attack: &'a str, rule: &'a str) -> Self {
        let spec = TrainingSpec {
            clip: Some(1.0),
            schedule: Schedule::Cosine {
                learning_rate: 1e-3,
                minimum_learning_rate: 1e-4,
                warmup_steps: 30,
                decay_steps: u64::from(rounds * INNER_STEPS),
            },
            update: UpdateFormat::Sparse(SparseSettings::default()),
            ..preset::by_name("bench-s").expect("a preset").spec
        };
        let checkpoint = Trainer::new(spec.clone(), &text.training).expect("a text").checkpoint();
        let rule_of = |_| -> Box<dyn Rule + Send + Sync> {
            match rule {
                "median" => Box::new(Median),
                "trimmed-mean" => Box::new(TrimmedMean(ATTACKERS)),
                "krum" => Box::new(Krum(ATTACKERS)),
                "centered-clip" => Box::new(CenteredClip::default()),
                _ => Box::new(Mean),
            }
        };
        let network = network_of(&spec).expect("a preset");
        let place = |vnode: &VNode| (vnode.id().to_owned(), layout(vnode).expect("a preset"));
        Self {
            text,
            places: network.vnodes().iter().map(place).collect(),
            rounds,
            attack,
            rule,
            rules: checkpoint.vnodes.iter().map(rule_of).collect(),
            spec,
            checkpoint,
            kept: vec![None; REPLICAS],
            last: VecDeque::new(),
            quarantine: vec![(0, 0); REPLICAS],
            to_be_convicted: Vec::new(),
            random: Random(77),
            ended: Ended::default(),
        }
    }

    fn finish(mut self) -> Ended {
        for round in 0..self.rounds {
            self.round(round);
        }
        let network = self.checkpoint.network(&self.spec).expect("it was made here");
        let part = Part { shard: 0, shards: 1, batch_windows: 16 };
        self.ended.loss = evaluate(&network, &self.text.held_out, part).expect("finite").loss();
        self.ended
    }

    fn round(&mut self, round: u32) {
        self.convict(round);
        let there: Vec<usize> =
            (0..REPLICAS).filter(|&replica| round >= self.quarantine[replica].0).collect();
        let trained = self.train(round, &there);
        let given = self.attacked(round, &there, trained);
        let counted: Vec<usize> = there.into_iter().filter(|&replica| given[replica].is_some()).collect();
        let given: Vec<Given> = given.into_iter().flatten().collect();
        let (left_out, alike) = if self.rule.starts_with("zoo") {
            self.aggregate(round, &given)
        } else {
            self.combine(round, &given);
            (Vec::new(), Vec::new())
        };
        for (at, (&replica, given)) in counted.iter().zip(&given).enumerate() {
            let (is_left_out, is_alike) = (left_out.contains(&at), alike.contains(&at));
            self.ended.attacks += u32::from(!given.is_true);
            if self.is_attacker(replica) {
                self.ended.found.push(given.updates != given.again);
            }
            self.ended.left_out += u32::from(is_left_out && !given.is_true);
            self.ended.wronged += u32::from(is_left_out && given.is_true);
            self.ended.copies += u32::from(is_alike && !given.is_true);
            self.ended.copied += u32::from(is_alike && given.is_true);
            let is_drawn = is_left_out || is_alike || self.random.next() % 1000 < VERIFIED_IN_1000;
            if self.rule == "zoo" && is_drawn && !given.is_true {
                self.to_be_convicted.push((round + SETTLED_AFTER, replica));
            }
        }
    }

    /// Whoever was found out by now is excluded.
    fn convict(&mut self, round: u32) {
        let (now, later) = self.to_be_convicted.iter().partition(|(when, _)| *when <= round);
        self.to_be_convicted = later;
        for (_, replica) in now {
            let (through, times) = &mut self.quarantine[replica];
            if round >= *through {
                (*through, *times) = (round + (QUARANTINE_ROUNDS << *times), *times + 1);
                self.kept[replica] = None;
                self.ended.convicted_after.push(round);
            }
        }
    }

    fn is_attacker(&self, replica: usize) -> bool {
        replica < ATTACKERS && self.attack != "none"
    }

    /// What replicas come to, each on its own sequences.
    fn train(&mut self, round: u32, there: &[usize]) -> Vec<(usize, Given)> {
        let own = u64::from(SEQUENCES_PER_STEP * INNER_STEPS);
        let window = |&replica: &usize, attack: &str| {
            let (mut data, mut first) =
                (&self.text.training, (u64::from(round) * REPLICAS as u64 + replica as u64) * own);
            let mut inner_steps = INNER_STEPS;
            let mut base = std::borrow::Cow::Borrowed(&self.checkpoint);
            match attack {
                _ if !self.is_attacker(replica) => {}
                "lazy" => inner_steps = INNER_STEPS / 5,
                "wrong-data" => {
                    data = &self.text.other;
                    base.to_mut().lineage.data = data.digest();
                }
                "wrong-seed" => first = (1 << 40) + replica as u64 * own,
                _ => {}
            }
            let task = WindowTask {
                spec: &self.spec,
                data,
                base: &base,
                replica: self.kept[replica].as_ref().map(VerifiedBlob::bytes),
                round,
                first_step: u64::from(round * INNER_STEPS),
                lead: None,
                share: Share { first_sequence: first, sequences_per_step: SEQUENCES_PER_STEP, inner_steps },
                ahead_steps: 0,
            };
            train_window(task, &mut |_| ControlFlow::Continue(())).expect("it trains")
        };
        let window = |replica: &usize| {
            let again = self.is_attacker(*replica).then(|| window(replica, "none").updates);
            (*replica, window(replica, self.attack), again.unwrap_or_default())
        };
        let half = there.len().div_ceil(2);
        let results = std::thread::scope(|scope| {
            let window = &window;
            let on_a_thread =
                |part: Range<usize>| scope.spawn(move || there[part].iter().map(window).collect::<Vec<_>>());
            let parts = [on_a_thread(0..half), on_a_thread(half..there.len())];
            parts.into_iter().flat_map(|part| part.join().expect("no window panics")).collect::<Vec<_>>()
        });
        let mut given = Vec::new();
        for (replica, result, again) in results {
            self.kept[replica] = Some(result.replica.clone());
            let (tokens, is_true) = (result.tokens(), !self.is_attacker(replica));
            given.push((replica, Given { tokens, updates: result.updates, is_true, again }));
        }
        given
    }

    /// The same, with the updates of those who attack with them.
    fn attacked(&mut self, round: u32, there: &[usize], trained: Vec<(usize, Given)>) -> Vec<Option<Given>> {
        let said: Vec<Vec<Vec<f32>>> = trained.iter().map(|(_, given)| self.decoded(round, given)).collect();
        let honest: Vec<&Vec<Vec<f32>>> = there
            .iter()
            .zip(&said)
            .filter(|(replica, _)| !self.is_attacker(**replica))
            .map(|(_, said)| said)
            .collect();
        let mut given: Vec<Option<Given>> = (0..REPLICAS).map(|_| None).collect();
        for ((replica, mut own), values) in trained.into_iter().zip(&said) {
            let lies = |place: usize, random: &mut Random| {
                let of_place: Vec<&Vec<f32>> = honest.iter().map(|said| &said[place]).collect();
                let back = match self.attack {
                    "replayed-2" => 2,
                    "replayed-8" => 8,
                    "replayed-9" => 9,
                    _ => 1,
                };
                let last = self.last.get(back - 1).and_then(|last| last.get(replica)?.get(place));
                lie(self.attack, &values[place], &of_place, last, replica, random)
            };
            if self.is_attacker(replica) {
                if self.attack == "withheld" {
                    continue;
                }
                own.tokens = u64::from(SEQUENCES_PER_STEP * INNER_STEPS) * self.spec.model.context as u64;
                for place in 0..own.updates.len() {
                    if let Some(lie) = lies(place, &mut self.random) {
                        own.updates[place] = self.encoded(round, own.tokens, place, &lie);
                    }
                }
            }
            given[replica] = Some(own);
        }
        let mut last = vec![Vec::new(); REPLICAS];
        there.iter().zip(said).for_each(|(&replica, said)| last[replica] = said);
        self.last.push_front(last);
        self.last.truncate(LAST);
        given
    }

    fn header(&self, round: u32, tokens: u64, place: usize) -> Header {
        let (vnode, layout) = self.places[place].clone();
        Header { round, vnode, tokens, layout }
    }

    fn updates(&self, round: u32, given: &Given) -> Vec<Update> {
        let decode = |(place, update): (usize, &VNodeUpdate)| {
            let header = self.header(round, given.tokens, place);
            self.spec.update.codec().decode(update.blob.bytes(), &header).expect("it was encoded here")
        };
        given.updates.iter().enumerate().map(decode).collect()
    }

    fn decoded(&self, round: u32, given: &Given) -> Vec<Vec<f32>> {
        let real =
            |update: &Update| update.values().iter().map(|&value| value as f32 / (1 << 24) as f32).collect();
        self.updates(round, given).iter().map(real).collect()
    }

    fn encoded(&self, round: u32, tokens: u64, place: usize, values: &[f32]) -> VNodeUpdate {
        let header = self.header(round, tokens, place);
        let codec = self.spec.update.codec();
        let bytes = codec.encode(&header, values, &mut Vec::new()).expect("finite");
        let norm = codec.decode(&bytes, &header).expect("it was encoded here").norm();
        VNodeUpdate { vnode: header.vnode, blob: VerifiedBlob::new(bytes), norm }
    }

    /// The network's outer step; returns who was left out, and who is like another.
    fn aggregate(&mut self, round: u32, given: &[Given]) -> (Vec<usize>, Vec<usize>) {
        let norms: Vec<Vec<u64>> =
            given.iter().map(|given| given.updates.iter().map(|update| update.norm).collect()).collect();
        let blobs: Vec<Vec<VerifiedBlob>> = given
            .iter()
            .map(|given| given.updates.iter().map(|update| update.blob.clone()).collect())
            .collect();
        let summands: Vec<Summand> = given
            .iter()
            .zip(norms.iter().zip(&blobs))
            .map(|(given, (norms, blobs))| Summand::contribution(round, given.tokens, norms, blobs))
            .collect();
        let task = AggregateTask {
            spec: &self.spec,
            base: &self.checkpoint,
            round,
            step: u64::from((round + 1) * INNER_STEPS),
            norm_limits: &norm_limits(&norms),
            summands: &summands,
            amendments: &[],
            is_last: false,
        };
        let aggregation = aggregate(task).expect("there are contributions");
        self.checkpoint = aggregation.checkpoint;
        (aggregation.left_out, aggregation.alike)
    }

    /// The outer step by another rule.
    fn combine(&mut self, round: u32, given: &[Given]) {
        let updates: Vec<Vec<Update>> = given.iter().map(|given| self.updates(round, given)).collect();
        let mut network = self.checkpoint.network(&self.spec).expect("it was made here");
        let mut vnodes = Vec::new();
        for (place, vnode) in network.vnodes_mut().iter_mut().enumerate() {
            let of_place: Vec<Update> = updates.iter().map(|updates| updates[place].clone()).collect();
            let combined = self.rules[place].combine(&of_place).expect("there are contributions");
            let values = vnode.parameters_mut().iter_mut().flat_map(|parameter| &mut parameter.value);
            let rate = self.spec.outer.learning_rate;
            values.zip(&combined).for_each(|(value, direction)| *value -= rate * direction);
            let parameters = VerifiedBlob::new(vnode.state_bytes());
            vnodes.push(VNodeState {
                id: vnode.id().to_owned(),
                parameters,
                optimizer: None,
                momentum: None,
                memory: None,
            });
        }
        let step = u64::from((round + 1) * INNER_STEPS);
        let progress = Progress { round: u64::from(round) + 1, step, ..self.checkpoint.progress };
        self.checkpoint = Checkpoint { lineage: self.checkpoint.lineage, progress, vnodes };
    }
}

/// What an attacker says of a VNode instead of `own`, which it would have come to; `honest` is what the others say, `last` what it came to
/// in the round before, or in one before that.
fn lie(
    attack: &str,
    own: &[f32],
    honest: &[&Vec<f32>],
    last: Option<&Vec<f32>>,
    replica: usize,
    random: &mut Random,
) -> Option<Vec<f32>> {
    let norm = |values: &[f32]| values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
    let scaled = |factor: f32| own.iter().map(|value| value * factor).collect::<Vec<f32>>();
    let noise = |random: &mut Random| {
        let noise: Vec<f32> = own.iter().map(|_| random.unit() as f32).collect();
        let factor = (norm(own) * (own.len() as f64 / 64.0).sqrt().max(1.0) / norm(&noise).max(1e-30)) as f32;
        noise.iter().map(|value| value * factor).collect::<Vec<f32>>()
    };
    let of_element = |element: usize| {
        let said = honest.iter().map(|said| f64::from(said[element]));
        let mean = said.clone().sum::<f64>() / honest.len() as f64;
        let variance = said.map(|value| (value - mean).powi(2)).sum::<f64>() / honest.len() as f64;
        (mean, variance.sqrt())
    };
    match attack {
        // It says that it took all steps.
        "lazy" => Some(own.to_vec()),
        "truncated" => Some(
            own.iter().enumerate().map(|(at, value)| if at < own.len() / 4 { *value } else { 0.0 }).collect(),
        ),
        "random" => Some(noise(random)),
        // All three the same.
        "colluding" => Some(noise(&mut Random(own.len() as u64 + honest[0][0].to_bits() as u64))),
        "zero" => Some(scaled(0.0)),
        "scaled" => Some(scaled(10.0)),
        "flipped" => Some(scaled(-1.0)),
        "flipped-10" => Some(scaled(-10.0)),
        "replayed" | "replayed-2" | "replayed-8" | "replayed-9" => last.cloned(),
        // Half of it is fresh.
        "replayed-mixed" => {
            last.map(|last| own.iter().zip(last).map(|(own, last)| (own + last) / 2.0).collect())
        }
        "copied" => Some(honest[replica % honest.len()].clone()),
        // All three the same one.
        "copied-one" => Some(honest[0].clone()),
        // Under noise of half its length, where it says anything.
        "copied-noisy" => {
            let noise: Vec<f32> = own.iter().map(|_| random.unit() as f32).collect();
            let copied = honest[replica % honest.len()];
            let kept = copied.iter().map(|value| f32::from(*value != 0.0));
            let noise: Vec<f32> = noise.iter().zip(kept).map(|(noise, kept)| noise * kept).collect();
            let factor = (norm(copied) / 2.0 / norm(&noise).max(1e-30)) as f32;
            Some(copied.iter().zip(noise).map(|(value, noise)| value + noise * factor).collect())
        }
        // A little is enough (Baruch et al. 2019): one deviation off the mean.
        "alie" => Some(
            (0..own.len())
                .map(|element| {
                    let (mean, deviation) = of_element(element);
                    (mean - deviation) as f32
                })
                .collect(),
        ),
        // Inner-product manipulation (Xie et al. 2020).
        "ipm" => Some(
            (0..own.len())
                .map(|element| (-0.6 * of_element(element).0 * honest.len() as f64) as f32)
                .collect(),
        ),
        "constant" => {
            let constant = (norm(own) / (own.len() as f64).sqrt() / 2.0) as f32;
            Some(own.iter().map(|value| value + constant).collect())
        }
        _ => None,
    }
}
