//! Rules in CEL over JSON values: the language of conditions, for whoever decides or detects. Evaluated with fuel, so that
//! no rule and no value costs more than was granted. Pure.

mod compare;
mod evaluate;
mod functions;
mod kinds;
mod names;
mod operators;
mod read;
mod value;

use omium_limits::{Fuel, Spent, clipped};
use serde_json::Value as Json;

use evaluate::Evaluation;
use value::Value;

/// How much of a rule is told, in bytes.
const TOLD: usize = 300;

/// Why a rule does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// It is none.
    #[error("{0}")]
    NoRule(String),
    /// It says no.
    #[error("`{rule}` does not hold")]
    DoesNotHold {
        /// The rule.
        rule: String,
    },
    /// It says neither yes nor no.
    #[error("`{rule}` says neither true nor false")]
    NoAnswer {
        /// The rule.
        rule: String,
    },
    /// What it asks cannot be answered: something is missing, of another type, or it would cost too much.
    #[error("`{rule}` cannot be checked: {why}")]
    Uncheckable {
        /// The rule.
        rule: String,
        /// Why not.
        why: String,
    },
}

/// Whether a rule is one; if not, why.
pub fn compiles(rule: &str) -> Result<(), String> {
    read::read(rule).map(|_| ())
}

/// Whether a rule is one, can be true, and speaks of these names alone.
pub fn speaks_of(rule: &str, names: &[&str]) -> Result<(), String> {
    let read = read::read(rule)?;
    if kinds::is_never_boolean(&read) {
        return Err(format!("`{}` is never true or false, whatever the values are", clipped(rule, TOLD)));
    }
    let spoken = names::paths(&read);
    let stranger = spoken.iter().filter_map(|path| path.first()).find(|name| !names.contains(&name.as_str()));
    let Some(stranger) = stranger else { return Ok(()) };
    let (rule, stranger) = (clipped(rule, TOLD), omium_limits::told(stranger));
    Err(format!("`{rule}` speaks of `{stranger}`; it may speak of {}", names.join(", ")))
}

/// What a rule looks at: names with the fields that follow them. Names that the rule itself binds are not among them.
pub fn paths(rule: &str) -> Result<Vec<Vec<String>>, String> {
    read::read(rule).map(|rule| names::paths(&rule))
}

/// Whether a rule holds over these values; if not, why.
pub fn check<'a>(rule: &str, names: impl IntoIterator<Item = (&'a str, Json)>) -> Result<(), String> {
    let named: Vec<(&str, Json)> = names.into_iter().collect();
    let named: Vec<(&str, &Json)> = named.iter().map(|(name, value)| (*name, value)).collect();
    judge(rule, &named, &mut Fuel::default()).map_err(|why| why.to_string())
}

/// Whether a rule holds over these values, at the cost of this fuel.
pub fn judge(rule: &str, names: &[(&str, &Json)], fuel: &mut Fuel) -> Result<(), Broken> {
    let read = read::read(rule).map_err(Broken::NoRule)?;
    let said = Evaluation::new(names, fuel).whole(&read);
    let rule = clipped(rule, TOLD);
    match said {
        Ok(Value::Bool(true)) => Ok(()),
        Ok(Value::Bool(false)) => Err(Broken::DoesNotHold { rule }),
        Ok(_) => Err(Broken::NoAnswer { rule }),
        Err(why) => Err(Broken::Uncheckable { rule, why: why.to_string() }),
    }
}

/// What a rule says, as JSON; for tests that compare.
#[doc(hidden)]
pub fn evaluate(rule: &str, names: &[(&str, &Json)], fuel: &mut Fuel) -> Result<Json, String> {
    let read = read::read(rule)?;
    let said = Evaluation::new(names, fuel).whole(&read);
    said.map(|value| value.shown()).map_err(|why| why.to_string())
}

/// Why an expression has no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum Error {
    /// The fuel is spent. Nothing makes up for that.
    #[error(transparent)]
    Spent(#[from] Spent),
    /// What is asked has no answer; `||` and `&&` may do without it.
    #[error("{0}")]
    Wrong(String),
}

/// What is not JSON counts as a text: an agent may answer in prose. So does JSON that is too deep or too wide to be built.
pub fn json(bytes: &[u8]) -> Json {
    let text = || String::from_utf8_lossy(bytes).into_owned().into();
    omium_limits::json::parse(bytes, &omium_limits::Limits::BYTES).unwrap_or_else(|_| text())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_rule_holds_or_says_why_not() {
        let value = |value: Json| [("value", value)];
        assert_eq!(check("value >= 2.5 && value <= 8.5", value(json!(5))), Ok(()));
        assert_eq!(check("value >= 2.5", value(json!(0))), Err("`value >= 2.5` does not hold".to_owned()));
        assert!(check("value >= 2.5", value(json!("x"))).unwrap_err().contains("cannot be checked"));
        assert!(check("value + 1.0", value(json!(1))).unwrap_err().contains("neither true nor false"));
    }

    #[test]
    fn a_rule_that_is_none_or_speaks_of_strangers_is_refused() {
        assert!(compiles("value >=").unwrap_err().contains("is not a rule"));
        assert!(compiles(&"(".repeat(40)).unwrap_err().contains("nested"));
        assert!(compiles(&"1 + ".repeat(400)).unwrap_err().contains("bytes"));
        assert_eq!(speaks_of("value > 1.0", &["value", "output"]), Ok(()));
        assert!(speaks_of("apr > 1.0", &["value", "output"]).unwrap_err().contains("`apr`"));
    }

    #[test]
    fn a_rule_that_can_never_be_true_or_false_is_refused() {
        for rule in [
            "1 + 1",
            "'yes'",
            "null",
            "[true]",
            "{'a': true}",
            "size(value)",
            "!1",
            "-value",
            "value ? 1 : 'no'",
            "'a' || 'b'",
            "value.map(i, i)",
            "value.filter(i, i > 1)",
            "string(value)",
            "type(value)",
            "value + 1.0",
        ] {
            assert!(speaks_of(rule, &["value"]).unwrap_err().contains("never true or false"), "{rule}");
        }
        for rule in [
            "value",
            "value.ok",
            "value[0]",
            "bool(value)",
            "true",
            "value ? 1 : true",
            "value || 1",
            "value.all(i, i)",
            "value.exists_one(i, i)",
            "has(value.x)",
            "value in [1]",
            "dyn(value)",
        ] {
            assert_eq!(speaks_of(rule, &["value"]), Ok(()), "{rule}");
        }
    }

    #[test]
    fn names_that_a_rule_binds_itself_are_no_strangers() {
        let names = &["value", "output"];
        assert_eq!(
            speaks_of("value.all(i, i > 1.0) && output.exists(j, value.all(i, i == j))", names),
            Ok(())
        );
        assert_eq!(speaks_of("type(value) == string && size(output.map(x, x.y)) > 0", names), Ok(()));
        assert!(speaks_of("value.all(i, i > limit)", names).unwrap_err().contains("`limit`"));
        assert!(speaks_of("value.all(i, i > 1.0) && i", names).unwrap_err().contains("`i`"));
    }

    #[test]
    fn what_a_rule_looks_at_is_told() {
        let paths = paths(
            "outputs.review.ok && !has(outputs.apr.x) && inputs['n'] > 1 && output.all(i, i == inputs.m)",
        );
        let paths: Vec<String> = paths.unwrap().iter().map(|path| path.join(".")).collect();
        assert_eq!(paths, ["inputs.m", "inputs.n", "output", "outputs.apr.x", "outputs.review.ok"]);
    }
}
