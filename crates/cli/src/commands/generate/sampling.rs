//! How the next token is chosen.

use anyhow::{Result, bail};
use zoo_model::Sampler;

/// Options that `zoo generate` and `zoo chat` share.
#[derive(clap::Args)]
pub struct Sampling {
    /// Above 1 wilder, below 1 safer, 0 always the most likely token
    #[arg(long, default_value_t = 0.8)]
    temperature: f32,
    /// Choose among so many of the most likely tokens only; 0: all
    #[arg(long, default_value_t = 0, value_name = "K")]
    top_k: usize,
    /// Choose among the most likely tokens that together have this probability; 1: all
    #[arg(long, default_value_t = 0.95, value_name = "P")]
    top_p: f64,
    /// Seed of the choices: equal seeds give equal texts
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Always the most likely token; the same as --temperature 0
    #[arg(long, conflicts_with_all = ["temperature", "top_k", "top_p"])]
    greedy: bool,
}

impl Sampling {
    /// The sampler, every value checked.
    pub fn sampler(&self) -> Result<Sampler> {
        let Self { temperature, top_k, top_p, seed, greedy } = *self;
        if !(temperature.is_finite() && temperature >= 0.0) {
            bail!("--temperature {temperature} is not possible\nhint: write 0 or more; 0.8 is the default");
        }
        if !(top_p > 0.0 && top_p <= 1.0) {
            bail!("--top-p {top_p} is not possible\nhint: write a number above 0 and up to 1");
        }
        Ok(if greedy {
            Sampler { seed, ..Sampler::greedy() }
        } else {
            Sampler { temperature, top_k, top_p, seed }
        })
    }
}
