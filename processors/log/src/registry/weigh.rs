//! Counts what a record would unfold to before it is unfolded.
//!
//! A few bytes of Avro can stand for millions of values (an array of records whose fields are all null), and the schema
//! comes from outside too. The library bounds each collection, not their sum; this bounds the sum.

use std::collections::HashMap;

use apache_avro::Schema;
use apache_avro::schema::{DecimalSchema, InnerDecimalSchema, Name};
use omium_schemas::{Avro, Reader};

/// More values than any of our records has; as `Value`s they take well under 64 MiB.
const MOST_VALUES: usize = 200_000;

/// How deep values may lie inside each other.
const DEEPEST: usize = 64;

/// Fails when the record holds more values, or deeper ones, than a reader should unfold, or ends before its schema does.
pub(super) fn weigh(schema: &Schema, body: &[u8]) -> Result<(), String> {
    let mut names = HashMap::new();
    collect(schema, &mut names);
    let mut scale = Scale { names, reader: Reader::new(body), left: MOST_VALUES };
    scale.value(schema, 0)?;
    match scale.reader.left().len() {
        0 => Ok(()),
        more => Err(format!("{more} bytes are left after its last field")),
    }
}

/// The named types, so that references can be followed.
fn collect<'a>(schema: &'a Schema, names: &mut HashMap<Name, &'a Schema>) {
    match schema {
        Schema::Record(of) if names.insert(of.name.clone(), schema).is_none() => {
            of.fields.iter().for_each(|field| collect(&field.schema, names));
        }
        Schema::Enum(of) => drop(names.insert(of.name.clone(), schema)),
        Schema::Fixed(of) => drop(names.insert(of.name.clone(), schema)),
        Schema::Array(of) => collect(&of.items, names),
        Schema::Map(of) => collect(&of.types, names),
        Schema::Union(of) => of.variants().iter().for_each(|variant| collect(variant, names)),
        _ => {}
    }
}

struct Scale<'a> {
    names: HashMap<Name, &'a Schema>,
    reader: Reader<'a>,
    left: usize,
}

impl<'a> Scale<'a> {
    fn value(&mut self, schema: &'a Schema, depth: usize) -> Result<(), String> {
        if depth > DEEPEST {
            return Err(format!("its values lie more than {DEEPEST} deep inside each other"));
        }
        self.left = self
            .left
            .checked_sub(1)
            .ok_or_else(|| format!("it unfolds to more than {MOST_VALUES} values"))?;
        match schema {
            Schema::Null => Ok(()),
            Schema::Boolean => self.skip(1),
            Schema::Float => self.skip(4),
            Schema::Double => self.skip(8),
            Schema::Fixed(of) => self.skip(of.size),
            Schema::Decimal(DecimalSchema { inner: InnerDecimalSchema::Fixed(of), .. }) => self.skip(of.size),
            Schema::Decimal(_) | Schema::Bytes | Schema::String => {
                self.length().and_then(|length| self.skip(length))
            }
            Schema::Int | Schema::Long | Schema::Enum(_) | Schema::Date => self.long().map(drop),
            Schema::TimeMillis | Schema::TimeMicros => self.long().map(drop),
            Schema::TimestampMillis | Schema::TimestampMicros | Schema::TimestampNanos => {
                self.long().map(drop)
            }
            Schema::Record(of) => of.fields.iter().try_for_each(|field| self.value(&field.schema, depth + 1)),
            Schema::Union(of) => {
                let branch = self.length()?;
                let variant =
                    of.variants().get(branch).ok_or_else(|| format!("its union has no branch {branch}"))?;
                self.value(variant, depth + 1)
            }
            Schema::Array(of) => self.items(&of.items, false, depth),
            Schema::Map(of) => self.items(&of.types, true, depth),
            Schema::Ref { name } => {
                let of = *self
                    .names
                    .get(name)
                    .ok_or_else(|| format!("its schema refers to {name}, which it lacks"))?;
                self.value(of, depth + 1)
            }
            other => Err(format!("its schema uses {other:?}, which public records of Omium do not")),
        }
    }

    /// Blocks of items; a negative count is followed by the block's length in bytes.
    fn items(&mut self, of: &'a Schema, keyed: bool, depth: usize) -> Result<(), String> {
        loop {
            let count = self.long()?;
            if count == 0 {
                return Ok(());
            }
            if count < 0 {
                self.long()?;
            }
            for _ in 0..count.unsigned_abs() {
                if keyed {
                    self.value(&Schema::String, depth + 1)?;
                }
                self.value(of, depth + 1)?;
            }
        }
    }

    fn long(&mut self) -> Result<i64, String> {
        i64::read(&mut self.reader).map_err(|error| error.to_string())
    }

    fn length(&mut self) -> Result<usize, String> {
        let length = self.long()?;
        usize::try_from(length).map_err(|_| format!("it has a length of {length}"))
    }

    fn skip(&mut self, bytes: usize) -> Result<(), String> {
        self.reader.take(bytes).map(drop).map_err(|error| error.to_string())
    }
}
