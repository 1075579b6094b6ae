//! Content as the log holds it, fetched and opened for who looks at it. What cannot be read is never taken for nothing:
//! a view shows a mark, and whoever acts on it fails by name.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use omium_api::port::{Failure, FailureKind};
use omium_execution::{Outcome, Phase, Run, State};
use omium_runtime::{StreamKey, Unreadable};
use omium_schemas::{BlobRef, Content, Seq};
use serde_json::{Value, json};

use super::{Engine, answers};

/// How many bytes of long content one view holds at most.
const VIEW: u64 = 16 << 20;

/// What lay in the blob store.
pub(super) type Fetched = BTreeMap<BlobRef, Result<Bytes, Unreadable>>;

impl Engine {
    /// Content in the blob store, fetched ahead and opened: looking at the rest needs no waiting.
    pub(super) async fn opened(&self, key: StreamKey, contents: impl Iterator<Item = &Content>) -> Fetched {
        self.opened_within(u64::MAX, key, contents).await
    }

    /// The same for a view: the first of them, and others as long as all together are not too much for one answer.
    pub(super) async fn opened_for_view(
        &self,
        key: StreamKey,
        contents: impl Iterator<Item = &Content>,
    ) -> Fetched {
        self.opened_within(VIEW, key, contents).await
    }

    async fn opened_within(
        &self,
        mut room: u64,
        key: StreamKey,
        contents: impl Iterator<Item = &Content>,
    ) -> Fetched {
        let mut fetched = Fetched::new();
        for content in contents {
            let Content::Blob(place) = content else { continue };
            let fits = fetched.is_empty() || place.length <= room;
            if fits && !fetched.contains_key(&**place) {
                room = room.saturating_sub(place.length);
                fetched.insert(**place, self.fetched(key, place).await);
            }
        }
        fetched
    }

    async fn fetched(&self, key: StreamKey, place: &BlobRef) -> Result<Bytes, Unreadable> {
        let sealed = self.blobs.get(*place).await.map_err(Unreadable::from)?;
        omium_runtime::open_blob(&*self.vault, &key, place, sealed)
    }

    /// The bytes as they were sealed.
    pub(super) fn plain(
        &self,
        key: StreamKey,
        fetched: &Fetched,
        content: &Content,
    ) -> Result<Bytes, Unreadable> {
        match content {
            Content::Blob(place) => {
                let elsewhere = || Err(Unreadable::Elsewhere(place.clone()));
                fetched.get(&**place).cloned().unwrap_or_else(elsewhere)
            }
            content => omium_runtime::open(&*self.vault, key, content),
        }
    }

    /// The bytes of one content, as they were before they were squeezed and sealed.
    pub(super) async fn content_bytes(&self, key: StreamKey, content: &Content) -> Result<Bytes, Failure> {
        let fetched = self.opened(key, std::iter::once(content)).await;
        let plain = self.plain(key, &fetched, content);
        let plain = plain.map_err(|why| answers::unreadable("what is recorded", &why))?;
        omium_openai::unpack(&plain).map(Bytes::from).map_err(|why| {
            answers::broken(&anyhow::anyhow!("content of {} cannot be read: {why}", key.stream))
        })
    }

    /// What content says: JSON, or a text where it is none. For who acts on it.
    pub(super) fn content_value(
        &self,
        key: StreamKey,
        fetched: &Fetched,
        content: &Content,
    ) -> Result<Value, Unreadable> {
        self.plain(key, fetched, content).map(|bytes| super::shown(&bytes))
    }

    /// What content says, or a mark that says why nobody can tell. For people, who look at a stream as it is at a seq.
    pub(super) fn viewed(&self, key: StreamKey, at: Seq, fetched: &Fetched, content: &Content) -> Value {
        self.content_value(key, fetched, content).unwrap_or_else(|why| match why {
            // It is there, and was left out of this answer.
            Unreadable::Elsewhere(place) => {
                let path = format!("/api/v1/executions/{}/content/{}?at={}", key.stream, name(&place), at.0);
                json!({ "omium:too-large": { "bytes": place.length, "path": path } })
            }
            why => json!({ "omium:unreadable": why.to_string() }),
        })
    }

