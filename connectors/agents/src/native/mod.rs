//! Performs one step of an agent that is written down in the workflow itself: a prompt, a model, tools, a schema.

mod assembly;
mod calls;
mod canonical;
mod definition;
mod earlier;
mod model;
mod output;
mod task;
mod turns;

pub use calls::{
    BegunModel, BegunTool, Calls, ModelAnswer, ModelCall, ModelFailure, NotRecorded, ToolCall, ToolFailure,
};
pub use canonical::canonical;
pub use definition::check;
pub use earlier::{Earlier, EarlierCall, EarlierOutcome};
pub use task::{Failure, NativeTask, Outcome, Price, Secrets, Upstream};
pub use turns::perform;
