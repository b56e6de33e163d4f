//! What a node says on stdout.

use std::io::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::Notify;
use zoo_pnode::{PNodeEvent, Snapshot};
use zoo_protocol::{Form, NodeId, RefusedSummand, Report, Standing, Summand, VerifyWindow, Work, encode};

use super::hours::wall_clock_s;
use super::terms::Rest;
use crate::live::format::{bytes, clock, count, harmless, several, speeds};
use crate::live::print_line;

/// An orchestrator that was never reached is given up after this time; one that was is not.
const PATIENCE: Duration = Duration::from_secs(12);
/// People hear of progress within a window this often.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);

/// Tells people or programs what a node does, and notices when nobody answers it at all.
#[derive(Debug)]
pub struct Teller {
    json: bool,
    told: Mutex<Told>,
    gave_up: Notify,
}

#[derive(Debug, Default)]
struct Told {
    /// When the node last began to look for the orchestrator.
    began: Option<Instant>,
    was_connected: bool,
    nobody_answers: Option<String>,
    work: Option<Work>,
    standing: Standing,
    last_progress: Option<Instant>,
}

impl Teller {
    /// For programs if `json`.
    pub fn new(json: bool) -> Self {
        Self { json, told: Mutex::default(), gave_up: Notify::new() }
    }

    /// Completes if the orchestrator could not be reached from the start.
    pub async fn nobody_answers(&self) {
        self.gave_up.notified().await;
    }

    /// Why [`Teller::nobody_answers`] completed, if it did.
    pub fn why_nobody_answered(&self) -> Option<String> {
        self.told().nobody_answers.clone()
    }

    /// Says where the node's page is.
    pub fn has_page(&self, url: &str) {
        let sentence = format!("this node's page, for this machine alone: {url}");
        self.tell(&json!({ "event": "page", "url": url }), &sentence);
    }

    /// Says that it is not the time to work.
    pub fn rests(&self, rest: Rest) {
        let (line, sentence) = match rest {
            Rest::Paused => (
                json!({ "event": "resting", "cause": "paused" }),
                "paused: this node rests until `zoo resume`, or Resume on its page".to_owned(),
            ),
            Rest::Hours(schedule) => {
                let wait = schedule.until_change(wall_clock_s());
                (
                    json!({ "event": "resting", "cause": "hours", "seconds": wait.as_secs() }),
                    format!("resting: this node works from {schedule}, again in {}", clock(wait)),
                )
            }
        };
        self.tell(&line, &sentence);
    }

    /// Says that the time to work is over.
    pub fn drains(&self, rest: Rest) {
        let (cause, why) = match rest {
            Rest::Paused => ("paused", "asked to pause".to_owned()),
            Rest::Hours(schedule) => ("hours", format!("the hours are over (from {schedule})")),
        };
        self.tell(
            &json!({ "event": "draining", "cause": cause }),
            &format!("{why}: finishing what was begun"),
        );
    }

    /// Says that the node works on, after all.
    pub fn goes_on(&self) {
        self.tell(&json!({ "event": "going_on" }), "going on");
    }

    /// Says goodbye.
    pub fn left(&self) {
        self.tell(&json!({ "event": "left" }), "left the network");
    }

    fn tell(&self, line: &Value, sentence: &str) {
        if self.json { print_line(line) } else { say(sentence) }
    }

    /// Takes an event from any thread.
    pub fn hear(&self, event: PNodeEvent) {
        self.follow(&event);
        if self.json {
            print_line(&line(&event));
        } else if let Some(sentence) = self.sentence(&event) {
            say(&harmless(&sentence));
        }
    }

    fn follow(&self, event: &PNodeEvent) {
        let mut told = self.told();
        match event {
            PNodeEvent::Ready { .. } => told.began = Some(Instant::now()),
            PNodeEvent::Connected { .. } => told.was_connected = true,
            PNodeEvent::Disconnected { cause, .. }
                if !told.was_connected && told.began.is_some_and(|began| began.elapsed() >= PATIENCE) =>
            {
                told.nobody_answers = Some(cause.clone());
                self.gave_up.notify_one();
            }
            PNodeEvent::WorkChanged(work) => told.work = Some(work.clone()),
            _ => {}
        }
    }

