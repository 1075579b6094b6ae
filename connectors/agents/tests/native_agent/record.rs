//! A record of calls in memory that can refuse at any point, as a log does whose process was killed there.

use std::sync::Mutex;

use async_trait::async_trait;
use omium_agents::native::{
    BegunModel, BegunTool, Calls, ModelCall, ModelFailure, NotRecorded, ToolCall, ToolFailure,
};
use omium_openai::{Endpoint, canonical, canonical_tool};
use omium_schemas::{Digest, Seq};
use serde_json::Value;

use crate::earlier::{Earlier, EarlierCall, EarlierOutcome};

#[derive(Debug, Default)]
pub(crate) struct Record {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    calls: Vec<EarlierCall>,
    earlier: Earlier,
    /// What was written, in words.
    said: Vec<String>,
    /// What was read along, where somebody reads along.
    along: Option<Vec<String>>,
    /// How many more operations are taken.
    left: Option<usize>,
}

impl Record {
    /// Takes so many operations and no more.
    pub(crate) fn cut_after(operations: usize) -> Record {
        let record = Record::default();
        record.state.lock().unwrap().left = Some(operations);
        record
    }

    /// Reads along while models answer.
    pub(crate) fn reading_along() -> Record {
        let record = Record::default();
        record.state.lock().unwrap().along = Some(Vec::new());
        record
    }

    pub(crate) fn read_along(&self) -> Vec<String> {
        self.state.lock().unwrap().along.clone().unwrap_or_default()
    }

    /// What the next attempt finds.
    pub(crate) fn next(self) -> Record {
        let mut state = self.state.into_inner().unwrap();
        state.earlier = Earlier::new(state.calls.clone());
        state.left = None;
        Record { state: Mutex::new(state) }
    }

    pub(crate) fn said(&self) -> Vec<String> {
        self.state.lock().unwrap().said.clone()
    }

    /// Everything that it holds, to look for what it must not hold.
    pub(crate) fn all(&self) -> String {
        format!("{:?}", self.state.lock().unwrap())
    }

    pub(crate) fn calls(&self) -> Vec<EarlierCall> {
        self.state.lock().unwrap().calls.clone()
    }

    /// Somebody has found out what came of a call.
    pub(crate) fn settle(&self, at: Seq, outcome: EarlierOutcome) {
        let mut state = self.state.lock().unwrap();
        state.calls.iter_mut().find(|call| call.at == at).unwrap().outcome = outcome;
    }

    fn write(&self, words: String) -> Result<std::sync::MutexGuard<'_, State>, NotRecorded> {
        let mut state = self.state.lock().unwrap();
        match &mut state.left {
            Some(0) => return Err(NotRecorded { reason: "the process was killed".to_owned(), fails: None }),
            Some(left) => *left -= 1,
            None => {}
        }
        state.said.push(words);
        Ok(state)
    }

    fn end(&self, call: Seq, words: &str, outcome: EarlierOutcome) -> Result<(), NotRecorded> {
        let mut state = self.write(format!("{words} {}", call.0))?;
        let open = state.calls.iter_mut().find(|known| known.at == call).unwrap();
        assert_eq!(open.outcome, EarlierOutcome::Open, "answered twice");
        open.outcome = outcome;
        Ok(())
    }
}

impl State {
    fn start(&mut self, tool: Option<&str>, caller: &str, request: Digest) -> Seq {
        let at = Seq(self.calls.len() as u64 + 1);
        let (tool, caller) = (tool.map(str::to_owned), caller.to_owned());
        self.calls.push(EarlierCall { at, tool, caller, request, outcome: EarlierOutcome::Open });
        at
    }
}

#[async_trait]
impl Calls for Record {
    async fn start_model(&self, call: ModelCall<'_>) -> Result<BegunModel, NotRecorded> {
        let request = Digest::of(&canonical("chat/completions", call.request.to_string().as_bytes()));
        if let Some(answer) = self.state.lock().unwrap().earlier.model(call.caller, request) {
            return Ok(BegunModel::Recorded(answer));
        }
        let mut state = self.write(format!("ask {}", call.request["model"].as_str().unwrap_or_default()))?;
        Ok(BegunModel::New(state.start(None, call.caller, request)))
    }

    fn reads_along(&self) -> bool {
        self.state.lock().unwrap().along.is_some()
    }

    async fn delta(&self, _: Seq, text: &str) {
        self.state.lock().unwrap().along.as_mut().unwrap().push(text.to_owned());
    }

    async fn complete_model(&self, call: Seq, answer: &[u8]) -> Result<(), NotRecorded> {
        let said = omium_openai::read(Endpoint::Chat, answer);
        let words = format!("answered {:?} {}+{}", said.finish, said.usage.input, said.usage.output);
        self.end(call, &words, EarlierOutcome::Answered(answer.to_vec()))
    }

    async fn fail_model(&self, call: Seq, failure: &ModelFailure) -> Result<(), NotRecorded> {
        let failed = ToolFailure {
            class: omium_schemas::catalogue::ToolErrorClass::Other,
            reason: failure.reason.clone(),
        };
        self.end(call, &format!("model failed {:?}", failure.class), EarlierOutcome::Failed(failed))
    }

    async fn start_tool(&self, call: ToolCall<'_>) -> Result<BegunTool, NotRecorded> {
        let request = Digest::of(&canonical_tool(call.tool, call.arguments));
        if let Some(begun) = self.state.lock().unwrap().earlier.tool(&call, request) {
            return Ok(begun);
        }
        let mut state = self.write(format!("call {} {:?} {}", call.tool, call.effect, call.arguments))?;
        Ok(BegunTool::New(state.start(Some(call.tool), call.caller, request)))
    }

    async fn complete_tool(&self, call: Seq, result: &Value) -> Result<(), NotRecorded> {
        self.end(call, &format!("result {result}"), EarlierOutcome::Answered(result.to_string().into_bytes()))
    }

    async fn fail_tool(&self, call: Seq, failure: &ToolFailure) -> Result<(), NotRecorded> {
        let words = format!("tool failed {:?} {}", failure.class, failure.reason);
        self.end(call, &words, EarlierOutcome::Failed(failure.clone()))
    }
}
