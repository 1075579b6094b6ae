//! What somebody asks next: mostly what makes sense, often what does not any more, sometimes what never did.

use omium_execution::{Call, CallKind, Outcome, Phase, Run};
use omium_schemas::catalogue::{
    ApprovalSubject, AskApproval, CancelExecution, Command, CompleteLlmCall, CompleteStep, CompleteToolCall,
    EffectClass, FailLlmCall, FailStep, FailToolCall, FailureClass, FinishReason, ForkExecution,
    GiveApproval, LoseStep, LossReason, MeetDeadline, ModelErrorClass, PauseExecution, RefuseApproval,
    ResumeExecution, RetryExecution, RollBack, SignalExecution, StartLlmCall, StartStep, StartToolCall,
    TakeCheckpoint, ToolErrorClass, Usage,
};
use omium_schemas::{Branch, Content, Digest, Epoch, ExecutionId, Money, Seq, StepId, Time};

use crate::chance::Chance;
use crate::plans::{self, CENT, SIGNALS};
use crate::walk::Walk;

const CLASSES: [FailureClass; 4] =
    [FailureClass::ToolError, FailureClass::Crashed, FailureClass::Rejected, FailureClass::Other];
const EFFECTS: [EffectClass; 3] = [EffectClass::Read, EffectClass::Write, EffectClass::Irreversible];
const EPOCH: Epoch = Epoch(1);

impl Walk {
    pub(crate) fn next_command(&mut self) -> Command {
        let run = self.run().clone();
        let chance = &mut self.chance;
        // Calls do not last long: where there is something to ask or to answer, that often comes next.
        if run.status.is_open() && unknown(&run).is_some() && chance.percent(25) {
            return person(chance, &run, self.now);
        }
        match chance.below(100) {
            0..30 => complete(chance, &run),
            30..42 => fail(chance, &run),
            42..47 => begin(chance, &run),
            47..53 => lose(chance, &run),
            53..61 => signal(chance, chance_number),
            61..64 => PauseExecution {}.into(),
            64..69 => ResumeExecution {}.into(),
            69 => CancelExecution {}.into(),
            70..75 => roll_back(chance, &run),
            75..78 => RetryExecution {}.into(),
            78..80 => ForkExecution { to: ExecutionId::new([4; 15]).stream(), at: mark(chance, &run) }.into(),
            80..83 => checkpoint(chance),
            83..94 => call(chance, &run),
            94..98 => person(chance, &run, self.now),
            98 => MeetDeadline { at: self.now }.into(),
            _ => plans::start(chance).into(),
        }
    }
}

pub(crate) fn answer(step: StepId, branch: Branch, n: u64, cost: Money) -> CompleteStep {
    CompleteStep { step, branch, epoch: EPOCH, delivery: 1, output: Some(body(n)), cost }
}

pub(crate) fn body(n: u64) -> Content {
    Content::open(format!("{{\"n\": {n}}}"))
}

pub(crate) fn signal(chance: &mut Chance, number: impl Fn(&mut Chance) -> u64) -> Command {
    let name = chance.pick(&SIGNALS).copied().unwrap_or_default().to_owned();
    let body = chance.percent(80).then(|| body(number(chance)));
    SignalExecution { name, body }.into()
}

fn chance_number(chance: &mut Chance) -> u64 {
    chance.below(8)
}

/// Mostly a step that is waited for on the branch that is; else any, on this branch or the one beside it.
fn target(chance: &mut Chance, run: &Run) -> (StepId, Branch) {
    let waiting = run.running();
    match chance.pick(&waiting) {
        Some(step) if chance.percent(75) => (*step, run.branch),
        _ => {
            let step = StepId(chance.below(run.steps.len() as u64 + 2) as u32);
            let beside = run.branch.0.saturating_sub(1) + chance.below(3);
            (step, Branch(beside))
        }
    }
}

fn complete(chance: &mut Chance, run: &Run) -> Command {
    let (step, branch) = target(chance, run);
    let cost = if chance.percent(1) { -1 } else { i128::from(chance.below(5)) };
    let mut done = answer(step, branch, chance.below(8), Money(cost * CENT));
    done.output = done.output.filter(|_| chance.percent(90));
    done.into()
}

fn fail(chance: &mut Chance, run: &Run) -> Command {
    let ((step, branch), class) = (target(chance, run), *chance.pick(&CLASSES).expect("there are some"));
    let reason = chance.percent(50).then(|| Content::open("it was late"));
    let retryable = chance.percent(80);
    FailStep {
        step,
        branch,
        epoch: EPOCH,
        delivery: 1,
        class,
        reason,
        retryable,
        retry_after_ms: None,
        cost: None,
    }
    .into()
}

fn begin(chance: &mut Chance, run: &Run) -> Command {
    let (step, branch) = target(chance, run);
    StartStep { step, branch, epoch: EPOCH, delivery: 1, worker: "w".into(), code: None }.into()
}

fn lose(chance: &mut Chance, run: &Run) -> Command {
    let (step, branch) = target(chance, run);
    let reason = LossReason::Silent;
    LoseStep { step, branch, epoch: EPOCH, delivery: 1, worker: "w".into(), reason }.into()
}