    fn sentence(&self, event: &PNodeEvent) -> Option<String> {
        Some(match event {
            PNodeEvent::Ready { node, addresses, profile } => {
                let (threads, isa) = (several(profile.threads.into(), "thread"), &profile.isa);
                let speed = speeds(profile.speeds);
                let address = addresses.first().map(ToString::to_string).unwrap_or_default();
                let name = &profile.name;
                format!("node {} ({name}): {threads}, {isa}, {speed}, blobs at {address}", node.short())
            }
            PNodeEvent::Connected { orchestrator } => {
                format!("connected to orchestrator {}", orchestrator.short())
            }
            PNodeEvent::Disconnected { cause, retry_in } => {
                let cause = cause.lines().next().unwrap_or_default();
                format!("not connected: {cause}; next try in {:.1} s", retry_in.as_secs_f64())
            }
            PNodeEvent::WorkChanged(_) | PNodeEvent::KeepsChanged(_) | PNodeEvent::Traffic(_) => return None,
            PNodeEvent::StandingChanged(standing) => return self.standing(standing),
            PNodeEvent::Started(work) => match work {
                Work::Idle => return None,
                Work::Train(window) => {
                    let share = window.share;
                    let (steps, sequences) = (share.inner_steps, share.sequences_per_step);
                    format!("round {}: training {steps} steps of {sequences} sequences", window.round + 1)
                }
                Work::Aggregate(work) => {
                    let standing_behind = |summand: &Summand| match summand.form {
                        Form::Contribution => 1,
                        Form::Sum(contributions) => contributions,
                    };
                    // Each part of the VNodes has all of them.
                    let all = work.summands.iter().filter(|summand| summand.first_vnode == 0);
                    let contributions: u32 = all.map(standing_behind).sum();
                    format!("round {}: aggregating {contributions} contributions", work.round + 1)
                }
                Work::Sum(work) => {
                    let several = work.summands.len();
                    format!("round {}: adding {several} times {} vnodes", work.round + 1, work.vnodes)
                }
                Work::Evaluate(work) => {
                    format!(
                        "round {}: evaluating shard {} of {}",
                        work.round + 1,
                        work.shard + 1,
                        work.shards
                    )
                }
                Work::Verify(VerifyWindow { maker, window, .. }) => format!(
                    "training the window of {} in round {} again: {} steps",
                    maker.short(),
                    window.round + 1,
                    window.share.inner_steps
                ),
                Work::Benchmark(work) => format!("computing a benchmark: {}", work.part.word()),
                Work::Tell(work) => format!("telling what was pledged in round {}", work.round + 1),
            },
            PNodeEvent::Progress(snapshot) => return self.progress(snapshot),
            PNodeEvent::Reported(Report::Proved { proof, .. }) if !proof.is_empty() => return None,
            PNodeEvent::Reported(report) => reported(report),
            PNodeEvent::Stored { round, checkpoint, sent, .. } => {
                let (checkpoint, sent) = (checkpoint.short(), bytes(sent.sent_bytes));
                format!("checkpoint {checkpoint} of round {} is stored: {sent} were sent", round + 1)
            }
            PNodeEvent::NotStored { round, cause, retry_in, .. } => {
                let cause = cause.lines().next().unwrap_or_default();
                let next = match retry_in {
                    Some(wait) => format!("next try in {:.0} s", wait.as_secs_f64().max(1.0)),
                    None => "it is not here any more".to_owned(),
                };
                format!("the checkpoint of round {} is not stored: {cause}; {next}", round + 1)
            }
            PNodeEvent::Trusted => {
                "what this node shows of itself counts: it is checked less often".to_owned()
            }
            PNodeEvent::Distrusted(why) => format!("this node is checked as everybody: {why}"),
            PNodeEvent::Trouble(cause) => format!("trouble, trying again: {cause}"),
        })
    }

    fn progress(&self, snapshot: &Snapshot) -> Option<String> {
        let mut told = self.told();
        let (doing, window) = match &told.work {
            Some(Work::Train(window)) => ("", window),
            Some(Work::Verify(work)) => ("verifying, ", work.window.as_ref()),
            _ => return None,
        };
        let round = window.round + 1;
        if told.last_progress.is_some_and(|last| last.elapsed() < PROGRESS_INTERVAL) {
            return None;
        }
        told.last_progress = Some(Instant::now());
        let Snapshot { step, steps, loss, tokens_per_second } = *snapshot;
        let speed = count(tokens_per_second.into());
        Some(format!("round {round}: {doing}step {step} of {steps}, loss {loss:.3}, {speed} tokens/s"))
    }

