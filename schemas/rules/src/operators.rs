//! Operators on values.

use std::cmp::Ordering;
use std::rc::Rc;

use cel::common::ast::operators as op;
use omium_limits::Fuel;

use crate::Error;
use crate::compare::{equal, look_up, order, whole};
use crate::value::{List, Map, Value};

/// What an operator with two sides says. Nothing where there is no such operator.
pub(crate) fn binary<'v>(
    name: &str,
    a: &Value<'v>,
    b: &Value<'v>,
    fuel: &mut Fuel,
) -> Option<Result<Value<'v>, Error>> {
    let is = |wanted: fn(Ordering) -> bool, fuel: &mut Fuel| Ok(Value::Bool(wanted(order(a, b, fuel)?)));
    Some(match name {
        op::EQUALS => equal(a, b, fuel).map(Value::Bool).map_err(Error::from),
        op::NOT_EQUALS => equal(a, b, fuel).map(|same| Value::Bool(!same)).map_err(Error::from),
        op::LESS => is(Ordering::is_lt, fuel),
        op::LESS_EQUALS => is(Ordering::is_le, fuel),
        op::GREATER => is(Ordering::is_gt, fuel),
        op::GREATER_EQUALS => is(Ordering::is_ge, fuel),
        op::IN => contains(b, a, fuel).map(Value::Bool),
        op::INDEX => index(a, b, fuel),
        op::ADD => add(a, b, fuel),
        op::SUBSTRACT => number("-", a, b, i64::checked_sub, u64::checked_sub, Some(|a, b| a - b)),
        op::MULTIPLY => number("*", a, b, i64::checked_mul, u64::checked_mul, Some(|a, b| a * b)),
        op::DIVIDE => number("/", a, b, i64::checked_div, u64::checked_div, Some(|a, b| a / b)),
        op::MODULO => number("%", a, b, i64::checked_rem, u64::checked_rem, None),
        _ => return None,
    })
}

/// What an operator with one side says. Nothing where there is no such operator.
pub(crate) fn unary<'v>(name: &str, of: &Value<'v>) -> Option<Result<Value<'v>, Error>> {
    match (name, of) {
        (op::LOGICAL_NOT, Value::Bool(value)) => Some(Ok(Value::Bool(!value))),
        (op::NEGATE, Value::Double(value)) => Some(Ok(Value::Double(-value))),
        (op::NEGATE, Value::Int(value)) => Some(value.checked_neg().map(Value::Int).ok_or_else(too_large)),
        (op::LOGICAL_NOT | op::NEGATE, other) => {
            Some(Err(Error::Wrong(format!("`{}` is not for {}", name.trim_end_matches('_'), other.kind()))))
        }
        _ => None,
    }
}

type Doubles = fn(f64, f64) -> f64;

fn number<'v>(
    sign: &str,
    a: &Value<'v>,
    b: &Value<'v>,
    ints: fn(i64, i64) -> Option<i64>,
    uints: fn(u64, u64) -> Option<u64>,
    doubles: Option<Doubles>,
) -> Result<Value<'v>, Error> {
    match (a, b, doubles) {
        (Value::Int(a), Value::Int(b), _) => ints(*a, *b).map(Value::Int).ok_or_else(too_large),
        (Value::UInt(a), Value::UInt(b), _) => uints(*a, *b).map(Value::UInt).ok_or_else(too_large),
        (Value::Double(a), Value::Double(b), Some(doubles)) => Ok(Value::Double(doubles(*a, *b))),
        _ => Err(not_for(sign, a, b)),
    }
}

fn add<'v>(a: &Value<'v>, b: &Value<'v>, fuel: &mut Fuel) -> Result<Value<'v>, Error> {
    match (a, b) {
        (Value::Text(a), Value::Text(b)) => {
            let (a, b) = (a.get(), b.get());
            // Once while it grows and once where it stays.
            fuel.copy(2 * (a.len() + b.len()))?;
            Ok(Value::own_text([a, b].concat()))
        }
        (Value::Bytes(a), Value::Bytes(b)) => {
            fuel.copy(2 * (a.len() + b.len()))?;
            Ok(Value::Bytes([&**a, &**b].concat().into()))
        }
        (Value::List(a), Value::List(_) | Value::Map(_)) => {
            let more = items(b, fuel)?;
            let mut all = items(&Value::List(a.clone()), fuel)?;
            room(more.len(), fuel)?;
            all.extend(more);
            Ok(Value::own_list(all))
        }
        _ => number("+", a, b, i64::checked_add, u64::checked_add, Some(|a, b| a + b)),
    }
}

