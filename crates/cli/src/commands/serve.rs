//! `zoo serve`: a model behind OpenAI's API.

mod check;
mod network;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde_json::json;
use zoo_gateway::{Engine, EngineSettings, Served, Server, ServerSettings, limits};
use zoo_kernels::attention::PAGE;
use zoo_model::{Decoder, DecoderInfo, Network};
use zoo_training::ModelFolder;

use crate::foreground;
use crate::live::format::bytes;
use crate::live::print_line;

/// Memory of the cache where nobody says how much, MiB.
const CACHE_MIB_DEFAULT: usize = 1024;

/// Arguments of `zoo serve`.
#[derive(clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "Examples:
  zoo serve runs/shakespeare
  curl localhost:8080/v1/completions -H 'Content-Type: application/json' \\
       -d '{\"prompt\": \"ROMEO:\", \"max_tokens\": 40, \"seed\": 1}' > answer.json
  zoo serve check answer.json --model runs/shakespeare
  zoo serve MODEL --listen 0.0.0.0:8080 --api-key-file key.txt
  zoo serve MODEL --network 3       through three nodes, of which none needs room for all of it

The address also has a page to talk to the model. Every program that speaks to OpenAI's API can
speak to http://ADDR:PORT/v1 instead; docs/application.md shows how.

Equal requests with equal seeds get equal answers, whatever else the server is doing, and on
every machine. An answer says what it takes to repeat it, and `zoo serve check` does."
)]
pub struct Serve {
    #[command(subcommand)]
    command: Option<ServeCommand>,
    /// An exported model (a Hugging Face folder), or the folder of a run
    #[arg(required = true)]
    model: Option<PathBuf>,
    /// Where to listen; port 0 takes any free port
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// What clients call the model. Default: the name of its folder
    #[arg(long)]
    name: Option<String>,
    /// Threads that compute; 0: one for every core
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Texts that are written at the same time, at most; more wait
    #[arg(long, value_name = "N", default_value_t = 32,
          value_parser = clap::value_parser!(u16).range(1..=limits::BATCH_MAX as i64))]
    batch: u16,
    /// Memory for the keys and values of texts. Default: a whole context for each text of the
    /// batch, 1024 MiB at most
    #[arg(long, value_name = "MIB")]
    cache_mib: Option<usize>,
    /// Answer through so many nodes, each with a part of the model: whoever runs zoo pipeline join
    /// with the ticket that is printed. One that is lost is replaced, and no text with it
    #[arg(long, value_name = "NODES", value_parser = clap::value_parser!(u16).range(1..=256))]
    network: Option<u16>,
    #[command(flatten)]
    nodes: network::NetworkSettings,
    /// A key that every request must carry
    #[arg(long, value_name = "KEY", env = "ZOO_API_KEY", hide_env_values = true)]
    api_key: Option<String>,
    /// A file whose first line is that key: arguments can be seen by others on this machine
    #[arg(long, value_name = "FILE", conflicts_with = "api_key")]
    api_key_file: Option<PathBuf>,
    /// Print what happens as JSON lines
    #[arg(long)]
    json: bool,
    /// Stop when stdin ends: whoever started this process is gone
    #[arg(long, hide = true)]
    exit_with_stdin: bool,
}

/// What else there is to do.
#[derive(clap::Subcommand)]
enum ServeCommand {
    /// Execute an answer again and compare, token by token
    Check(check::Check),
}

impl Serve {
    /// Serves until Ctrl-C, or checks.
    pub fn run(self) -> Result<()> {
        match self.command {
            Some(ServeCommand::Check(check)) => check.run(),
            None => foreground::block_on(self.serve()),
        }
    }

    async fn serve(self) -> Result<()> {
        let start = Instant::now();
        match self.network {
            None => self.serve_here(start).await,
            Some(nodes) => self.serve_through(nodes, start).await,
        }
    }

    async fn serve_here(self, start: Instant) -> Result<()> {
        let stop = foreground::told_to_stop(self.exit_with_stdin)?;
        let api_key = self.api_key()?;
        let (decoder, served) = load(self.path(), self.name.clone())?;
        let positions = self.cache_positions(decoder.context(), decoder.page_bytes())?;
        let cache_bytes = positions / PAGE * decoder.page_bytes();
        let served = Arc::new(served);
        let settings = self.engine_settings(positions, self.threads);
        let (engine, thread) = Engine::start(decoder, Arc::clone(&served), settings)?;
        let has_key = api_key.is_some();
        let server = self.start_server(&engine, &served, api_key).await?;
        self.announce(&server, &served, start.elapsed().as_secs_f64(), cache_bytes, has_key)?;
        server.run_until(stop).await;
        self.take_leave(&engine)?;
        drop(engine);
        // It ends with its last text; one that is still being written is not waited for.
        if thread.is_finished() && thread.join().is_err() {
            bail!("the engine has stopped\nhint: its log says why");
        }
        Ok(())
    }

