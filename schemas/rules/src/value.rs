//! Values of rules. What comes as JSON is looked at where it lies and never copied.

use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::{Map as Fields, Value as Json};

/// A value.
#[derive(Clone, Debug)]
pub(crate) enum Value<'v> {
    Null,
    Bool(bool),
    Int(i64),
    UInt(u64),
    Double(f64),
    Text(Text<'v>),
    Bytes(Rc<[u8]>),
    List(List<'v>),
    Map(Map<'v>),
    Type(&'static str),
}

#[derive(Clone, Debug)]
pub(crate) enum Text<'v> {
    Lent(&'v str),
    Own(Rc<str>),
}

#[derive(Clone, Debug)]
pub(crate) enum List<'v> {
    Lent(&'v [Json]),
    Own(Rc<Vec<Value<'v>>>),
}

#[derive(Clone, Debug)]
pub(crate) enum Map<'v> {
    Lent(&'v Fields<String, Json>),
    Own(Rc<BTreeMap<Key<'v>, Value<'v>>>),
}

/// What a map may be asked for.
#[derive(Clone, Debug)]
pub(crate) enum Key<'v> {
    Bool(bool),
    Int(i64),
    UInt(u64),
    Text(Text<'v>),
}

impl Text<'_> {
    pub(crate) fn get(&self) -> &str {
        match self {
            Text::Lent(text) => text,
            Text::Own(text) => text,
        }
    }
}

impl Key<'_> {
    /// Kinds of keys one after another, and each in its own order.
    fn rank(&self) -> (u8, i128, &str) {
        match self {
            Key::Bool(value) => (0, i128::from(*value), ""),
            Key::Int(value) => (1, i128::from(*value), ""),
            Key::UInt(value) => (2, i128::from(*value), ""),
            Key::Text(text) => (3, 0, text.get()),
        }
    }
}

impl PartialEq for Key<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.rank() == other.rank()
    }
}

impl Eq for Key<'_> {}

impl PartialOrd for Key<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Key<'_> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.rank().cmp(&other.rank())
    }
}

impl<'v> From<Key<'v>> for Value<'v> {
    fn from(key: Key<'v>) -> Value<'v> {
        match key {
            Key::Bool(value) => Value::Bool(value),
            Key::Int(value) => Value::Int(value),
            Key::UInt(value) => Value::UInt(value),
            Key::Text(text) => Value::Text(text),
        }
    }
}

impl<'v> From<&'v Json> for Value<'v> {
    fn from(json: &'v Json) -> Value<'v> {
        match json {
            Json::Null => Value::Null,
            Json::Bool(value) => Value::Bool(*value),
            // One kind of number, so that `output.apr >= 2.5` holds for 5 as it does for 5.0.
            Json::Number(number) => Value::Double(number.as_f64().unwrap_or(f64::NAN)),
            Json::String(text) => Value::Text(Text::Lent(text)),
            Json::Array(items) => Value::List(List::Lent(items)),
            Json::Object(fields) => Value::Map(Map::Lent(fields)),
        }
    }
}

impl<'v> List<'v> {
    pub(crate) fn len(&self) -> usize {
        match self {
            List::Lent(items) => items.len(),
            List::Own(items) => items.len(),
        }
    }

    pub(crate) fn get(&self, at: usize) -> Option<Value<'v>> {
        match self {
            List::Lent(items) => items.get(at).map(Value::from),
            List::Own(items) => items.get(at).cloned(),
        }
    }
}

impl<'v> Map<'v> {
    pub(crate) fn len(&self) -> usize {
        match self {
            Map::Lent(fields) => fields.len(),
            Map::Own(entries) => entries.len(),
        }
    }

    pub(crate) fn at(&self, key: &Key<'_>) -> Option<Value<'v>> {
        match (self, key) {
            (Map::Lent(fields), Key::Text(name)) => fields.get(name.get()).map(Value::from),
            (Map::Lent(_), _) => None,
            (Map::Own(entries), key) => {
                // A key that lives shorter is found by its rank alone.
                let found = entries.iter().find(|(known, _)| known.rank() == key.rank());
                found.map(|(_, value)| value.clone())
            }
        }
    }

    /// Its keys, in their order: a map has none of its own, and the same rule has to say the same each time.
    pub(crate) fn keys(&self) -> Vec<Value<'v>> {
        match self {
            Map::Lent(fields) => fields.keys().map(|name| Value::Text(Text::Lent(name))).collect(),
            Map::Own(entries) => entries.keys().cloned().map(Value::from).collect(),
        }
    }
}

impl<'v> Value<'v> {
    pub(crate) fn own_text(text: String) -> Value<'v> {
        Value::Text(Text::Own(text.into()))
    }

    pub(crate) fn own_list(items: Vec<Value<'v>>) -> Value<'v> {
        Value::List(List::Own(Rc::new(items)))
    }

    /// The name of its type.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Value::Null => "null_type",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::UInt(_) => "uint",
            Value::Double(_) => "double",
            Value::Text(_) => "string",
            Value::Bytes(_) => "bytes",
            Value::List(_) => "list",
            Value::Map(_) => "map",
            Value::Type(_) => "type",
        }
    }

    /// The value as JSON, with its type where JSON has none; for tests that compare.
    pub(crate) fn shown(&self) -> Json {
        match self {
            Value::Null => Json::Null,
            Value::Bool(value) => (*value).into(),
            Value::Int(value) => format!("int {value}").into(),
            Value::UInt(value) => format!("uint {value}").into(),
            Value::Double(value) => format!("double {value}").into(),
            Value::Text(text) => format!("string {}", text.get()).into(),
            Value::Bytes(bytes) => format!("bytes {bytes:?}").into(),
            Value::List(list) => {
                (0..list.len()).filter_map(|at| list.get(at)).map(|item| item.shown()).collect()
            }
            Value::Map(map) => {
                let shown = map.keys().into_iter().map(|key| {
                    let name = match key.shown() {
                        Json::String(name) => name,
                        other => other.to_string(),
                    };
                    let value = key.as_key().and_then(|key| map.at(&key));
                    (name, value.map_or(Json::Null, |value| value.shown()))
                });
                shown.collect::<Fields<_, _>>().into()
            }
            Value::Type(name) => format!("type {name}").into(),
        }
    }

    /// It as a key of a map.
    pub(crate) fn as_key(&self) -> Option<Key<'v>> {
        match self {
            Value::Bool(value) => Some(Key::Bool(*value)),
            Value::Int(value) => Some(Key::Int(*value)),
            Value::UInt(value) => Some(Key::UInt(*value)),
            Value::Text(text) => Some(Key::Text(text.clone())),
            _ => None,
        }
    }
}
