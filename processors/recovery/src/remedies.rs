//! The remedies for each kind of finding, ranked by how likely they help. A new one is one more line in `PRIORS` and its
//! text below.

use omium_schemas::catalogue::{FindingKind, FindingReported, Guard, RemedyKind, RemedySuggested};

use serde::{Deserialize, Serialize};

use crate::known::{Asked, Known};

/// How much a prior weighs against what was seen: as much as this many outcomes.
const PSEUDO_COUNTS: i64 = 10;

/// What helps against what, and how often it does before anything was seen, in thousandths.
const PRIORS: &[(FindingKind, RemedyKind, i64)] = &[
    (FindingKind::Rule, RemedyKind::AppendConstraint, 920),
    (FindingKind::Rule, RemedyKind::AskAgain, 700),
    (FindingKind::Schema, RemedyKind::StructuredOutput, 900),
    (FindingKind::Schema, RemedyKind::AppendConstraint, 850),
    (FindingKind::Schema, RemedyKind::AskAgain, 750),
    (FindingKind::Unusable, RemedyKind::AskAgain, 750),
    (FindingKind::Unusable, RemedyKind::AppendConstraint, 720),
    (FindingKind::Uncheckable, RemedyKind::AppendConstraint, 850),
    (FindingKind::Uncheckable, RemedyKind::AskAgain, 700),
];

/// Something that can be done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Remedy {
    pub(crate) kind: RemedyKind,
    pub(crate) template: String,
    pub(crate) confidence: i32,
    pub(crate) tried: i64,
    pub(crate) succeeded: i64,
    pub(crate) text: Option<String>,
    pub(crate) schema: Option<String>,
}

impl Remedy {
    pub(crate) fn of(suggested: &RemedySuggested) -> Remedy {
        Remedy {
            kind: suggested.kind,
            template: suggested.template.clone().unwrap_or_default(),
            confidence: suggested.confidence,
            tried: suggested.tried,
            succeeded: suggested.succeeded,
            text: suggested.text.clone(),
            schema: suggested.schema.clone(),
        }
    }
}

/// What can be done about a finding, the best first; at the end always a person.
pub(crate) fn ranked(known: &Known, found: &FindingReported, asked: &Asked) -> Vec<Remedy> {
    let guard = known.guard_of(found);
    let tried = known.tried(asked, found);
    let of_kind = PRIORS.iter().filter(|(kind, ..)| *kind == found.kind);
    let mut remedies: Vec<Remedy> = of_kind
        // What is in force already and did not help is not put into force again; asking again may help any time.
        .filter(|(_, kind, _)| *kind == RemedyKind::AskAgain || !tried.contains(kind))
        .filter_map(|(_, kind, prior)| made(known, *kind, *prior, guard, found, asked))
        .collect();
    remedies.sort_by_key(|remedy| -remedy.confidence);
    remedies.push(person());
    remedies
}

fn made(
    known: &Known,
    kind: RemedyKind,
    prior: i64,
    guard: Option<&Guard>,
    found: &FindingReported,
    asked: &Asked,
) -> Option<Remedy> {
    let (template, text, schema) = match kind {
        RemedyKind::AppendConstraint => {
            let (template, text) = constraint(guard, found)?;
            (template, Some(text), None)
        }
        RemedyKind::StructuredOutput => {
            let schema = guard.and_then(|guard| guard.schema.clone()).filter(|_| !asked.has_format)?;
            ("structured-output", None, Some(schema))
        }
        _ => ("ask-again", None, None),
    };
    let (tried, succeeded) = known.outcomes(kind);
    let confidence = (prior * PSEUDO_COUNTS + succeeded * 1_000) / (PSEUDO_COUNTS + tried);
    let confidence = confidence.clamp(10, 990) as i32;
    let template = template.to_owned();
    Some(Remedy { kind, template, confidence, tried, succeeded, text, schema })
}

/// The author's own words where there are any; else what the check says, with nothing in it that a model wrote.
fn constraint(guard: Option<&Guard>, found: &FindingReported) -> Option<(&'static str, String)> {
    let Some(guard) = guard else {
        let text = match (found.kind, found.detector.as_str()) {
            (FindingKind::Unusable, "format") => "Answer with one JSON value and nothing else.",
            (FindingKind::Schema, "format") => {
                "Answer with JSON that fits the schema that was asked for, field by field."
            }
            (_, "tool-call") => "Call only tools that are offered, with arguments that fit their schemas.",
            (FindingKind::Unusable, _) => "Give a complete answer that is short enough to be whole.",
            _ => return None,
        };
        return Some(("form", text.to_owned()));
    };
    if let Some(hint) = &guard.hint {
        return Some(("hint", hint.clone()));
    }
    let said = |subject: &str| match &guard.rule {
        Some(rule) => {
            format!("In your answer {subject} has to keep this rule, in which it is called `value`: {rule}.")
        }
        None => format!("Your answer has to state {subject}."),
    };
    Some(match (&guard.field, &guard.extract) {
        (Some(field), _) => (
            "field",
            format!(
                "{} Answer with a JSON object that has this field.",
                said(&format!("the field `{field}`"))
            ),
        ),
        (None, Some(extract)) => {
            let word = extract.split('"').nth(1).unwrap_or(extract);
            (
                "extract",
                format!("{} Write it as a number right after the word {word}.", said(&format!("the {word}"))),
            )
        }
        (None, None) if guard.rule.is_some() => ("rule", said("all of it")),
        (None, None) => {
            ("schema", "Answer with JSON that fits the schema that was asked for, field by field.".to_owned())
        }
    })
}

fn person() -> Remedy {
    Remedy {
        kind: RemedyKind::AskHuman,
        template: "person".to_owned(),
        confidence: 10,
        tried: 0,
        succeeded: 0,
        text: None,
        schema: None,
    }
}
