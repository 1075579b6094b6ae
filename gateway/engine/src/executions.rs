//! Executions: started, looked at, steered, forked.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use omium_agents::native::misfit;
use omium_api::port::{Action, Caller, Executions, Failure, FailureKind, Filter, StartRequest};
use omium_api::views::{CheckpointView, Done, Ended, ExecutionSummary, ExecutionView, Page, Started};
use omium_execution::{Mark, Phase, Run, State};
use omium_runtime::{Answer, Request, StreamKey, StreamState, opens_execution};
use omium_schemas::catalogue::{
    CancelExecution, Command, ForkExecution, ForkedStep, PauseExecution, ReleaseStream, ResumeExecution,
    RetryExecution, RollBack, SignalExecution, StartExecution, StartFork, TakeCheckpoint,
};
use omium_schemas::{Content, Digest, ExecutionId, Seq, StreamKind, Time};
use omium_workflow::Definition;
use serde_json::{Value, json};

use super::index::{Standing, Wanted};
use super::view::{self, Opened};
use super::{Engine, StoreError, answers, calls, contents, control, dispatch};

/// The largest request that is kept: inputs, a signal's body.
const MAX_CONTENT: usize = 16 << 20;

impl Engine {
    /// The stream of an execution's id. Another tenant's execution has another key, so it is not there.
    pub(super) fn key_of(&self, caller: &Caller, execution: &str) -> Result<StreamKey, Failure> {
        let id: ExecutionId = execution.parse().map_err(|_| {
            Failure::new(
                FailureKind::NotFound,
                "not-found",
                format!("`{execution}` is no execution's id"),
                "ids look like ex_…; `omium list` shows them",
            )
        })?;
        Ok(StreamKey::new(caller.tenant, id.stream()))
    }

    /// What completes a person's step is held to its schema before it is told: whoever sends it can mend it.
    async fn fits_what_waits(&self, key: StreamKey, signal: &str, body: &Value) -> Result<(), Failure> {
        let stream = self.stream(key).await?;
        let Some(run) = stream.state.0.run().filter(|run| run.program.is_none()) else { return Ok(()) };
        let Some(definition) = self.definition_of(key.tenant, run).await? else { return Ok(()) };
        let mut waiting = definition.agents.iter().filter(|agent| agent.signal.as_deref() == Some(signal));
        let misfit = waiting.find_map(|agent| misfit(&agent.id, body, agent.output_schema.as_ref()?));
        misfit.map_or(Ok(()), |misfit| {
            let hint = format!("`omium workflows show {}` has the schema", run.workflow);
            Err(Failure::new(FailureKind::Invalid, "bad-signal", misfit.reason, hint))
        })
    }

    pub(super) async fn stream(&self, key: StreamKey) -> Result<Arc<super::State>, Failure> {
        match self.node().view(key).await {
            Ok(Some(stream)) if stream.state.0.run().is_some_and(|run| run.let_go) => Err(Failure::new(
                FailureKind::NotFound,
                "let-go",
                format!("the records of {} were let go of", key.stream),
                "they were kept as long as its workflow (`keep:`) and the server (`--keep`) say",
            )),
            Ok(Some(stream)) if stream.state.0.run().is_some() => Ok(stream),
            Ok(_) => Err(Failure::new(
                FailureKind::NotFound,
                "not-found",
                format!("there is no execution {}", key.stream),
                "`omium list` shows those that there are",
            )),
            Err(answer) => Err(failed(answer)),
        }
    }

    pub(super) async fn tell(
        &self,
        caller: &Caller,
        key: StreamKey,
        command: impl Into<Command>,
        idempotency: Option<(String, &Value)>,
    ) -> Result<Done, Failure> {
        let mut request = Request::new(key, command);
        if !opens_execution(&request.command)
            && key.stream.kind() == StreamKind::Execution
            && !self.vault.has(&key)
        {
            // A digest needs the stream's key, and nobody makes one for a stream that is not there.
            self.stream(key).await?;
        }
        if opens_execution(&request.command) {
            request.control = self.control().await?.seq();
        }
        request.actor = Some(caller.key.clone());
        if let Some((name, body)) = idempotency {
            if name.is_empty() || name.len() > 256 || name.contains(char::is_control) {
                return Err(Failure::new(
                    FailureKind::Invalid,
                    "bad-key",
                    "an idempotency key has 1 to 256 bytes, none of them a control character",
                    "a uuid will do",
                ));
            }
            request.digest = Some(self.digest(key, body).await?);
            request = request.with_key(Bytes::from(name));
        }
        let noted = opens_execution(&request.command) && self.traces.note(key);
        let done = answers::done(self.node().submit(request).await);
        if noted && !matches!(&done, Ok(done) if !done.repeated) {
            // It was not this request that started it.
            self.traces.forget(&key);
        }
        done
    }

