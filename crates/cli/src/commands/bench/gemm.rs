//! `zoo bench gemm`: matrix products against the FMA peak.

use anyhow::Result;
use rayon::prelude::*;
use serde::Serialize;
use zoo_kernels::isa;
use zoo_kernels::matmul::{View, ViewMut, matmul};
use zoo_kernels::probe;
use zoo_kernels::{Onto, Profile};

use super::measure::{median, on_threads, seconds};
use crate::commands::profile_parser;

/// Arguments of `zoo bench gemm`.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  zoo bench gemm --threads 1 --json")]
pub struct Gemm {
    /// Threads to compute with
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Numeric profile: the rule of the products
    #[arg(long, default_value_t = Profile::F32Exact, value_parser = profile_parser())]
    profile: Profile,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct GemmReport {
    profile: &'static str,
    isa: String,
    threads: usize,
    peak_gflops: f64,
    median_share: f64,
    minimum_share: f64,
    products: Vec<Product>,
}

#[derive(Serialize)]
struct Product {
    config: &'static str,
    layer: &'static str,
    transposes: &'static str,
    m: usize,
    n: usize,
    k: usize,
    gflops: f64,
    share: f64,
}

/// Linear layers of the benchmark shapes: tokens, then (name, inputs, outputs).
type Layer = (&'static str, usize, usize);
const SHAPES: [(&str, usize, [Layer; 5]); 2] = [
    (
        "M",
        2048,
        [
            ("qkv", 384, 1152),
            ("out", 384, 384),
            ("gate_up", 384, 2048),
            ("down", 1024, 384),
            ("head", 384, 256),
        ],
    ),
    (
        "L",
        1024,
        [
            ("qkv", 768, 2304),
            ("out", 768, 768),
            ("gate_up", 768, 4096),
            ("down", 2048, 768),
            ("head", 768, 8192),
        ],
    ),
];

impl Gemm {
    /// Measures every product of a step of M and L.
    pub fn run(self) -> Result<()> {
        let (peak, products) = on_threads(self.threads, || measure(self.profile, self.threads))?;
        let shares: Vec<f64> = products.iter().map(|product| product.share).collect();
        let result = GemmReport {
            profile: self.profile.name(),
            isa: isa::active().to_string(),
            threads: self.threads,
            peak_gflops: peak,
            median_share: median(shares.clone()),
            minimum_share: shares.iter().copied().fold(f64::INFINITY, f64::min),
            products,
        };
        if self.json {
            println!("{}", serde_json::to_string(&result)?);
        } else {
            print(&result);
        }
        Ok(())
    }
}

fn measure(profile: Profile, threads: usize) -> (f64, Vec<Product>) {
    let mut peaks = Vec::new();
    let mut products = Vec::new();
    for (config, tokens, layers) in SHAPES {
        for (layer, inputs, outputs) in layers {
            // Forward y = x w^T, gradient of the input dx = dy w, gradient of the weight dw = dy^T x.
            for (transposes, m, n, k) in [
                ("NT", tokens, outputs, inputs),
                ("NN", tokens, inputs, outputs),
                ("TN", outputs, inputs, tokens),
            ] {
                let runs = product_beside_peak(profile, threads, transposes, m, n, k);
                peaks.extend(runs.iter().map(|run| run.peak));
                products.push(Product {
                    config,
                    layer,
                    transposes,
                    m,
                    n,
                    k,
                    gflops: median(runs.iter().map(|run| run.product).collect()),
                    share: median(runs.iter().map(|run| run.product / run.peak).collect()),
                });
            }
        }
    }
    (median(peaks), products)
}

/// GFLOP/s of one run of a product, and of the multiply-adds measured beside it.
struct Run {
    product: f64,
    peak: f64,
}

/// The clock of a machine wanders, so every run of the product stands between two measurements of the peak.
fn product_beside_peak(
    profile: Profile,
    threads: usize,
    transposes: &str,
    m: usize,
    n: usize,
    k: usize,
) -> Vec<Run> {
    const RUNS: usize = 11;
    let a: Vec<f32> = (0..m * k).map(|i| (i % 61) as f32 / 61.0 - 0.5).collect();
    let b: Vec<f32> = (0..k * n).map(|i| (i % 53) as f32 / 53.0 - 0.5).collect();
    let mut c = vec![0f32; m * n];
    let a =
        if transposes == "TN" { View::row_major(&a, k, m).transposed() } else { View::row_major(&a, m, k) };
    let b =
        if transposes == "NT" { View::row_major(&b, n, k).transposed() } else { View::row_major(&b, k, n) };
    let mut product = || {
        let time = seconds(|| matmul(profile, a, b, ViewMut::row_major(&mut c, m, n), Onto::Zero));
        2.0 * (m * n * k) as f64 / time / 1e9
    };
    product();
    let mut before = peak_gflops(profile, threads);
    (0..RUNS)
        .map(|_| {
            let product = product();
            let after = peak_gflops(profile, threads);
            let run = Run { product, peak: f64::midpoint(before, after) };
            before = after;
            run
        })
        .collect()
}

/// Multiply-adds that never leave the registers, on all threads at once: the tile unit's, where the profile has
/// it do the work.
fn peak_gflops(profile: Profile, threads: usize) -> f64 {
    const ROUNDS: u64 = 1 << 20;
    const TILE_ROUNDS: u64 = 1 << 14;
    let spin = || match profile {
        Profile::Bf16Exact => probe::tile_multiply_adds(TILE_ROUNDS),
        Profile::F32Exact => None,
    };
    let mut done = 0;
    let time = seconds(|| {
        done = (0..threads)
            .into_par_iter()
            .with_max_len(1)
            .map(|_| spin().unwrap_or_else(|| probe::fused_multiply_adds(ROUNDS)))
            .sum()
    });
    2.0 * done as f64 / time / 1e9
}

fn print(result: &GemmReport) {
    println!(
        "{} on {}, {} thread(s): peak {:.0} GFLOP/s",
        result.profile, result.isa, result.threads, result.peak_gflops
    );
    for product in &result.products {
        println!(
            "  {} {:8} {}  {:5} x {:5} x {:5}  {:7.1} GFLOP/s  {:5.1} %",
            product.config,
            product.layer,
            product.transposes,
            product.m,
            product.n,
            product.k,
            product.gflops,
            100.0 * product.share
        );
    }
    println!(
        "  median {:.1} %, minimum {:.1} % of the peak",
        100.0 * result.median_share,
        100.0 * result.minimum_share
    );
}
