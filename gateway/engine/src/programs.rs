//! Programs that decide their own steps: opened, attempted, ended, and what a person decides about them.

use async_trait::async_trait;
use omium_api::port::{Caller, Decision, Failure, FailureKind, ProgramRequest, Programs};
use omium_api::views::{AttemptView, Done, GuardView, Started};
use omium_detector::Extraction;
use omium_execution::Run;
use omium_runtime::{Request, StreamKey};
use omium_schemas::catalogue::{
    ChooseRemedy, Command, DismissFinding, DropGuard, FinishExecution, GiveApproval, Guard, RecoveryMode,
    RecoveryPolicy, RefuseApproval, RemedyKind, SetGuard, StartProgram, StartStep, SuspendReason,
};
use omium_schemas::{Content, Epoch, Seq, StepId};
use serde_json::{Value, json};

use super::executions::{bounded, now};
use super::{Engine, token};

/// How often an answer is asked again where nobody says it.
const ATTEMPTS: i32 = 3;
/// How confident recovery has to be where nobody says it, in thousandths.
const CONFIDENCE: i32 = 700;

impl Engine {
    /// The gate ends an attempt that must not go on: its calls are refused, and `--resume` begins the next one.
    pub(super) async fn end_of_attempt(
        &self,
        key: StreamKey,
        number: i64,
        code: i32,
        reason: &str,
    ) -> Result<omium_runtime::Done, Failure> {
        let output = Some(Content::open(json!(reason).to_string()));
        let end = FinishExecution { delivery: number, code, output };
        self.until_taken(|| Request::new(key, end.clone())).await
    }

    /// A model without a price: it may be asked, or the program ends.
    async fn decided_about_money(
        &self,
        caller: &Caller,
        key: StreamKey,
        approval: Seq,
        (decision, note): (Decision, Option<Content>),
    ) -> Result<Done, Failure> {
        let command: Command = match decision {
            Decision::Apply(None) => GiveApproval { approval, note }.into(),
            Decision::Refuse => RefuseApproval { approval, note }.into(),
            Decision::Apply(Some(_)) | Decision::Dismiss => {
                return Err(Failure::new(
                    FailureKind::Conflict,
                    "no-remedy",
                    "the program waits for a price of its model, not for a decision about a finding",
                    "`omium prices set` and run it again, `omium approve` to let it be asked, or `omium refuse`",
                ));
            }
        };
        self.tell(caller, key, command, None).await
    }

    async fn of_program<T>(&self, key: StreamKey, look: impl Fn(&Run) -> Option<T>) -> Result<T, Failure> {
        let stream = self.stream(key).await?;
        let run = stream.state.0.run().filter(|run| run.program.is_some());
        let run = run.ok_or_else(|| {
            let detail = format!("{} is a workflow, not a program", key.stream);
            Failure::new(
                FailureKind::Conflict,
                "no-program",
                detail,
                "`omium show` says what it waits for; `omium retry` tries a failed workflow again",
            )
        })?;
        look(run).ok_or_else(nothing_waits)
    }
}

#[async_trait]
impl Programs for Engine {
    async fn open_program(&self, caller: &Caller, request: ProgramRequest) -> Result<Started, Failure> {
        let control = self.control().await?;
        let guards = control.guards_of(caller.tenant, &request.name);
        let arguments = request.arguments.to_string();
        bounded(&arguments)?;
        let key =
            StreamKey::new(caller.tenant, self.new_id(caller, request.idempotency.as_deref())?.stream());
        let start = StartProgram {
            program: request.name.trim().to_owned(),
            inputs: Some(Content::open(arguments)),
            guards,
            recovery: policy(request.recovery.as_deref())?,
            price: control.prices.get(&caller.tenant).and_then(omium_execution::Prices::version),
            budget: request.budget,
            timeout_ms: None,
        };
        let asked = json!({ "name": request.name, "arguments": request.arguments, "recovery": request.recovery, "budget": request.budget.map(super::view::dollars) });
        // The key has to be there before the first token is made under it.
        self.digest(key, &asked).await?;
        let done = self.tell(caller, key, start, request.idempotency.map(|name| (name, &asked))).await?;
        Ok(Started { id: key.stream.to_string(), repeated: done.repeated, ended: None })
    }

