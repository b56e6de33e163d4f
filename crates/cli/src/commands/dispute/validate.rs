//! `zoo dispute validate`: a step's operators checked for a part of what the step costs.

use std::io::{self, Write};
use std::time::Instant;

use anyhow::{Result, bail};
use serde_json::{Value, json};
use zoo_content::Digest;
use zoo_dispute::validate::{Budget, Check, ROUNDS_MAX, Report, SPOTS_MAX, Seed, Wrong, validate};
use zoo_dispute::{Knowledge, Program, Replay, Trace, step_digest};
use zoo_kernels::Profile;
use zoo_training::{Share, Trainer, WindowTask, preset};

use super::forgery::{Forged, Forgery};
use super::rehearse::made_up;
use crate::live::format::{bytes, count, several};
use crate::live::print_line;
use crate::progress::Progress;

/// Steps before the one that is checked, so that the optimiser's moments are not zero. One follows it, and the outcome of the window belongs to that.
const STEPS_BEFORE: u32 = 2;

/// Arguments of `zoo dispute validate`.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  zoo dispute validate\n  zoo dispute validate --forge zeroed\n  zoo dispute validate --preset bench-m --rounds 16 --spots 64 --json\n\n\
A step is trained on made-up tokens, and all its tensors are written down as its maker would say them. Then every operator is checked against what was said: \
products by Freivalds' test, with an error bound that no honest rounding passes, all operators by elements drawn from a seed and computed again. Whatever \
is called wrong was computed again and is not equal. With --forge one tensor is wrong, and all that follows follows from it. Exit code 0 whether it is found or not: \
what a seed may miss is said."
)]
pub struct Validate {
    /// The shape of the network (zoo presets lists them)
    #[arg(long, default_value = "qwen3-tiny")]
    preset: String,
    /// The rule of its products: f32-exact or bf16-exact
    #[arg(long)]
    profile: Option<Profile>,
    /// Sequences of the step
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1024))]
    sequences: u32,
    /// Vectors that every product is multiplied with: an error beyond the limit is missed by 1 of 2^N seeds
    #[arg(long, value_name = "N", default_value_t = Budget::default().rounds, value_parser = clap::value_parser!(u32).range(1..=i64::from(ROUNDS_MAX)))]
    rounds: u32,
    /// Elements of every tensor that are computed again
    #[arg(long, value_name = "N", default_value_t = Budget::default().spots, value_parser = clap::value_parser!(u32).range(0..=i64::from(SPOTS_MAX)))]
    spots: u32,
    /// Compute every operator again that is no product, in whole
    #[arg(long)]
    whole: bool,
    /// Make one gradient wrong
    #[arg(long, value_name = "HOW", value_enum)]
    forge: Option<Forgery>,
    /// What is looked at, and what is forged
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// A step that was checked.
struct Done {
    claimed: Trace,
    forged: Option<Forged>,
    report: Report,
    tokens: usize,
    trained_seconds: f64,
    seconds: f64,
}

impl Validate {
    /// Trains a step, forges it if that is asked for, checks it, says what came of it.
    pub fn run(self) -> Result<()> {
        let done = self.checked()?;
        if self.json {
            print_line(&self.line(&done));
            return Ok(());
        }
        self.tell(&done)
    }

