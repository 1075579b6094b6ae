//! Which recorded call equals one that is about to be made, and what may be done with it. Programs, workers and native
//! agents all ask here, so that an answer is served, joined, passed over or asked about by one rule.
//!
//! | the equal call | what is done |
//! |---|---|
//! | answered, and this attempt has not had it | serve it |
//! | a tool that failed | serve the failure: it is part of what the caller has seen |
//! | a model that failed | ask again |
//! | condemned by a remedy, or judged and not released | pass over it |
//! | open and in flight in this process | wait for it |
//! | open, a tool that changes something, of an earlier attempt | ask a person |
//! | open otherwise | make it again |
//! | made or served in this attempt | it counts as taken; a client that repeats its request gets it once more |

use omium_schemas::catalogue::GateVerdict;
use omium_schemas::{Digest, Seq, StepId};

use crate::state::{Call, CallKind, Outcome, Run};

/// A call that is about to be made.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The step that calls.
    pub step: StepId,
    /// Who calls, without a loop index: a program that goes on from its own checkpoint counts its loops from 0 again.
    pub agent: &'a str,
    /// The tool that is called; nothing for a model.
    pub tool: Option<&'a str>,
    /// The digest of the canonical request.
    pub request: Digest,
    /// The digest of the request whose minted ids are renamed, where it has any.
    pub alias: Option<Digest>,
    /// The framework's own step number.
    pub position: Option<&'a str>,
    /// Which attempt or sending asks.
    pub taking: i64,
    /// The client says that it sends this again because it got no answer.
    pub repeats: bool,
}