/// Pays for items of a list.
pub(crate) fn room(items: usize, fuel: &mut Fuel) -> Result<(), Error> {
    fuel.take(items)?;
    Ok(fuel.allocate(items.saturating_mul(size_of::<Value<'_>>()))?)
}

/// The items of a list, or the keys of a map.
pub(crate) fn items<'v>(of: &Value<'v>, fuel: &mut Fuel) -> Result<Vec<Value<'v>>, Error> {
    match of {
        Value::List(list) => {
            room(list.len(), fuel)?;
            Ok((0..list.len()).filter_map(|at| list.get(at)).collect())
        }
        Value::Map(map) => {
            room(map.len(), fuel)?;
            Ok(map.keys())
        }
        other => Err(Error::Wrong(format!("{} has no items", other.kind()))),
    }
}

fn contains(of: &Value<'_>, wanted: &Value<'_>, fuel: &mut Fuel) -> Result<bool, Error> {
    match of {
        Value::List(list) => {
            for at in 0..list.len() {
                if let Some(item) = list.get(at)
                    && equal(&item, wanted, fuel)?
                {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        Value::Map(map) => {
            is_key(wanted)?;
            Ok(look_up(map, wanted, fuel)?.is_some())
        }
        other => Err(not_for("in", wanted, other)),
    }
}

fn is_key(value: &Value<'_>) -> Result<(), Error> {
    match value {
        Value::Bool(_) | Value::Int(_) | Value::UInt(_) | Value::Double(_) | Value::Text(_) => Ok(()),
        other => Err(Error::Wrong(format!("{} is no key of a map", other.kind()))),
    }
}

fn index<'v>(of: &Value<'v>, at: &Value<'_>, fuel: &mut Fuel) -> Result<Value<'v>, Error> {
    match (of, at) {
        (Value::List(list), at) => item(list, at),
        (Value::Map(map), at) => {
            is_key(at)?;
            look_up(map, at, fuel)?.ok_or_else(|| Error::Wrong("the map has no such key".to_owned()))
        }
        (of, at) => Err(not_for("[]", of, at)),
    }
}

fn item<'v>(list: &List<'v>, at: &Value<'_>) -> Result<Value<'v>, Error> {
    let place = match at {
        Value::Int(at) => usize::try_from(*at).ok(),
        Value::UInt(at) => usize::try_from(*at).ok(),
        Value::Double(at) => whole(*at).and_then(|at| usize::try_from(at).ok()),
        other => return Err(Error::Wrong(format!("{} is no place in a list", other.kind()))),
    };
    place
        .and_then(|place| list.get(place))
        .ok_or_else(|| Error::Wrong(format!("the list has {} items, and none at that place", list.len())))
}

/// A field of a value; `missing` says what it is where there is none.
pub(crate) fn field<'v>(of: &Value<'v>, name: &str, fuel: &mut Fuel) -> Result<Option<Value<'v>>, Error> {
    match of {
        Value::Map(Map::Lent(fields)) => {
            fuel.take(1)?;
            fuel.scan(name.len())?;
            Ok(fields.get(name).map(Value::from))
        }
        Value::Map(map) => Ok(look_up(map, &Value::own_text(name.to_owned()), fuel)?),
        other => {
            Err(Error::Wrong(format!("{} has no fields, so no `{}`", other.kind(), omium_limits::told(name))))
        }
    }
}

/// A map as a rule writes it.
pub(crate) fn map<'v>(entries: Vec<(Value<'v>, Value<'v>)>, fuel: &mut Fuel) -> Result<Value<'v>, Error> {
    let mut map = Map::Own(Rc::default());
    for (key, value) in entries {
        let kept = key.as_key().ok_or_else(|| Error::Wrong(format!("{} is no key of a map", key.kind())))?;
        fuel.take(1)?;
        fuel.allocate(2 * size_of::<(Value<'_>, Value<'_>)>())?;
        if look_up(&map, &key, fuel)?.is_some() {
            return Err(Error::Wrong("a map holds a key twice".to_owned()));
        }
        if let Map::Own(entries) = &mut map {
            Rc::make_mut(entries).insert(kept, value);
        }
    }
    Ok(Value::Map(map))
}

fn too_large() -> Error {
    Error::Wrong("a number is too large, or is divided by 0".to_owned())
}

fn not_for(sign: &str, a: &Value<'_>, b: &Value<'_>) -> Error {
    Error::Wrong(format!("`{sign}` is not for {} and {}", a.kind(), b.kind()))
}