    /// A digest that confirms no guess once the stream's key is gone.
    pub(super) async fn digest(&self, key: StreamKey, body: &Value) -> Result<Digest, Failure> {
        self.node().provide_key(key).await.map_err(failed)?;
        let data_key = self.vault.sealing(&key).ok_or_else(|| {
            Failure::new(
                FailureKind::Conflict,
                "erased",
                "the execution's key was destroyed",
                "start a new one",
            )
        })?;
        Ok(data_key.digest(body.to_string().as_bytes()))
    }

    pub(super) async fn shown(
        &self,
        key: StreamKey,
        state: &State,
        seq: Seq,
    ) -> Result<ExecutionView, Failure> {
        let empty = Run::default();
        let run = state.run().unwrap_or(&empty);
        let definition = self.definition_of(key.tenant, run).await?;
        let blobs = self.opened_for_view(key, contents(run)).await;
        let opened = |content: &Content| self.viewed(key, seq, &blobs, content);
        let questions = self.questions(key, seq, run).await;
        let shown =
            view::execution(key.stream, run, seq, hash(state), definition.as_deref(), &Opened(&opened));
        Ok(ExecutionView { questions, ..shown })
    }

    /// The answer to an earlier command with the same idempotency key, where there was one.
    async fn done_before(
        &self,
        caller: &Caller,
        key: StreamKey,
        idempotency: Option<String>,
        asked: &Value,
    ) -> Result<Option<Done>, Failure> {
        let Some(name) = idempotency else { return Ok(None) };
        // Seq 0 is no checkpoint: this is refused unless the key is known, and then it is not decided on at all.
        let nothing = ForkExecution { to: key.stream, at: Seq(0) };
        match self.tell(caller, key, nothing, Some((name, asked))).await {
            Ok(done) => Ok(Some(done)),
            Err(failure) if failure.code == "key-used" => Err(failure),
            Err(_) => Ok(None),
        }
    }

    async fn command_of(&self, key: StreamKey, execution: &str, action: Action) -> Result<Command, Failure> {
        Ok(match action {
            Action::Pause => PauseExecution {}.into(),
            Action::Resume => ResumeExecution {}.into(),
            Action::Cancel => CancelExecution {}.into(),
            Action::Retry => RetryExecution {}.into(),
            Action::Release => {
                if self.stream(key).await?.quarantine.is_none() {
                    let detail = format!("{execution} is not in quarantine");
                    let hint = "it takes commands as it is";
                    return Err(Failure::new(FailureKind::Conflict, "not-quarantined", detail, hint));
                }
                ReleaseStream {}.into()
            }
            Action::Signal { name, body } => {
                self.fits_what_waits(key, &name, &body).await?;
                let body = body.to_string();
                bounded(&body)?;
                SignalExecution { name, body: Some(Content::open(body)) }.into()
            }
            Action::Answer { question, answer, note } => {
                let result = match &answer {
                    omium_api::port::Answer::Happened { result } => result.to_string(),
                    _ => String::new(),
                };
                bounded(&result)?;
                bounded(note.as_deref().unwrap_or_default())?;
                let stream = self.stream(key).await?;
                let run = stream.state.0.run().expect("`stream` gives runs only");
                calls::answer_command(run, execution, question, answer, note)?
            }
            Action::Checkpoint { name } => TakeCheckpoint { name }.into(),
            Action::RollBack { to, cancel_running, over_writes } => {
                let stream = self.stream(key).await?;
                let run = stream.state.0.run().expect("`stream` gives runs only");
                RollBack { to: place(run, execution, &to)?, cancel_running, over_writes }.into()
            }
        })
    }

