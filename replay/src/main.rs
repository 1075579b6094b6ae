//! The omium binary: the one crate that sees all parts and wires them.
fn main() {}
