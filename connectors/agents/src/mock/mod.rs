//! An OpenAI-compatible model server that answers by a script: no account, no network, no luck.
//!
//! ```yaml
//! models: [default]                 # what `/v1/models` lists
//! rules:                            # the first that fits answers
//!   - name: rate                    # for whoever reads the record
//!     when:                         # all that is named must hold; without `when` always
//!       model: default              # equal
//!       system: analyst             # contained, whatever the case
//!       user: loan                  # contained in the last user message
//!       user_matches: 'of \d+$'     # a regular expression over it
//!       step: apr                   # header `x-omium-step`: the agent, or `apr#1` for its second loop
//!       tool_result: false          # whether a tool has answered since the last user message
//!       nth: 2                      # only the second time that the others hold
//!       times: 3                    # only the first three times
//!     answer:
//!       text: "You said {{ last_user }}"  # also model, system, step, n (the how-manyth time)
//!       json: {apr: 5.2}            # as text; with `text` beside it only where a schema is asked for
//!       sample: true                # where a schema is asked for: a sample of it
//!       tool_calls: [{name: rates, arguments: {currency: EUR}}]
//!       finish: length              # instead of `stop` or `tool_calls`
//!       usage: {input: 182, output: 21}   # instead of the number of words
//!       delay: 300ms
//!       fault: rate_limited         # server_error, slow, hang, cut_json, drop, empty
//!       retry_after: 2s             # of rate_limited
//!       status: 503                 # of server_error
//!       chunk_delay: 50ms           # of slow
//! ```

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
pub use server::{Seen, Server, serve, serve_and_forget};

/// Answers whatever it is asked; where an answer has to follow a schema, with a sample of it.
pub const DEFAULT_SCRIPT: &str = include_str!("default.yaml");

/// Three agents decide about a loan: `apr` looks up a rate, `risk` judges, `writer` writes the letter.
pub const DEMO_SCRIPT: &str = include_str!("demo.yaml");