/// What is known of a call that is about to be made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Found<'r> {
    /// Nothing that can be used: it has to be made.
    Nothing,
    /// This outcome is to be served, and counts as taken from then on.
    Serve(&'r Call),
    /// The client was to have this outcome already and asks for it again.
    Again(&'r Call),
    /// The client has begun this very call and says so again: a tool that it is about to call.
    Begun(&'r Call),
    /// It is in flight: its outcome is to be waited for.
    InFlight(&'r Call),
    /// It changes something, was begun by an earlier attempt, and its outcome is unknown: a person has to say.
    Unknown(&'r Call),
}

impl Run {
    /// What is known of a call. `in_flight` says which open calls this process still waits for.
    pub fn find(&self, wanted: &Wanted<'_>, in_flight: &dyn Fn(Seq) -> bool) -> Found<'_> {
        let exact = |call: &Call| call.request == wanted.request;
        let found = self.find_by(wanted, &exact, in_flight);
        if found != Found::Nothing || wanted.alias.is_none() {
            return found;
        }
        // Ids that a healed or repeated answer has minted anew make every later request differ. Whatever else differs
        // makes the second key differ as well.
        self.find_by(wanted, &|call| call.alias == wanted.alias, in_flight)
    }

    fn find_by(
        &self,
        wanted: &Wanted<'_>,
        same_request: &dyn Fn(&Call) -> bool,
        in_flight: &dyn Fn(Seq) -> bool,
    ) -> Found<'_> {
        let equal =
            || self.calls.iter().map(AsRef::as_ref).filter(|call| wanted.fits(call) && same_request(call));
        if let Some(last) = equal().rfind(|call| call.taken == wanted.taking).filter(|_| wanted.repeats) {
            match &last.outcome {
                Outcome::Open if in_flight(last.at) => return Found::InFlight(last),
                Outcome::Open if wanted.tool.is_some() => return Found::Begun(last),
                _ if last.has_outcome_to_serve() => return Found::Again(last),
                _ => {}
            }
        }
        for call in equal().filter(|call| call.taken != wanted.taking) {
            match (&call.outcome, &call.kind) {
                _ if call.has_outcome_to_serve() => return Found::Serve(call),
                (Outcome::Open, _) if in_flight(call.at) => return Found::InFlight(call),
                (Outcome::Open, CallKind::Tool { repeatable: false, .. }) => return Found::Unknown(call),
                _ => {}
            }
        }
        Found::Nothing
    }

    /// Whether the outcome of a call may be served to this attempt or sending.
    pub fn may_serve(&self, call: &Call, taking: i64) -> bool {
        call.taken != taking && call.has_outcome_to_serve()
    }

    /// The calls of this very attempt or sending that equal one, the newest first.
    pub fn own<'r>(&'r self, wanted: &'r Wanted<'_>) -> impl Iterator<Item = &'r Call> {
        let own =
            |call: &&Call| wanted.fits(call) && call.request == wanted.request && call.taken == wanted.taking;
        self.calls.iter().rev().map(AsRef::as_ref).filter(own)
    }

    /// The recorded answer that this caller was to be served next, had it asked what it asked before. One that was
    /// passed over already is not expected a second time.
    pub fn expected(&self, caller: &str, position: Option<&str>, taking: i64) -> Option<&Call> {
        self.calls.iter().map(AsRef::as_ref).find(|call: &&Call| {
            call.caller == caller
                && call.position.as_deref() == position
                && !call.passed_over
                && self.may_serve(call, taking)
        })
    }

    /// Whether something that a client has read was condemned later: what is asked after that may differ from before.
    pub fn has_condemned_what_was_read(&self) -> bool {
        self.calls.iter().any(|call| call.condemned && call.released)
    }
}

impl Wanted<'_> {
    fn fits(&self, call: &Call) -> bool {
        let same_kind = match (&call.kind, self.tool) {
            (CallKind::Model(_), None) => true,
            (CallKind::Tool { tool, .. }, Some(wanted)) => tool == wanted,
            _ => false,
        };
        same_kind
            && call.step == self.step
            && call.agent == self.agent
            && call.position.as_deref() == self.position
    }
}

impl Call {
    /// Whether its outcome came while another call was in flight, and before that one's. A tool that was lost is in flight
    /// for nobody: when a person says later what it did, that is no answer that others came before or after.
    pub fn came_during(&self, other: &Call) -> bool {
        let was_lost = |call: &Call, when: &Call| call.lost.is_some_and(|lost| lost < when.at);
        self.done < other.done
            && self.done > Some(other.at)
            && !was_lost(self, other)
            && !was_lost(other, self)
    }

    /// Whether it has an outcome that a caller may read: an answer that nobody has refused or still decides about, or the
    /// failure of a tool.
    pub fn has_outcome_to_serve(&self) -> bool {
        let released = matches!(self.verdict, None | Some(GateVerdict::Release));
        let served = match (&self.outcome, &self.kind) {
            (Outcome::Answered(_), _) => released,
            (Outcome::Failed { .. }, CallKind::Tool { .. }) => true,
            (Outcome::Failed { .. }, CallKind::Model(_)) | (Outcome::Open, _) => false,
        };
        served && !self.condemned
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use omium_schemas::Branch;

    use super::*;

    const ATTEMPT: i64 = 2;

    fn model() -> Call {
        let step = (StepId(1), Branch(0));
        let kind = CallKind::Model("m".into());
        let mut call = Call::begun(Seq(10), step, kind, ("writer", "writer#0"), (Digest::of(b"r"), 1));
        (call.taken, call.outcome, call.done) = (1, Outcome::Answered(None), Some(Seq(12)));
        call
    }

    fn tool(repeatable: bool) -> Call {
        Call { kind: CallKind::Tool { tool: "pay".into(), repeatable }, ..model() }
    }

    fn open(call: Call) -> Call {
        Call { outcome: Outcome::Open, done: None, ..call }
    }

    fn failed(call: Call) -> Call {
        Call { outcome: Outcome::Failed { retryable: true, reason: None }, ..call }
    }

    fn wanted<'a>() -> Wanted<'a> {
        Wanted {
            step: StepId(1),
            agent: "writer",
            tool: None,
            request: Digest::of(b"r"),
            alias: None,
            position: None,
            taking: ATTEMPT,
            repeats: false,
        }
    }

    fn name(found: Found<'_>) -> &'static str {
        match found {
            Found::Nothing => "nothing",
            Found::Serve(_) => "serve",
            Found::Again(_) => "again",
            Found::Begun(_) => "begun",
            Found::InFlight(_) => "in flight",
            Found::Unknown(_) => "unknown",
        }
    }

    #[track_caller]
    fn check(calls: &[Call], wanted: Wanted<'_>, in_flight: bool, expected: &str) {
        let run = Run { calls: calls.iter().cloned().map(Arc::new).collect(), ..Run::default() };
        assert_eq!(name(run.find(&wanted, &|_| in_flight)), expected);
    }

    #[test]
    fn what_is_done_with_an_equal_call() {
        let tool_wanted = Wanted { tool: Some("pay"), ..wanted() };
        let again = Wanted { repeats: true, ..wanted() };
        let judged = |verdict| Call { verdict: Some(verdict), ..model() };
        let own = |call: Call| Call { taken: ATTEMPT, ..call };
        let table: &[(&str, Call, Wanted<'_>, bool, &str)] = &[
            ("answered", model(), wanted(), false, "serve"),
            ("a model failed", failed(model()), wanted(), false, "nothing"),
            ("a tool failed", failed(tool(false)), tool_wanted, false, "serve"),
            ("a tool answered", tool(true), tool_wanted, false, "serve"),
            ("condemned", Call { condemned: true, ..model() }, wanted(), false, "nothing"),
            ("to be asked again", judged(GateVerdict::AskAgain), wanted(), false, "nothing"),
            ("undecided or refused", judged(GateVerdict::Suspend), wanted(), false, "nothing"),
            ("released", judged(GateVerdict::Release), wanted(), false, "serve"),
            ("a model open, in flight", open(model()), wanted(), true, "in flight"),
            ("a model open, lost", open(model()), wanted(), false, "nothing"),
            ("a write open, lost", open(tool(false)), tool_wanted, false, "unknown"),
            ("a read open, lost", open(tool(true)), tool_wanted, false, "nothing"),
            ("taken", own(model()), wanted(), false, "nothing"),
            ("taken, asked again", own(model()), again, false, "again"),
            ("own, in flight", own(open(model())), wanted(), true, "nothing"),
            ("own, in flight, asked again", own(open(model())), again, true, "in flight"),
            ("own write, open", own(open(tool(false))), tool_wanted, false, "nothing"),
            (
                "own write, open, asked again",
                own(open(tool(false))),
                Wanted { repeats: true, ..tool_wanted },
                false,
                "begun",
            ),
            ("own, judged, asked again", own(judged(GateVerdict::Suspend)), again, false, "nothing"),
        ];
        for (what, call, wanted, in_flight, expected) in table {
            let run = Run { calls: vec![Arc::new(call.clone())], ..Run::default() };
            assert_eq!(name(run.find(wanted, &|_| *in_flight)), *expected, "{what}");
        }
    }

    #[test]
    fn another_agent_step_tool_request_or_position_is_another_call() {
        check(&[model()], Wanted { agent: "critic", ..wanted() }, false, "nothing");
        check(&[model()], Wanted { step: StepId(2), ..wanted() }, false, "nothing");
        check(&[model()], Wanted { tool: Some("pay"), ..wanted() }, false, "nothing");
        check(&[tool(true)], Wanted { tool: Some("look"), ..wanted() }, false, "nothing");
        check(&[model()], Wanted { request: Digest::of(b"x"), ..wanted() }, false, "nothing");
        check(&[model()], Wanted { position: Some("3"), ..wanted() }, false, "nothing");
        let placed = Call { position: Some("3".into()), ..model() };
        check(&[placed], Wanted { position: Some("3"), ..wanted() }, false, "serve");
    }

    #[test]
    fn the_loop_index_does_not_tell_calls_apart() {
        check(&[Call { caller: "writer#7".into(), ..model() }], wanted(), false, "serve");
    }

    #[test]
    fn the_second_key_finds_what_the_exact_one_misses_and_gives_way_to_it() {
        let alias = Some(Digest::of(b"renamed"));
        let healed = Call { request: Digest::of(b"other ids"), alias, ..model() };
        check(std::slice::from_ref(&healed), wanted(), false, "nothing");
        check(std::slice::from_ref(&healed), Wanted { alias, ..wanted() }, false, "serve");
        let exact = Call { at: Seq(20), ..model() };
        let run = Run { calls: vec![Arc::new(healed), Arc::new(exact)], ..Run::default() };
        let Found::Serve(call) = run.find(&Wanted { alias, ..wanted() }, &|_| false) else {
            panic!("it is there")
        };
        assert_eq!(call.at, Seq(20));
    }

    #[test]
    fn equal_calls_are_served_in_the_order_in_which_they_were_begun_each_once() {
        let second = Call { at: Seq(20), ..model() };
        let taken = Call { taken: ATTEMPT, ..model() };
        let run = Run { calls: vec![Arc::new(taken), Arc::new(second)], ..Run::default() };
        let Found::Serve(call) = run.find(&wanted(), &|_| false) else { panic!("one is left") };
        assert_eq!(call.at, Seq(20));
    }
}
