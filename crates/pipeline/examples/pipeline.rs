//! What a barrier costs: a synchronous and an asynchronous pipeline, one thread a stage, with late messages; and what
//! older weights and shorter messages do to the loss.
//!
//! `cargo run --release -p zoo-pipeline --example pipeline -- speed TEXT` and `... loss TEXT [STEPS]`. Lateness is in the wires of this
//! program: a message is delivered when its time has come. Stages know nothing of it.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use zoo_kernels::random;
use zoo_model::{NetworkDefinition, Optimizer, Profile, Stage, preset};
use zoo_pipeline::{
    Batch, Correction, Format, Message, Order, Outgoing, Replica, Schedule, Settings, StageAgent,
};

const PRESET: &str = "bench-s";
const SEED: u64 = 1;
const SEQUENCES: usize = 8;
const LEARNING_RATE: f64 = 1e-3;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let text = |path: &String| std::fs::read(path);
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["speed", _] => speed(&text(&arguments[1])?),
        ["loss", _] => loss(&text(&arguments[1])?, 400),
        ["loss", _, steps] => loss(&text(&arguments[1])?, steps.parse()?),
        ["late", _, steps] => late(&text(&arguments[1])?, steps.parse()?),
        _ => Err("hint: pipeline speed TEXT, or pipeline loss|late TEXT [STEPS]".into()),
    }
}

/// Tokens a second with and without a flush, and how busy the busiest stage is.
fn speed(text: &[u8]) -> Result<(), Box<dyn std::error::Error>> {
    println!("| latency ms | order | ahead a stage | tokens/s | busiest stage |\n|---|---|---|---|---|");
    for latency_ms in [0, 2, 50] {
        // Sixteen ahead are, with a flush, all forward passes of a step before its first backward pass.
        for (order, ahead_per_stage) in [
            (Order::Flush, 1),
            (Order::Flush, 16),
            (Order::Stream, 1),
            (Order::Stream, 4),
            (Order::Stream, 16),
        ] {
            let schedule = Schedule { ahead_per_stage, order, ..schedule(2, 8) };
            let (tokens, busiest) = timed(&settings(schedule, Format::F32), text, latency_ms)?;
            println!(
                "| {latency_ms} | {order:?} | {ahead_per_stage} | {tokens:.0} | {:.0} % |",
                100.0 * busiest
            );
        }
    }
    Ok(())
}

/// Loss of the last tenth of the steps, at equal tokens, for every way to be asynchronous.
fn loss(text: &[u8], steps: u64) -> Result<(), Box<dyn std::error::Error>> {
    let (none, rate) = (Correction::None, Correction::Rate { anneal_steps: steps / 2 });
    let base = Schedule { micro_batches: 4, ..schedule(4, steps) };
    let mut flushed = None;
    println!(
        "| order | ahead a stage | correction | format | loss | against the flush |\n|---|---|---|---|---|---|"
    );
    for (order, ahead_per_stage, correction, format) in [
        (Order::Flush, 1, none, Format::F32),
        (Order::Flush, 1, none, Format::Bf16),
        (Order::Flush, 1, none, Format::Eight),
        (Order::Stream, 1, none, Format::F32),
        (Order::Stream, 1, rate, Format::F32),
        (Order::Stream, 1, Correction::LookAhead, Format::F32),
        (Order::Stream, 4, none, Format::F32),
        (Order::Stream, 4, rate, Format::F32),
        (Order::Stream, 4, Correction::LookAhead, Format::F32),
        (Order::Stream, 1, none, Format::Eight),
    ] {
        let settings = settings(Schedule { ahead_per_stage, order, correction, ..base }, format);
        let found = trained(&settings, text, |_| LEARNING_RATE)?;
        let first = *flushed.get_or_insert(found);
        let more = 100.0 * (found / first - 1.0);
        println!(
            "| {order:?} | {ahead_per_stage} | {correction:?} | {format:?} | {found:.4} | {more:+.2} % |"
        );
    }
    Ok(())
}

