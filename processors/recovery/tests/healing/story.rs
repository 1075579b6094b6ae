//! A program told as commands, through all processors that see its answers; only this file knows the calls.

use bytes::Bytes;
use omium_detector::Detector;
use omium_execution::{Execution, Found, Run, Status, Wanted};
use omium_processor::{Context, Processors, Recorded, Refusal};
use omium_recovery::Recovery;
use omium_schemas::catalogue::{
    Command, CompleteLlmCall, EffectClass, Event, FinishExecution, FinishReason, Guard, RecoveryMode,
    RecoveryPolicy, ServeAnswer, StartLlmCall, StartProgram, StartStep, StartToolCall, Usage,
};
use omium_schemas::{Branch, Content, Digest, Epoch, ExecutionId, Seq, StepId, StreamId, TenantId, Time};
use serde_json::json;

type Suite = (Execution, Detector, Recovery);
type State = <Suite as Processors>::State;

const TENANT: TenantId = TenantId([7; 16]);

fn stream() -> StreamId {
    ExecutionId::new([9; 15]).stream()
}

pub(crate) fn guard(field: Option<&str>, extract: Option<&str>, rule: Option<&str>) -> Guard {
    let text = |text: Option<&str>| text.map(str::to_owned);
    Guard {
        name: "apr".into(),
        agent: "Writer".into(),
        field: text(field),
        extract: text(extract),
        rule: text(rule),
        schema: None,
        hint: None,
    }
}

pub(crate) fn in_range() -> Guard {
    guard(Some("apr"), None, Some("value >= 2.5 && value <= 8.5"))
}

pub(crate) struct Story {
    pub(crate) state: State,
    log: Vec<(Seq, Event, Command)>,
    seq: u64,
}

impl Story {
    /// A program that runs its first attempt.
    pub(crate) fn of(guards: Vec<Guard>, mode: RecoveryMode) -> Story {
        let mut story = Story { state: State::default(), log: Vec::new(), seq: 1 };
        let recovery = RecoveryPolicy { mode, max_attempts: 2, min_confidence: 700 };
        let program = "crew".to_owned();
        story.does(StartProgram {
            program,
            inputs: None,
            guards,
            recovery,
            price: None,
            budget: None,
            timeout_ms: None,
        });
        story.attempts(1);
        story
    }

    pub(crate) fn run(&self) -> &Run {
        self.state.0.run().expect("it was started")
    }

    pub(crate) fn status(&self) -> Status {
        self.run().status
    }