    /// Where the source says that it was forked: a repeated request goes on with what the first one said, also where
    /// `last` is another checkpoint by now.
    async fn forked_at(&self, key: StreamKey, command: Seq) -> Result<Seq, Failure> {
        let frames = self.history.frames(&key, command, 1).await.map_err(|error| answers::broken(&error))?;
        match frames.into_iter().find(|told| told.first == command).map(|told| told.command) {
            Some(Command::ForkExecution(fork)) => Ok(fork.at),
            _ => Err(answers::unknown()),
        }
    }

    /// What a fork begins with.
    async fn fork_of(&self, key: StreamKey, at: Seq, inputs: Option<Value>) -> Result<StartFork, Failure> {
        let state = self.history.state_at(&key, at).await.map_err(|error| answers::broken(&error))?;
        let Some(run) = state.run() else { return Err(answers::unknown()) };
        let blobs = self.opened(key, contents(run)).await;
        let open = |content: &Content| match self.content_value(key, &blobs, content) {
            Ok(value) => Ok(Content::open(value.to_string())),
            Err(why) => Err(answers::unreadable("what the fork would begin with", &why)),
        };
        let mut done = Vec::new();
        for step in run.ids() {
            if let Some((_, omium_execution::Step { phase: Phase::Done { output, .. }, .. })) = run.step(step)
            {
                done.push(ForkedStep { step, output: output.as_ref().map(open).transpose()? });
            }
        }
        let original = if inputs.is_none() { run.inputs.as_ref().map(open).transpose()? } else { None };
        let changed = inputs.as_ref().map(|inputs| Content::open(inputs.to_string()));
        Ok(StartFork {
            source: key.stream,
            at,
            state_hash: hash(&state),
            workflow: run.workflow.clone(),
            workflow_version: run.version,
            inputs: changed.or(original),
            plan: run.plan.to_vec(),
            on_failure: if run.on_failure.0 {
                omium_schemas::catalogue::OnFailure::CancelOthers
            } else {
                omium_schemas::catalogue::OnFailure::FinishOthers
            },
            slice: run.budget,
            timeout_ms: run.deadline.map(|deadline| {
                bounded_millis(deadline.0.saturating_sub(run.started.0).div_ceil(1_000).max(1))
            }),
            done,
            price_list: run.price_list,
            keep_ms: run.keep_ms.map(bounded_millis),
        })
    }

    /// The id of a new execution: the same for the same idempotency key, and no digest that confirms a guess to anybody
    /// who has not the key of control.
    pub(super) fn new_id(&self, caller: &Caller, idempotency: Option<&str>) -> Result<ExecutionId, Failure> {
        let mut rest = [0; 15];
        match idempotency {
            None => rest = control::random(),
            Some(name) => {
                let data_key = self.vault.sealing(&super::control_key()).ok_or_else(answers::unknown)?;
                let text = [caller.tenant.0.as_slice(), b"start\0", name.as_bytes()].concat();
                rest.copy_from_slice(&data_key.digest(&text).0[..15]);
            }
        }
        debug_assert_eq!(ExecutionId::new(rest).stream().kind(), StreamKind::Execution);
        Ok(ExecutionId::new(rest))
    }
}

#[async_trait]
impl Executions for Engine {
    async fn start(&self, caller: &Caller, request: StartRequest) -> Result<Started, Failure> {
        let control = self.control().await?;
        let (_, version, definition) = self.version(&control, caller, &request.workflow).await?;
        takes(&definition, &request.inputs)?;
        let inputs = request.inputs.to_string();
        bounded(&inputs)?;
        let key =
            StreamKey::new(caller.tenant, self.new_id(caller, request.idempotency.as_deref())?.stream());
        let slice = request.budget.into_iter().chain(definition.budget).min();
        let start = StartExecution {
            workflow: definition.name.clone(),
            workflow_version: Some(version.digest),
            inputs: Some(Content::open(inputs)),
            account: None,
            steps: 0,
            plan: definition.plan(),
            on_failure: definition.on_failure,
            slice,
            timeout_ms: definition.timeout_ms.map(bounded_millis),
            price_list: control.prices.get(&caller.tenant).and_then(omium_execution::Prices::version),
            keep_ms: definition.keep_ms.map(bounded_millis),
        };
        let asked = json!({ "workflow": request.workflow, "inputs": request.inputs, "budget": request.budget.map(view::dollars) });
        let done = self.tell(caller, key, start, request.idempotency.map(|name| (name, &asked))).await?;
        Ok(Started { id: key.stream.to_string(), repeated: done.repeated, ended: None })
    }

