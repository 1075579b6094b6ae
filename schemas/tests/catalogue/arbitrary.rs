//! Makes values from schemas, within what the Rust types can hold.
//!
//! It walks the JSON, because apache-avro forgets attributes such as `omium.type` of primitive types.

use std::collections::BTreeMap;

use apache_avro::Decimal;
use apache_avro::types::Value;
use serde_json::Value as Json;

/// A seeded source of choices (splitmix64), so that a failure can be had again.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.roll() % limit
    }

    pub(crate) fn bytes(&mut self, count: u64) -> Vec<u8> {
        (0..count).map(|_| self.roll() as u8).collect()
    }

    /// A number of any magnitude: small ones and the edges come as often as large ones.
    fn number(&mut self) -> i64 {
        let bits = self.below(65);
        let magnitude = if bits == 0 { 0 } else { self.roll() >> (64 - bits) };
        magnitude as i64
    }

    fn natural(&mut self, limit: u64) -> i64 {
        (self.number().unsigned_abs() % limit) as i64
    }
}

/// How full a value is to be.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fill {
    /// Options and lengths by chance.
    Any,
    /// Every option is there and every list has two items.
    Full,
    /// No option is there and every list is empty.
    Least,
}

/// A value of the record that this self-contained schema describes.
pub(crate) fn value(schema: &str, fill: Fill, dice: &mut Dice) -> Value {
    let json = serde_json::from_str(schema).expect("a schema of the catalogue is JSON");
    Maker { named: BTreeMap::new(), fill, dice }.make(&json)
}

struct Maker<'a> {
    named: BTreeMap<String, Json>,
    fill: Fill,
    dice: &'a mut Dice,
}

impl Maker<'_> {
    fn make(&mut self, schema: &Json) -> Value {
        match schema {
            Json::String(name) => self.simple(name),
            Json::Array(branches) => self.optional(&branches[1]),
            object => self.complex(object),
        }
    }

    fn simple(&mut self, name: &str) -> Value {
        match name {
            "boolean" => Value::Boolean(self.dice.below(2) == 1),
            "int" => Value::Int(self.dice.number() as i32),
            "long" => Value::Long(self.dice.number()),
            "bytes" => {
                let length = self.length(40);
                Value::Bytes(self.dice.bytes(length))
            }
            "string" => {
                let length = self.length(12);
                Value::String((0..length).map(|_| self.letter()).collect())
            }
            named => {
                let schema = self.named.get(named).cloned();
                self.make(&schema.unwrap_or_else(|| panic!("`{named}` is used before it is written out")))
            }
        }
    }

    fn letter(&mut self) -> char {
        ['a', 'Z', '7', '-', ' ', '"', 'é', '\u{0}', '漢', '🙂'][self.dice.below(10) as usize]
    }

    fn length(&mut self, most: u64) -> u64 {
        match self.fill {
            Fill::Any => self.dice.below(most),
            Fill::Full => 5,
            Fill::Least => 0,
        }
    }

    fn optional(&mut self, inner: &Json) -> Value {
        let some = match self.fill {
            Fill::Any => self.dice.below(2) == 1,
            Fill::Full => true,
            Fill::Least => false,
        };
        // The types inside are made known also where nothing of them is written.
        let made = self.make(inner);
        if some { Value::Union(1, Box::new(made)) } else { Value::Union(0, Box::new(Value::Null)) }
    }

    fn complex(&mut self, schema: &Json) -> Value {
        let kind = schema["type"].as_str().expect("a type has a kind");
        if let Some(name) = schema["name"].as_str() {
            self.named.insert(format!("omium.{name}"), schema.clone());
        }
        match kind {
            "record" => self.record(schema),
            "enum" => self.symbol(&schema["symbols"]),
            "fixed" => self.fixed(schema),
            "array" => self.array(&schema["items"]),
            "bytes" if schema["logicalType"] == "decimal" => self.money(),
            "long" if schema["logicalType"] == "timestamp-micros" => {
                Value::TimestampMicros(self.dice.natural(1 << 63))
            }
            "long" | "int" if !schema["omium.type"].is_null() => self.typed(&schema["omium.type"]),
            other => panic!("{other} is not in the table of types"),
        }
    }

    fn record(&mut self, schema: &Json) -> Value {
        let fields = schema["fields"].as_array().expect("a record has fields");
        let make = |field: &Json| {
            let name = field["name"].as_str().expect("a field has a name").to_owned();
            (name, self.make(&field["type"]))
        };
        let mut made: Vec<(String, Value)> = fields.iter().map(make).collect();
        match schema["name"].as_str() {
            Some("Sealed") => self.as_sealed(&mut made),
            Some("BlobRef") => {
                made[1..3].iter_mut().for_each(|(_, value)| *value = Value::Long(self.dice.natural(1 << 63)));
            }
            _ => {}
        }
        Value::Record(made)
    }

    /// Content is either here or in a blob, and its key is a natural number.
    fn as_sealed(&mut self, made: &mut [(String, Value)]) {
        made[0].1 = Value::Long(self.dice.natural(1 << 63));
        if matches!(made[2].1, Value::Union(1, _)) {
            made[1].1 = Value::Bytes(vec![]);
        }
    }

    fn symbol(&mut self, symbols: &Json) -> Value {
        let symbols = symbols.as_array().expect("an enum has symbols");
        let index = self.dice.below(symbols.len() as u64);
        let symbol = symbols[index as usize].as_str().expect("a symbol is a text");
        Value::Enum(index as u32, symbol.to_owned())
    }

    fn fixed(&mut self, schema: &Json) -> Value {
        let size = schema["size"].as_u64().expect("a fixed has a size");
        let mut bytes = self.dice.bytes(size);
        if schema["name"] == "StreamId" {
            bytes[0] = 1 + bytes[0] % 5;
        }
        Value::Fixed(bytes.len(), bytes)
    }

    fn array(&mut self, items: &Json) -> Value {
        let count = match self.fill {
            Fill::Any => self.dice.below(4),
            Fill::Full => 2,
            Fill::Least => 0,
        };
        // Made once more than needed, so that the types inside are known also behind an empty array.
        let mut made: Vec<Value> = (0..=count).map(|_| self.make(items)).collect();
        made.pop();
        Value::Array(made)
    }

    fn money(&mut self) -> Value {
        let sign = if self.dice.below(2) == 0 { 1 } else { -1 };
        let wide = i128::from(self.dice.number().unsigned_abs());
        let amount = if self.dice.below(4) == 0 { wide * 1_000_000_007_000_000 } else { wide };
        let bytes = (sign * amount).to_be_bytes();
        // Two's complement as short as it can be.
        let redundant = |pair: &[u8]| {
            matches!(pair, [0, next] if *next < 0x80) || matches!(pair, [0xff, next] if *next >= 0x80)
        };
        let start = bytes.windows(2).take_while(|pair| redundant(pair)).count();
        Value::Decimal(Decimal::from(&bytes[start..]))
    }

    fn typed(&mut self, name: &Json) -> Value {
        match name.as_str() {
            Some("Partition") => Value::Int(self.dice.natural(1 << 16) as i32),
            Some("StepId") => Value::Long(self.dice.natural(1 << 32)),
            _ => Value::Long(self.dice.natural(1 << 63)),
        }
    }
}
