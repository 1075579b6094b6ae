//! Called tools.

use omium_limits::{Fuel, json, told};
use omium_openai::CalledTool;
use omium_schemas::catalogue::FindingKind;
use serde_json::Value;

use super::{LIMITS, Rule, misfit, weighed};
use crate::verdict::Seen;

/// How many calls of tools are looked at, and how many findings they bring: beyond that one more says no more.
const CALLS: usize = 1_000;
const FINDINGS: usize = 20;

pub(super) const RULE: Rule = Rule {
    id: "tool-call",
    kinds: &[FindingKind::Schema, FindingKind::Unusable, FindingKind::Uncheckable],
    text: "Only tools that are offered are called, with arguments that fit their schemas.",
    decides: false,
    check: |looked, fuel| weighed(fuel, |fuel| tool_calls(&looked.answer.tools, &looked.form.tools, fuel)),
};

/// The arguments of called tools against the tools' own schemas.
fn tool_calls(called: &[CalledTool], known: &[(String, Value)], fuel: &mut Fuel) -> Vec<Seen> {
    let mut check = |(at, call): (usize, &CalledTool)| {
        let pointer = format!("/tool_calls/{at}");
        let named = format!("`{}`", told(&call.name));
        if fuel.take(known.len()).is_err() || at >= CALLS {
            let text = "there are too many calls of tools, or too many tools, to look at each";
            return Some(Seen::fail(FindingKind::Uncheckable, RULE.id, text).at(pointer));
        }
        let Some(schema) = offered(&call.name, known) else {
            let text = format!("the tool {named} is called, which the request does not offer");
            return Some(Seen::fail(FindingKind::Schema, RULE.id, text).at(pointer));
        };
        let text = if call.arguments.trim().is_empty() { "{}" } else { &call.arguments };
        let arguments = match json::parse(text.as_bytes(), &LIMITS) {
            Ok(arguments) => arguments,
            Err(why) => {
                let text = format!("the arguments of {named} cannot be used: {why}");
                return Some(Seen::fail(FindingKind::Unusable, RULE.id, text).at(pointer));
            }
        };
        let seen = misfit(
            schema,
            &arguments,
            RULE.id,
            &format!("the arguments of {named} do not fit its schema"),
            fuel,
        );
        seen.map(|seen| seen.at(pointer))
    };
    // A request that offers no tools is one whose tools we do not know.
    if known.is_empty() {
        return Vec::new();
    }
    called.iter().take(CALLS + 1).enumerate().filter_map(&mut check).take(FINDINGS).collect()
}

/// The schema of a tool by its name. Frameworks put the name of a plugin or server before a tool's own, and most models
/// leave it out at times: `rate` is `Bank-rate` to the program, so it is to us, where no other tool is called so.
fn offered<'k>(name: &str, known: &'k [(String, Value)]) -> Option<&'k Value> {
    if let Some((_, schema)) = known.iter().find(|(known, _)| known == name) {
        return Some(schema);
    }
    let is_qualified = |known: &str| {
        let before = known.strip_suffix(name).unwrap_or_default();
        !name.is_empty() && (before.ends_with(['-', '.', '/', ':']) || before.ends_with("__"))
    };
    let mut fitting = known.iter().filter(|(known, _)| is_qualified(known));
    match (fitting.next(), fitting.next()) {
        (Some((_, schema)), None) => Some(schema),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn found(known: &[&str], name: &str, arguments: &str) -> Vec<String> {
        let schema = json!({ "type": "object", "required": ["currency"] });
        let known: Vec<_> = known.iter().map(|name| ((*name).to_owned(), schema.clone())).collect();
        let called = CalledTool { name: name.to_owned(), arguments: arguments.to_owned() };
        tool_calls(&[called], &known, &mut Fuel::default()).into_iter().map(|seen| seen.detail).collect()
    }

    #[test]
    fn a_tool_may_be_called_without_the_name_of_its_plugin() {
        let fits = r#"{"currency":"EUR"}"#;
        for known in ["rate", "Bank-rate", "bank.rate", "mcp__bank__rate"] {
            assert_eq!(found(&[known], "rate", fits), [""; 0], "{known}");
            assert!(found(&[known], "rate", "{}")[0].contains("do not fit"), "{known}");
        }
        for known in [&["market_rate"][..], &["Bank-rates"], &["Bank-rate", "Shop-rate"]] {
            assert!(found(known, "rate", fits)[0].contains("does not offer"), "{known:?}");
        }
        assert!(found(&["Bank-"], "", fits)[0].contains("does not offer"));
    }
}
