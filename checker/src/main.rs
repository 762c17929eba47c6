//! Command line of the checker.
fn main() {}