    async fn list(&self, caller: &Caller, filter: Filter) -> Result<Page<ExecutionSummary>, Failure> {
        let status = match &filter.status {
            None => None,
            Some(name) => Some(
                Standing::ALL
                    .iter()
                    .find(|(known, _)| known == name)
                    .map(|(_, standing)| *standing)
                    .ok_or_else(|| {
                        Failure::new(
                            FailureKind::Invalid,
                            "bad-status",
                            format!("there is no status `{name}`"),
                            "it is one of: running, paused, suspended, completed, failed, cancelled",
                        )
                    })?,
            ),
        };
        let cursor = filter
            .cursor
            .map(|text| {
                from_hex(&text).ok_or_else(|| {
                    Failure::new(
                        FailureKind::Invalid,
                        "bad-cursor",
                        "the cursor is none of ours",
                        "leave it out to begin at the newest",
                    )
                })
            })
            .transpose()?;
        let wanted = Wanted { status, workflow: filter.workflow };
        let limit = filter.limit.clamp(1, 1_000);
        let page = self.history.index.lines(caller.tenant, &wanted, cursor, limit);
        let (lines, next) = page.map_err(|error| {
            if let Some(damaged @ StoreError::Damaged { .. }) = error.downcast_ref::<StoreError>() {
                super::end(&self.ended, damaged);
            }
            answers::broken(&error)
        })?;
        let items = lines
            .into_iter()
            .map(|(stream, line)| ExecutionSummary {
                id: stream.to_string(),
                workflow: line.workflow,
                status: line.status.name().to_owned(),
                started_at: view::time(line.started),
                ended_at: line.ended.map(view::time),
            })
            .collect();
        Ok(Page { items, next: next.map(|rest| crate::readable::hex(&rest)) })
    }

    async fn place(&self, caller: &Caller, execution: &str, address: &str) -> Result<Seq, Failure> {
        let key = self.key_of(caller, execution)?;
        let stream = self.stream(key).await?;
        let run = stream.state.0.run().expect("`stream` gives runs only");
        place(run, execution, address)
    }

    async fn show(
        &self,
        caller: &Caller,
        execution: &str,
        at: Option<Seq>,
    ) -> Result<ExecutionView, Failure> {
        let key = self.key_of(caller, execution)?;
        let stream = self.stream(key).await?;
        match at {
            None => Ok(self.shown(key, &stream.state.0, stream.seq).await?),
            Some(at) if at > stream.seq || at == Seq(0) => Err(Failure::new(
                FailureKind::NotFound,
                "no-such-seq",
                format!("{execution} has the seqs 1 to {}", stream.seq),
                "leave `at` out to see it as it is now",
            )),
            Some(at) => {
                let state = self.history.state_at(&key, at).await.map_err(|error| answers::broken(&error))?;
                Ok(self.shown(key, &state, at).await?)
            }
        }
    }

    /// Content by its name. Only what the state of this very execution holds is looked for.
    async fn content(
        &self,
        caller: &Caller,
        execution: &str,
        wanted: &str,
        at: Option<Seq>,
    ) -> Result<Bytes, Failure> {
        let key = self.key_of(caller, execution)?;
        let stream = self.stream(key).await?;
        let mut found = contents::found(&stream.state.0, wanted);
        if let Some(at) = at.filter(|at| found.is_none() && *at <= stream.seq) {
            let state = self.history.state_at(&key, at).await.map_err(|error| answers::broken(&error))?;
            found = contents::found(&state, wanted);
        }
        let Some(content) = found else {
            let detail = format!("{execution} has no content `{wanted}`");
            let hint = "`inputs` are there, and what a view of it leaves out: it says the path";
            return Err(Failure::new(FailureKind::NotFound, "no-such-content", detail, hint));
        };
        self.content_bytes(key, &content).await.map_err(contents::or_gone)
    }

