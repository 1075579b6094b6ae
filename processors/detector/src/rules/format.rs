//! The form of an answer.

use omium_limits::Fuel;
use omium_openai::Wanted;
use omium_schemas::catalogue::FindingKind;

use super::{Rule, Said, misfit, weighed};
use crate::verdict::Seen;

pub(super) const RULE: Rule = Rule {
    id: "format",
    kinds: &[FindingKind::Schema, FindingKind::Unusable, FindingKind::Uncheckable],
    text: "The answer has the form that the request asks for.",
    decides: false,
    check: |looked, fuel| {
        let Some(said) = &looked.said else { return Vec::new() };
        weighed(fuel, |fuel| format(said, looked.form, fuel).into_iter().collect())
    },
};

/// The form that the request asks for.
fn format(said: &Said<'_>, wanted: &Wanted, fuel: &mut Fuel) -> Option<Seen> {
    if !wanted.json {
        return None;
    }
    let value = match &said.value {
        Ok(value) => value,
        Err(why) => {
            let text = format!("the answer has to be JSON that can be read: {why}");
            return Some(Seen::fail(FindingKind::Unusable, RULE.id, text));
        }
    };
    misfit(wanted.schema.as_ref()?, value, RULE.id, "the answer does not fit its schema", fuel)
}
