//! One file a command.

mod attest;
mod audit;
pub mod bench;
mod chat;
mod completions;
mod definition;
mod demo;
mod dispute;
mod export;
mod fetch;
mod generate;
mod jobs;
mod join;
mod journal;
mod key;
mod keys;
mod leave;
mod network;
mod operator;
mod pause;
mod pipeline;
mod plan;
pub mod presets;
mod relay;
mod replay;
mod serve;
mod simulate;
mod status;
mod storage;
mod submit;
mod top;
mod train;
mod trust;
mod up;

use anyhow::Result;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use zoo_kernels::Profile;

/// Reads the name of a numeric profile; help lists them.
pub fn profile_parser() -> impl TypedValueParser<Value = Profile> {
    PossibleValuesParser::new(Profile::ALL.map(Profile::name))
        .map(|name| name.parse().expect("one of the names just listed"))
}

/// What `zoo` can do.
#[derive(clap::Subcommand)]
pub enum Command {
    /// A whole network on this machine: orchestrator, nodes, training on real text, a crash, a check
    Demo(demo::Demo),
    /// Run an orchestrator that others can join
    Up(up::Up),
    /// Join a network and work for it
    Join(join::Join),
    /// Run a relay, where nodes of a network meet that cannot reach each other directly
    Relay(relay::Relay),
    /// Submit a training job to a network
    Submit(Box<submit::Submit>),
    /// Keys that let their bearer submit and steer jobs over HTTP
    Keys(keys::Keys),
    /// List a network's jobs
    Jobs(jobs::Jobs),
    /// A network at one glance
    Status(status::Status),
    /// Who was checked, by whom, and what came of it
    Trust(trust::Trust),
    /// The key of the node on this machine: look at it, change it, end it
    #[command(subcommand)]
    Key(key::KeyCommand),
    /// Vouch for nodes, so that they are checked less often
    #[command(subcommand)]
    Operator(operator::OperatorCommand),
    /// Watch what every node of a network does
    Top(top::Top),
    /// Fetch a job's newest model
    Fetch(fetch::Fetch),
    /// Keep runs and models where they outlive this machine: folders, S3, IPFS, CAR files
    #[command(subcommand)]
    Storage(storage::StorageCommand),
    /// Ask the node on this machine to leave its network now
    Leave(leave::Leave),
    /// Ask the node on this machine to finish what it has begun, then leave
    Drain(leave::Drain),
    /// Let the node on this machine rest, also after a restart
    Pause(pause::Pause),
    /// Let the node on this machine work again
    Resume(pause::Resume),
    /// Train a model on this machine
    Train(Box<train::Train>),
    /// Plan which machines would host what of a network, and say why
    Plan(Box<plan::PlanCommand>),
    /// Train a network in stages on several machines, of which none needs to hold all of it
    #[command(subcommand)]
    Pipeline(pipeline::PipelineCommand),
    /// Let a trained model continue a text
    Generate(generate::Generate),
    /// Talk to a trained model
    Chat(chat::Chat),
    /// Serve a trained model to applications, as OpenAI's API does
    Serve(Box<serve::Serve>),
    /// Write a model in the format of llama.cpp
    Export(export::Export),
    /// List the shapes that have names
    Presets(presets::Presets),
    /// Check and draw networks of your own
    #[command(subcommand)]
    Network(definition::NetworkCommand),
    /// Measure this machine: a training step, matrix products, every operator
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Check, print or replay an orchestrator's journal
    #[command(subcommand)]
    Journal(journal::JournalCommand),
    /// Check a job from its journal: replay it, do its work again, compare every bit
    Audit(audit::Audit),
    /// Check evidence from trusted hardware, offline: whose it is, and which software
    #[command(subcommand)]
    Attest(attest::AttestCommand),
    /// Check who was right about a training window, down to 64 multiply-adds
    #[command(subcommand)]
    Dispute(dispute::DisputeCommand),
    /// Look back at a network through its journal: what every node did, when, and what it cost
    Replay(replay::Replay),
    /// Simulate a network in virtual time, with everything that can go wrong
    Simulate(simulate::Simulate),
    /// Print a completion script for a shell
    Completions(completions::Completions),
}

impl Command {
    /// Runs the command to its end.
    pub fn run(self) -> Result<()> {
        match self {
            Command::Demo(command) => command.run(),
            Command::Up(command) => command.run(),
            Command::Join(command) => command.run(),
            Command::Relay(command) => command.run(),
            Command::Pipeline(command) => command.run(),
            Command::Submit(command) => command.run(),
            Command::Keys(command) => command.run(),
            Command::Jobs(command) => command.run(),
            Command::Status(command) => command.run(),
            Command::Trust(command) => command.run(),
            Command::Key(command) => command.run(),
            Command::Operator(command) => command.run(),
            Command::Top(command) => command.run(),
            Command::Fetch(command) => command.run(),
            Command::Storage(command) => command.run(),
            Command::Leave(command) => command.run(),
            Command::Drain(command) => command.run(),
            Command::Pause(command) => command.run(),
            Command::Resume(command) => command.run(),
            Command::Train(command) => command.run(),
            Command::Plan(command) => command.run(),
            Command::Generate(command) => command.run(),
            Command::Chat(command) => command.run(),
            Command::Serve(command) => command.run(),
            Command::Export(command) => command.run(),
            Command::Presets(command) => command.run(),
            Command::Network(command) => command.run(),
            Command::Bench(command) => command.run(),
            Command::Journal(command) => command.run(),
            Command::Audit(command) => command.run(),
            Command::Attest(command) => command.run(),
            Command::Dispute(command) => command.run(),
            Command::Replay(command) => command.run(),
            Command::Simulate(command) => command.run(),
            Command::Completions(command) => command.run(),
        }
    }
}
