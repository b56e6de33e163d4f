//! How alike honest updates are: within a round, and those of a round to those of the rounds before.
//!
//!     cargo run --release -p zoo-training --example likeness -- TEXT [ROUNDS [RUN|all]]
//!
//! For each run, of all pairs of updates: least, median and largest cosine; and the least distance of a pair, as a part of what is usual in its
//! rounds (within a round the median of all distances, between two the median of each update's least): what `zoo_update` takes for a copy has to
//! be far below, and its sketches must tell the same.

use std::collections::VecDeque;
use std::ops::ControlFlow;

use zoo_content::VerifiedBlob;
use zoo_training::{
    AggregateTask, Dataset, Schedule, Share, SparseSettings, Summand, Trainer, TrainingSpec, UpdateFormat,
    VNodeUpdate, WindowTask, aggregate, layout, network_of, norm_limits, preset, train_window,
};
use zoo_update::{Header, Sketch, Update};

const REPLICAS: usize = 10;
const SEQUENCES_PER_STEP: u32 = 2;
/// Rounds that are looked back.
const ROUNDS_BACK: usize = 8;
/// Text of those who have only their own, bytes.
const PRIVATE_BYTES: usize = 4096;

/// What a run has of its own.
#[derive(Clone, Copy)]
struct Kind {
    name: &'static str,
    inner_steps: u32,
    ahead_steps: u32,
    /// Replicas that train on a small text of their own.
    private: usize,
    is_dense: bool,
}

const USUAL: Kind = Kind { name: "usual", inner_steps: 10, ahead_steps: 0, private: 0, is_dense: false };
const KINDS: [Kind; 7] = [
    USUAL,
    Kind { name: "short", inner_steps: 2, ..USUAL },
    Kind { name: "long", inner_steps: 30, ..USUAL },
    Kind { name: "overlap", ahead_steps: 3, ..USUAL },
    Kind { name: "private", private: 1, ..USUAL },
    Kind { name: "dense", is_dense: true, ..USUAL },
    Kind { name: "dense-short", is_dense: true, inner_steps: 2, ..USUAL },
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let path = arguments.first().expect("the path of a text");
    let text = std::fs::read(path).unwrap_or_else(|cause| panic!("{path}: {cause}"));
    let rounds = arguments.get(1).map_or(20, |rounds| rounds.parse().expect("a number of rounds"));
    let wanted = |kind: &Kind| arguments.get(2).is_none_or(|name| name == kind.name || name == "all");
    println!("run; pairs: cosine least, median, largest; nearest, of what is usual; the same by sketches");
    for kind in KINDS.into_iter().filter(wanted) {
        run(&text, rounds, kind);
    }
}

/// The update of one replica, over all VNodes.
struct Said {
    replica: usize,
    values: Vec<f64>,
    sketches: Vec<Sketch>,
}