    /// What its owner should hear of at once.
    fn standing(&self, now: &Standing) -> Option<String> {
        let before = std::mem::replace(&mut self.told().standing, now.clone());
        let through = now.barred_through.filter(|_| before.barred_through != now.barred_through)?;
        let why = if now.account.convictions > before.account.convictions {
            "others who did its work again came to something else (is this machine's memory sound?)"
        } else {
            "it was at fault"
        };
        Some(format!("this node has no part in the rounds through {}: {why}", through + 1))
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Nobody reading is no reason to stop working.
fn say(sentence: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{sentence}");
}

fn reported(report: &Report) -> String {
    match report {
        Report::Trained(sealed) => match sealed.open() {
            Ok(commitment) => {
                let (round, tokens) = (commitment.work.round + 1, count(commitment.outcome.tokens));
                let loss = f64::from_bits(commitment.outcome.mean_loss_bits);
                format!("round {round}: trained on {tokens} tokens, mean loss {loss:.3}")
            }
            Err(cause) => cause.to_string(),
        },
        Report::Aggregated { round, checkpoint, left_out, alike, .. } => {
            let names = |nodes: &[NodeId]| nodes.iter().map(NodeId::short).collect::<Vec<_>>().join(", ");
            let mut sentence =
                format!("round {}: aggregated to checkpoint {}", round + 1, checkpoint.short());
            if !left_out.is_empty() {
                let nodes = names(left_out);
                sentence += &format!(
                    ", without what came from {nodes}: it has nothing to do with the rest, or was given before"
                );
            }
            if !alike.is_empty() {
                sentence += &format!("; what came from {} is alike and counts as one", names(alike));
            }
            sentence
        }
        Report::Missing { round, maker, .. } => {
            format!("round {}: nobody has what {} made", round + 1, maker.short())
        }
        Report::Refused { round, summands, .. } => {
            let refused = |refused: &RefusedSummand| format!("{}: {}", refused.maker, refused.reason);
            let refused: Vec<String> = summands.iter().map(refused).collect();
            format!("round {}: refused what was made by {}", round + 1, refused.join("; "))
        }
        Report::Summed { round, sums, .. } => {
            let sent = bytes(sums.iter().map(|sum| sum.bytes).sum());
            format!("round {}: added {} vnodes, {sent}", round + 1, sums.len())
        }
        Report::Evaluated { round, shard, tokens, .. } => {
            format!("round {}: evaluated shard {} on {} tokens", round + 1, shard + 1, count(*tokens))
        }
        Report::Verified { round, maker, outcome, .. } => {
            format!("the window of {} in round {} comes to {}", maker.short(), round + 1, outcome.short())
        }
        Report::Withheld { round, maker, .. } => format!(
            "the window of {} in round {} cannot be trained again: nobody has what it started from",
            maker.short(),
            round + 1
        ),
        Report::Unamendable { round, .. } => {
            format!("round {}: nobody has what it takes to amend an earlier round", round + 1)
        }
        Report::Told { round, .. } => format!("told what was pledged in round {}", round + 1),
        Report::Benchmarked { answer, .. } => format!("the benchmark is done: {}", answer.short()),
        Report::Failed { round, reason, .. } => format!("round {}: failed: {reason}", round + 1),
        Report::Kept { round, .. } => format!("keeping the checkpoint of round {}", round + 1),
        Report::Proved { round, .. } => {
            format!("a part of the checkpoint of round {} is lost or has changed", round + 1)
        }
    }
}

fn line(event: &PNodeEvent) -> Value {
    match event {
        PNodeEvent::Ready { node, addresses, profile } => json!({
            "event": "ready", "node": node, "addresses": addresses, "profile": profile,
        }),
        PNodeEvent::Connected { orchestrator } => {
            json!({ "event": "connected", "orchestrator": orchestrator })
        }
        PNodeEvent::Disconnected { cause, retry_in } => json!({
            "event": "disconnected", "cause": cause, "retry_in_ms": retry_in.as_millis() as u64,
        }),
        PNodeEvent::WorkChanged(work) => work_line("work", work),
        PNodeEvent::Started(work) => work_line("started", work),
        PNodeEvent::KeepsChanged(keeps) => json!({
            "event": "keeps",
            "checkpoints": keeps.iter().map(|keep| json!({
                "job": keep.job, "round": keep.round, "checkpoint": keep.checkpoint,
            })).collect::<Vec<_>>(),
        }),
        PNodeEvent::StandingChanged(Standing { account, checked_now, barred_through }) => json!({
            "event": "standing", "account": account, "checked_now": checked_now, "barred_through": barred_through,
        }),
        PNodeEvent::Traffic(traffic) => json!({
            "event": "traffic", "sent_bytes": traffic.sent_bytes, "received_bytes": traffic.received_bytes,
        }),
        PNodeEvent::Progress(Snapshot { step, steps, loss, tokens_per_second }) => json!({
            "event": "progress", "step": step, "steps": steps, "loss": loss, "tokens_per_second": tokens_per_second,
        }),
        PNodeEvent::Reported(report) => report_line(report),
        PNodeEvent::Stored { job, round, checkpoint, sent, took } => json!({
            "event": "stored", "job": job, "round": round, "checkpoint": checkpoint, "snapshot": sent.digest,
            "cid": sent.cid.map(|cid| cid.to_string()), "sent_bytes": sent.sent_bytes, "seconds": took.as_secs_f64(),
        }),
        PNodeEvent::NotStored { job, round, checkpoint, cause, retry_in } => json!({
            "event": "not-stored", "job": job, "round": round, "checkpoint": checkpoint, "error": cause,
            "retry_in_ms": retry_in.map(|wait| wait.as_millis() as u64),
        }),
        PNodeEvent::Trusted => json!({ "event": "trusted" }),
        PNodeEvent::Distrusted(why) => json!({ "event": "distrusted", "why": why }),
        PNodeEvent::Trouble(cause) => json!({ "event": "trouble", "cause": cause }),
    }
}

fn work_line(event: &str, work: &Work) -> Value {
    let (kind, round) = match work {
        Work::Idle => ("idle", None),
        Work::Train(window) => ("train", Some(window.round)),
        Work::Aggregate(work) => ("aggregate", Some(work.round)),
        Work::Evaluate(work) => ("evaluate", Some(work.round)),
        Work::Sum(work) => ("sum", Some(work.round)),
        Work::Verify(work) => ("verify", Some(work.window.round)),
        Work::Benchmark(_) => ("benchmark", None),
        Work::Tell(work) => ("tell", Some(work.round)),
    };
    json!({ "event": event, "work": kind, "round": round })
}

/// A commitment goes out as it was signed, so that whoever reads along can check the window.
fn report_line(report: &Report) -> Value {
    match report {
        Report::Trained(sealed) => {
            let bytes: String = encode(sealed).iter().map(|byte| format!("{byte:02x}")).collect();
            json!({ "event": "trained", "sealed_commitment": bytes })
        }
        Report::Aggregated { round, attempt, checkpoint, left_out, alike, .. } => json!({
            "event": "aggregated", "round": round, "attempt": attempt, "checkpoint": checkpoint,
            "left_out": left_out, "alike": alike,
        }),
        Report::Missing { round, attempt, maker, .. } => json!({
            "event": "missing", "round": round, "attempt": attempt, "maker": maker,
        }),
        Report::Refused { round, attempt, summands, .. } => json!({
            "event": "refused", "round": round, "attempt": attempt,
            "summands": summands.iter().map(|refused| json!({
                "maker": refused.maker, "reason": refused.reason,
            })).collect::<Vec<_>>(),
        }),
        Report::Summed { round, attempt, sum, sums, .. } => json!({
            "event": "summed", "round": round, "attempt": attempt, "sum": sum, "vnodes": sums.len(),
            "bytes": sums.iter().map(|sum| sum.bytes).sum::<u64>(),
        }),
        Report::Evaluated { round, shard, nats_bits, tokens, bytes, .. } => json!({
            "event": "evaluated", "round": round, "shard": shard, "nats": f64::from_bits(*nats_bits),
            "tokens": tokens, "bytes": bytes,
        }),
        Report::Verified { round, maker, outcome, .. } => {
            json!({ "event": "verified", "round": round, "maker": maker, "outcome": outcome })
        }
        Report::Withheld { round, maker, .. } => {
            json!({ "event": "withheld", "round": round, "maker": maker })
        }
        Report::Unamendable { round, .. } => json!({ "event": "unamendable", "round": round }),
        Report::Told { round, .. } => json!({ "event": "told", "round": round }),
        Report::Benchmarked { seed, answer } => {
            json!({ "event": "benchmarked", "seed": seed, "answer": answer })
        }
        Report::Failed { round, reason, .. } => {
            json!({ "event": "failed", "round": round, "reason": reason })
        }
        Report::Kept { round, ask, .. } => json!({ "event": "kept", "round": round, "ask": ask }),
        Report::Proved { round, proof, .. } => {
            json!({ "event": "proved", "round": round, "bytes": proof.len() })
        }
    }
}
