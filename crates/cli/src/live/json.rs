//! JSON lines.

use std::io::Write;

use serde_json::Value;

/// Prints one object as a line of stdout. Nobody reading is no failure: the network does
/// not stop because a pipe did.
pub fn print_line(object: &Value) {
    let mut stdout = std::io::stdout().lock();
    let _ = writeln!(stdout, "{object}").and_then(|()| stdout.flush());
}
