//! What a detector keeps: the checks of the program, and what is asked while nobody has answered.

use std::collections::BTreeMap;

use omium_processor::Recorded;
use omium_schemas::catalogue::{Command, Event, Guard};
use omium_schemas::{Content, Seq, StepId};
use serde::{Deserialize, Serialize};

use crate::concerns::concerns;

/// What one stream holds for the detector. Empty for all but programs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State(Option<Box<Watch>>);

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Watch {
    guards: Vec<Guard>,
    open: BTreeMap<Seq, Asked>,
    fresh: Option<Fresh>,
}

/// A request that is on its way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Asked {
    pub(crate) step: StepId,
    pub(crate) agent: String,
    /// The path behind `/v1/`.
    pub(crate) endpoint: String,
    /// The request without its messages (sealed).
    pub(crate) parameters: Option<Content>,
}

/// The answer of the frame that is being made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Fresh {
    pub(crate) call: Seq,
    /// The event that completes the call.
    pub(crate) done: Seq,
    pub(crate) asked: Asked,
    pub(crate) answer: Content,
}

impl State {
    pub(crate) fn fresh(&self) -> Option<&Fresh> {
        self.0.as_ref()?.fresh.as_ref()
    }

    pub(crate) fn guards(&self) -> &[Guard] {
        self.0.as_ref().map(|watch| watch.guards.as_slice()).unwrap_or_default()
    }

    /// Whether somebody has put a check on this agent.
    pub fn is_guarded(&self, agent: &str) -> bool {
        self.guards().iter().any(|guard| is_for(guard, agent))
    }

    pub(crate) fn apply(&mut self, recorded: &Recorded<'_>) {
        if !concerns(recorded.event) {
            return;
        }
        if let (Event::ExecutionStarted(_), Command::StartProgram(start)) = (recorded.event, recorded.command)
        {
            self.0 = Some(Box::new(Watch { guards: start.guards.clone(), ..Watch::default() }));
        }
        // What was let go of is nobody's business any more.
        if let Event::ExecutionCarried(_) = recorded.event {
            self.0 = None;
        }
        if let Some(watch) = &mut self.0 {
            watch.apply(recorded);
        }
    }
}

/// Names are compared as people read them.
pub(crate) fn is_for(guard: &Guard, agent: &str) -> bool {
    guard.agent.trim().eq_ignore_ascii_case(agent.trim())
}

impl Watch {
    fn apply(&mut self, recorded: &Recorded<'_>) {
        match (recorded.event, recorded.command) {
            (Event::LlmCallStarted(_), Command::StartLlmCall(start)) => {
                let asked = Asked {
                    step: start.step,
                    agent: start.agent.clone(),
                    endpoint: start.endpoint.clone(),
                    parameters: start.parameters.clone(),
                };
                self.open.insert(recorded.seq, asked);
            }
            (Event::LlmCallCompleted(done), Command::CompleteLlmCall(complete)) => {
                let (call, answer) = (done.call, complete.answer.clone());
                self.fresh =
                    self.open.remove(&call).map(|asked| Fresh { call, done: recorded.seq, asked, answer });
            }
            (Event::LlmCallFailed(failed), _) => {
                self.open.remove(&failed.call);
            }
            // The verdict is out: the answer need not lie here any longer.
            (Event::CheckPassed(_) | Event::FindingReported(_), _) => self.fresh = None,
            (Event::BranchRaised(_), _) => self.open.clear(),
            (Event::ExecutionCompleted(_) | Event::ExecutionCancelled(_), _) => {
                (self.open, self.fresh) = (BTreeMap::new(), None);
            }
            // What else happens on the stream is no answer and asks for none.
            _ => {}
        }
    }
}
