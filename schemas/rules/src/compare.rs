//! How values compare, each that is looked at paid for.

use std::cmp::Ordering;

use omium_limits::{Fuel, Spent};

use crate::Error;
use crate::value::{Key, Map, Value};

/// Whether two values are equal. Values of unlike types are not; numbers are compared as numbers.
pub(crate) fn equal(a: &Value<'_>, b: &Value<'_>, fuel: &mut Fuel) -> Result<bool, Spent> {
    fuel.take(1)?;
    Ok(match (a, b) {
        (Value::Null, Value::Null) => true,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::Text(a), Value::Text(b)) => {
            let (a, b) = (a.get(), b.get());
            fuel.scan(a.len().min(b.len()))?;
            a == b
        }
        (Value::Bytes(a), Value::Bytes(b)) => {
            fuel.scan(a.len().min(b.len()))?;
            a == b
        }
        (Value::Type(a), Value::Type(b)) => a == b,
        (Value::List(a), Value::List(b)) => {
            if a.len() != b.len() {
                return Ok(false);
            }
            for at in 0..a.len() {
                let (Some(a), Some(b)) = (a.get(at), b.get(at)) else { return Ok(false) };
                if !equal(&a, &b, fuel)? {
                    return Ok(false);
                }
            }
            true
        }
        (Value::Map(a), Value::Map(b)) => same_entries(a, b, fuel)?,
        (a, b) => numbers(a, b) == Some(Some(Ordering::Equal)),
    })
}

fn same_entries(a: &Map<'_>, b: &Map<'_>, fuel: &mut Fuel) -> Result<bool, Spent> {
    if a.len() != b.len() {
        return Ok(false);
    }
    fuel.allocate(a.len().saturating_mul(size_of::<Value<'_>>()))?;
    for key in a.keys() {
        fuel.take(1)?;
        let found = look_up(a, &key, fuel)?.zip(look_up(b, &key, fuel)?);
        let Some((a, b)) = found else { return Ok(false) };
        if !equal(&a, &b, fuel)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What stands at a key; a number finds the same number of another type.
pub(crate) fn look_up<'v>(
    map: &Map<'v>,
    key: &Value<'_>,
    fuel: &mut Fuel,
) -> Result<Option<Value<'v>>, Spent> {
    match (map, key) {
        (_, Value::Text(name)) => fuel.scan(name.get().len())?,
        _ => fuel.take(1)?,
    }
    // Maps that a rule writes are searched one by one, and no larger than the rule.
    if let Map::Own(entries) = map {
        fuel.take(entries.len())?;
    }
    Ok(keys(key).into_iter().flatten().find_map(|key| map.at(&key)))
}

/// The keys that a value may mean, in the order in which they are tried.
fn keys<'v>(value: &Value<'v>) -> [Option<Key<'v>>; 2] {
    match value {
        Value::Int(number) => [Some(Key::Int(*number)), u64::try_from(*number).ok().map(Key::UInt)],
        Value::UInt(number) => [Some(Key::UInt(*number)), i64::try_from(*number).ok().map(Key::Int)],
        Value::Double(number) => [whole(*number).map(Key::Int), whole_unsigned(*number).map(Key::UInt)],
        other => [other.as_key(), None],
    }
}

/// A double without a fraction, as an integer.
pub(crate) fn whole(number: f64) -> Option<i64> {
    // The range comes first: what is outside of it would be cut to its edge.
    let fits = number > i64::MIN as f64 && number < i64::MAX as f64;
    fits.then_some(number as i64).filter(|whole| *whole as f64 == number)
}

fn whole_unsigned(number: f64) -> Option<u64> {
    let fits = number >= 0.0 && number < u64::MAX as f64;
    fits.then_some(number as u64).filter(|whole| *whole as f64 == number)
}

/// How two values compare; an error where they do not.
pub(crate) fn order(a: &Value<'_>, b: &Value<'_>, fuel: &mut Fuel) -> Result<Ordering, Error> {
    fuel.take(1)?;
    let found = match (a, b) {
        (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
        (Value::Text(a), Value::Text(b)) => {
            let (a, b) = (a.get(), b.get());
            fuel.scan(a.len().min(b.len()))?;
            Some(a.cmp(b))
        }
        (Value::Bytes(a), Value::Bytes(b)) => {
            fuel.scan(a.len().min(b.len()))?;
            Some(a.cmp(b))
        }
        (a, b) => numbers(a, b).flatten(),
    };
    found.ok_or_else(|| Error::Wrong(format!("{} and {} cannot be compared", a.kind(), b.kind())))
}

/// How two numbers compare: nothing where one is none, nothing inside where one is not a number (NaN).
fn numbers(a: &Value<'_>, b: &Value<'_>) -> Option<Option<Ordering>> {
    Some(match (a, b) {
        (Value::Int(a), Value::Int(b)) => Some(a.cmp(b)),
        (Value::UInt(a), Value::UInt(b)) => Some(a.cmp(b)),
        (Value::Int(a), Value::UInt(b)) => Some(i128::from(*a).cmp(&i128::from(*b))),
        (Value::UInt(a), Value::Int(b)) => Some(i128::from(*a).cmp(&i128::from(*b))),
        _ => double(a)?.partial_cmp(&double(b)?),
    })
}

fn double(value: &Value<'_>) -> Option<f64> {
    match value {
        Value::Int(value) => Some(*value as f64),
        Value::UInt(value) => Some(*value as f64),
        Value::Double(value) => Some(*value),
        _ => None,
    }
}
