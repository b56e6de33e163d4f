//! A checked record, for people and for programs.

use std::io::{self, Write};

use anyhow::Result;
use serde_json::{Value, json};
use zoo_dispute::{Checked, Place, Reason, Record, Role, Terms};
use zoo_protocol::NodeId;

use crate::live::format::{harmless, several};
use crate::live::print_line;

/// Says who lost, where, and by what.
pub fn tell(checked: &Checked, json: bool) -> Result<()> {
    if json {
        print_line(&line(checked));
        return Ok(());
    }
    let Checked { arbiter, record } = checked;
    let Record { terms, moves, verdict, .. } = record;
    let mut out = io::stdout();
    let steps = terms.task.steps();
    writeln!(out, "the {} loses{}", verdict.loser.name(), place(&verdict.place, steps))?;
    writeln!(out, "  {}", why(&verdict.reason))?;
    writeln!(
        out,
        "between {} (maker) and {} (challenger), heard by {}: {}, each signed",
        terms.maker.short(),
        terms.challenger.short(),
        arbiter.short(),
        several(moves.len() as u64, "move")
    )?;
    if verdict.reason == Reason::Silence {
        writeln!(out, "  that no move came in time is the word of {}", arbiter.short())?;
    }
    let task = &terms.task;
    writeln!(
        out,
        "about {} of round {} from inner step {}, program {}, data {}, outcome {}",
        several(steps.into(), "step"),
        task.round + 1,
        task.job_step(0),
        zoo_content::Digest::of(&task.program).short(),
        task.data.digest.short(),
        terms.outcome.short()
    )?;
    Ok(())
}

fn line(Checked { arbiter, record }: &Checked) -> Value {
    let Record { terms, moves, verdict, .. } = record;
    let Place { step, group, tensor, segment } = &verdict.place;
    let key = |role: Role| -> NodeId { if role == Role::Maker { terms.maker } else { terms.challenger } };
    let mut line = json!({
        "event": "dispute", "verified": true, "loser": verdict.loser.name(), "node": key(verdict.loser),
        "reason": verdict.reason.name(), "step": step,
        "vnode": group.as_ref().map(|group| &group.vnode), "pass": group.as_ref().map(|group| group.pass.to_string()),
        "tensor": tensor.as_ref().map(|tensor| &tensor.tensor), "operator": tensor.as_ref().map(|tensor| &tensor.operator),
        "shape": tensor.as_ref().map(|tensor| &tensor.shape), "element": tensor.as_ref().and_then(|tensor| tensor.at.as_ref()),
        "segment": segment, "moves": moves.len(), "maker": terms.maker, "challenger": terms.challenger, "arbiter": arbiter,
        "terms": described(terms),
    });
    match &verdict.reason {
        Reason::Computation { said, computed } => {
            (line["said"], line["computed"]) = (json!(said), json!(computed));
        }
        Reason::FalseAccusation { computed } => line["computed"] = json!(computed),
        Reason::Inconsistent(why) => line["why"] = json!(why),
        Reason::Silence | Reason::Withdrawn => {}
    }
    line
}

fn described(Terms { task, outcome, move_ms, .. }: &Terms) -> Value {
    json!({
        "program": zoo_content::Digest::of(&task.program), "data": task.data.digest,
        "base": zoo_content::Digest::of(&task.base), "replica_in": task.kept.as_ref().map(|kept| kept.blob.digest),
        "outcome": outcome, "round": task.round, "first_step": task.first_step, "share": task.share, "lead": task.lead,
        "ahead_steps": task.ahead_steps, "move_ms": move_ms,
    })
}

/// Where, as far as the dispute had come.
fn place(Place { step, group, tensor, segment }: &Place, steps: u32) -> String {
    let mut text = String::new();
    if let Some(step) = step {
        text += &format!(": step {} of {steps}", step + 1);
    }
    if let Some(group) = group {
        let vnode = if group.vnode.is_empty() { "all VNodes" } else { &group.vnode };
        text += &format!(", {}, {}", harmless(vnode), group.pass);
    }
    if let Some(tensor) = tensor {
        let at = tensor.at.as_ref().map_or(String::new(), |at| format!(" {at:?}"));
        text += &format!(": {}{at} ({})", harmless(&tensor.tensor), harmless(&tensor.operator));
    }
    if let Some(segment) = segment {
        text += &format!(", segment {segment}");
    }
    text
}

fn why(reason: &Reason) -> String {
    match reason {
        Reason::Computation { said, computed } => {
            format!("it said {}, and that comes to {}", shown(said), shown(computed))
        }
        Reason::FalseAccusation { computed } => {
            format!("what it accused of comes to {}, as the maker said", shown(computed))
        }
        Reason::Silence => "it did not move in time".into(),
        Reason::Inconsistent(why) => harmless(why),
        Reason::Withdrawn => "it gave up".into(),
    }
}

/// Words as values, with their bits where there are few.
fn shown(words: &[u32]) -> String {
    let all = words.iter().map(|word| format!("{:e} ({word:08x})", f32::from_bits(*word)));
    all.collect::<Vec<_>>().join(", ")
}
