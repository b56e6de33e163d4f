//! The `zoo` binary: arguments, progress and messages. Nothing below knows the terminal.

mod commands;
mod exit;
mod foreground;
mod interrupt;
mod live;
mod progress;
mod reading;
mod replay;

use std::process::ExitCode;

use clap::Parser;

use crate::commands::Command;

#[global_allocator]
static MEMORY: zoo_kernels::HugePages = zoo_kernels::HugePages;

/// One open language model, trained, checked and served by machines that nobody has to trust.
#[derive(Parser)]
#[command(name = "zoo", version, about, max_term_width = 100, arg_required_else_help = true)]
#[command(
    after_help = "Start here:\n  zoo demo                a whole network on this machine, training on real text\n  \
                        zoo train --help        train a model on this machine alone\n  \
                        zoo up                  a network of your own, that others join\n  \
                        zoo generate MODEL      let a trained model write"
)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// What every command understands.
#[derive(clap::Args)]
struct Global {
    /// Instruction set of the kernels: scalar, avx2, avx512 or amx. Changes the speed, never the bits
    #[arg(long, global = true, env = "ZOO_ISA", value_name = "ISA")]
    isa: Option<zoo_kernels::isa::Isa>,
    /// Say more on stderr; twice for everything
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
}

fn main() -> ExitCode {
    exit::when_nobody_reads();
    let cli = Cli::parse();
    start_logging(cli.global.verbose);
    match prepare(&cli.global).and_then(|()| cli.command.run()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit::report(&error),
    }
}

/// Logs go to stderr; stdout carries results only.
fn start_logging(verbose: u8) {
    let default = ["warn,sqlx=error,iroh=off,noq=off", "info", "debug"][usize::from(verbose.min(2))];
    let filter = tracing_subscriber::EnvFilter::try_from_env("ZOO_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(default));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .init();
}

/// No result leaves a machine whose operators do not give the specified bits.
fn prepare(global: &Global) -> anyhow::Result<()> {
    if let Some(isa) = global.isa {
        zoo_kernels::isa::force(isa)?;
    }
    zoo_kernels::isa::self_test()?;
    Ok(())
}