fn run(text: &[u8], rounds: u32, kind: Kind) {
    let dataset = |bytes: &[u8]| {
        let tokens: Vec<u32> = bytes.iter().map(|&byte| byte.into()).collect();
        Dataset::encode(256, &tokens, tokens.len() as u64).expect("bytes are tokens")
    };
    let (training, private) = (dataset(text), dataset(&text[..PRIVATE_BYTES]));
    let spec = TrainingSpec {
        clip: Some(1.0),
        schedule: Schedule::Cosine {
            learning_rate: 1e-3,
            minimum_learning_rate: 1e-4,
            warmup_steps: 30,
            decay_steps: u64::from(rounds * kind.inner_steps),
        },
        update: if kind.is_dense {
            UpdateFormat::Dense
        } else {
            UpdateFormat::Sparse(SparseSettings::default())
        },
        ..preset::by_name("bench-s").expect("a preset").spec
    };
    let layouts: Vec<_> = network_of(&spec)
        .expect("a preset")
        .vnodes()
        .iter()
        .map(|vnode| layout(vnode).expect("a preset"))
        .collect();
    let mut checkpoint = Trainer::new(spec.clone(), &training).expect("a text").checkpoint();
    let mut kept: Vec<Option<VerifiedBlob>> = vec![None; REPLICAS];
    let mut earlier: VecDeque<Vec<Said>> = VecDeque::new();
    let mut within = Pairs::default();
    let mut own: Vec<Pairs> = (0..ROUNDS_BACK).map(|_| Pairs::default()).collect();
    let mut others: Vec<Pairs> = (0..ROUNDS_BACK).map(|_| Pairs::default()).collect();
    let steps = kind.inner_steps + kind.ahead_steps;
    for round in 0..rounds {
        let window = |replica: usize| {
            let is_private = replica < kind.private;
            let mut base = checkpoint.clone();
            base.lineage.data = if is_private { private.digest() } else { training.digest() };
            let place = u64::from(round) * REPLICAS as u64 + replica as u64;
            let first_sequence = place * u64::from(SEQUENCES_PER_STEP * steps);
            let share = Share {
                first_sequence,
                sequences_per_step: SEQUENCES_PER_STEP,
                inner_steps: kind.inner_steps,
            };
            let before = place.saturating_sub(REPLICAS as u64) * u64::from(SEQUENCES_PER_STEP * steps)
                + u64::from(SEQUENCES_PER_STEP * kind.inner_steps);
            let lead = Share { first_sequence: before, inner_steps: kind.ahead_steps, ..share };
            let task = WindowTask {
                spec: &spec,
                data: if is_private { &private } else { &training },
                base: &base,
                replica: kept[replica].as_ref().map(VerifiedBlob::bytes),
                round,
                first_step: u64::from(round * kind.inner_steps),
                lead: (kind.ahead_steps > 0 && round > 0).then_some(lead),
                share,
                ahead_steps: kind.ahead_steps,
            };
            train_window(task, &mut |_| ControlFlow::Continue(())).expect("it trains")
        };
        let results: Vec<_> = std::thread::scope(|scope| {
            let window = &window;
            let part = |first: usize| {
                scope.spawn(move || (first..REPLICAS).step_by(2).map(window).collect::<Vec<_>>())
            };
            let (even, odd) = (part(0), part(1));
            let (even, odd) = (even.join().expect("no panic"), odd.join().expect("no panic"));
            even.into_iter().zip(odd).flat_map(|(even, odd)| [even, odd]).collect()
        });
        let norms: Vec<Vec<u64>> = results.iter().map(|result| result.norms()).collect();
        let limits = norm_limits(&norms);
        let said: Vec<Said> = results
            .iter()
            .enumerate()
            .map(|(replica, result)| {
                let update = |(place, update): (usize, &VNodeUpdate)| -> Update {
                    let (vnode, layout) = (update.vnode.clone(), layouts[place].clone());
                    let header = Header { round, vnode, tokens: result.tokens(), layout };
                    spec.update.codec().decode(update.blob.bytes(), &header).expect("it was encoded here")
                };
                let updates: Vec<Update> = result.updates.iter().enumerate().map(update).collect();
                let scaled = |(update, &limit): (&Update, &u64)| {
                    let scale = (limit as f64 / update.norm().max(1) as f64).min(1.0);
                    update.values().into_iter().map(move |value| f64::from(value) * scale)
                };
                let values = updates.iter().zip(&limits).flat_map(scaled).collect();
                let sketch = |(update, &limit): (&Update, &u64)| Sketch::of(update, limit);
                let sketches = updates.iter().zip(&limits).map(sketch).collect();
                Said { replica, values, sketches }
            })
            .collect();
        if round == 0 {
            let buckets: usize = layouts.iter().map(Sketch::bytes).sum();
            println!("{}: {} elements, sketches of {buckets} bytes", kind.name, said[0].values.len());
        }
        within.take(&pairs(&said, &said, |one, other| one.replica < other.replica), true, |_, _| true);
        for (back, earlier) in earlier.iter().enumerate() {
            let all = pairs(&said, earlier, |_, _| true);
            own[back].take(&all, false, |one, other| one == other);
            others[back].take(&all, false, |one, other| one != other);
        }
        let blobs: Vec<Vec<VerifiedBlob>> = results
            .iter()
            .map(|result| result.updates.iter().map(|update| update.blob.clone()).collect())
            .collect();
        let summands: Vec<Summand> = results
            .iter()
            .zip(norms.iter().zip(&blobs))
            .map(|(result, (norms, blobs))| Summand::contribution(round, result.tokens(), norms, blobs))
            .collect();
        let task = AggregateTask {
            spec: &spec,
            base: &checkpoint,
            round,
            step: u64::from((round + 1) * kind.inner_steps),
            norm_limits: &limits,
            summands: &summands,
            amendments: &[],
            is_last: false,
        };
        checkpoint = aggregate(task).expect("there are contributions").checkpoint;
        for (kept, result) in kept.iter_mut().zip(results) {
            *kept = Some(result.replica);
        }
        earlier.push_front(said);
        earlier.truncate(ROUNDS_BACK);
    }
    within.tell("  within a round");
    for (back, (own, others)) in own.iter().zip(&others).enumerate() {
        own.tell(&format!("  {} back, the same replica", back + 1));
        others.tell(&format!("  {} back, others", back + 1));
    }
}