    /// The next attempt; earlier ones are over from here on.
    async fn begin_attempt(
        &self,
        caller: &Caller,
        execution: &str,
        code: Option<String>,
    ) -> Result<AttemptView, Failure> {
        let key = self.key_of(caller, execution)?;
        let (number, branch) =
            self.of_program(key, |run| Some((run.program.as_ref()?.attempt + 1, run.branch))).await?;
        let data_key = self.vault.sealing(&key).ok_or_else(super::answers::erased)?;
        let start = StartStep {
            step: StepId(1),
            branch,
            epoch: Epoch(0),
            delivery: number,
            worker: "exec".into(),
            // The command line may name people: a plain digest of it would confirm a guess for ever.
            code: code.map(|code| data_key.digest(code.as_bytes())),
        };
        self.tell(caller, key, start, None).await?;
        let token = token::issue(key, number, &caller.key, now(), &data_key).ok_or_else(|| {
            let detail = "the key of this request cannot begin an attempt";
            Failure::new(FailureKind::Conflict, "bad-key", detail, "`omium keys issue` makes one that can")
        })?;
        // In the path, where a program's own key does not overwrite it.
        let path = format!("/x/{execution}/{token}");
        Ok(AttemptView { number, token, path })
    }

    async fn end_attempt(
        &self,
        caller: &Caller,
        execution: &str,
        number: i64,
        code: i32,
        output: Value,
    ) -> Result<Done, Failure> {
        let key = self.key_of(caller, execution)?;
        let output = output.to_string();
        bounded(&output)?;
        let end = FinishExecution { delivery: number, code, output: Some(Content::open(output)) };
        self.tell(caller, key, end, None).await
    }

    /// What a person says about the finding that a program waits for.
    async fn decide(
        &self,
        caller: &Caller,
        execution: &str,
        decision: Decision,
        note: Option<String>,
    ) -> Result<Done, Failure> {
        let key = self.key_of(caller, execution)?;
        bounded(note.as_deref().unwrap_or_default())?;
        let note = note.map(|note| Content::open(json!(note).to_string()));
        let money = |run: &Run| match run.suspended {
            Some((SuspendReason::Budget, Some(approval))) => Some(Some(approval)),
            _ => Some(None),
        };
        if let Some(approval) = self.of_program(key, money).await? {
            return self.decided_about_money(caller, key, approval, (decision, note)).await;
        }
        let waits = |run: &Run| {
            let program = run.program.as_ref()?;
            let (_, finding) = run.suspended?;
            let found = program.findings.iter().find(|found| Some(found.at) == finding)?;
            let best = found.suggested.iter().find(|known| known.kind != RemedyKind::AskHuman);
            Some((found.at, program.asked, best.map(|best| best.number)))
        };
        let (finding, asked, best) = self.of_program(key, waits).await?;
        let command: Command = match decision {
            Decision::Apply(_) if note.is_some() => {
                let detail = "a remedy that is applied takes no note";
                return Err(Failure::new(FailureKind::Invalid, "no-note", detail, "leave the note out"));
            }
            Decision::Apply(number) => {
                let number = number.or(best).ok_or_else(|| {
                    let detail = "nothing is known that could help";
                    Failure::new(FailureKind::Conflict, "no-remedy", detail, "dismiss the finding, or refuse")
                })?;
                ChooseRemedy { finding, number }.into()
            }
            Decision::Dismiss => DismissFinding { finding, reason: note }.into(),
            Decision::Refuse => {
                let approval = asked.ok_or_else(nothing_waits)?;
                RefuseApproval { approval, note }.into()
            }
        };
        self.tell(caller, key, command, None).await
    }

    async fn guards(&self, caller: &Caller) -> Result<Vec<GuardView>, Failure> {
        let control = self.control().await?;
        let guards =
            control.guards.get(&caller.tenant).into_iter().flat_map(std::collections::BTreeMap::values);
        Ok(guards.map(|(program, guard)| shown(program.as_ref(), guard)).collect())
    }

