//! What recovery keeps of a program: its policy, calls whose answers may be bad, findings, and patches in force.

use std::collections::BTreeMap;

use omium_processor::Recorded;
use omium_schemas::catalogue::{
    ApprovalAsked, Command, Event, FindingKind, FindingReported, Guard, LlmCallStarted, RecoveryPolicy,
    RemedyApplied, RemedyChosen, RemedyFailed, RemedyKind, RemedySucceeded,
};
use omium_schemas::{Digest, Seq};
use serde::{Deserialize, Serialize};

use crate::concerns::concerns;
use crate::patch::{Patch, Patches};
use crate::remedies::Remedy;

/// What one stream holds for recovery. Empty for all but programs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State(Option<Box<Known>>);

/// What is known of a program.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Known {
    pub(crate) policy: RecoveryPolicy,
    pub(crate) guards: Vec<Guard>,
    pub(crate) patches: Patches,
    /// Calls that are open, and those whose answers something was found in.
    asked: BTreeMap<Seq, Asked>,
    pub(crate) last_answered: Option<Seq>,
    pub(crate) last_finding: Seq,
    findings: BTreeMap<Seq, Finding>,
    /// What was tried, by the kind of remedy: how often, and how often it helped.
    outcomes: Vec<(RemedyKind, i64, i64)>,
}

/// A call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Asked {
    pub(crate) agent: String,
    caller: String,
    request: Digest,
    /// The request says already what form its answer has to have.
    pub(crate) has_format: bool,
    pub(crate) done: Option<Seq>,
    /// The client has read of the answer.
    pub(crate) shown: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Finding {
    call: Seq,
    kind: FindingKind,
    detector: String,
    suggested: Vec<(i32, Remedy)>,
    chosen: Option<i32>,
    ended: bool,
    asked: bool,
}

impl State {
    pub(crate) fn known(&self) -> Option<&Known> {
        self.0.as_deref()
    }

    /// The patches that are in force, by agent.
    pub fn patches(&self) -> Option<&Patches> {
        self.0.as_ref().map(|known| &known.patches)
    }

    pub(crate) fn apply(&mut self, recorded: &Recorded<'_>) {
        if !concerns(recorded.event) {
            return;
        }
        if let (Event::ExecutionStarted(_), Command::StartProgram(start)) = (recorded.event, recorded.command)
        {
            self.0 = Some(Box::new(Known::new(start.recovery.clone(), start.guards.clone())));
        }
        // What was let go of is nobody's business any more.
        if let Event::ExecutionCarried(_) = recorded.event {
            self.0 = None;
        }
        if let Some(known) = &mut self.0 {
            known.apply(recorded);
        }
    }
}

impl Known {
    /// The guard that a finding comes from.
    pub(crate) fn guard_of(&self, found: &FindingReported) -> Option<&Guard> {
        let name = found.detector.strip_prefix("guard:")?;
        self.guards.iter().find(|guard| guard.name == name)
    }

    /// Whether somebody has set the check that found something.
    pub(crate) fn is_guarded(&self, found: &FindingReported) -> bool {
        self.guard_of(found).is_some()
    }

    fn new(policy: RecoveryPolicy, guards: Vec<Guard>) -> Known {
        Known {
            policy,
            guards,
            patches: Patches::default(),
            asked: BTreeMap::new(),
            last_answered: None,
            last_finding: Seq(0),
            findings: BTreeMap::new(),
            outcomes: Vec::new(),
        }
    }

    fn apply(&mut self, recorded: &Recorded<'_>) {
        match (recorded.event, recorded.command) {
            (Event::LlmCallStarted(started), Command::StartLlmCall(start)) => {
                self.asked.insert(recorded.seq, Asked::new(started, start.agent.clone()));
            }
            (Event::LlmCallCompleted(done), Command::CompleteLlmCall(complete)) => {
                self.last_answered = Some(done.call);
                if let Some(asked) = self.asked.get_mut(&done.call) {
                    (asked.done, asked.shown) = (Some(recorded.seq), complete.shown);
                }
            }
            (Event::LlmCallFailed(failed), _) => {
                self.asked.remove(&failed.call);
            }
            // A good answer needs no repair, and what was pending for it is settled by what recovery says next.
            (Event::CheckPassed(_), _) => {}
            (Event::FindingReported(found), _) => self.found(recorded.seq, found),
            (Event::ExecutionCompleted(_) | Event::ExecutionCancelled(_), _) => {
                (self.asked, self.findings) = (BTreeMap::new(), BTreeMap::new());
            }
            (event, _) => self.apply_remedy(event),
        }
        self.forget();
    }

