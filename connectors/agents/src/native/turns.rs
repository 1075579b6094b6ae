//! The loop of turns: ask the model, call the tools that it wants, ask again, until it says what was asked for.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use omium_openai::canonical_tool;
use omium_schemas::Digest;
use omium_schemas::catalogue::{FailureClass, FinishReason, ModelErrorClass, Usage};
use omium_workflow::Template;
use serde_json::{Value, json};

use super::calls::{BegunModel, BegunTool, Calls, ModelCall, ModelFailure, NotRecorded, ToolCall};
use super::definition::{Native, Wrong};
use super::model::{Answer, Question, understand};
use super::output;
use super::task::{Failure, NativeTask, Outcome};
use crate::tools::{Called, Context, Invocation, Toolbox};

/// Performs a step. Dropping it cancels it; what was begun by then stays open in the record.
pub async fn perform(task: NativeTask, calls: &dyn Calls, http: &reqwest::Client) -> Outcome {
    let begun = Instant::now();
    let outcome = match Performance::begin(&task, calls, http, begun) {
        Ok(mut performance) => {
            let ended = tokio::time::timeout(task.deadline, performance.run()).await;
            performance.toolbox.close().await;
            match ended {
                Ok(Ok(output)) => {
                    return Outcome::Completed { output, usage: performance.usage };
                }
                Ok(Err(end)) => end,
                Err(_) => too_late(&task),
            }
        }
        Err(wrong) => End::Failed(wrong),
    };
    match outcome {
        End::Failed(failure) => Outcome::Failed(failure),
        End::Unknown(outcome) => outcome,
        End::NotRecorded(reason) => Outcome::NotRecorded(reason),
    }
}

fn too_late(task: &NativeTask) -> End {
    let reason = format!(
        "`{}` was not done within {:?}; raise its `timeout` if it needs longer",
        task.agent, task.deadline
    );
    End::Failed(Failure { retryable: true, ..Failure::new(FailureClass::Timeout, reason) })
}

/// Why there is no output.
enum End {
    Failed(Failure),
    Unknown(Outcome),
    NotRecorded(String),
}

impl From<NotRecorded> for End {
    fn from(NotRecorded { reason, fails }: NotRecorded) -> End {
        match fails {
            Some(class) => End::Failed(Failure::new(class, reason)),
            None => End::NotRecorded(reason),
        }
    }
}

impl From<ModelFailure> for End {
    fn from(failure: ModelFailure) -> End {
        let class = match failure.class {
            ModelErrorClass::Timeout => FailureClass::Timeout,
            _ => FailureClass::ModelError,
        };
        let ModelFailure { retryable, retry_after, reason, .. } = failure;
        End::Failed(Failure { class, reason, retryable, retry_after, blames_answers: false })
    }
}

struct Performance<'a> {
    task: &'a NativeTask,
    calls: &'a dyn Calls,
    http: &'a reqwest::Client,
    until: Instant,
    native: Native,
    toolbox: Toolbox,
    schema: Option<omium_limits::Schema>,
    messages: Vec<Value>,
    /// How often each tool was called with the same arguments, so that the second is another effect.
    repeated: BTreeMap<Digest, u32>,
    usage: Usage,
}