fn mark(chance: &mut Chance, run: &Run) -> Seq {
    match chance.pick(&run.marks) {
        Some(mark) if chance.percent(90) => mark.at,
        _ => Seq(chance.below(60)),
    }
}

fn roll_back(chance: &mut Chance, run: &Run) -> Command {
    RollBack { to: mark(chance, run), cancel_running: chance.percent(80), over_writes: chance.percent(50) }
        .into()
}

fn checkpoint(chance: &mut Chance) -> Command {
    let name = *chance.pick(&["here", "there", "last", "7", ""]).expect("there are some");
    TakeCheckpoint { name: name.into() }.into()
}

fn call(chance: &mut Chance, run: &Run) -> Command {
    let known = chance.pick(&run.calls).map(|call| call.at).filter(|_| chance.percent(90));
    let call = known.unwrap_or(Seq(chance.below(60)));
    let cost = Money(i128::from(chance.below(4)) * CENT);
    match chance.below(10) {
        0 | 1 => ask(chance, run),
        2 | 3 => use_tool(chance, run),
        4 | 5 => {
            let usage = Usage { input: 3, cached: 0, output: 4, reasoning: 0 };
            let (model, finish, answer) = ("m".into(), FinishReason::Stop, body(1));
            let cost = Some(cost).filter(|_| chance.percent(80));
            CompleteLlmCall { call, model, usage, cost, finish, answer, shown: false, estimated: false }
                .into()
        }
        6 | 7 => {
            let (class, retryable) = (ModelErrorClass::Overloaded, chance.percent(50));
            FailLlmCall { call, class, status: 529, reason: None, retryable }.into()
        }
        8 => CompleteToolCall { call, result: Some(body(2)) }.into(),
        _ => FailToolCall { call, class: ToolErrorClass::Conflict, reason: None }.into(),
    }
}

/// A call of a tool that changes something, whose outcome nobody has said.
fn unknown(run: &Run) -> Option<Seq> {
    let unknown = |call: &&std::sync::Arc<Call>| {
        call.outcome == Outcome::Open && matches!(call.kind, CallKind::Tool { repeatable: false, .. })
    };
    run.calls.iter().find(unknown).map(|call| call.at)
}

/// A person is asked about a call, or says what he knows.
fn person(chance: &mut Chance, run: &Run, now: Time) -> Command {
    let open = chance.pick(&run.questions).map(|question| question.at).filter(|_| chance.percent(90));
    match open {
        Some(approval) if chance.percent(70) => answer_to(chance, run, approval),
        _ => {
            let any = chance.pick(&run.calls).map(|call| call.at).filter(|_| chance.percent(95));
            let known = unknown(run).filter(|_| chance.percent(70)).or(any);
            let subject = if chance.percent(95) { ApprovalSubject::ToolCall } else { ApprovalSubject::Other };
            let expires_at = chance.percent(30).then(|| now.plus_millis(chance.below(9_000)));
            AskApproval { subject, about: known, question: Some(body(3)), expires_at }.into()
        }
    }
}

/// It is not known to have happened, it is given up, or somebody has found out.
pub(crate) fn answer_to(chance: &mut Chance, run: &Run, approval: Seq) -> Command {
    let about = run.questions.iter().find(|question| question.at == approval).map(|question| question.call);
    match (chance.below(4), about) {
        (0, Some(call)) => CompleteToolCall { call, result: Some(body(2)) }.into(),
        (1, Some(call)) => FailToolCall { call, class: ToolErrorClass::Conflict, reason: None }.into(),
        (2, _) => RefuseApproval { approval, note: None }.into(),
        _ => GiveApproval { approval, note: Some(body(4)) }.into(),
    }
}

fn ask(chance: &mut Chance, run: &Run) -> Command {
    let (step, branch) = target(chance, run);
    StartLlmCall {
        step,
        branch,
        agent: "a".into(),
        caller: "a#0".into(),
        model: "m".into(),
        request: Digest::of(&[chance.below(2) as u8]),
        patch_set: None,
        messages: Vec::new(),
        stored: Vec::new(),
        parameters: None,
        delivery: 0,
        endpoint: "chat/completions".into(),
        continues: None,
        thread: None,
        before: None,
        after: None,
        difference: None,
        position: None,
        alias: None,
        reserve: None,
    }
    .into()
}

fn use_tool(chance: &mut Chance, run: &Run) -> Command {
    let (step, branch) = target(chance, run);
    let effect = *chance.pick(&EFFECTS).expect("there are some");
    let request = Digest::of(&[chance.below(2) as u8]);
    let (caller, tool) = ("a#0".into(), "t".into());
    StartToolCall {
        step,
        branch,
        caller,
        tool,
        effect,
        request,
        arguments: None,
        delivery: 0,
        agent: "a".into(),
        position: None,
        alias: None,
    }
    .into()
}

/// Whether this step waits for somebody's word.
pub(crate) fn awaited_signal(run: &Run) -> Option<String> {
    let waits = run
        .plan
        .iter()
        .zip(&run.steps)
        .find(|(plan, state)| plan.signal.is_some() && matches!(state.phase, Phase::Waiting { .. }));
    waits.and_then(|(plan, _)| plan.signal.clone())
}
