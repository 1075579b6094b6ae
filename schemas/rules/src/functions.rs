//! Functions on values.

use std::collections::BTreeMap;

use omium_limits::{Fuel, Pattern, told};

use crate::Error;
use crate::value::{Text, Value};

/// What types are called in rules.
pub(crate) const TYPES: [&str; 10] =
    ["null_type", "bool", "int", "uint", "double", "string", "bytes", "list", "map", "type"];

/// How many patterns are kept while a rule runs.
const KEPT: usize = 16;

/// What stays at hand while a rule runs.
#[derive(Default)]
pub(crate) struct Library {
    patterns: BTreeMap<String, Pattern>,
}

impl Library {
    /// Calls a function. `member` says that it is written behind its first argument.
    pub(crate) fn call<'v>(
        &mut self,
        name: &str,
        member: bool,
        arguments: &[Value<'v>],
        fuel: &mut Fuel,
    ) -> Result<Value<'v>, Error> {
        match (name, member, arguments) {
            ("size", _, [of]) => size(of, fuel),
            ("contains", true, [Value::Text(text), Value::Text(part)]) => {
                fuel.scan(text.get().len() + part.get().len())?;
                Ok(Value::Bool(text.get().contains(part.get())))
            }
            ("startsWith", true, [Value::Text(text), Value::Text(part)]) => {
                fuel.scan(part.get().len())?;
                Ok(Value::Bool(text.get().starts_with(part.get())))
            }
            ("endsWith", true, [Value::Text(text), Value::Text(part)]) => {
                fuel.scan(part.get().len())?;
                Ok(Value::Bool(text.get().ends_with(part.get())))
            }
            ("matches", _, [Value::Text(text), Value::Text(pattern)]) => {
                let pattern = self.pattern(pattern.get(), fuel)?;
                Ok(Value::Bool(pattern.is_match(text.get(), fuel)?))
            }
            ("dyn", false, [value]) => Ok(value.clone()),
            ("type", false, [value]) => Ok(Value::Type(value.kind())),
            ("int" | "uint" | "double" | "bool" | "string" | "bytes", false, [value]) => {
                convert(name, value, fuel)
            }
            _ => {
                let kinds: Vec<&str> = arguments.iter().take(5).map(Value::kind).collect();
                Err(Error::Wrong(format!("there is no `{}` for ({})", told(name), kinds.join(", "))))
            }
        }
    }

    fn pattern(&mut self, text: &str, fuel: &mut Fuel) -> Result<&Pattern, Error> {
        fuel.take(1)?;
        fuel.scan(text.len())?;
        if !self.patterns.contains_key(text) {
            let pattern = Pattern::paid(text, fuel)?.map_err(Error::Wrong)?;
            if self.patterns.len() >= KEPT {
                self.patterns.pop_first();
            }
            self.patterns.insert(text.to_owned(), pattern);
        }
        self.patterns.get(text).ok_or_else(|| Error::Wrong("the pattern is gone".to_owned()))
    }
}

fn size<'v>(of: &Value<'v>, fuel: &mut Fuel) -> Result<Value<'v>, Error> {
    let size = match of {
        Value::Text(text) => {
            fuel.scan(text.get().len())?;
            text.get().chars().count()
        }
        Value::Bytes(bytes) => bytes.len(),
        Value::List(list) => list.len(),
        Value::Map(map) => map.len(),
        other => return Err(Error::Wrong(format!("{} has no size", other.kind()))),
    };
    Ok(Value::Int(size as i64))
}

fn convert<'v>(to: &str, value: &Value<'v>, fuel: &mut Fuel) -> Result<Value<'v>, Error> {
    if let Value::Text(text) = value {
        fuel.scan(text.get().len())?;
    }
    let converted = match (to, value) {
        ("int", Value::Int(_)) | ("uint", Value::UInt(_)) | ("double", Value::Double(_)) => {
            Some(value.clone())
        }
        ("bool", Value::Bool(_)) | ("string", Value::Text(_)) | ("bytes", Value::Bytes(_)) => {
            Some(value.clone())
        }
        ("int", Value::UInt(number)) => i64::try_from(*number).ok().map(Value::Int),
        ("int", Value::Double(number)) => {
            (*number > i64::MIN as f64 && *number < i64::MAX as f64).then_some(Value::Int(*number as i64))
        }
        ("int", Value::Text(text)) => text.get().parse().ok().map(Value::Int),
        ("uint", Value::Int(number)) => u64::try_from(*number).ok().map(Value::UInt),
        ("uint", Value::Double(number)) => {
            (*number >= 0.0 && *number < u64::MAX as f64).then_some(Value::UInt(*number as u64))
        }
        ("uint", Value::Text(text)) => text.get().parse().ok().map(Value::UInt),
        ("double", Value::Int(number)) => Some(Value::Double(*number as f64)),
        ("double", Value::UInt(number)) => Some(Value::Double(*number as f64)),
        ("double", Value::Text(text)) => text.get().parse().ok().map(Value::Double),
        ("bool", Value::Text(text)) => truth(text),
        ("string", Value::Bool(value)) => Some(Value::own_text(value.to_string())),
        ("string", Value::Int(number)) => Some(Value::own_text(number.to_string())),
        ("string", Value::UInt(number)) => Some(Value::own_text(number.to_string())),
        ("string", Value::Double(number)) => Some(Value::own_text(number.to_string())),
        ("string", Value::Bytes(bytes)) => {
            fuel.copy(2 * bytes.len())?;
            std::str::from_utf8(bytes).ok().map(|text| Value::own_text(text.to_owned()))
        }
        ("bytes", Value::Text(text)) => {
            fuel.copy(text.get().len())?;
            Some(Value::Bytes(text.get().as_bytes().into()))
        }
        _ => None,
    };
    // A number as a text has some three hundred letters at most.
    fuel.allocate(400)?;
    converted.ok_or_else(|| Error::Wrong(format!("this {} is no {to}", value.kind())))
}

fn truth<'v>(text: &Text<'_>) -> Option<Value<'v>> {
    match text.get() {
        "1" | "t" | "true" | "TRUE" | "True" => Some(Value::Bool(true)),
        "0" | "f" | "false" | "FALSE" | "False" => Some(Value::Bool(false)),
        _ => None,
    }
}
