//! One step checked without computing it again: what that costs beside training it, and what stays unseen.
//!
//! ```text
//! validate [PRESET [SEQUENCES [PROFILE]]]        bench-m, 4 sequences, f32-exact, unless told otherwise
//! ```

use std::time::{Duration, Instant};

use zoo_content::Digest;
use zoo_dispute::validate::{Budget, Report, Seed, validate};
use zoo_dispute::{Knowledge, Program, Replay, step_digest};
use zoo_kernels::random;
use zoo_training::{Dataset, Share, Trainer, WindowTask, preset};

type Failed = Box<dyn std::error::Error>;

/// Steps of the window before the one that is checked, so that the moments are not zero; one more follows, and the outcome belongs to that.
const STEPS_BEFORE: u32 = 2;
/// Of so many the fastest counts: others work on this machine.
const TIMES: u32 = 5;

fn main() -> Result<(), Failed> {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().unwrap_or_else(|| "bench-m".to_owned());
    let sequences: u32 = arguments.next().map_or(Ok(4), |sequences| sequences.parse())?;
    let mut spec = preset::by_name(&name).ok_or("no such preset")?.spec;
    spec.profile = arguments.next().map_or(Ok(spec.profile), |profile| profile.parse())?;
    spec.clip = Some(1.0);
    let vocab = spec.model.vocab_size as u64;
    let tokens: Vec<u32> = (0..100_000).map(|at| (random::bits(1, 0, at / 3) % vocab) as u32).collect();
    let data = Dataset::encode(vocab as u32, &tokens, tokens.len() as u64)?;
    let mut trainer = Trainer::new(spec.clone(), &data)?;
    let base = trainer.checkpoint();
    let share = Share { first_sequence: 0, sequences_per_step: sequences, inner_steps: STEPS_BEFORE + 2 };
    let first_sequence = u64::from(STEPS_BEFORE * sequences);
    let mut steps = 0;
    let trained = measured(|| {
        let first = first_sequence + steps;
        steps += u64::from(sequences);
        let start = Instant::now();
        trainer.step_on(first..first + u64::from(sequences), 1e-3).expect("it trains");
        start.elapsed()
    });
    let parameters = trainer.network().parameter_count();
    let tokens = spec.model.context * sequences as usize;
    println!("{name} in {}: {parameters} parameters, a step of {tokens} tokens", spec.profile);
    println!("  trained in {:.0} ms, {:.0} ms of processors", trained[0], trained[1]);

    let start = Instant::now();
    let mut replay = Replay::new(WindowTask::first(&spec, &data, &base, share))?;
    let claimed = replay.trace(STEPS_BEFORE)?;
    let words: usize = claimed.tensors.iter().map(Vec::len).sum();
    let count = claimed.tensors.len();
    println!(
        "  its {count} tensors, {:.0} MB, computed one by one in {:.0} ms",
        words as f64 * 4e-6,
        milliseconds(start.elapsed())
    );
    let blobs = replay.blobs();
    let seed = Seed::drawn(&step_digest(&claimed.groups), &Digest::of(b"measured"));
    for (what, budget) in [
        ("drawn", Budget::default()),
        ("all but products in whole", Budget { whole: true, ..Budget::default() }),
        ("drawn, 64 rounds", Budget { rounds: 64, ..Budget::default() }),
    ] {
        let mut report = None;
        let took = measured(|| {
            let start = Instant::now();
            report = Some(validate(&claimed, &blobs, &seed, budget).expect("it can be checked"));
            start.elapsed()
        });
        let report = report.ok_or("it ran")?;
        let (spent, again) = (report.spent(), report.again());
        println!(
            "{what}: {:.0} ms, {:.0} ms of processors, {:.0} % of the training's; {:.1} M of {:.1} M multiply-adds, {:.2} %; {} wrong, {} unsettled",
            took[0],
            took[1],
            100.0 * took[1] / trained[1],
            spent as f64 * 1e-6,
            again as f64 * 1e-6,
            100.0 * spent as f64 / again as f64,
            report.wrong().count(),
            report.unsettled().count(),
        );
        table(&report, &claimed.program);
    }
    Ok(())
}

fn table(report: &Report, program: &Program) {
    for (name, summary) in report.by_operator(program) {
        println!(
            "  {name:26} {:4} tensors, {:4} whole, {:4} by Freivalds, {:5} drawn, {:8.1} M for {:9.1} M, limit {:.2e}",
            summary.tensors,
            summary.whole,
            summary.freivalds,
            summary.drawn,
            summary.spent as f64 * 1e-6,
            summary.again as f64 * 1e-6,
            summary.limit,
        );
    }
}

/// The fastest of some runs, and what each took of processors on average.
fn measured(mut run: impl FnMut() -> Duration) -> [f64; 2] {
    let before = processor_seconds();
    let fastest = (0..TIMES).map(|_| run()).min().unwrap_or_default();
    [milliseconds(fastest), 1e3 * (processor_seconds() - before) / f64::from(TIMES)]
}

/// What this process has had of all processors, as Linux says it in hundredths of a second; 0 elsewhere.
fn processor_seconds() -> f64 {
    let told = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Behind the name, which may hold spaces: user and system time are the 14th and 15th field of all.
    let fields = told.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: f64 = fields.skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
    ticks / 100.0
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
