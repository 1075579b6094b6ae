//! What bounds one execution: its events, the bytes of its content, and the names that it keeps.

use omium_processor::{Context, Refusal, Why};
use omium_schemas::catalogue::{Command, Event, StartLlmCall, StartToolCall};

use crate::draft::invalid;
use crate::state::Run;

/// How long the stream of one execution may become. What comes near is worth a new execution.
const MAX_EVENTS: u64 = 200_000;
/// How many bytes of content (inputs, prompts, answers, arguments, results, signals) one execution may bring into the log,
/// over all of its branches.
const MAX_BYTES: u64 = 1 << 30;
/// How long the names that come with calls may be.
const MAX_NAME: usize = 512;

/// Whether there is room for what a command brings.
pub(crate) fn room(run: &Run, command: &Command, context: &Context<'_>) -> Result<(), Refusal> {
    // Deadlines still pass: refused, they would leave a run open that nothing else may end but its owner.
    if matches!(command, Command::CancelExecution(_) | Command::MeetDeadline(_)) {
        return Ok(());
    }
    let stream = context.stream;
    let exhausted = |text| Err(Refusal::new(Why::Exhausted, text));
    if context.seq.0 > MAX_EVENTS {
        return exhausted(format!("{stream} has {MAX_EVENTS} events, the most that one may have; cancel it"));
    }
    let more = of_command(command);
    if run.bytes.saturating_add(more) > MAX_BYTES {
        return exhausted(format!(
            "{stream} holds {} bytes of content, and {more} more would exceed the {MAX_BYTES} that one may have; pass \
             references to data instead, or cancel it",
            run.bytes
        ));
    }
    names(command)
}

/// Content of a command.
pub(crate) fn of_command(command: &Command) -> u64 {
    let mut bytes = 0_u64;
    command.contents(&mut |_, content| bytes = bytes.saturating_add(content.length()));
    bytes
}

/// Content of an event.
pub(crate) fn of_event(event: &Event) -> u64 {
    let mut bytes = 0_u64;
    event.contents(&mut |_, content| bytes = bytes.saturating_add(content.length()));
    bytes
}

fn names(command: &Command) -> Result<(), Refusal> {
    let names: &[&String] = match command {
        Command::StartLlmCall(StartLlmCall { agent, caller, model, .. }) => &[agent, caller, model],
        Command::StartToolCall(StartToolCall { agent, caller, tool, .. }) => &[agent, caller, tool],
        _ => &[],
    };
    let position = match command {
        Command::StartLlmCall(StartLlmCall { position, .. }) => position,
        Command::StartToolCall(StartToolCall { position, .. }) => position,
        _ => &None,
    };
    match names.iter().copied().chain(position).find(|name| name.len() > MAX_NAME) {
        Some(name) => {
            invalid(format!("a name of {} bytes is longer than the {MAX_NAME} that are kept", name.len()))
        }
        None => Ok(()),
    }
}
