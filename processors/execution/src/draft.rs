//! A decision in the making: each event is applied at once to a copy, so that what follows is decided on what is true.

use std::cell::Cell;

use omium_limits::Fuel;
use omium_processor::{Context, Refusal, Why};
use omium_schemas::catalogue::{Command, Event};
use omium_schemas::{Content, Seq, Time};

use crate::apply::Fact;
use crate::state::Run;

/// What the rules of one decision may spend together: they are evaluated while the partition waits.
const STEPS: u64 = 2_000_000;
const MEMORY: u64 = 64 << 20;

pub(crate) struct Draft<'a> {
    pub(crate) run: Run,
    pub(crate) context: &'a Context<'a>,
    /// When another attempt may begin at the earliest, where the one that failed says so.
    pub(crate) not_before: Option<Time>,
    /// What all rules of this decision may still spend: one outcome may begin many steps.
    pub(crate) fuel: Cell<Fuel>,
    command: &'a Command,
    events: Vec<Event>,
}

impl<'a> Draft<'a> {
    pub(crate) fn new(run: Run, command: &'a Command, context: &'a Context<'a>) -> Draft<'a> {
        let fuel = Cell::new(Fuel::new(STEPS, MEMORY));
        Draft { run, context, not_before: None, fuel, command, events: Vec::new() }
    }

    pub(crate) fn push(&mut self, event: impl Into<Event>) {
        let event = event.into();
        // The command takes the frame's first seq, its events follow.
        let seq = Seq(self.context.seq.0 + 1 + self.events.len() as u64);
        self.run.apply(Fact { seq, time: self.context.now, event: &event, command: self.command });
        self.events.push(event);
    }

    /// The seq of the event that was pushed last.
    pub(crate) fn last(&self) -> Seq {
        Seq(self.context.seq.0 + self.events.len() as u64)
    }

    pub(crate) fn events(self) -> Vec<Event> {
        self.events
    }
}

/// Why a step failed, for people; sealed like all content.
pub(crate) fn said(why: &str) -> Option<Content> {
    Some(Content::open(serde_json::Value::from(why).to_string()))
}

pub(crate) fn conflict<T>(text: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::new(Why::Conflict, text))
}

pub(crate) fn invalid<T>(text: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::new(Why::Invalid, text))
}
