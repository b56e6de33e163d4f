//! How a command ends when it fails: the thing, the cause, a hint, and a code that is not 0.

use std::process::ExitCode;

/// Prints an error and its causes to stderr, hints last.
pub fn report(error: &anyhow::Error) -> ExitCode {
    if is_broken_pipe(error) {
        return ExitCode::SUCCESS;
    }
    let style = console::Style::new().for_stderr().red().bold();
    let mut message = String::new();
    let mut hints = Vec::new();
    for cause in error.chain() {
        for line in cause.to_string().lines() {
            match line.trim_start().strip_prefix("hint:") {
                Some(hint) => hints.push(hint.trim().to_string()),
                None if message.contains(line) => {}
                None if message.is_empty() => message.push_str(line),
                None => message.push_str(&format!("\n  {line}")),
            }
        }
    }
    eprintln!("{}: {message}", style.apply_to("error"));
    hints.dedup();
    for hint in hints {
        eprintln!("{}: {hint}", console::Style::new().for_stderr().cyan().apply_to("hint"));
    }
    ExitCode::FAILURE
}

/// From here on a process whose output nobody reads any more ends, as in `zoo ... | head`: printing has no error to return, and says it by panicking.
pub fn when_nobody_reads() {
    let otherwise = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let said = panic.payload().downcast_ref::<String>();
        if said
            .is_some_and(|said| said.starts_with("failed printing to stdout") && said.contains("Broken pipe"))
        {
            std::process::exit(0);
        }
        otherwise(panic);
    }));
}

/// The reader of our output went away: not a failure.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|cause| cause.kind() == std::io::ErrorKind::BrokenPipe)
}