    async fn act(
        &self,
        caller: &Caller,
        execution: &str,
        action: Action,
        idempotency: Option<String>,
    ) -> Result<Done, Failure> {
        let key = self.key_of(caller, execution)?;
        let asked = asked(&action);
        let command = match self.command_of(key, execution, action).await {
            Ok(command) => command,
            // What it speaks of may be gone because it was done: a reply that was lost is given again.
            Err(failure) => return self.done_before(caller, key, idempotency, &asked).await?.ok_or(failure),
        };
        self.tell(caller, key, command, idempotency.map(|name| (name, &asked))).await
    }

    async fn fork(
        &self,
        caller: &Caller,
        execution: &str,
        at: &str,
        inputs: Option<Value>,
        idempotency: Option<String>,
    ) -> Result<Started, Failure> {
        let key = self.key_of(caller, execution)?;
        let stream = self.stream(key).await?;
        let run = stream.state.0.run().expect("`stream` gives runs only");
        if let Some(inputs) = &inputs
            && let Some(definition) = self.definition_of(caller.tenant, run).await?
        {
            takes(&definition, inputs)?;
        }
        let asked = json!({ "fork": execution, "at": at, "inputs": inputs });
        let to = StreamKey::new(caller.tenant, self.new_id(caller, idempotency.as_deref())?.stream());
        let named = || idempotency.clone().map(|name| (name, &asked));
        let done = match place(run, execution, at) {
            Ok(at) => self.tell(caller, key, ForkExecution { to: to.stream, at }, named()).await?,
            Err(failure) => {
                let before = self.done_before(caller, key, idempotency.clone(), &asked).await?;
                before.ok_or(failure)?
            }
        };
        let fork = self.fork_of(key, self.forked_at(key, Seq(done.seq)).await?, inputs).await?;
        let begun = self.tell(caller, to, fork, named()).await?;
        Ok(Started { id: to.stream.to_string(), repeated: begun.repeated, ended: None })
    }

    async fn checkpoints(&self, caller: &Caller, execution: &str) -> Result<Vec<CheckpointView>, Failure> {
        let key = self.key_of(caller, execution)?;
        let stream = self.stream(key).await?;
        let run = stream.state.0.run().expect("`stream` gives runs only");
        let mut views = Vec::with_capacity(run.marks.len());
        let mut marks = run.marks.iter().peekable();
        let last = run.marks.last().map_or(Seq(0), |mark| mark.at);
        let seen = |seq, there: &State| {
            if let Some(mark) = marks.next_if(|mark| mark.at == seq) {
                views.push(checkpoint(mark, there));
            }
        };
        self.history.fold(&key, last, seen).await.map_err(|error| answers::broken(&error))?;
        Ok(views)
    }

    /// Waits for the end of an execution, at most so long.
    async fn ended(
        &self,
        caller: &Caller,
        execution: &str,
        limit: Duration,
    ) -> Result<Option<Ended>, Failure> {
        let key = self.key_of(caller, execution)?;
        let over = tokio::time::sleep(limit);
        tokio::pin!(over);
        loop {
            // Before looking: an end that comes between the two is not missed.
            let waiting = self.ends.wait(key);
            let told = waiting.told.notified();
            if let Some(ended) = self.end_of(key).await? {
                return Ok(Some(ended));
            }
            tokio::select! {
                () = told => {}
                () = &mut over => return Ok(None),
            }
        }
    }
}

/// Refuses inputs that do not fit the workflow's schema of them.
fn takes(definition: &Definition, inputs: &Value) -> Result<(), Failure> {
    let Some(schema) = &definition.inputs else { return Ok(()) };
    dispatch::fits(schema, inputs).map_err(|why| {
        Failure::new(
            FailureKind::Invalid,
            "bad-inputs",
            format!("the inputs do not fit the schema of `{}`: {why}", definition.name),
            "`omium workflows show` prints the schema",
        )
    })
}

fn checkpoint(mark: &Mark, there: &State) -> CheckpointView {
    let steps = there.run().into_iter().flat_map(|run| run.plan.iter().zip(&run.steps));
    let done = steps.filter(|(_, step)| matches!(step.phase, Phase::Done { .. }));
    CheckpointView {
        seq: mark.at.0,
        name: mark.name.clone(),
        taken_at: view::time(mark.time),
        done: done.map(|(plan, _)| plan.agent.clone()).collect(),
        state_hash: hash(there).hex(),
    }
}

