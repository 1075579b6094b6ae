//! Tenants, keys and workflows.

use std::sync::{Arc, LazyLock, PoisonError};

use async_trait::async_trait;
use omium_api::port::{Caller, Failure, FailureKind, Workflows};
use omium_api::views::{Published, WorkflowView};
use omium_execution::{Control, Run, Version};
use omium_runtime::Request;
use omium_schemas::catalogue::{Command, PublishWorkflow};
use omium_schemas::{Content, Seq, TenantId};
use omium_workflow::{Definition, Problems};
use serde_json::json;

use super::{Engine, answers, control_key, dispatch, view};

/// How many definitions are kept read.
const DEFINITIONS: usize = 1_000;

/// The control stream as it was when somebody looked: shared, never copied.
pub(super) struct Seen(Option<Arc<super::State>>);

impl Seen {
    /// Its last seq.
    pub(super) fn seq(&self) -> Seq {
        self.0.as_ref().map_or(Seq(0), |stream| stream.seq)
    }
}

impl std::ops::Deref for Seen {
    type Target = Control;

    fn deref(&self) -> &Control {
        static NOTHING: LazyLock<Control> = LazyLock::new(Control::default);
        self.0.as_ref().and_then(|stream| stream.state.0.control()).unwrap_or(&NOTHING)
    }
}

impl Engine {
    pub(super) async fn control(&self) -> Result<Seen, Failure> {
        let view = self.node().view(control_key()).await;
        view.map(Seen).map_err(|answer| answers::done(answer).err().unwrap_or_else(answers::unknown))
    }

    /// Changes control, for the key that wants it so; nothing where the node itself does.
    pub(super) async fn tell_control(
        &self,
        by: Option<&Caller>,
        command: impl Into<Command>,
    ) -> Result<(), Failure> {
        let actor = by.map(|caller| caller.key.clone());
        let request = Request { actor, ..Request::new(control_key(), command) };
        answers::done(self.node().submit(request).await).map(|_| ())
    }