/// Two updates: whose, and their cosine, exactly and by sketches.
type Pair = (usize, usize, f64, f64);

fn pairs(ones: &[Said], others: &[Said], counts: impl Fn(&Said, &Said) -> bool) -> Vec<Pair> {
    let mut pairs = Vec::new();
    for one in ones {
        for other in others.iter().filter(|other| counts(one, other)) {
            let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
            let exact = product(&one.values, &other.values)
                / (product(&one.values, &one.values) * product(&other.values, &other.values)).sqrt();
            let sketched =
                |a: &[Sketch], b: &[Sketch]| a.iter().zip(b).map(|(a, b)| a.product(b)).sum::<f64>();
            let (one_sketch, other_sketch) = (&one.sketches, &other.sketches);
            let roughly = sketched(one_sketch, other_sketch)
                / (sketched(one_sketch, one_sketch) * sketched(other_sketch, other_sketch)).sqrt();
            pairs.push((one.replica, other.replica, exact, roughly));
        }
    }
    pairs
}

/// Cosines of pairs, and how near the nearest are, as parts of what is usual.
#[derive(Default)]
struct Pairs {
    exact: (Vec<f64>, f64),
    sketched: (Vec<f64>, f64),
}

impl Pairs {
    /// Those that count; what is usual is so of all.
    fn take(&mut self, pairs: &[Pair], is_within: bool, counts: impl Fn(usize, usize) -> bool) {
        let one_kind = |kept: &mut (Vec<f64>, f64), cosine: &dyn Fn(&Pair) -> f64| {
            let mut all: Vec<f64> = pairs.iter().map(cosine).collect();
            all.sort_by(f64::total_cmp);
            let usual = 1.0 - if is_within { all[all.len() / 2] } else { nearest_usual(pairs, cosine) };
            for pair in pairs.iter().filter(|pair| counts(pair.0, pair.1)) {
                let part = (1.0 - cosine(pair)) / usual;
                kept.1 = if kept.0.is_empty() { part } else { kept.1.min(part) };
                kept.0.push(cosine(pair));
            }
        };
        one_kind(&mut self.exact, &|pair| pair.2);
        one_kind(&mut self.sketched, &|pair| pair.3);
    }

    fn tell(&self, of: &str) {
        let row = |(cosines, nearest): &(Vec<f64>, f64)| {
            let mut cosines = cosines.clone();
            cosines.sort_by(f64::total_cmp);
            let Some((least, largest)) = cosines.first().zip(cosines.last()) else { return String::new() };
            format!("{least:.3} {:.3} {largest:.3}; {nearest:.2}", cosines[cosines.len() / 2])
        };
        println!("{of}: {}; by sketches {}", row(&self.exact), row(&self.sketched));
    }
}

/// The median of each update's largest cosine.
fn nearest_usual(pairs: &[Pair], cosine: &dyn Fn(&Pair) -> f64) -> f64 {
    let mut nearest = [f64::NEG_INFINITY; REPLICAS];
    pairs.iter().for_each(|pair| nearest[pair.0] = nearest[pair.0].max(cosine(pair)));
    nearest.sort_by(f64::total_cmp);
    nearest[REPLICAS / 2]
}