    fn path(&self) -> &Path {
        self.model.as_deref().expect("required without a subcommand")
    }

    fn engine_settings(&self, cache_positions: usize, threads: usize) -> EngineSettings {
        EngineSettings { threads, cache_positions, batch_max: usize::from(self.batch) }
    }

    async fn start_server(
        &self,
        engine: &Engine,
        served: &Arc<Served>,
        api_key: Option<String>,
    ) -> Result<Server> {
        let settings = ServerSettings { listen: self.listen, api_key, patience: limits::PATIENCE };
        Ok(Server::start(engine.clone(), Arc::clone(served), settings).await?)
    }

    fn api_key(&self) -> Result<Option<String>> {
        let key = match &self.api_key_file {
            None => self.api_key.clone(),
            Some(path) => {
                let text = std::fs::read_to_string(path);
                let text = text.with_context(|| format!("cannot read {}", path.display()))?;
                Some(text.lines().next().unwrap_or_default().trim().to_owned())
            }
        };
        match key {
            Some(key) if key.is_empty() || !key.chars().all(|it| it.is_ascii_graphic()) => {
                bail!(
                    "the API key is empty, or has characters that a header cannot carry\nhint: use letters and digits"
                )
            }
            key => Ok(key),
        }
    }

    /// Positions of the cache: at least one whole context.
    fn cache_positions(&self, context: usize, page: usize) -> Result<usize> {
        let context = context.next_multiple_of(PAGE);
        let of_mib = |mib: usize| mib.saturating_mul(1 << 20) / page * PAGE;
        match self.cache_mib {
            None => Ok((context * usize::from(self.batch)).min(of_mib(CACHE_MIB_DEFAULT)).max(context)),
            Some(mib) if of_mib(mib) < context => {
                let needed = (context / PAGE * page).div_ceil(1 << 20);
                bail!(
                    "--cache-mib {mib} is too little for one text\nhint: a whole context takes {needed} MiB"
                )
            }
            Some(mib) => Ok(of_mib(mib)),
        }
    }

    fn announce(
        &self,
        server: &Server,
        served: &Served,
        seconds: f64,
        cache_bytes: usize,
        has_key: bool,
    ) -> io::Result<()> {
        let address = server.address();
        if self.json {
            print_line(&json!({
                "event": "listening", "address": address, "name": served.name, "model": served.digest,
                "profile": served.profile, "context": served.context, "cache_bytes": cache_bytes, "seconds": seconds,
            }));
            return Ok(());
        }
        let out = &mut io::stdout().lock();
        writeln!(
            out,
            "{} is ready after {seconds:.1} s, {} of cache",
            served.name,
            bytes(cache_bytes as u64)
        )?;
        writeln!(out, "\n  talk to it      http://{address}/\n  applications    http://{address}/v1\n")?;
        if !address.ip().is_loopback() && !has_key {
            writeln!(out, "anybody who reaches this address can use it: --api-key-file asks for a key")?;
        }
        writeln!(out, "Ctrl-C stops")
    }

    fn take_leave(&self, engine: &Engine) -> io::Result<()> {
        let counters = engine.counters();
        let (texts, tokens) = (counters.finished.get(), counters.written_tokens.get());
        if self.json {
            print_line(&json!({ "event": "stopped", "texts": texts, "tokens": tokens }));
            return Ok(());
        }
        writeln!(io::stdout(), "wrote {texts} texts, {tokens} tokens")
    }
}

/// A model that can write, and what a server knows of it.
fn load(path: &Path, name: Option<String>) -> Result<(Decoder, Served)> {
    let (network, served) = read(path, name)?;
    Ok((Decoder::new(network)?, served))
}

/// A model, and what a server knows of it.
fn read(path: &Path, name: Option<String>) -> Result<(Network, Served)> {
    let ModelFolder { network, tokenizer, ends, chat, .. } = ModelFolder::load(path)?;
    let folder = path.canonicalize().ok().and_then(|path| Some(path.file_name()?.to_str()?.to_owned()));
    let name = name.or(folder).unwrap_or_else(|| "model".to_owned());
    let served = Served::new(name, DecoderInfo::of(&network), tokenizer, ends, chat)?;
    Ok((network, served))
}