/// What older weights cost when a model is trained as people do: a warm-up of a tenth of the steps, then a cosine to a tenth of the rate.
fn late(text: &[u8], steps: u64) -> Result<(), Box<dyn std::error::Error>> {
    let rate = |step: u64| {
        let (warm, step, steps) = ((steps / 10).max(1) as f64, step as f64, steps as f64);
        let cosine = 0.55 + 0.45 * libm::cos(std::f64::consts::PI * (step - warm) / (steps - warm));
        LEARNING_RATE * if step < warm { step / warm } else { cosine }
    };
    println!(
        "| stages | micro-batches | order | most delay, steps | correction | loss | against the flush |\n|---|---|---|---|---|---|---|"
    );
    for micro_batches in [4, 8, 16] {
        let mut flushed = None;
        for (order, correction) in [
            (Order::Flush, Correction::None),
            (Order::Stream, Correction::None),
            (Order::Stream, Correction::LookAhead),
        ] {
            // As many tokens a step, whatever their number of parts.
            let base = schedule(4, steps);
            let micro_batch_tokens = base.micro_batch_tokens * 8 / micro_batches;
            let schedule = Schedule { micro_batches, micro_batch_tokens, order, correction, ..base };
            let found = trained(&settings(schedule, Format::F32), text, rate)?;
            let more = 100.0 * (found / *flushed.get_or_insert(found) - 1.0);
            println!(
                "| 4 | {micro_batches} | {order:?} | {} | {correction:?} | {found:.4} | {more:+.2} % |",
                schedule.delay_steps(0)
            );
        }
    }
    Ok(())
}

fn trained(
    settings: &Settings,
    text: &[u8],
    rate: impl Fn(u64) -> f64,
) -> Result<f64, Box<dyn std::error::Error>> {
    let data = batches(&settings.schedule, text);
    let mut replica = Replica::new(settings, &definition()?, Profile::F32Exact, SEED)?;
    let mut losses = Vec::new();
    let late = |at: u64| Batch { learning_rate: rate(settings.schedule.step_of(at).0), ..batch(&data, at) };
    replica.run(late, |done| losses.extend(done.loss.map(|loss| loss.mean())))?;
    let last = &losses[losses.len() * 9 / 10..];
    Ok(last.iter().sum::<f64>() / last.len() as f64)
}

type Wire = (Instant, Outgoing);

/// Tokens a second, and the share of its time that the busiest stage worked.
fn timed(
    settings: &Settings,
    text: &[u8],
    latency_ms: u64,
) -> Result<(f64, f64), Box<dyn std::error::Error>> {
    let schedule = settings.schedule;
    let data = batches(&schedule, text);
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..schedule.stages).map(|_| channel::<Wire>()).unzip();
    let cut = Stage::cut(&definition()?, Profile::F32Exact, schedule.stages as usize)?;
    let agents: Vec<StageAgent> = (0..)
        .zip(cut)
        .map(|(stage, mut model)| {
            model.initialise(SEED);
            StageAgent::new(settings.clone(), stage, model)
        })
        .collect::<Result<_, _>>()?;
    let begun = Instant::now();
    let busy: Vec<f64> = std::thread::scope(|scope| {
        let stages: Vec<_> = agents
            .into_iter()
            .zip(receivers)
            .map(|(agent, receiver)| {
                let (senders, data) = (senders.clone(), &data);
                scope.spawn(move || host(agent, &receiver, &senders, data, Duration::from_millis(latency_ms)))
            })
            .collect();
        stages.into_iter().map(|stage| stage.join().expect("a stage ends")).collect()
    });
    let seconds = begun.elapsed().as_secs_f64();
    let tokens = schedule.total() as f64 * f64::from(schedule.micro_batch_tokens);
    Ok((tokens / seconds, busy.into_iter().fold(0.0, f64::max)))
}

