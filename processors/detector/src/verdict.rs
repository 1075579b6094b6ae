//! All that is wrong with one answer.

use omium_limits::Fuel;
use omium_openai::{Answer, Endpoint};
use omium_processor::Context;
use omium_schemas::Content;
use omium_schemas::catalogue::{FindingKind, FinishReason, Guard, Severity};
use serde_json::Value;

use crate::checks;
use crate::state::{Fresh, is_for};

/// How long an answer may be that is checked in the frame.
const LONGEST: usize = 256 * 1024;
/// What all checks of one answer may spend together: a program may have many guards.
const STEPS: u64 = 2_000_000;
const MEMORY: u64 = 64 << 20;

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

    /// What nobody can tell at this price, nobody can tell of another answer of this size: asking again costs money and
    /// helps nothing, so it is none of the kinds that this is a remedy for.
    fn undecidable(self) -> Seen {
        let kind = if self.kind == FindingKind::Uncheckable { FindingKind::Other } else { self.kind };
        Seen { kind, ..self }
    }

    fn if_it_matters(self, matters: bool) -> Seen {
        Seen { severity: if matters { Severity::Fail } else { Severity::Warn }, ..self }
    }
}

pub(crate) fn of(fresh: &Fresh, guards: &[Guard], context: &Context<'_>) -> Vec<Seen> {
    let Some(endpoint) = Endpoint::at(&fresh.asked.endpoint) else { return Vec::new() };
    let guards: Vec<&Guard> = guards.iter().filter(|guard| is_for(guard, &fresh.asked.agent)).collect();
    let matters = !guards.is_empty();
    let uncheckable = |what: &str| {
        vec![Seen::fail(FindingKind::Uncheckable, "size", what).undecidable().if_it_matters(matters)]
    };
    let Some(bytes) = opened(&fresh.answer, context) else {
        return uncheckable("the answer cannot be checked: it is not at hand, or its key is gone");
    };
    if bytes.len() > LONGEST {
        return uncheckable(&format!("the answer cannot be checked here: it is longer than {LONGEST} bytes"));
    }
    // Nothing is asked of an answer whose request says nothing; one whose request cannot be read is another matter.
    let parameters = match fresh.asked.parameters.as_ref().map(|sealed| asked(sealed, context)) {
        None => Value::Null,
        Some(Some(parameters)) => parameters,
        Some(None) => {
            return uncheckable(
                "the answer cannot be checked: what was asked for is not at hand, or too large to look at",
            );
        }
    };
    let answer = omium_openai::read(endpoint, &bytes);
    let form = omium_openai::Wanted::of(&parameters);
    let mut seen = usable(endpoint, &answer, form.json || matters);
    if !seen.is_empty() {
        return seen;
    }
    let mut fuel = Fuel::new(STEPS, MEMORY);
    let mut look = |check: &mut dyn FnMut(&mut Fuel) -> Vec<Seen>| {
        let before = fuel.refused();
        let found = check(&mut fuel);
        let spent = fuel.refused() > before;
        seen.extend(found.into_iter().map(|seen| if spent { seen.undecidable() } else { seen }));
    };
    look(&mut |fuel| checks::tool_calls(&answer.tools, &form.tools, fuel));
    // An answer that asks for tools is on the way to a result, not one.
    if let (true, Some(text)) = (answer.tools.is_empty(), &answer.text) {
        let said = checks::Said::read(text);
        look(&mut |fuel| checks::format(&said, &form, fuel).into_iter().collect());
        guards.iter().for_each(|guard| look(&mut |fuel| checks::guard(guard, &said, fuel)));
    }
    seen
}

fn opened(content: &Content, context: &Context<'_>) -> Option<Vec<u8>> {
    let bytes = (context.open)(content)?;
    omium_openai::unpack(&bytes).ok()
}

/// What a request says without its messages.
fn asked(content: &Content, context: &Context<'_>) -> Option<Value> {
    omium_limits::json::parse(&opened(content, context)?, &checks::ASKED).ok()
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