    /// What templates look at, as far as it is wanted, with all of that there.
    pub(super) async fn scope_of(
        &self,
        key: StreamKey,
        run: &Run,
        wanted: &Wanted,
    ) -> Result<Value, Unreadable> {
        let fetched = self.opened(key, wanted.contents(run)).await;
        let read = |content: Option<&Content>| {
            content.map_or(Ok(Value::Null), |content| self.content_value(key, &fetched, content))
        };
        let mut outputs = serde_json::Map::new();
        for (agent, output) in wanted.outputs(run) {
            outputs.insert(agent.to_owned(), read(output)?);
        }
        Ok(json!({ "inputs": read(wanted.inputs(run))?, "outputs": outputs }))
    }
}

/// The name of what lies in the blob store.
fn name(place: &BlobRef) -> String {
    format!("{}-{}", place.blob.hex(), place.at)
}

pub(super) fn found(state: &State, wanted: &str) -> Option<Content> {
    let run = state.run()?;
    if wanted == "inputs" {
        return run.inputs.clone();
    }
    let is_it = |content: &&Content| matches!(content, Content::Blob(place) if name(place) == wanted);
    let reasons = run.calls.iter().filter_map(|call| match &call.outcome {
        Outcome::Failed { reason, .. } => reason.as_ref(),
        _ => None,
    });
    super::contents(run).chain(reasons).find(is_it).cloned()
}

/// Nothing can be done about what was erased, unlike about what is in the way of a command.
pub(super) fn or_gone(failure: Failure) -> Failure {
    let kind = if failure.code == "erased" { FailureKind::Gone } else { failure.kind };
    Failure { kind, ..failure }
}

/// What of a run somebody looks at: what is not named is not fetched, opened and built.
#[derive(Debug, Default)]
pub(super) struct Wanted(Option<BTreeSet<Vec<String>>>);

impl Wanted {
    /// All of it.
    pub(super) fn all() -> Wanted {
        Wanted(None)
    }

    /// What these paths of templates lead to; all of it where nothing is known of them.
    pub(super) fn named(paths: Option<BTreeSet<Vec<String>>>) -> Wanted {
        Wanted(paths)
    }

    /// Whether it names a value by itself, as the input of a step.
    pub(super) fn names(&self, name: &str) -> bool {
        self.0.as_ref().is_none_or(|paths| paths.iter().any(|path| path.first().is_some_and(|of| of == name)))
    }

    fn inputs<'r>(&self, run: &'r Run) -> Option<&'r Content> {
        // A bare name is an input's.
        let of_inputs = |path: &Vec<String>| path.first().is_none_or(|of| of != "outputs" && of != "input");
        let wanted = self.0.as_ref().is_none_or(|paths| paths.iter().any(of_inputs));
        run.inputs.as_ref().filter(|_| wanted)
    }

    fn outputs<'r>(&'r self, run: &'r Run) -> impl Iterator<Item = (&'r str, Option<&'r Content>)> {
        let wanted = |agent: &str| {
            let leads = |path: &Vec<String>| path[0] == "outputs" && path.get(1).is_none_or(|of| of == agent);
            self.0.as_ref().is_none_or(|paths| paths.iter().any(|path| !path.is_empty() && leads(path)))
        };
        let steps = run.plan.iter().zip(&run.steps);
        steps.filter_map(move |(plan, step)| match &step.phase {
            Phase::Done { output, .. } if wanted(&plan.agent) => Some((plan.agent.as_str(), output.as_ref())),
            _ => None,
        })
    }

    /// Everything that is wanted.
    pub(super) fn contents<'r>(&'r self, run: &'r Run) -> impl Iterator<Item = &'r Content> {
        self.inputs(run).into_iter().chain(self.outputs(run).filter_map(|(_, output)| output))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_erased_is_gone_and_what_is_damaged_is_not() {
        let told = |why| or_gone(answers::unreadable("it", &why)).kind;
        assert_eq!(told(Unreadable::NoKey), FailureKind::Gone);
        assert_eq!(told(Unreadable::Damaged), FailureKind::Conflict);
    }
}
