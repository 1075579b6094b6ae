//! A record of calls in memory that can refuse at any point, as a log does whose process was killed there.

use std::sync::Mutex;

use async_trait::async_trait;
use omium_agents::native::{
    BegunModel, BegunTool, Calls, Earlier, EarlierCall, EarlierOutcome, ModelAnswer, ModelCall, ModelFailure,
    NotRecorded, ToolCall, ToolFailure,
};
use omium_schemas::{Digest, Money, Seq};
use serde_json::Value;

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
    /// What each answer cost.
    costs: Vec<Option<Money>>,
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

    pub(crate) fn costs(&self) -> Vec<Option<Money>> {
        self.state.lock().unwrap().costs.clone()
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
            Some(0) => return Err(NotRecorded("the process was killed".to_owned())),
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
        let request = Digest::of(call.canonical);
        if let Some(answer) = self.state.lock().unwrap().earlier.model(call.caller, request) {
            return Ok(BegunModel::Recorded(answer));
        }
        let mut state = self.write(format!("ask {}", call.model))?;
        Ok(BegunModel::New(state.start(None, call.caller, request)))
    }

    fn reads_along(&self) -> bool {
        self.state.lock().unwrap().along.is_some()
    }

    async fn delta(&self, _: Seq, text: &str) {
        self.state.lock().unwrap().along.as_mut().unwrap().push(text.to_owned());
    }

    async fn complete_model(&self, call: Seq, answer: ModelAnswer<'_>) -> Result<(), NotRecorded> {
        self.state.lock().unwrap().costs.push(answer.cost);
        let words = format!("answered {:?} {}+{}", answer.finish, answer.usage.input, answer.usage.output);
        self.end(call, &words, EarlierOutcome::Answered(answer.answer.to_vec()))
    }

    async fn fail_model(&self, call: Seq, failure: &ModelFailure) -> Result<(), NotRecorded> {
        let failed = ToolFailure {
            class: omium_schemas::catalogue::ToolErrorClass::Other,
            reason: failure.reason.clone(),
        };
        self.end(call, &format!("model failed {:?}", failure.class), EarlierOutcome::Failed(failed))
    }

    async fn start_tool(&self, call: ToolCall<'_>) -> Result<BegunTool, NotRecorded> {
        let request = Digest::of(call.canonical);
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
