//! `zoo presets`.

use std::io::Write;

use anyhow::{Context, Result};
use zoo_model::{Family, preset};

use crate::progress::count;

/// Arguments of `zoo presets`.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  zoo presets\n  zoo train --preset qwen3-1m --dry-run")]
pub struct Presets {
    /// Print one JSON object per line
    #[arg(long)]
    json: bool,
}

impl Presets {
    /// Lists every preset with its shape.
    pub fn run(self) -> Result<()> {
        let mut out = std::io::stdout().lock();
        if !self.json {
            writeln!(
                out,
                "{:30} {:6} {:>13} {:>6} {:>6} {:>9} {:>7} {:>10}",
                "name", "family", "parameters", "layers", "width", "heads", "context", "vocabulary"
            )?;
        }
        for name in preset::names() {
            let model = preset::by_name(name).context("a listed preset exists")?;
            let parameters = model.parameter_count();
            if self.json {
                let line = serde_json::json!({ "name": name, "parameters": parameters, "model": model });
                writeln!(out, "{line}")?;
                continue;
            }
            writeln!(
                out,
                "{name:30} {:6} {:>13} {:>6} {:>6} {:>9} {:>7} {:>10}",
                family_name(model.family),
                count(parameters as f64),
                model.layers,
                model.width,
                format!("{}/{}x{}", model.heads, model.kv_heads, model.head_dim),
                model.context,
                count(model.vocab_size as f64),
            )?;
        }
        Ok(())
    }
}

/// The family as configurations write it.
pub fn family_name(family: Family) -> &'static str {
    match family {
        Family::Qwen3 => "qwen3",
        Family::Llama => "llama",
        Family::Gpt2 => "gpt2",
    }
}
