//! Values as JSON Schema compares them: 1 and 1.0 are the same number.

use std::cmp::Ordering;

use serde_json::{Number, Value};

use crate::{Fuel, Spent};

/// Whether two values are the same; every value that is looked at is paid for.
pub(super) fn same(a: &Value, b: &Value, fuel: &mut Fuel) -> Result<bool, Spent> {
    fuel.take(1)?;
    Ok(match (a, b) {
        (Value::Number(a), Value::Number(b)) => order(a, b) == Some(Ordering::Equal),
        (Value::String(a), Value::String(b)) => {
            if a.len() != b.len() {
                return Ok(false);
            }
            fuel.scan(a.len())?;
            a == b
        }
        (Value::Array(a), Value::Array(b)) => {
            if a.len() != b.len() {
                return Ok(false);
            }
            for (a, b) in a.iter().zip(b) {
                if !same(a, b, fuel)? {
                    return Ok(false);
                }
            }
            true
        }
        (Value::Object(a), Value::Object(b)) => {
            if a.len() != b.len() {
                return Ok(false);
            }
            for (name, a) in a {
                fuel.scan(name.len())?;
                let Some(b) = b.get(name) else { return Ok(false) };
                if !same(a, b, fuel)? {
                    return Ok(false);
                }
            }
            true
        }
        (a, b) => a == b,
    })
}

/// How two numbers compare: exactly where both are integers.
pub(super) fn order(a: &Number, b: &Number) -> Option<Ordering> {
    match (whole(a), whole(b)) {
        (Some(a), Some(b)) => Some(a.cmp(&b)),
        _ => a.as_f64()?.partial_cmp(&b.as_f64()?),
    }
}

/// A number without a fraction, exactly.
pub(super) fn whole(number: &Number) -> Option<i128> {
    if let Some(number) = number.as_i64() {
        return Some(number.into());
    }
    if let Some(number) = number.as_u64() {
        return Some(number.into());
    }
    // Floats are exact up to here, and what is larger compares well enough as a float.
    let number = number.as_f64().filter(|number| number.fract() == 0.0 && number.abs() < 1e18)?;
    Some(number as i128)
}

pub(super) fn is_multiple(number: &Number, of: &Number) -> bool {
    match (whole(number), whole(of)) {
        (Some(_), Some(0)) => false,
        (Some(number), Some(of)) => number % of == 0,
        _ => {
            let (Some(number), Some(of)) = (number.as_f64(), of.as_f64()) else { return false };
            let times = number / of;
            // 0.3 is three times 0.1 for people, and almost so for floats.
            times.is_finite() && (times - times.round()).abs() <= 1e-9 * times.abs().max(1.0)
        }
    }
}

/// A text that is the same for equal values alone. It is paid for.
pub(super) fn key(value: &Value, fuel: &mut Fuel, out: &mut Vec<u8>) -> Result<(), Spent> {
    fuel.take(1)?;
    let before = out.len();
    match value {
        Value::Number(number) => match whole(number) {
            Some(whole) => out.extend_from_slice(whole.to_string().as_bytes()),
            None => out.extend_from_slice(number.to_string().as_bytes()),
        },
        Value::String(text) => {
            fuel.copy(text.len())?;
            out.push(b'"');
            out.extend_from_slice(&(text.len() as u64).to_le_bytes());
            out.extend_from_slice(text.as_bytes());
        }
        Value::Array(items) => {
            out.push(b'[');
            for item in items {
                key(item, fuel, out)?;
                out.push(b',');
            }
            out.push(b']');
        }
        Value::Object(entries) => {
            out.push(b'{');
            for (name, item) in entries {
                fuel.copy(name.len())?;
                out.extend_from_slice(&(name.len() as u64).to_le_bytes());
                out.extend_from_slice(name.as_bytes());
                key(item, fuel, out)?;
            }
            out.push(b'}');
        }
        Value::Null => out.push(b'n'),
        Value::Bool(true) => out.push(b't'),
        Value::Bool(false) => out.push(b'f'),
    }
    fuel.allocate((out.len() - before).min(64))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_are_the_same_however_they_are_written_and_large_ones_are_exact() {
        let mut fuel = Fuel::default();
        assert_eq!(same(&json!([1, {"a": 2.0}]), &json!([1.0, {"a": 2}]), &mut fuel), Ok(true));
        assert_eq!(same(&json!(9007199254740993_u64), &json!(9007199254740992_u64), &mut fuel), Ok(false));
        assert!(is_multiple(&json!(0.3).as_number().unwrap().clone(), json!(0.1).as_number().unwrap()));
        assert!(!is_multiple(&json!(0.35).as_number().unwrap().clone(), json!(0.1).as_number().unwrap()));
    }
}