/// One stage on one thread; the share of its time, from its first pass to its last, that it worked.
fn host(
    mut agent: StageAgent,
    receiver: &Receiver<Wire>,
    senders: &[Sender<Wire>],
    data: &[(Vec<u32>, Vec<u32>)],
    latency: Duration,
) -> f64 {
    let pool = zoo_pool();
    let (mut busy, mut begun, mut waiting) = (Duration::ZERO, None, Vec::<Wire>::new());
    while !agent.is_finished() {
        let now = Instant::now();
        // In order of arrival, as one latency for all keeps it.
        while waiting.first().is_some_and(|(due, _)| *due <= now) {
            let (_, outgoing) = waiting.remove(0);
            agent.receive(outgoing.message).expect("neighbours of one schedule are never too early");
        }
        waiting.extend(receiver.try_iter());
        let Some(operation) = agent.ready() else {
            let next = waiting
                .first()
                .map_or(Duration::from_millis(20), |(due, _)| due.saturating_duration_since(now));
            match receiver.recv_timeout(next) {
                Ok(wire) => waiting.push(wire),
                Err(RecvTimeoutError::Timeout) => (),
                Err(RecvTimeoutError::Disconnected) => break,
            }
            continue;
        };
        let at = Instant::now();
        begun.get_or_insert(at);
        let done = pool.install(|| agent.work(batch(data, operation.micro_batch()))).expect("finite");
        busy += at.elapsed();
        let said = done.checkpoint.map(|checkpoint| agent.saved(checkpoint.position)).unwrap_or_default();
        for outgoing in done.messages.into_iter().chain(said) {
            let is_last_word = matches!(outgoing.message, Message::Status(_));
            let sent = senders[outgoing.to as usize].send((Instant::now() + latency, outgoing));
            assert!(sent.is_ok() || is_last_word, "a neighbour ends only when it lacks nothing");
        }
    }
    busy.as_secs_f64() / begun.map_or(f64::INFINITY, |begun| begun.elapsed().as_secs_f64())
}

/// One thread for each stage, as if each had a machine.
fn zoo_pool() -> rayon::ThreadPool {
    rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a thread")
}

fn definition() -> Result<NetworkDefinition, Box<dyn std::error::Error>> {
    Ok(NetworkDefinition::decoder(&preset::by_name(PRESET).ok_or("an unknown preset")?)?)
}

fn schedule(stages: u32, steps: u64) -> Schedule {
    let context = preset::by_name(PRESET).map_or(0, |config| config.context);
    Schedule {
        stages,
        micro_batches: 8,
        micro_batch_tokens: (SEQUENCES * context) as u32,
        steps,
        ahead_per_stage: 1,
        order: Order::Flush,
        correction: Correction::None,
        checkpoint_steps: 4,
    }
}

fn settings(schedule: Schedule, format: Format) -> Settings {
    let optimizer = Optimizer::default();
    Settings { epoch: 1, schedule, optimizer, clip: Some(1.0), activations: format, gradients: format }
}

/// Sequences of bytes from anywhere in the text: the same for every schedule of as many tokens.
fn batches(schedule: &Schedule, text: &[u8]) -> Vec<(Vec<u32>, Vec<u32>)> {
    let context = preset::by_name(PRESET).map_or(1, |config| config.context);
    let places = (text.len() - context - 1) as u64;
    let (count, group) = (schedule.micro_batch_tokens as u64 / context as u64, SEQUENCES as u64);
    let sequences = |micro_batch: u64| {
        (micro_batch * count..(micro_batch + 1) * count).flat_map(move |at| {
            let from = (random::bits(SEED, at / group, at % group) % places) as usize;
            from..from + context
        })
    };
    let micro_batch = |number: u64| {
        let inputs = sequences(number).map(|at| u32::from(text[at])).collect();
        (inputs, sequences(number).map(|at| u32::from(text[at + 1])).collect())
    };
    (0..schedule.total()).map(micro_batch).collect()
}

fn batch(data: &[(Vec<u32>, Vec<u32>)], micro_batch: u64) -> Batch<'_> {
    let (inputs, targets) = &data[micro_batch as usize];
    Batch { inputs, targets, learning_rate: LEARNING_RATE }
}
