//! An OpenAI-compatible model server that answers by a script: no account, no network, no luck.

mod answer;
mod forms;
mod pieces;
mod question;
mod read;
mod routes;
mod sample;
mod script;
mod server;

pub use script::Script;
pub use server::{Seen, Server, serve};

/// Answers whatever it is asked; where an answer has to follow a schema, with a sample of it.
pub const DEFAULT_SCRIPT: &str = include_str!("default.yaml");

/// Three agents decide about a loan: `apr` looks up a rate, `risk` judges, `writer` writes the letter.
pub const DEMO_SCRIPT: &str = include_str!("demo.yaml");
