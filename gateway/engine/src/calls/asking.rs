//! What a person is asked about calls of tools, and what he answers.

use omium_api::port::{Answer, Failure, FailureKind};
use omium_api::views::QuestionView;
use omium_execution::{CallKind, Question, Run};
use omium_runtime::{Request, StreamKey};
use omium_schemas::catalogue::{
    ApprovalSubject, AskApproval, Command, CompleteToolCall, GiveApproval, LossReason, RefuseApproval,
};
use omium_schemas::{Content, Seq};
use serde_json::{Value, json};

use omium_api::port::Sending;

use super::Recorder;
use crate::{Engine, answers, view};

impl Recorder<'_> {
    /// A program's tool is not called in silence: a person is asked, and the program waits for the word.
    pub(super) async fn ask_person(&self, run: &Run, call: Seq, tool: &str) -> Failure {
        let detail =
            format!("`{tool}` was called before, at seq {call}, and nobody knows whether it did its work");
        if !run.questions.iter().any(|question| question.call == call) {
            let question = Some(Content::open(json!(detail).to_string()));
            let (subject, about) = (ApprovalSubject::ToolCall, Some(call));
            if let Err(failure) =
                self.submit(AskApproval { subject, about, question, expires_at: None }).await
            {
                return failure;
            }
        }
        let hint = format!(
            "find out; `omium answer {} happened --result JSON` or `repeat` says it, and `omium exec --resume` goes on",
            self.owner.key.stream
        );
        Failure::new(FailureKind::Conflict, "outcome-unknown", detail, hint)
    }
}

impl Engine {
    /// Puts the question to a person. The attempt is over; the step goes on when somebody has answered.
    pub(crate) async fn ask_about(
        &self,
        key: StreamKey,
        sending: Sending,
        worker: &str,
        call: Seq,
        text: &str,
    ) {
        let question = Some(Content::open(json!(text).to_string()));
        let ask =
            AskApproval { subject: ApprovalSubject::ToolCall, about: Some(call), question, expires_at: None };
        let told = answers::done(self.node().submit(Request::new(key, ask)).await);
        let Err(failure) = told else { return };
        tracing::warn!(stream = %key.stream, detail = failure.detail, "nobody could be asked about a call");
        if !answers::passes(&failure) {
            // The call may have ended while the question was on its way: the step goes out again if it still waits.
            self.give_back(key, sending);
        } else {
            // Whoever performs the attempt next finds the same call and asks again.
            let again = self.lose(key, sending, worker.to_owned(), LossReason::Disconnected).await;
            if let Err(failure) = again {
                tracing::info!(stream = %key.stream, detail = failure.detail, "a step that should ask was not awaited");
            }
        }
    }

    /// What is asked, with what the calls in question were given.
    pub(crate) async fn questions(&self, key: StreamKey, at: Seq, run: &Run) -> Vec<QuestionView> {
        let mut views = Vec::with_capacity(run.questions.len());
        for question in &run.questions {
            let arguments = self.arguments(key, question.call).await;
            let blobs = self.opened(key, arguments.iter().chain(&question.text)).await;
            let read = |content: &Option<Content>| {
                content.as_ref().map_or(Value::Null, |content| self.viewed(key, at, &blobs, content))
            };
            views.extend(shown(run, question, read(&arguments), read(&question.text)));
        }
        views
    }

    /// They stand in the log and not in the state, for few calls are ever asked about.
    async fn arguments(&self, key: StreamKey, call: Seq) -> Option<Content> {
        let frames = self.history.frames(&key, call, 1).await.ok()?;
        let began = frames.into_iter().find(|told| told.events.iter().any(|(seq, _)| *seq == call))?;
        match began.command {
            Command::StartToolCall(start) => start.arguments,
            _ => None,
        }
    }
}

fn shown(run: &Run, question: &Question, arguments: Value, text: Value) -> Option<QuestionView> {
    let call = run.calls.iter().find(|call| call.at == question.call)?;
    let CallKind::Tool { tool, .. } = &call.kind else { return None };
    Some(QuestionView {
        seq: question.at.0,
        step: question.step.0,
        agent: run.step(question.step)?.0.agent.clone(),
        call: question.call.0,
        tool: tool.clone(),
        arguments,
        text: text.as_str().unwrap_or_default().to_owned(),
        asked_at: view::time(question.since),
        expires_at: question.expires_at.map(view::time),
    })
}

/// The command that an answer to an open question is.
pub(crate) fn answer_command(
    run: &Run,
    execution: &str,
    question: Seq,
    answer: Answer,
    note: Option<String>,
) -> Result<Command, Failure> {
    let asked = run.questions.iter().find(|known| known.at == question).ok_or_else(|| {
        Failure::new(
            FailureKind::NotFound,
            "no-such-question",
            format!("{execution} asks nothing at seq {question}"),
            format!("`omium show {execution}` lists what it asks; a question is answered once"),
        )
    })?;
    let note = note.map(|note| Content::open(json!(note).to_string()));
    Ok(match answer {
        Answer::Happened { result } => {
            CompleteToolCall { call: asked.call, result: Some(Content::open(result.to_string())) }.into()
        }
        Answer::Repeat => GiveApproval { approval: question, note }.into(),
        Answer::GiveUp => RefuseApproval { approval: question, note }.into(),
    })
}
