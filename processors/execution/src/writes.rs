//! What tools have changed in the world. The log can go back behind it, and the world cannot: what lies before the place
//! that is gone back to stays known and is not done again, and over what lies behind it nobody goes in silence.

use std::sync::Arc;

use omium_processor::Refusal;
use omium_schemas::Seq;
use omium_schemas::catalogue::RollBack;

use crate::draft::{Draft, conflict};
use crate::state::{Call, CallKind, Outcome, Phase, Run, Write};

/// How many writes a refusal names.
const NAMED: usize = 8;

impl Draft<'_> {
    /// Refuses to go back over writes, unless somebody has said that it may be done.
    pub(crate) fn over_writes(&self, back: &RollBack) -> Result<(), Refusal> {
        let over: Vec<&Write> = self.run.writes_behind(back.to).collect();
        if back.over_writes || over.is_empty() {
            return Ok(());
        }
        let mut named: Vec<String> = over.iter().take(NAMED).map(|write| named(write)).collect();
        if over.len() > NAMED {
            named.push(format!("{} more", over.len() - NAMED));
        }
        conflict(format!(
            "going back to seq {} does not undo what was changed since, and the way forward may do it again: {}; see to \
             that, and roll back with `--over-writes`",
            back.to,
            named.join(", ")
        ))
    }
}

fn named(write: &Write) -> String {
    let known = if write.answered { "" } else { ", nobody knows whether it did" };
    format!("`{}` (seq {}{known})", write.tool, write.at)
}

impl Run {
    pub(crate) fn note_write(&mut self, call: &Call) {
        if let CallKind::Tool { tool, repeatable: false } = &call.kind {
            let (at, step, tool) = (call.at, call.step, tool.clone());
            self.writes.push(Arc::new(Write { at, step, tool, answered: false }));
        }
    }

    /// It was done, or it was not.
    pub(crate) fn settle_write(&mut self, call: Seq, done: bool) {
        let Some(at) = self.writes.iter().rposition(|write| write.at == call) else { return };
        if done {
            Arc::make_mut(&mut self.writes[at]).answered = true;
        } else {
            self.writes.remove(at);
        }
    }

    /// What would be done again by whoever goes on from there, since nothing of it would be known any more.
    fn writes_behind(&self, to: Seq) -> impl Iterator<Item = &Write> {
        let stays = move |write: &Write| {
            let step = self.step(write.step).map(|(_, step)| &step.phase);
            let done = matches!(step, Some(Phase::Done { at, .. }) if *at <= to);
            done || self.calls.iter().any(|call| call.at == write.at && self.keeps(call, to))
        };
        self.writes.iter().map(AsRef::as_ref).filter(move |write| !stays(write))
    }

    /// Whether a call is known still where a run has gone back to.
    fn keeps(&self, call: &Call, to: Seq) -> bool {
        let answered_there = self.program.is_some() && call.done.is_some_and(|done| done <= to);
        answered_there || (call.at <= to && call.may_have_changed_something())
    }

    /// Forgets what has come after that place.
    pub(crate) fn undo_calls(&mut self, to: Seq) {
        let behind: Vec<Seq> = self.writes_behind(to).map(|write| write.at).collect();
        self.writes.retain(|write| !behind.contains(&write.at));
        let kept: Vec<Seq> =
            self.calls.iter().filter(|call| self.keeps(call, to)).map(|call| call.at).collect();
        self.keep_calls(|call| kept.contains(&call.at));
        let mut calls = std::mem::take(&mut self.calls);
        for call in &mut calls {
            Arc::make_mut(call).branch = self.branch;
        }
        self.calls = calls;
    }
}

impl Call {
    /// Whether a tool did what must not be done twice, or may have done it.
    pub(crate) fn may_have_changed_something(&self) -> bool {
        let changes = matches!(self.kind, CallKind::Tool { repeatable: false, .. });
        changes && !matches!(self.outcome, Outcome::Failed { .. })
    }
}
