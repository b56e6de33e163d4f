//! The `zoo` binary.
fn main() {}