    fn checked(&self) -> Result<Done> {
        let Some(mut preset) = preset::by_name(&self.preset) else {
            bail!("there is no preset {:?}\nhint: zoo presets lists them", self.preset);
        };
        preset.spec.profile = self.profile.unwrap_or(preset.spec.profile);
        let spec = &preset.spec;
        let mut progress = Progress::start(0, self.json);
        progress.update(0, || "training".into());
        let data = made_up(spec, self.seed)?;
        let mut trainer = Trainer::new(spec.clone(), &data)?;
        let base = trainer.checkpoint();
        let share =
            Share { first_sequence: 0, sequences_per_step: self.sequences, inner_steps: STEPS_BEFORE + 2 };
        let replay = Replay::new(WindowTask::first(spec, &data, &base, share))?;
        for step in 0..STEPS_BEFORE {
            let rate = replay.task().learning_rate(spec, step);
            trainer.step_on(replay.task().sequences(step), rate)?;
        }
        let start = Instant::now();
        trainer.step_on(
            replay.task().sequences(STEPS_BEFORE),
            replay.task().learning_rate(spec, STEPS_BEFORE),
        )?;
        let trained_seconds = start.elapsed().as_secs_f64();
        drop(trainer);

        progress.update(0, || "computing all tensors of the step, as its maker says them".into());
        let program = Program::of(replay.task(), STEPS_BEFORE, None)?;
        let mut forged = self.forge.map(|how| Forged::choose(how, &program, self.seed));
        let (_, state) = replay.before(STEPS_BEFORE)?;
        let claimed = Trace::of((replay.task(), STEPS_BEFORE), &replay.blobs(), state, |at, values| {
            if let Some(forged) = forged.as_mut().filter(|forged| forged.tensor == at) {
                forged.apply(values);
            }
        })?;

        progress.update(0, || "checking".into());
        let unknown = Digest::of(format!("zoo dispute validate {}", self.seed).as_bytes());
        let seed = Seed::drawn(&step_digest(&claimed.groups), &unknown);
        let budget = Budget { rounds: self.rounds, spots: self.spots, whole: self.whole };
        let start = Instant::now();
        let report = validate(&claimed, &replay.blobs(), &seed, budget)?;
        let seconds = start.elapsed().as_secs_f64();
        let tokens = self.sequences as usize * spec.model.context;
        Ok(Done { claimed, forged, report, tokens, trained_seconds, seconds })
    }

    fn line(&self, done: &Done) -> Value {
        let Done { claimed, report, .. } = done;
        let operators: Vec<Value> = report
            .by_operator(&claimed.program)
            .into_iter()
            .map(|(name, summary)| {
                json!({
                    "operator": name, "tensors": summary.tensors, "whole": summary.whole, "freivalds": summary.freivalds,
                    "drawn": summary.drawn, "spent": summary.spent, "again": summary.again, "limit": summary.limit,
                })
            })
            .collect();
        let place = |check: &Check| {
            let tensor = &claimed.program.tensors[check.tensor];
            let group = &claimed.program.groups[claimed.program.group_of(check.tensor)];
            json!({
                "vnode": group.vnode, "pass": group.pass.to_string(), "tensor": tensor.name,
                "operator": tensor.operator.name(), "shape": tensor.shape,
            })
        };
        let wrong = |(check, wrong): (&Check, Wrong)| {
            let mut line = place(check);
            line["element"] = json!(index(&claimed.program.tensors[check.tensor].shape, wrong.element));
            (line["said"], line["computed"]) = (json!(wrong.claimed), json!(wrong.computed));
            line
        };
        let forged = done.forged.as_ref().map(|forged| {
            let check = forged.check(report);
            let mut line = place(check);
            line["how"] = json!(forged.how.name());
            line["elements"] = json!(forged.elements);
            line["missed"] = json!(forged.missed(check));
            line["found"] = json!(check.wrong.is_some());
            line
        });
        json!({
            "event": "validation", "preset": self.preset, "tokens": done.tokens, "seed": self.seed,
            "rounds": self.rounds, "spots": self.spots, "whole": self.whole,
            "tensors": report.checks.len(), "bytes": claimed_bytes(claimed), "spent": report.spent(), "again": report.again(),
            "seconds": done.seconds, "trained_seconds": done.trained_seconds, "operators": operators,
            "wrong": report.wrong().map(wrong).collect::<Vec<_>>(),
            "unsettled": report.unsettled().map(place).collect::<Vec<_>>(), "forged": forged,
        })
    }

