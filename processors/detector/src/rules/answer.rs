//! Whether there is an answer at all.

use omium_limits::Fuel;
use omium_openai::{End, Endpoint};
use omium_schemas::catalogue::{FindingKind, FinishReason};

use super::{Looked, Rule};
use crate::verdict::Seen;

pub(super) const RULE: Rule = Rule {
    id: "answer",
    kinds: &[FindingKind::Unusable],
    text: "The answer is whole and says something.",
    decides: true,
    check: usable,
};

fn usable(looked: &Looked<'_>, _: &mut Fuel) -> Vec<Seen> {
    let Looked { endpoint, answer, .. } = *looked;
    let matters = looked.form.json || !looked.guards.is_empty();
    let unusable = |detail: &str| Seen::fail(FindingKind::Unusable, RULE.id, detail);
    let says = answer.text.as_deref().is_some_and(|text| !text.trim().is_empty()) || !answer.tools.is_empty();
    if !answer.whole {
        return vec![unusable("the answer is cut in its middle, or nothing that this API answers")];
    }
    if endpoint == Endpoint::Embeddings {
        return Vec::new();
    }
    // What goes on has nothing to read yet, and asking again would pay for it twice. A refusal is an answer.
    if answer.end != End::Final {
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