fn failed(answer: Answer) -> Failure {
    answers::done(answer).err().unwrap_or_else(answers::unknown)
}

fn hash(state: &State) -> Digest {
    StreamState { state: state.clone(), ..StreamState::default() }.digest()
}

pub(super) fn bounded(text: &str) -> Result<(), Failure> {
    if text.len() <= MAX_CONTENT {
        return Ok(());
    }
    let detail = format!("{} bytes are more than the {MAX_CONTENT} that are taken at once", text.len());
    Err(Failure::new(FailureKind::Invalid, "too-large", detail, "pass a reference to the data instead"))
}

/// Milliseconds as commands carry them.
fn bounded_millis(millis: u64) -> i64 {
    i64::try_from(millis).unwrap_or(i64::MAX)
}

pub(super) fn now() -> Time {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Time(since.as_micros() as u64)
}

/// The same key gives the same id, so that the stream itself knows what was asked with it.
fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    let pairs = digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
    digits.len().is_multiple_of(2).then(|| pairs.collect::<Option<Vec<u8>>>())?
}

/// What was asked for, written out: the digest of an idempotency key rests on it, and stays the same when names in this
/// program change.
fn asked(action: &Action) -> Value {
    match action {
        Action::Pause => json!({ "pause": {} }),
        Action::Resume => json!({ "resume": {} }),
        Action::Cancel => json!({ "cancel": {} }),
        Action::Retry => json!({ "retry": {} }),
        Action::Release => json!({ "release": {} }),
        Action::Signal { name, body } => json!({ "signal": name, "body": body }),
        Action::Answer { question, answer, note } => {
            let answer = match answer {
                omium_api::port::Answer::Happened { result } => json!({ "happened": result }),
                omium_api::port::Answer::Repeat => json!("repeat"),
                omium_api::port::Answer::GiveUp => json!("give-up"),
            };
            json!({ "answer": question.0, "with": answer, "note": note })
        }
        Action::Checkpoint { name } => json!({ "checkpoint": name }),
        Action::RollBack { to, cancel_running, over_writes } => {
            json!({ "rollback": to, "cancel_running": cancel_running, "over_writes": over_writes })
        }
    }
}

/// A checkpoint by its address: a seq, `step:NAME:before`, `step:NAME:after`, a name, or `last`.
fn place(run: &Run, execution: &str, address: &str) -> Result<Seq, Failure> {
    let missing = |detail: String| {
        Failure::new(
            FailureKind::NotFound,
            "no-such-checkpoint",
            detail,
            format!("`omium checkpoints list {execution}` shows them"),
        )
    };
    if let Ok(seq) = address.parse::<u64>() {
        return Ok(Seq(seq));
    }
    if address == "last" {
        return run
            .marks
            .last()
            .map(|mark| mark.at)
            .ok_or_else(|| missing(format!("{execution} has no checkpoint")));
    }
    if let Some(rest) = address.strip_prefix("step:") {
        let (agent, side) = rest.rsplit_once(':').unwrap_or((rest, "before"));
        let at = run
            .plan
            .iter()
            .position(|plan| plan.agent == agent)
            .ok_or_else(|| missing(format!("{execution} has no step `{agent}`")))?;
        let done = match &run.steps[at].phase {
            Phase::Done { at, .. } => Some(*at),
            _ => None,
        };
        let found = match (side, done) {
            ("before", Some(done)) => run.marks.iter().rev().find(|mark| mark.at < done),
            ("before", None) => run.marks.last(),
            ("after", Some(done)) => run.marks.iter().find(|mark| mark.at > done),
            ("after", None) => None,
            _ => {
                return Err(missing(format!(
                    "`{address}` is no address: it ends with `:before` or `:after`"
                )));
            }
        };
        return found
            .map(|mark| mark.at)
            .ok_or_else(|| missing(format!("there is no checkpoint {side} `{agent}`")));
    }
    let named = run.marks.iter().rev().find(|mark| mark.name.as_deref() == Some(address));
    named.map(|mark| mark.at).ok_or_else(|| missing(format!("{execution} has no checkpoint `{address}`")))
}
