//! The gate: what programs ask of models passes here, is recorded before it is sent and judged before it is read.

mod caller;
mod gate;
mod port;
mod reply;
mod rounds;
mod routes;
mod tail;
mod to_the_end;
mod tools;
mod upstream;

pub use port::{
    Answered, Attempt, BegunTool, Change, Failed, Ledger, Looked, Question, Refused, Seen, ToolCall, ToolEnd,
    Verdict,
};
pub use routes::router;
pub use upstream::Upstream;
