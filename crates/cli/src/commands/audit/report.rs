//! What an audit prints.

use serde_json::{Value, json};
use zoo_audit::{Checked, Tally, Verdict};

use super::evidence::JobEvidence;
use crate::live::format::{count, several};
use crate::live::print_line;

const NAMED: &str = "hint: each is named above, with its round, its node and what differs";

/// Says what is found: sentences for people, lines of JSON for programs.
pub struct Report {
    json: bool,
}

impl Report {
    pub fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether programs read it.
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// One thing that was found.
    pub fn tell(&mut self, event: &str, mut fields: Value, sentence: &str) {
        if self.json {
            fields["event"] = event.into();
            print_line(&fields);
        } else {
            println!("{sentence}");
        }
    }

    /// A report that was done again; to people only if it is not equal.
    pub fn checked(&mut self, job: &JobEvidence, checked: &Checked) {
        let Checked { command, round, node, deed, verdict } = checked;
        let (verdict, why) = match verdict {
            Verdict::Equal => ("equal", Vec::new()),
            Verdict::Different(differences) => ("different", differences.clone()),
            Verdict::Unavailable(why) => ("unavailable", vec![why.clone()]),
        };
        if verdict == "equal" && !self.json {
            return;
        }
        let fields = json!({
            "command": command, "round": round, "node": node, "deed": deed.to_string(), "verdict": verdict, "why": why,
        });
        let (name, sentence) =
            (job.name_of(node), if verdict == "different" { "is DIFFERENT" } else { "cannot be checked" });
        let sentence = format!(
            "round {}: {deed} of {name} ({}) {sentence}: {}",
            round + 1,
            node.short(),
            why.join(", ")
        );
        self.tell("checked", fields, &sentence);
    }

    /// All that was done again; gives what is wrong with it.
    pub fn sum_up(&mut self, job: &JobEvidence, tally: Tally) -> Option<String> {
        let Tally {
            windows,
            steps,
            tokens,
            sums,
            outer_steps,
            shards,
            verifications,
            different,
            unavailable,
            skipped,
            checkpoint,
        } = tally;
        let (last, comes_out) = checkpoint.unzip();
        let fields = json!({
            "job": job.id, "windows": windows, "inner_steps": steps, "tokens": tokens, "sums": sums, "outer_steps": outer_steps,
            "evaluations": shards, "verifications": verifications, "different": different, "unavailable": unavailable, "skipped": skipped,
            "checkpoint": last, "checkpoint_equal": comes_out,
        });
        let mut sentence = format!(
            "done again and equal to the last bit: {} of {} tokens, {}, {}, {}, {}",
            several(windows, "window"),
            count(tokens),
            several(outer_steps, "outer step"),
            several(sums, "sum"),
            several(shards, "evaluation"),
            several(verifications, "verdict"),
        );
        if let (Some(last), Some(true)) = (last, comes_out) {
            sentence.push_str(&format!("\nthe last checkpoint comes out again: {last}"));
        }
        self.tell("audited", fields, &sentence);
        match (different, unavailable) {
            (0, 0) => None,
            (0, _) => Some(format!(
                "{} cannot be checked\nhint: what they start from is made by the rounds before: --all does those first",
                several(unavailable, "report")
            )),
            (_, 0) => Some(format!("{} not what comes out\n{NAMED}", several(different, "report"))),
            _ => Some(format!(
                "{} not what comes out, and {} cannot be checked\n{NAMED}",
                several(different, "report"),
                several(unavailable, "report")
            )),
        }
    }
}
