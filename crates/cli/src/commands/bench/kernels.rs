//! `zoo bench kernels`: every operator outside the matrix products, against memory bandwidth.

use anyhow::Result;
use serde::Serialize;
use zoo_kernels::activation::{self, Activation};
use zoo_kernels::attention;
use zoo_kernels::heads::{self, Heads};
use zoo_kernels::optimizer::{AdamW, Muon};
use zoo_kernels::rope::{Direction, Table};
use zoo_kernels::{
    Onto, Profile, clip, cross_entropy, digest, elementwise, embedding, isa, math, norm, random,
};

use super::measure::{copy_bandwidth, median_seconds, on_threads};

/// Arguments of `zoo bench kernels`.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  zoo bench kernels --threads 2 --json")]
pub struct Kernels {
    /// Threads to compute with
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct KernelReport {
    isa: String,
    threads: usize,
    /// What a copy of arrays of the size of M's activations reaches.
    copy_gb_per_s: f64,
    kernels: Vec<Kernel>,
}

#[derive(Serialize)]
struct Kernel {
    name: &'static str,
    microseconds: f64,
    /// Bytes that must be read and written, once each, over the time.
    gb_per_s: f64,
    /// The same as a share of the copy.
    share: f64,
}

impl Kernels {
    /// Measures every operator on M's shapes.
    pub fn run(self) -> Result<()> {
        let (copy, kernels) = on_threads(self.threads, measure)?;
        let report = KernelReport {
            isa: isa::active().to_string(),
            threads: self.threads,
            copy_gb_per_s: copy / 1e9,
            kernels,
        };
        if self.json {
            println!("{}", serde_json::to_string(&report)?);
            return Ok(());
        }
        println!("{} on {} thread(s): copy {:.1} GB/s", report.isa, report.threads, report.copy_gb_per_s);
        for kernel in &report.kernels {
            println!(
                "  {:26} {:9.1} us  {:7.1} GB/s  {:6.1} %",
                kernel.name,
                kernel.microseconds,
                kernel.gb_per_s,
                100.0 * kernel.share
            );
        }
        Ok(())
    }
}

/// Tokens, width, hidden width, context and vocabulary of M.
const TOKENS: usize = 2048;
const WIDTH: usize = 384;
const HIDDEN: usize = 1024;
const CONTEXT: usize = 256;
const VOCAB: usize = 256;
const HEADS: Heads = Heads { query_heads: 6, kv_heads: 6, head_dim: 64 };

struct Bench {
    copy: f64,
    kernels: Vec<Kernel>,
}

impl Bench {
    /// Times `work`, which must touch `floats` floats (reads and writes, once each).
    fn time(&mut self, name: &'static str, floats: usize, work: impl FnMut()) {
        let time = median_seconds(9, work);
        let bandwidth = 4.0 * floats as f64 / time;
        self.kernels.push(Kernel {
            name,
            microseconds: time * 1e6,
            gb_per_s: bandwidth / 1e9,
            share: bandwidth / self.copy,
        });
    }
}

fn values(len: usize) -> Vec<f32> {
    (0..len).map(|i| (i % 97) as f32 / 48.5 - 1.0).collect()
}

fn measure() -> (f64, Vec<Kernel>) {
    let copy = copy_bandwidth(4 * TOKENS * WIDTH);
    let mut bench = Bench { copy, kernels: Vec::new() };
    rows(&mut bench);
    projections(&mut bench);
    ends(&mut bench);
    parameters(&mut bench);
    functions(&mut bench);
    (copy, bench.kernels)
}

fn rows(bench: &mut Bench) {
    let n = TOKENS * WIDTH;
    let (x, dy, gain) = (values(n), values(n), values(WIDTH));
    let (mut y, mut dx) = (vec![0.0; n], vec![0.0; n]);
    let (mut mean, mut rstd) = (vec![0.0; TOKENS], vec![0.0; TOKENS]);
    let (mut dgain, mut dbias) = (vec![0.0; WIDTH], vec![0.0; WIDTH]);
    bench.time("rms norm forward", 2 * n, || norm::rms_forward(&x, &gain, 1e-5, &mut y, &mut rstd));
    bench.time("rms norm backward", 4 * n, || {
        norm::rms_backward(&dy, &x, &gain, &rstd, &mut dx, Onto::Value, &mut dgain, Onto::Zero);
    });
    bench.time("layer norm forward", 2 * n, || {
        norm::layer_forward(&x, &gain, Some(&gain), 1e-5, &mut y, &mut mean, &mut rstd);
    });
    bench.time("layer norm backward", 4 * n, || {
        norm::layer_backward(
            &dy,
            &x,
            &gain,
            &mean,
            &rstd,
            &mut dx,
            Onto::Value,
            &mut dgain,
            Some(&mut dbias),
            Onto::Zero,
        );
    });
    bench.time("add", 3 * n, || elementwise::add_assign(&mut y, &x));
    let hidden = TOKENS * HIDDEN;
    let (mut gate_up, mut out) = (values(2 * hidden), vec![0.0; hidden]);
    bench.time("swiglu forward", 3 * hidden, || activation::swiglu_forward(&gate_up, HIDDEN, &mut out));
    bench.time("swiglu backward", 6 * hidden, || activation::swiglu_backward(&mut gate_up, HIDDEN, &mut out));
    let mut x = values(hidden);
    for (name, back, kind) in [
        ("relu forward", "relu backward", Activation::Relu),
        ("gelu forward", "gelu backward", Activation::Gelu),
        ("silu forward", "silu backward", Activation::Silu),
    ] {
        bench.time(name, 2 * hidden, || activation::forward(kind, &x, &mut out));
        bench.time(back, 4 * hidden, || activation::backward(kind, &mut x, &mut out));
    }
}

fn projections(bench: &mut Bench) {
    let row = HEADS.row_width();
    let table = Table::new(CONTEXT, HEADS.head_dim, 10_000.0);
    let raw = values(TOKENS * row);
    let mut qkv = raw.clone();
    let turning = TOKENS * HEADS.turning_heads() * HEADS.head_dim;
    bench.time("rotate", 2 * turning, || {
        heads::rotate(HEADS, &table, &mut qkv, CONTEXT, 0, Direction::Forward)
    });
    let gain = values(HEADS.head_dim);
    let mut rstd = vec![0.0; TOKENS * HEADS.turning_heads()];
    bench.time("qk norm forward", 2 * TOKENS * row, || {
        heads::normalise_qk(HEADS, &raw, &gain, &gain, 1e-6, &mut qkv, &mut rstd);
    });
    let (mut dq, mut dk) = (vec![0.0; HEADS.head_dim], vec![0.0; HEADS.head_dim]);
    let mut dqkv = values(TOKENS * row);
    bench.time("qk norm backward", 3 * turning, || {
        heads::normalise_qk_backward(
            HEADS,
            &raw,
            &gain,
            &gain,
            &rstd,
            &mut dqkv,
            &mut dq,
            &mut dk,
            Onto::Zero,
        );
    });
    let (mut z, mut lse) = (vec![0.0; TOKENS * WIDTH], vec![0.0; TOKENS * HEADS.query_heads]);
    bench.time("attention forward", TOKENS * (row + WIDTH), || {
        attention::forward(Profile::F32Exact, HEADS, CONTEXT, &raw, &mut z, &mut lse);
    });
    let dz = values(TOKENS * WIDTH);
    bench.time("attention backward", TOKENS * (2 * row + 2 * WIDTH), || {
        attention::backward(Profile::F32Exact, HEADS, CONTEXT, &raw, &z, &lse, &dz, &mut dqkv);
    });
}

fn ends(bench: &mut Bench) {
    let ids: Vec<u32> = (0..TOKENS).map(|i| (i * 7 % VOCAB) as u32).collect();
    let mut table = values(VOCAB * WIDTH);
    let mut x = vec![0.0; TOKENS * WIDTH];
    bench.time("embedding forward", 2 * TOKENS * WIDTH, || embedding::forward(&table, WIDTH, &ids, &mut x));
    bench.time("embedding backward", 3 * TOKENS * WIDTH, || embedding::backward(&x, WIDTH, &ids, &mut table));
    let (logits, mut losses) = (values(TOKENS * VOCAB), vec![0.0; TOKENS]);
    bench.time("cross-entropy", TOKENS * VOCAB, || cross_entropy::losses(&logits, VOCAB, &ids, &mut losses));
    let mut gradient = logits.clone();
    bench.time("cross-entropy and gradient", 2 * TOKENS * VOCAB, || {
        cross_entropy::losses_and_gradient(&mut gradient, VOCAB, &ids, 1e-3, &mut losses);
    });
}

fn parameters(bench: &mut Bench) {
    let n = 4 * WIDTH * WIDTH;
    let (mut p, g) = (values(n), values(n));
    let (mut m, mut v) = (vec![0.0; n], vec![0.0; n]);
    let adamw = AdamW { lr: 1e-3, beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.1 };
    bench.time("adamw", 7 * n, || adamw.step(1, true, &mut p, &g, &mut m, &mut v, 1.0));
    let muon = Muon { lr: 1e-3, momentum: 0.95, nesterov: true, weight_decay: 0.1 };
    bench.time("muon (4w x w)", 5 * n, || {
        muon.step((4 * WIDTH, WIDTH), &mut p, &g, &mut m, 1.0);
    });
    bench.time("sum of squares", n, || {
        std::hint::black_box(clip::sum_of_squares(&g));
    });
    bench.time("digest", n, || {
        std::hint::black_box(digest::tensor(&[n], &g));
    });
}

fn functions(bench: &mut Bench) {
    let n = TOKENS * WIDTH;
    let mut x = values(n);
    bench.time("exp", 2 * n, || math::exp_slice(&mut x));
    let mut x: Vec<f32> = values(n).iter().map(|x| x + 2.0).collect();
    bench.time("log", 2 * n, || {
        math::log_slice(&mut x);
        x.fill(2.0);
    });
    let mut x = values(n);
    bench.time("tanh", 2 * n, || math::tanh_slice(&mut x));
    bench.time("sigmoid", 2 * n, || math::sigmoid_slice(&mut x));
    bench.time("rsqrt", 2 * n, || math::rsqrt_slice(&mut x));
    let mut out = vec![0u64; 4096];
    bench.time("random bits", 2 * out.len(), || {
        out.iter_mut().enumerate().for_each(|(i, out)| *out = random::bits(1, 2, i as u64));
        std::hint::black_box(&out);
    });
}
