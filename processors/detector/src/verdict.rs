//! All that is wrong with one answer.

use omium_openai::{Answer, Endpoint};
use omium_processor::Context;
use omium_schemas::catalogue::{FindingKind, FinishReason, Guard, Severity};
use serde_json::Value;

use crate::checks;
use crate::state::{Fresh, is_for};

/// How long an answer may be that is checked in the frame: all checks are linear in it.
const LONGEST: usize = 256 * 1024;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Seen {
    pub(crate) kind: FindingKind,
    pub(crate) severity: Severity,
    pub(crate) detector: String,
    pub(crate) pointer: Option<String>,
    pub(crate) detail: String,
}

impl Seen {
    pub(crate) fn fail(kind: FindingKind, detector: impl Into<String>, detail: impl Into<String>) -> Seen {
        let (detector, detail) = (detector.into(), detail.into());
        Seen { kind, severity: Severity::Fail, detector, pointer: None, detail }
    }

    pub(crate) fn at(self, pointer: impl Into<String>) -> Seen {
        Seen { pointer: Some(pointer.into()), ..self }
    }

    fn if_it_matters(self, matters: bool) -> Seen {
        Seen { severity: if matters { Severity::Fail } else { Severity::Warn }, ..self }
    }
}

pub(crate) fn of(fresh: &Fresh, guards: &[Guard], context: &Context<'_>) -> Vec<Seen> {
    let Some(endpoint) = Endpoint::at(&fresh.asked.endpoint) else { return Vec::new() };
    let guards: Vec<&Guard> = guards.iter().filter(|guard| is_for(guard, &fresh.asked.agent)).collect();
    let opened = (context.open)(&fresh.answer).and_then(|bytes| omium_openai::unpack(&bytes).ok());
    let Some(bytes) = opened.filter(|bytes| bytes.len() <= LONGEST) else {
        let text = format!(
            "the answer cannot be checked here: it is longer than {LONGEST} bytes, or its key is gone"
        );
        return vec![Seen::fail(FindingKind::Uncheckable, "size", text).if_it_matters(!guards.is_empty())];
    };
    let parameters = fresh.asked.parameters.as_ref().and_then(|sealed| (context.open)(sealed));
    let parameters = parameters.and_then(|bytes| omium_openai::unpack(&bytes).ok());
    let parameters: Value =
        parameters.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
    let answer = omium_openai::read(endpoint, &bytes);
    let form = omium_openai::Wanted::of(&parameters);
    let mut seen = usable(endpoint, &answer, form.json || !guards.is_empty());
    if !seen.is_empty() {
        return seen;
    }
    seen.extend(checks::tool_calls(&answer.tools, &form.tools));
    // An answer that asks for tools is on the way to a result, not one.
    if let (true, Some(text)) = (answer.tools.is_empty(), &answer.text) {
        seen.extend(checks::format(text, &form));
        seen.extend(guards.iter().flat_map(|guard| checks::guard(guard, text)));
    }
    seen
}

/// Whether there is an answer at all. `matters` says that somebody relies on all of it.
fn usable(endpoint: Endpoint, answer: &Answer, matters: bool) -> Vec<Seen> {
    let unusable = |detail: &str| Seen::fail(FindingKind::Unusable, "answer", detail);
    let says = answer.text.as_deref().is_some_and(|text| !text.trim().is_empty()) || !answer.tools.is_empty();
    if !answer.whole {
        return vec![unusable("the answer is cut in its middle, or nothing that this API answers")];
    }
    if endpoint == Endpoint::Embeddings {
        return Vec::new();
    }
    if answer.finish == FinishReason::Length {
        let cut = unusable("the answer is cut: the model came to its limit of tokens");
        return vec![cut.if_it_matters(matters || !says || !answer.tools.is_empty())];
    }
    if !says {
        return vec![unusable("the answer is empty")];
    }
    Vec::new()
}
