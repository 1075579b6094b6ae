//! All that is wrong with one answer.

use omium_limits::Fuel;
use omium_openai::{End, Endpoint};
use omium_processor::Context;
use omium_schemas::Content;
use omium_schemas::catalogue::{FindingKind, Guard, Severity};
use serde_json::Value;

use crate::rules::{self, Looked, RULES, Rule, Said};
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
    pub(crate) fn undecidable(self) -> Seen {
        let kind = if self.kind == FindingKind::Uncheckable { FindingKind::Other } else { self.kind };
        Seen { kind, ..self }
    }

    fn is_of(&self, rule: &Rule) -> bool {
        let known = self.kind == FindingKind::Other || rule.kinds.contains(&self.kind);
        known
            && self
                .detector
                .strip_prefix(rule.id)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
    }

    pub(crate) fn if_it_matters(self, matters: bool) -> Seen {
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
    let mut answer = omium_openai::read(endpoint, &bytes);
    let form = omium_openai::Wanted::of(&parameters);
    let says = answer.text.as_deref().is_some_and(|text| !text.is_empty()) || !answer.tools.is_empty();
    if form.nothing && !says && answer.end == End::Final {
        answer.end = End::WarmUp;
    }
    let is_result = answer.tools.is_empty() && answer.end == End::Final;
    let text = answer.text.as_deref().filter(|_| is_result);
    let (answer, form, said) = (&answer, &form, text.map(Said::read));
    let looked = Looked { endpoint, answer, form, guards: &guards, said };
    let mut fuel = Fuel::new(STEPS, MEMORY);
    let mut seen = Vec::new();
    for rule in RULES {
        let found = (rule.check)(&looked, &mut fuel);
        debug_assert!(found.iter().all(|seen| seen.is_of(rule)), "{}: {found:?}", rule.id);
        let decided = rule.decides && !found.is_empty();
        seen.extend(found);
        if decided {
            break;
        }
    }
    seen
}

fn opened(content: &Content, context: &Context<'_>) -> Option<Vec<u8>> {
    let bytes = (context.open)(content)?;
    omium_openai::unpack(&bytes).ok()
}

/// What a request says without its messages.
fn asked(content: &Content, context: &Context<'_>) -> Option<Value> {
    omium_limits::json::parse(&opened(content, context)?, &rules::ASKED).ok()
}