    /// `name` is the newest version, `name@3` the third.
    pub(super) async fn version(
        &self,
        control: &Control,
        caller: &Caller,
        name: &str,
    ) -> Result<(u32, Version, Arc<Definition>), Failure> {
        let (bare, wanted) = match name.split_once('@') {
            Some((bare, number)) => (bare, Some(number)),
            None => (name, None),
        };
        let Some(versions) = control.workflows.get(&(caller.tenant, bare.to_owned())) else {
            let known: Vec<&str> = control
                .workflows
                .keys()
                .filter(|(tenant, _)| *tenant == caller.tenant)
                .map(|(_, name)| name.as_str())
                .collect();
            let hint = match omium_workflow::closest(bare, &known) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "publish it first: `omium workflows publish FILE`".to_owned(),
            };
            return Err(Failure::new(
                FailureKind::NotFound,
                "no-such-workflow",
                format!("there is no workflow `{bare}`"),
                hint,
            ));
        };
        let number = match wanted {
            None => versions.len(),
            Some(text) => {
                text.parse::<usize>().ok().filter(|number| (1..=versions.len()).contains(number)).ok_or_else(
                    || {
                        let detail = format!("`{bare}` has no version `{text}`");
                        Failure::new(
                            FailureKind::NotFound,
                            "no-such-version",
                            detail,
                            format!("there are 1 to {}", versions.len()),
                        )
                    },
                )?
            }
        };
        let version = versions[number - 1].clone();
        let definition = self.definition(&version).await?;
        Ok((number as u32, version, definition))
    }

    /// The definition that a run is pinned to; nothing where it is pinned to none. That it cannot be read now is a failure.
    pub(super) async fn definition_of(
        &self,
        tenant: TenantId,
        run: &Run,
    ) -> Result<Option<Arc<Definition>>, Failure> {
        let Some(digest) = run.version else { return Ok(None) };
        if let Some(known) = self.definitions.lock().unwrap_or_else(PoisonError::into_inner).get(&digest) {
            return Ok(Some(known.clone()));
        }
        let control = self.control().await?;
        let versions = control.workflows.get(&(tenant, run.workflow.clone())).map(Vec::as_slice);
        let version = versions.unwrap_or_default().iter().find(|version| version.digest == digest);
        let version = version.ok_or_else(|| {
            let detail =
                format!("the version of `{}` that the run is pinned to is not known here", run.workflow);
            let hint = "`omium doctor` says whether this node has all that it needs";
            Failure::new(FailureKind::Conflict, "no-such-version", detail, hint)
        })?;
        self.definition(version).await.map(Some)
    }

    /// Control as it is now, or nothing where the engine is over. A node that is too busy to say is asked again.
    pub(super) async fn control_insisted(&self) -> Option<Seen> {
        loop {
            match self.control().await {
                Ok(control) => return Some(control),
                Err(failure) if answers::passes(&failure) && self.ended.borrow().is_none() => {
                    tokio::time::sleep(dispatch::AGAIN).await;
                }
                Err(_) => return None,
            }
        }
    }

    pub(super) async fn definition(&self, version: &Version) -> Result<Arc<Definition>, Failure> {
        if let Some(known) =
            self.definitions.lock().unwrap_or_else(PoisonError::into_inner).get(&version.digest)
        {
            return Ok(known.clone());
        }
        let text = self.text(version).await?;
        let parsed = omium_workflow::parse("published", &text).map_err(|problems| {
            let detail = format!("a published version is not understood any more: {problems}");
            Failure::new(
                FailureKind::Conflict,
                "old-definition",
                detail,
                "publish it again as it should be now",
            )
        })?;
        let parsed = Arc::new(parsed);
        let mut definitions = self.definitions.lock().unwrap_or_else(PoisonError::into_inner);
        if definitions.len() >= DEFINITIONS {
            // Which one goes is all the same: it is read again when somebody needs it.
            definitions.pop_first();
        }
        definitions.insert(version.digest, parsed.clone());
        Ok(parsed)
    }

    async fn text(&self, version: &Version) -> Result<String, Failure> {
        let blobs = self.opened(control_key(), std::iter::once(&version.definition)).await;
        let bytes = self.plain(control_key(), &blobs, &version.definition);
        let bytes = bytes.map_err(|why| answers::unreadable("the definition", &why))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

#[async_trait]
impl Workflows for Engine {
    fn read(&self, file: &str, text: &str) -> Result<Definition, Problems> {
        omium_agents::native::read(file, text)
    }

    async fn publish(&self, caller: &Caller, file: &str, text: &str) -> Result<Published, Failure> {
        let definition = omium_agents::native::read(file, text).map_err(|problems| Failure {
            problems: json!(problems),
            ..Failure::new(
                FailureKind::Invalid,
                "bad-definition",
                problems.to_string(),
                "correct the places that are named",
            )
        })?;
        self.host.allows(caller.tenant, file, text, &definition)?;
        let (tenant, workflow, version) =
            (caller.tenant, definition.name.clone(), omium_workflow::version(text));
        let content = Content::open(text.to_owned());
        let newest = self
            .control()
            .await?
            .workflows
            .get(&(tenant, workflow.clone()))
            .and_then(|all| all.last())
            .map(|last| last.digest);
        let publish = PublishWorkflow { tenant, workflow: workflow.clone(), definition: content, version };
        self.tell_control(Some(caller), publish).await?;
        let mut warnings = self.unserved_by(tenant, &definition);
        if definition.keep_ms.is_some() && self.keep.get().is_none() {
            warnings.push(
                "`keep` has no effect on this server, which keeps everything: it runs without --keep"
                    .to_owned(),
            );
        }
        let workflow = self.workflow(caller, &workflow).await?;
        Ok(Published { workflow, repeated: newest == Some(version), warnings })
    }

    async fn workflows(&self, caller: &Caller) -> Result<Vec<WorkflowView>, Failure> {
        let control = self.control().await?;
        let mut views = Vec::new();
        for ((tenant, name), versions) in &control.workflows {
            if let Some(last) = versions.last().filter(|_| *tenant == caller.tenant) {
                let definition = self.definition(last).await?;
                views.push(describe(name, versions.len() as u32, last, &definition, None));
            }
        }
        Ok(views)
    }

    async fn workflow(&self, caller: &Caller, name: &str) -> Result<WorkflowView, Failure> {
        let control = self.control().await?;
        let (number, version, definition) = self.version(&control, caller, name).await?;
        let text = self.text(&version).await?;
        Ok(describe(&definition.name, number, &version, &definition, Some(text)))
    }
}

fn describe(
    name: &str,
    number: u32,
    version: &Version,
    definition: &Definition,
    text: Option<String>,
) -> WorkflowView {
    WorkflowView {
        name: name.to_owned(),
        version: number,
        hash: version.digest.hex(),
        published_at: view::time(version.at),
        agents: definition.agents.iter().map(|agent| agent.id.clone()).collect(),
        definition: text,
    }
}

pub(super) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system has randomness");
    bytes
}
