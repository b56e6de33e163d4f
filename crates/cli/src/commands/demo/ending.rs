//! After the last round: the model as files, what it writes, and whether a window holds.

use std::ops::ControlFlow;
use std::thread::available_parallelism;

use anyhow::{Context, Result};
use serde_json::json;
use tokio::task::spawn_blocking;
use zoo_content::{Digest, MemoryStore};
use zoo_data::Prepared;
use zoo_job::Fetched;
use zoo_kernels::isa::{self, Isa};
use zoo_model::{Decoder, PagePool, Sampler, generate};
use zoo_orchestrator::Client;
use zoo_pnode::verify;
use zoo_protocol::Commitment;
use zoo_tasks::{Recheck, recheck as do_again};

use super::directories::Directories;
use crate::live::Audience;
use crate::live::format::harmless;

/// Tokens that the model writes.
const SAMPLE_TOKENS: usize = 200;
/// Tokens of held-out text that it goes on from.
const PROMPT_TOKENS: usize = 12;
/// What it goes on from where it has learned from Rust.
const RUST_PROMPT: &str = "/// Returns the";

/// What is to be made of the result.
pub struct Task<'a> {
    /// Fetches it.
    pub client: &'a Client,
    /// The text it came from.
    pub prepared: Prepared,
    /// Where it goes.
    pub directories: &'a Directories,
    /// The final checkpoint.
    pub checkpoint: Digest,
    /// Seed of the sample.
    pub seed: u64,
}

/// A text of the model's.
#[derive(Debug)]
pub struct Sample {
    /// Given.
    pub prompt: String,
    /// Written.
    pub text: String,
}

/// A window that was trained again.
#[derive(Debug)]
pub struct Rechecked {
    /// The node whose window it was.
    pub name: String,
    /// The round of the window, from 0.
    pub round: u32,
    /// What was committed to, and what came out here.
    pub recheck: Recheck,
    /// With what it was computed, there and here.
    pub here: String,
}

impl Task<'_> {
    /// Fetches the final checkpoint from the network, writes the model's folder and lets it write.
    pub async fn export_and_sample(self, audience: &mut Audience) -> Result<(Digest, Sample)> {
        let peers = self.client.peers().await?;
        let fetched =
            Fetched::fetch(self.client.endpoint(), None, &peers, &self.checkpoint, |_, _| {}).await?;
        let (prepared, seed, folder) = (self.prepared, self.seed, self.directories.model.clone());
        let made = spawn_blocking(move || -> Result<(Digest, Sample)> {
            let network = fetched.network()?;
            let manifest = ("data_manifest.json".to_owned(), prepared.manifest.to_bytes());
            fetched.export(&network, vec![manifest], &folder)?;
            let decoder = Decoder::new(network)?;
            Ok((decoder.digest(), sample(&decoder, &prepared, seed)?))
        });
        let (digest, sample) = made.await??;
        let folder = self.directories.model.display();
        let fields = json!({ "path": self.directories.model, "model_digest": digest });
        audience.tell("exported", fields, &format!("the model is in {folder}"));
        let fields = json!({ "prompt": sample.prompt, "text": sample.text });
        if let Audience::Programs = audience {
            audience.tell("sample", fields, "");
        }
        Ok((digest, sample))
    }
}

/// Trains a window again: on all threads, and with another instruction set if there are two fast ones.
pub async fn recheck(
    client: &Client,
    name: &str,
    commitment: Commitment,
    audience: &mut Audience,
) -> Result<Rechecked> {
    let (round, node) = (commitment.work.round, name.to_owned());
    let peers = client.peers().await?;
    let store = MemoryStore::new();
    verify::fetch_inputs(client.endpoint(), &peers, &store, &commitment.work, commitment.replica_in)
        .await
        .with_context(|| format!("the inputs of {name}'s window of round {round} cannot be had"))?;
    let retrained = spawn_blocking(move || retrain(&store, commitment));
    let (recheck, here) = retrained.await??;
    let verdict = if recheck.equal() { "equal" } else { "different" };
    let fields = json!({
        "name": node,
        "round": round,
        "here": here,
        "committed": recheck.expected.digest(),
        "computed": recheck.got.digest(),
        "differences": recheck.differences(),
    });
    let sentence = format!("{node}'s window of round {}, trained again here: {verdict}", round + 1);
    audience.tell("rechecked", fields, &sentence);
    Ok(Rechecked { name: node, round, recheck, here })
}

fn retrain(store: &MemoryStore, commitment: Commitment) -> Result<(Recheck, String)> {
    let there = isa::active();
    let here =
        isa::available().into_iter().rev().find(|isa| *isa != there && *isa != Isa::Scalar).unwrap_or(there);
    let threads = available_parallelism().map_or(1, usize::from);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
    isa::force(here)?;
    let outcome = pool.install(|| do_again(store, &commitment, &mut |_| ControlFlow::Continue(())));
    isa::force(there)?;
    Ok((outcome?, format!("{here} and {threads} threads, there {there} and 1")))
}

fn sample(decoder: &Decoder, prepared: &Prepared, seed: u64) -> Result<Sample> {
    let Prepared { tokenizer, held_out, .. } = prepared;
    let prompt = match &prepared.manifest.source {
        zoo_data::SourceRecord::Path { .. } => {
            let mut tokens = vec![0; PROMPT_TOKENS.min(held_out.len() as usize)];
            held_out.read(0, &mut tokens);
            tokens
        }
        _ => tokenizer.encode(RUST_PROMPT),
    };
    let sampler = Sampler { temperature: 0.8, seed, ..Sampler::default() };
    let mut pool = PagePool::new(decoder, decoder.context());
    let text =
        generate(decoder, &mut pool, &prompt, SAMPLE_TOKENS, &sampler, &mut |_| ControlFlow::Continue(()))?;
    Ok(Sample { prompt: harmless(&tokenizer.decode(&prompt)), text: harmless(&tokenizer.decode(&text)) })
}