    async fn set_guard(&self, caller: &Caller, view: GuardView) -> Result<GuardView, Failure> {
        let (program, guard) = checked(view)?;
        let view = shown(program.as_ref(), &guard);
        self.tell_control(Some(caller), SetGuard { tenant: caller.tenant, program, guard }).await?;
        Ok(view)
    }

    async fn drop_guard(&self, caller: &Caller, name: &str) -> Result<GuardView, Failure> {
        let known = self.guards(caller).await?.into_iter().find(|guard| guard.name == name);
        let guard = known.ok_or_else(|| {
            let detail = format!("there is no guard `{name}`");
            Failure::new(
                FailureKind::NotFound,
                "not-found",
                detail,
                "`omium guard list` shows those that there are",
            )
        })?;
        self.tell_control(Some(caller), DropGuard { tenant: caller.tenant, name: name.to_owned() }).await?;
        Ok(guard)
    }
}

fn nothing_waits() -> Failure {
    let hint = "`omium show` says how it stands";
    Failure::new(FailureKind::Conflict, "nothing-waits", "the program waits for no decision", hint)
}

fn policy(mode: Option<&str>) -> Result<RecoveryPolicy, Failure> {
    let mode = match mode {
        None | Some("auto") => RecoveryMode::Auto,
        Some("approve") => RecoveryMode::Approve,
        Some("off") => RecoveryMode::Off,
        Some(other) => {
            let detail = format!("`{other}` is no way to recover");
            return Err(Failure::new(
                FailureKind::Invalid,
                "bad-recovery",
                detail,
                "it is auto, approve or off",
            ));
        }
    };
    Ok(RecoveryPolicy { mode, max_attempts: ATTEMPTS, min_confidence: CONFIDENCE })
}

fn shown(program: Option<&String>, guard: &Guard) -> GuardView {
    let Guard { name, agent, field, extract, rule, schema, hint } = guard.clone();
    let schema = schema.and_then(|schema| serde_json::from_str(&schema).ok());
    GuardView { name, program: program.cloned(), agent, field, extract, rule, schema, hint }
}

/// A guard that can be used. Everything that is wrong with one is told here, not when an answer waits for it.
fn checked(view: GuardView) -> Result<(Option<String>, Guard), Failure> {
    let wrong = |detail: String, hint: &str| Failure::new(FailureKind::Invalid, "bad-guard", detail, hint);
    let GuardView { name, program, agent, field, extract, rule, schema, hint } = view;
    let agent = agent.trim().to_owned();
    if agent.is_empty() || agent.len() > 256 {
        return Err(wrong(
            "a guard is on an agent with a name of 1 to 256 bytes".into(),
            "name it as `omium show` does",
        ));
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    if !(1..=64).contains(&name.len()) || !name.bytes().all(allowed) {
        return Err(wrong(format!("`{name}` is no name for a guard"), "it has 1 to 64 of A-Z a-z 0-9 _ . -"));
    }
    if field.is_some() && extract.is_some() {
        return Err(wrong("a guard looks at a field or extracts a value, not both".into(), "set two guards"));
    }
    if rule.is_none() && schema.is_none() && field.is_none() && extract.is_none() {
        return Err(wrong(
            "the guard checks nothing".into(),
            "give it a rule, a field, an extraction or a schema",
        ));
    }
    if let Some(rule) = &rule {
        omium_rules::speaks_of(rule, &["value", "output"])
            .map_err(|why| wrong(why, "rules are CEL, such as: value >= 2.5 && value <= 8.5"))?;
    }
    if let Some(extract) = &extract {
        extract
            .parse::<Extraction>()
            .map_err(|why| wrong(why.to_string(), "see `omium guard add --help`"))?;
    }
    if let Some(schema) = &schema {
        omium_limits::Schema::read(schema).map_err(|why| {
            wrong(format!("the schema cannot be used: {why}"), "see json-schema.org, draft 2020-12")
        })?;
    }
    if let Some(long) = [&field, &hint].into_iter().flatten().find(|text| text.len() > 2_000) {
        return Err(wrong(format!("a text of {} bytes is too long", long.len()), "2000 bytes are allowed"));
    }
    let schema = schema.map(|schema| schema.to_string());
    Ok((program, Guard { name, agent, field, extract, rule, schema, hint }))
}