    fn apply_remedy(&mut self, event: &Event) {
        match event {
            Event::RemedySuggested(suggested) => {
                if let Some(finding) = self.findings.get_mut(&suggested.finding) {
                    finding.suggested.push((suggested.number, Remedy::of(suggested)));
                }
            }
            Event::ApprovalAsked(ApprovalAsked { about: Some(about), .. }) => {
                if let Some(finding) = self.findings.get_mut(about) {
                    finding.asked = true;
                }
            }
            Event::RemedyChosen(RemedyChosen { finding, number, .. }) => {
                if let Some(finding) = self.findings.get_mut(finding) {
                    (finding.chosen, finding.asked) = (Some(*number), false);
                }
            }
            Event::RemedyApplied(RemedyApplied { finding, number, .. }) => {
                let Some((asked, remedy)) = self.suggestion(*finding, *number) else { return };
                self.patches = self.patches.with(&asked.agent, remedy.patch());
            }
            Event::RemedySucceeded(RemedySucceeded { finding, .. }) => self.ended(*finding, true),
            Event::RemedyFailed(RemedyFailed { finding, .. }) => self.ended(*finding, false),
            // What else happens on the stream is no remedy.
            _ => {}
        }
    }

    fn found(&mut self, at: Seq, found: &FindingReported) {
        self.last_finding = at;
        if let Some(call) = found.call {
            let (kind, detector) = (found.kind, found.detector.clone());
            let finding = Finding {
                call,
                kind,
                detector,
                suggested: Vec::new(),
                chosen: None,
                ended: false,
                asked: false,
            };
            self.findings.insert(at, finding);
        }
    }

    fn ended(&mut self, finding: Seq, helped: bool) {
        let Some(found) = self.findings.get_mut(&finding) else { return };
        found.ended = true;
        let kind = found.chosen.and_then(|number| found.suggestion(number)).map(|suggested| suggested.kind);
        let Some(kind) = kind else { return };
        match self.outcomes.iter_mut().find(|(known, ..)| *known == kind) {
            Some((_, tried, succeeded)) => {
                (*tried, *succeeded) = (*tried + 1, *succeeded + i64::from(helped))
            }
            None => self.outcomes.push((kind, 1, i64::from(helped))),
        }
    }

    /// Calls that were answered well are of no interest any more once the next one is.
    fn forget(&mut self) {
        let (findings, last) = (&self.findings, self.last_answered);
        self.asked.retain(|call, asked| {
            asked.done.is_none() || Some(*call) == last || findings.values().any(|found| found.call == *call)
        });
    }

    pub(crate) fn answered(&self, call: Seq) -> Option<&Asked> {
        self.asked.get(&call)
    }

    /// What was done last about an earlier answer to the same request, and is still to be judged.
    pub(crate) fn pending(&self, asked: &Asked, call: Seq) -> Option<(Seq, i32)> {
        let earlier = self.of_request(asked).filter(|(_, found)| found.call < call && !found.ended);
        earlier.filter_map(|(at, found)| Some((*at, found.chosen?))).last()
    }

    /// How many answers to the same request were thrown away before this one.
    pub(crate) fn tries(&self, asked: &Asked, call: Seq) -> i32 {
        let mut calls: Vec<Seq> = self
            .of_request(asked)
            .filter(|(_, found)| found.chosen.is_some() && found.call < call)
            .map(|(_, found)| found.call)
            .collect();
        calls.dedup();
        calls.len() as i32
    }

    pub(crate) fn is_asked_about(&self, call: Seq) -> bool {
        self.findings.values().any(|found| found.call == call && found.asked)
    }

    /// Kinds of remedies that were tried for the same finding of the same request.
    pub(crate) fn tried(&self, asked: &Asked, found: &FindingReported) -> Vec<RemedyKind> {
        let same = self.of_request(asked).filter(|(at, known)| {
            **at != self.last_finding && known.detector == found.detector && known.kind == found.kind
        });
        same.filter_map(|(_, known)| Some(known.suggestion(known.chosen?)?.kind)).collect()
    }

    pub(crate) fn outcomes(&self, kind: RemedyKind) -> (i64, i64) {
        let known = self.outcomes.iter().find(|(known, ..)| *known == kind);
        known.map_or((0, 0), |(_, tried, succeeded)| (*tried, *succeeded))
    }

    pub(crate) fn suggestion(&self, finding: Seq, number: i32) -> Option<(&Asked, Remedy)> {
        let found = self.findings.get(&finding)?;
        let suggested = found.suggestion(number)?;
        Some((self.asked.get(&found.call)?, suggested.clone()))
    }

    fn of_request<'a>(&'a self, asked: &'a Asked) -> impl Iterator<Item = (&'a Seq, &'a Finding)> + 'a {
        self.findings.iter().filter(move |(_, found)| {
            self.asked
                .get(&found.call)
                .is_some_and(|other| other.caller == asked.caller && other.request == asked.request)
        })
    }
}

impl Finding {
    fn suggestion(&self, number: i32) -> Option<&Remedy> {
        self.suggested.iter().find(|(known, _)| *known == number).map(|(_, remedy)| remedy)
    }
}

impl Asked {
    fn new(started: &LlmCallStarted, agent: String) -> Asked {
        Asked {
            agent,
            caller: started.caller.clone(),
            request: started.request,
            has_format: false,
            done: None,
            shown: false,
        }
    }
}

impl Remedy {
    pub(crate) fn patch(&self) -> Option<Patch> {
        match self.kind {
            RemedyKind::AppendConstraint | RemedyKind::StateFact => self.text.clone().map(Patch::Append),
            RemedyKind::StructuredOutput => self.schema.clone().map(Patch::Structured),
            _ => None,
        }
    }
}