    fn tell(&self, done: &Done) -> Result<()> {
        let Done { claimed, report, .. } = done;
        let mut out = io::stdout();
        writeln!(
            out,
            "a step of {} by {}: {} of {}, trained in {:.3} s, checked in {:.3} s",
            several(done.tokens as u64, "token"),
            self.preset,
            several(report.checks.len() as u64, "tensor"),
            bytes(claimed_bytes(claimed)),
            done.trained_seconds,
            done.seconds
        )?;
        writeln!(
            out,
            "{:26} {:>7} {:>6} {:>9} {:>6} {:>14} {:>14}  seen from",
            "operator", "tensors", "whole", "Freivalds", "drawn", "multiply-adds", "of"
        )?;
        for (name, summary) in report.by_operator(&claimed.program) {
            let limit = if summary.freivalds > 0 { format!("{:.1e}", summary.limit) } else { String::new() };
            writeln!(
                out,
                "{name:26} {:>7} {:>6} {:>9} {:>6} {:>14} {:>14}  {limit}",
                summary.tensors,
                summary.whole,
                summary.freivalds,
                summary.drawn,
                count(summary.spent),
                count(summary.again)
            )?;
        }
        let (spent, again) = (report.spent(), report.again());
        let part = 100.0 * spent as f64 / again as f64;
        writeln!(out, "{:26} {:>31} {:>14} {:>14}  {part:.1} %", "all", "", count(spent), count(again))?;
        self.tell_soundness(&mut out)?;
        for (check, wrong) in report.wrong() {
            let tensor = &claimed.program.tensors[check.tensor];
            writeln!(
                out,
                "wrong: {} {:?}: it was said to be {}, and comes to {}",
                place(&claimed.program, check.tensor),
                index(&tensor.shape, wrong.element),
                shown(wrong.claimed),
                shown(wrong.computed)
            )?;
        }
        for check in report.unsettled() {
            writeln!(
                out,
                "not settled: {}: too many of its rows are not finite",
                place(&claimed.program, check.tensor)
            )?;
        }
        match &done.forged {
            None if report.wrong().next().is_none() => writeln!(out, "nothing is wrong")?,
            None => {}
            Some(forged) => {
                let check = forged.check(report);
                let found = if check.wrong.is_some() { "found" } else { "not found" };
                writeln!(
                    out,
                    "{found}: {} was {}, {}; at most {:.3} % of all seeds miss that",
                    place(&claimed.program, forged.tensor),
                    forged.how.name(),
                    several(forged.elements, "element"),
                    100.0 * forged.missed(check)
                )?;
            }
        }
        Ok(())
    }

    fn tell_soundness(&self, out: &mut impl Write) -> Result<()> {
        let missed = (-f64::from(self.rounds)).exp2() * 100.0;
        writeln!(
            out,
            "missed by at most {missed:.2} % of all seeds: an element of a product that is wrong by more than \"seen from\", in root mean squares of its tensor"
        )?;
        if self.spots > 0 {
            let missed = (1.0 - 0.1f64).powi(self.spots as i32) * 100.0;
            writeln!(
                out,
                "missed by at most {missed:.2} % of all seeds: a tenth of the elements of any tensor, by however little"
            )?;
        }
        Ok(())
    }
}

fn claimed_bytes(claimed: &Trace) -> u64 {
    claimed.tensors.iter().map(|values| 4 * values.len() as u64).sum()
}

/// Which tensor, for people.
fn place(program: &Program, at: usize) -> String {
    let (tensor, group) = (&program.tensors[at], &program.groups[program.group_of(at)]);
    let vnode = if group.vnode.is_empty() { "all VNodes" } else { &group.vnode };
    format!("{vnode}, {}: {} ({})", group.pass, tensor.name, tensor.operator.name())
}

/// The place of an element along every axis.
fn index(shape: &[usize], element: usize) -> Vec<usize> {
    let mut rest = element;
    let mut places: Vec<usize> = shape
        .iter()
        .rev()
        .map(|extent| {
            let place = rest % extent;
            rest /= extent;
            place
        })
        .collect();
    places.reverse();
    places
}

fn shown(word: u32) -> String {
    format!("{:e} ({word:08x})", f32::from_bits(word))
}
