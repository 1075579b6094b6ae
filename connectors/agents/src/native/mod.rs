//! Performs one step of an agent that is written down in the workflow itself: a prompt, a model, tools, a schema.
//!
//! ```yaml
//! agents:
//!   - id: clerk
//!     framework: native
//!     definition:
//!       model: default
//!       system: Be brief.
//!       prompt: "Book a loan of {{ amount }}."    # without it the input is asked
//!       tools: [rates, files, math]               # of the workflow; json, math and clock are always there
//!       max_turns: 8
//!       parameters: {temperature: 0}              # for the model, as they are
//! tools:
//!   rates:
//!     description: Today's rate of a currency
//!     parameters: {type: object, properties: {currency: {type: string}}, required: [currency]}
//!     http:
//!       method: GET
//!       url: "https://rates.example/v1?of={{ currency }}"
//!       headers: {Authorization: {secret: RATES_KEY, prefix: "Bearer "}}
//!     effect: read                                # idempotent, write, irreversible; by default what the method means
//!     timeout: 10s
//!     max_bytes: 65536
//!     allow_private: [rates.internal]             # or true; asks for what the operator grants
//!   files:                                        # offered as files__read and so on
//!     mcp: {command: [npx, -y, some-server], env: {KEY: {secret: FILES_KEY}}}   # or {url: …, headers: …}
//!     tools: [read]                               # without it all that the server has
//!     effects: {read: read}                       # without it what the server says of itself, else write
//! ```

mod calls;
mod definition;
mod grants;
mod model;
mod output;
mod task;
mod turns;

pub use calls::{BegunModel, BegunTool, Calls, ModelCall, ModelFailure, NotRecorded, ToolCall, ToolFailure};
pub use definition::{names, not_granted, read};
pub use grants::{Grants, NotGranted, PrivateHost, Program, Programs, Secrets};
pub use output::misfit;
pub use task::{Failure, NativeTask, Outcome, Upstream};
pub use turns::perform;

pub(crate) use crate::tools::{address_of, reachable};
pub(crate) use definition::Wrong;
pub(crate) use grants::Ask;