impl<'a> Performance<'a> {
    fn begin(
        task: &'a NativeTask,
        calls: &'a dyn Calls,
        http: &'a reqwest::Client,
        begun: Instant,
    ) -> Result<Performance<'a>, Failure> {
        let told = |wrong: Vec<Wrong>| wrong.iter().map(Wrong::to_string).collect::<Vec<_>>();
        let invalid = |wrong: Vec<String>| {
            let reason =
                format!("the definition of `{}` cannot be performed: {}", task.agent, wrong.join("; "));
            Failure::new(FailureClass::InvalidInput, reason)
        };
        let native = Native::read(&task.definition).map_err(|wrong| invalid(told(wrong)))?;
        let toolbox = Toolbox::read(&native.tools, &task.tools).map_err(|wrong| invalid(told(wrong)))?;
        // It was granted when the workflow was published; whether it still is counts.
        if let Some(refused) = toolbox.not_granted(&task.grants).first() {
            return Err(Failure::new(FailureClass::Policy, refused.to_string()));
        }
        let schema = task.output_schema.as_ref().map(omium_limits::Schema::read).transpose();
        let schema = schema.map_err(|why| invalid(vec![format!("`output_schema` cannot be used: {why}")]))?;
        let mut messages = Vec::new();
        if let Some(system) = &native.system {
            messages.push(json!({"role": "system", "content": fill(system, &task.scope)?}));
        }
        let user = match &native.prompt {
            Some(prompt) => fill(prompt, &task.scope)?,
            None => plain(&task.input),
        };
        messages.push(json!({"role": "user", "content": user}));
        Ok(Performance {
            task,
            calls,
            http,
            until: begun + task.deadline,
            native,
            toolbox,
            schema,
            messages,
            repeated: BTreeMap::new(),
            usage: Usage { input: 0, cached: 0, output: 0, reasoning: 0 },
        })
    }

    async fn run(&mut self) -> Result<Value, End> {
        self.discover().await?;
        let mut wrong = "it went on calling tools".to_owned();
        for _ in 0..self.native.max_turns {
            let answer = self.turn().await?;
            self.messages.push(answer.message.clone());
            if answer.finish == FinishReason::ContentFilter {
                let reason =
                    "the provider's content filter stopped the answer; change the prompt or the model";
                return Err(End::Failed(Failure {
                    blames_answers: true,
                    ..Failure::new(FailureClass::ModelError, reason)
                }));
            }
            if let Some(wanted) = answer.message["tool_calls"].as_array().filter(|wanted| !wanted.is_empty())
            {
                for call in wanted {
                    let result = self.tool(call).await?;
                    self.messages
                        .push(json!({"role": "tool", "tool_call_id": call["id"], "content": plain(&result)}));
                }
                continue;
            }
            match output::read(answer.message["content"].as_str().unwrap_or_default(), self.schema.as_ref()) {
                Ok(output) => return Ok(output),
                Err(why) => {
                    let said = format!(
                        "That cannot be used: {why}. Answer again, and only with what was asked for."
                    );
                    self.messages.push(json!({"role": "user", "content": said}));
                    wrong = why;
                }
            }
        }
        let reason = format!(
            "`{}` has no usable answer after {} turns: {wrong}; make the prompt clearer or raise `max_turns`",
            self.task.agent, self.native.max_turns
        );
        Err(End::Failed(output::unusable(reason)))
    }

    /// One question to the model: answered by the record where an earlier attempt asked the same.
    async fn turn(&mut self) -> Result<Answer, End> {
        let request = self.request();
        let call = ModelCall { agent: &self.task.agent, caller: &self.task.caller, request: &request };
        let seq = match self.calls.start_model(call).await? {
            BegunModel::Recorded(bytes) => return Ok(understand(&bytes)?),
            BegunModel::New(seq) => seq,
        };
        let question = Question {
            http: self.http,
            upstream: &self.task.upstream,
            caller: &self.task.caller,
            request: &request,
            within: self.left(),
        };
        let asked = question.ask(self.calls.reads_along().then_some((self.calls, seq))).await;
        let understood = asked.and_then(|bytes| understand(&bytes).map(|answer| (bytes, answer)));
        let (bytes, answer) = match understood {
            Ok(understood) => understood,
            Err(failure) => {
                self.calls.fail_model(seq, &failure).await?;
                return Err(failure.into());
            }
        };
        self.calls.complete_model(seq, &bytes).await?;
        self.spend(&answer.usage);
        Ok(answer)
    }

    fn request(&self) -> Value {
        let mut request = Value::Object(self.native.parameters.clone());
        request["model"] = self.native.model.clone().into();
        request["messages"] = self.messages.clone().into();
        let tools = self.toolbox.described();
        if !tools.is_empty() {
            request["tools"] = tools.into();
        }
        if let Some(schema) = &self.task.output_schema {
            let name: String = self
                .task
                .agent
                .chars()
                .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
                .take(64)
                .collect();
            request["response_format"] =
                json!({"type": "json_schema", "json_schema": {"name": name, "schema": schema}});
        }
        request
    }

    fn spend(&mut self, usage: &Usage) {
        self.usage.input = self.usage.input.saturating_add(usage.input);
        self.usage.cached = self.usage.cached.saturating_add(usage.cached);
        self.usage.output = self.usage.output.saturating_add(usage.output);
        self.usage.reasoning = self.usage.reasoning.saturating_add(usage.reasoning);
    }

    // The record has to hear of a call that took too long, so calls end a little before the whole does.
    fn left(&self) -> Duration {
        let left = self.until.saturating_duration_since(Instant::now());
        left.saturating_sub((left / 10).min(Duration::from_millis(200)))
    }

    /// One call that the model wants. What the model did wrong, it is told; it is no failure of the step.
    async fn tool(&mut self, wanted: &Value) -> Result<Value, End> {
        let name = wanted["function"]["name"].as_str().unwrap_or_default();
        let arguments = match wanted["function"]["arguments"].as_str().unwrap_or("{}") {
            "" => Ok(json!({})),
            text => omium_limits::json::parse(text.as_bytes(), &omium_limits::Limits::default()),
        };
        let arguments = match arguments {
            Ok(arguments) => arguments,
            Err(why) => return Ok(json!({"error": format!("the arguments cannot be used: {why}")})),
        };
        match self.toolbox.prepare(name, arguments) {
            Ok(invocation) => self.call(invocation).await,
            Err(why) => Ok(json!({"error": why})),
        }
    }

    async fn call(&mut self, invocation: Invocation) -> Result<Value, End> {
        let canonical = canonical_tool(&invocation.tool, &invocation.arguments);
        let call = ToolCall {
            agent: &self.task.agent,
            caller: &self.task.caller,
            tool: &invocation.tool,
            effect: invocation.effect,
            arguments: &invocation.arguments,
        };
        let effect_key = self.effect_key(&canonical);
        let seq = match self.calls.start_tool(call).await? {
            BegunTool::Recorded(result) => return Ok(result),
            BegunTool::Failed(failure) => return Ok(json!({"error": failure.reason})),
            BegunTool::Unknown(call) => {
                let reason = format!(
                    "`{}` was called by an earlier attempt that ended before its answer came, and it changes \
                     something",
                    invocation.tool
                );
                return Err(End::Unknown(Outcome::Unknown { call, tool: invocation.tool, reason }));
            }
            BegunTool::New(seq) => seq,
        };
        let context = Context { effect_key: &effect_key, within: self.left(), grants: &self.task.grants };
        match self.toolbox.call(&invocation, &context).await {
            Called::Answered(result) => {
                self.calls.complete_tool(seq, &result).await?;
                Ok(result)
            }
            Called::Failed(failure) => {
                self.calls.fail_tool(seq, &failure).await?;
                Ok(json!({"error": failure.reason}))
            }
            Called::Unknown(reason) => {
                Err(End::Unknown(Outcome::Unknown { call: seq, tool: invocation.tool, reason }))
            }
        }
    }

    /// The same for the same call of each attempt, another for the second equal call of one attempt.
    fn effect_key(&mut self, canonical: &[u8]) -> String {
        let times = self.repeated.entry(Digest::of(canonical)).or_default();
        *times += 1;
        let mut bytes = format!("{}\0{}\0{times}\0", self.task.effect_key, self.task.caller).into_bytes();
        bytes.extend_from_slice(canonical);
        Digest::of(&bytes).hex()[..32].to_owned()
    }

    /// Servers are asked for their tools through the record too: what the model is offered must not differ between
    /// attempts, or nothing that it answered would be found again.
    async fn discover(&mut self) -> Result<(), End> {
        for invocation in self.toolbox.listings() {
            let listed = self.call(invocation.clone()).await?;
            if let Err(reason) = self.toolbox.listed(&invocation, &listed) {
                return Err(End::Failed(Failure {
                    retryable: true,
                    blames_answers: true,
                    ..Failure::new(FailureClass::ToolError, reason)
                }));
            }
        }
        Ok(())
    }
}

fn fill(template: &Template, scope: &Value) -> Result<String, Failure> {
    let filled =
        template.render(scope).map_err(|why| Failure::new(FailureClass::InvalidInput, why.to_string()))?;
    Ok(plain(&filled))
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