    #[track_caller]
    pub(crate) fn does(&mut self, command: impl Into<Command>) -> Vec<&'static str> {
        self.tries(command).unwrap_or_else(|refusal| panic!("refused: {refusal}"))
    }

    #[track_caller]
    pub(crate) fn refuses(&mut self, command: impl Into<Command>, text: &str) {
        let before = self.state.clone();
        let refusal = self.tries(command).expect_err("it should be refused");
        assert!(refusal.text.contains(text), "{refusal}");
        assert!(before == self.state, "a refusal changes nothing");
    }

    pub(crate) fn tries(&mut self, command: impl Into<Command>) -> Result<Vec<&'static str>, Refusal> {
        let command = command.into();
        let open = |content: &Content| -> Option<Bytes> { content.plain().cloned() };
        let now = Time::from_millis(1_000);
        let context = Context {
            tenant: TENANT,
            stream: stream(),
            now,
            seq: Seq(self.seq),
            entropy: [3; 16],
            logic: 1,
            control: &[],
            open: &open,
        };
        let mut events = Suite::decide(&self.state, &command, &context)?;
        self.seq += 1;
        let mut names = Vec::new();
        let mut at = 0;
        while let Some(event) = events.get(at).cloned() {
            at += 1;
            names.push(event.name());
            let seq = Seq(self.seq);
            self.state = applied(self.state.clone(), seq, &event, &command);
            self.log.push((seq, event.clone(), command.clone()));
            self.seq += 1;
            events.extend(
                (0..Suite::COUNT).flat_map(|which| Suite::react(which, &self.state, &event, &context)),
            );
        }
        // What reactions have caused is folded as any other event is.
        let folded = self
            .log
            .iter()
            .fold(State::default(), |state, (seq, event, command)| applied(state, *seq, event, command));
        assert!(folded == self.state, "the state is the fold of the log");
        Ok(names)
    }

    pub(crate) fn attempts(&mut self, number: i64) -> Vec<&'static str> {
        self.does(attempt(number))
    }

    /// An agent asks.
    pub(crate) fn asks(&mut self, agent: &str, what: &str) -> Seq {
        let delivery = self.run().program.as_ref().unwrap().attempt;
        let patch_set = self.state.2.patches().and_then(|patches| patches.digest(agent));
        self.does(ask(agent, what, delivery, patch_set));
        self.run().calls.last().unwrap().at
    }

    /// Whether each call may have been charged twice.
    pub(crate) fn flagged(&self) -> Vec<bool> {
        let flag = |(_, event, _): &(Seq, Event, Command)| match event {
            Event::LlmCallStarted(started) => Some(started.possible_double_charge),
            _ => None,
        };
        self.log.iter().filter_map(flag).collect()
    }

    /// It is answered.
    pub(crate) fn answers(&mut self, call: Seq, content: &str) -> Vec<&'static str> {
        self.does(answer(call, content, false))
    }

    /// The answer that an equal question is served.
    pub(crate) fn served(&mut self, agent: &str, what: &str) -> Option<String> {
        let delivery = self.run().program.as_ref().unwrap().attempt;
        let (step, branch, request) = (StepId(1), Branch(0), Digest::of(what.as_bytes()));
        let (tool, alias, position, repeats) = (None, None, None, false);
        let wanted = Wanted { step, agent, tool, request, alias, position, taking: delivery, repeats };
        let Found::Serve(found) = self.run().find(&wanted, &|_| false) else { return None };
        let told = self.tries(ServeAnswer { step, branch, call: found.at, delivery }).ok()?;
        assert_eq!(told, ["LlmAnswerServed"]);
        let served = self.run().calls.iter().max_by_key(|call| call.served)?;
        let omium_execution::Outcome::Answered(Some(content)) = &served.outcome else { return None };
        let body: serde_json::Value = serde_json::from_slice(content.plain()?).ok()?;
        Some(body["choices"][0]["message"]["content"].as_str()?.to_owned())
    }
}

fn applied(state: State, seq: Seq, event: &Event, command: &Command) -> State {
    let (tenant, stream, time) = (TENANT, stream(), Time::from_millis(1_000));
    Suite::apply(state, &Recorded { tenant, stream, seq, time, event, command })
}

pub(crate) fn attempt(delivery: i64) -> StartStep {
    let (step, branch, epoch, worker) = (StepId(1), Branch(0), Epoch(0), "exec".to_owned());
    StartStep { step, branch, epoch, delivery, worker, code: None }
}

pub(crate) fn end(delivery: i64, code: i32) -> FinishExecution {
    FinishExecution { delivery, code, output: Some(Content::open("\"5.2\"")) }
}

pub(crate) fn ask(agent: &str, what: &str, delivery: i64, patch_set: Option<Digest>) -> StartLlmCall {
    StartLlmCall {
        step: StepId(1),
        branch: Branch(0),
        agent: agent.into(),
        caller: format!("{agent}#0"),
        model: "m".into(),
        request: Digest::of(what.as_bytes()),
        patch_set,
        messages: Vec::new(),
        stored: Vec::new(),
        parameters: Some(Content::open("{}")),
        delivery,
        endpoint: "chat/completions".into(),
        continues: None,
        thread: None,
        before: patch_set,
        after: patch_set,
        difference: None,
        position: None,
        alias: None,
        reserve: None,
    }
}

/// A tool that changes something is about to be called.
pub(crate) fn pay(delivery: i64) -> StartToolCall {
    StartToolCall {
        step: StepId(1),
        branch: Branch(0),
        caller: "Payer#0".into(),
        tool: "pay".into(),
        effect: EffectClass::Write,
        request: Digest::of(b"pay"),
        arguments: None,
        delivery,
        agent: "Payer".into(),
        position: None,
        alias: None,
    }
}

pub(crate) fn answer(call: Seq, content: &str, shown: bool) -> CompleteLlmCall {
    let body = json!({"choices": [{"message": {"content": content}, "finish_reason": "stop"}]});
    let usage = Usage { input: 1, cached: 0, output: 1, reasoning: 0 };
    let (model, finish, answer) = ("m".into(), FinishReason::Stop, Content::open(body.to_string()));
    CompleteLlmCall { call, model, usage, cost: None, finish, answer, shown, estimated: false }
}
