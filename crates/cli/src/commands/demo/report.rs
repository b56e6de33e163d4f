//! What a demo comes to.

use std::io::{self, Write};
use std::path::PathBuf;

use console::style;
use serde::Serialize;
use zoo_content::Digest;

use super::Demo;
use super::ending::{Rechecked, Sample};
use crate::live::format::{bytes, count, several};
use crate::live::{NodeView, Overview, print_line, sparkline};

/// Columns of a curve.
const CURVE_WIDTH: usize = 32;

/// The result, for people and for programs.
#[derive(Debug)]
pub struct Report {
    /// For programs.
    pub closing: Closing,
    /// Name, bytes sent and bytes received of every node.
    traffic: Vec<(String, u64, u64)>,
    sample: Sample,
    recheck: Rechecked,
}

/// The last line of `zoo demo --json`. These keys and no others.
#[derive(Debug, Serialize)]
pub struct Closing {
    /// Nodes that took part.
    pub nodes: u16,
    /// Rounds that were finished.
    pub rounds: u32,
    /// Tokens that went into the model.
    pub tokens: u64,
    /// From the start of the command to the first step of training.
    pub seconds_to_first_round: f64,
    /// From the start of the command to the end of its last process.
    pub seconds_total: f64,
    /// Held-out bits per byte at every evaluation.
    pub bits_per_byte: Vec<f64>,
    /// Whether a node was killed in the middle of a window.
    pub killed: bool,
    /// Whether it came back.
    pub rejoined: bool,
    /// Whether training a window again gave the bits that its node had committed to.
    pub recheck_equal: bool,
    /// Bytes of blobs that a node sent and received, in the mean.
    pub wire_bytes_per_node: u64,
    /// Digest of all parameters.
    pub model_digest: Digest,
    /// Folder of the model.
    pub export_path: PathBuf,
}

impl Report {
    /// What can be read off the overview; the rest of the closing line is still to be filled in.
    pub fn new(demo: &Demo, overview: &Overview, sample: Sample, recheck: Rechecked) -> Self {
        let node = |node: &NodeView| (node.name.clone(), node.sent_bytes(), node.received_bytes());
        let mut traffic: Vec<_> = overview.nodes.values().map(node).collect();
        traffic.sort();
        let wire_bytes: u64 = traffic.iter().map(|(_, sent, received)| sent + received).sum();
        let closing = Closing {
            nodes: demo.nodes,
            rounds: overview.finished_rounds,
            tokens: overview.tokens,
            seconds_to_first_round: 0.0,
            seconds_total: 0.0,
            bits_per_byte: overview.bits_per_byte.clone(),
            killed: false,
            rejoined: false,
            recheck_equal: recheck.recheck.equal(),
            wire_bytes_per_node: wire_bytes / traffic.len().max(1) as u64,
            model_digest: Digest::of(b""),
            export_path: PathBuf::new(),
        };
        Self { closing, traffic, sample, recheck }
    }

    /// Prints the closing line.
    pub fn print_line(&self) {
        print_line(&serde_json::to_value(&self.closing).expect("plain data with text keys"));
    }

    /// Prints all of it on stdout.
    pub fn print_for_people(&self) -> io::Result<()> {
        let out = &mut io::stdout().lock();
        let closing = &self.closing;
        let bits: Vec<String> = closing.bits_per_byte.iter().map(|bits| format!("{bits:.3}")).collect();
        heading(out, "held-out bits per byte")?;
        writeln!(out, "  {}  {}", bits.join(" "), sparkline(&closing.bits_per_byte, CURVE_WIDTH))?;
        heading(out, "what the model writes, at temperature 0.8")?;
        let text = format!("{}{}", style(&self.sample.prompt).bold(), self.sample.text);
        text.lines().try_for_each(|line| writeln!(out, "  {line}"))?;
        heading(out, "bytes on the wire")?;
        for (name, sent, received) in &self.traffic {
            writeln!(out, "  {name:<10} {:>9} sent {:>9} received", bytes(*sent), bytes(*received))?;
        }
        heading(out, "one window, trained again from what is stored")?;
        self.print_recheck(out)?;
        heading(out, "the model")?;
        let folder = closing.export_path.display();
        writeln!(out, "  digest     {}", closing.model_digest)?;
        writeln!(out, "  folder     {folder}")?;
        writeln!(out, "  try        zoo generate {folder} \"fn main\"")?;
        let (tokens, rounds) = (count(closing.tokens), several(closing.rounds.into(), "round"));
        let nodes = several(closing.nodes.into(), "node");
        let (first, total) = (closing.seconds_to_first_round, closing.seconds_total);
        writeln!(
            out,
            "\n{tokens} tokens in {rounds} on {nodes}; first round after {first:.1} s, {total:.0} s in all"
        )
    }

    fn print_recheck(&self, out: &mut impl Write) -> io::Result<()> {
        let Rechecked { name, round, recheck, here } = &self.recheck;
        let round = round + 1;
        let (steps, tokens) =
            (several(recheck.expected.steps.into(), "step"), count(recheck.expected.tokens));
        writeln!(out, "  {name}'s share of round {round}: {steps}, {tokens} tokens; here {here}")?;
        writeln!(out, "  committed  {}", recheck.expected.digest())?;
        writeln!(out, "  computed   {}", recheck.got.digest())?;
        if recheck.equal() {
            writeln!(out, "  {}", style("equal, to the last bit").green())
        } else {
            writeln!(out, "  {}: {}", style("different").red(), recheck.differences().join(", "))
        }
    }
}

fn heading(out: &mut impl Write, text: &str) -> io::Result<()> {
    writeln!(out, "\n{}", style(text).bold())
}
