//! Reads the files into the model and refuses, with one sentence, whatever the catalogue's rules do not allow.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::File;
use super::canonical::{parsing_canonical_form, print, rabin, self_contained};
use super::model::{Catalogue, Enum, Field, Kind, Record, Shape, Slots, TopRecord};

/// Shared types that the crate writes by hand, and their Rust names.
const BY_HAND: [(&str, &str); 7] = [
    ("omium.TenantId", "TenantId"),
    ("omium.StreamId", "StreamId"),
    ("omium.BlobId", "BlobId"),
    ("omium.Digest", "Digest"),
    ("omium.Entropy", "[u8; 16]"),
    ("omium.Sealed", ""),
    ("omium.BlobRef", ""),
];
/// Numbers that have a Rust type of their own: the value of `omium.type` and the Avro type below it.
const NUMBERS: [(&str, &str); 7] = [
    ("Seq", "long"),
    ("Branch", "long"),
    ("Epoch", "long"),
    ("BlockNo", "long"),
    ("Offset", "long"),
    ("StepId", "long"),
    ("Partition", "int"),
];
/// Words that Rust does not take as the name of a field.
const KEYWORDS: [&str; 16] = [
    "as", "box", "enum", "final", "fn", "for", "if", "in", "loop", "match", "move", "ref", "self", "type",
    "use", "where",
];

type Object = Map<String, Value>;

/// Reads all files.
pub(crate) fn read(files: &[File]) -> Result<Catalogue, String> {
    let mut shared = BTreeMap::new();
    let mut tops = Vec::new();
    for file in files {
        let schema = parse(file)?;
        if file.path.contains("/types/") {
            shared.insert(full_name(&schema, &file.path)?, schema);
        } else {
            tops.push((file, schema));
        }
    }
    let mut reading =
        Reading { shared: &shared, catalogue: Catalogue { enums: vec![], parts: vec![], records: vec![] } };
    // Every shared type is generated, also one that so far only Rust uses.
    for name in shared.keys() {
        reading.named(name, "avsc/types", &mut vec![])?;
    }
    for (file, schema) in tops {
        let record = reading.top(file, &schema)?;
        reading.catalogue.records.push(record);
    }
    reading.catalogue.records.sort_by_key(|record| record.id);
    unique_ids(&reading.catalogue)?;
    Ok(reading.catalogue)
}

fn parse(file: &File) -> Result<Value, String> {
    serde_json::from_str(&file.text).map_err(|why| format!("{}: not JSON: {why}", file.path))
}

fn unique_ids(catalogue: &Catalogue) -> Result<(), String> {
    for pair in catalogue.records.windows(2) {
        if pair[0].id == pair[1].id {
            return Err(format!(
                "id {} is taken by {} and {}; ids are never used twice, give the newer one a free id",
                pair[0].id, pair[0].record.name, pair[1].record.name
            ));
        }
    }
    Ok(())
}

struct Reading<'a> {
    shared: &'a BTreeMap<String, Value>,
    catalogue: Catalogue,
}

impl Reading<'_> {
    fn top(&mut self, file: &File, schema: &Value) -> Result<TopRecord, String> {
        let place = &file.path;
        let object = schema.as_object().ok_or_else(|| format!("{place}: a schema is a JSON object"))?;
        let marks = object.get("omium").and_then(Value::as_object);
        let marks =
            marks.ok_or_else(|| format!("{place}: `omium` with id, kind, family and version is missing"))?;
        let kind = kind_of(marks, place)?;
        let id = number(marks, "id", place)?;
        if (kind == Kind::Command) != (id < 1000) || id == 0 {
            return Err(format!(
                "{place}: id {id} does not fit its kind: commands have 1 to 999, events 1000 and up"
            ));
        }
        let version = number(marks, "version", place)?;
        let family = text(marks, "family", place)?;
        let mut record = self.record(object, place, &mut vec![])?;
        check_path(place, &family, &record.name, version)?;
        if kind == Kind::Command {
            take_origin(&mut record, place)?;
        }
        if version > 1 {
            record.name = format!("{}V{version}", record.name);
        }
        let whole = self_contained(schema, self.shared);
        let fingerprint = rabin(parsing_canonical_form(&whole).as_bytes());
        Ok(TopRecord { id, version, family, kind, json: print(&whole), fingerprint, record })
    }

    fn record(&mut self, object: &Object, place: &str, path: &mut Vec<String>) -> Result<Record, String> {
        let name = text(object, "name", place)?;
        let doc = doc(object, place, &name)?;
        let fields = object.get("fields").and_then(Value::as_array);
        let fields = fields.ok_or_else(|| format!("{place}: {name} is not a record with `fields`"))?;
        let fields = fields.iter().map(|field| self.field(field, place, path)).collect::<Result<_, _>>()?;
        Ok(Record { name, doc, fields })
    }

    fn field(&mut self, field: &Value, place: &str, path: &mut Vec<String>) -> Result<Field, String> {
        let object = field.as_object().ok_or_else(|| format!("{place}: a field is a JSON object"))?;
        let name = text(object, "name", place)?;
        if KEYWORDS.contains(&name.as_str()) || name.chars().any(|c| c.is_uppercase()) {
            return Err(format!(
                "{place}: field `{name}` is a Rust keyword or not in snake case; choose another name"
            ));
        }
        let doc = doc(object, place, &format!("field `{name}`"))?;
        let schema = object.get("type").ok_or_else(|| format!("{place}: field `{name}` has no type"))?;
        let shape = self.shape(schema, &format!("{place}: field `{name}`"), path)?;
        if matches!(shape, Shape::Optional(_)) && object.get("default") != Some(&Value::Null) {
            return Err(format!("{place}: field `{name}` is optional, so its default must be null"));
        }
        Ok(Field { name, doc, shape })
    }

    fn shape(&mut self, schema: &Value, place: &str, path: &mut Vec<String>) -> Result<Shape, String> {
        match schema {
            Value::String(name) => self.simple(name, place, path),
            Value::Array(branches) => match &branches[..] {
                [Value::String(null), inner] if null == "null" => {
                    Ok(Shape::Optional(Box::new(self.shape(inner, place, path)?)))
                }
                _ => Err(format!("{place}: the only union is [\"null\", X]")),
            },
            Value::Object(object) => self.annotated(object, place, path),
            _ => Err(format!("{place}: {schema} is not a type")),
        }
    }

    fn simple(&mut self, name: &str, place: &str, path: &mut Vec<String>) -> Result<Shape, String> {
        let rust = match name {
            "boolean" => "bool",
            "int" => "i32",
            "long" => "i64",
            "string" => "String",
            "bytes" => "Bytes",
            _ => return self.named(name, place, path),
        };
        Ok(Shape::Plain(rust.to_owned()))
    }

    fn annotated(&mut self, object: &Object, place: &str, path: &mut Vec<String>) -> Result<Shape, String> {
        let kind = text(object, "type", place)?;
        let inner = |key: &str| object.get(key).ok_or_else(|| format!("{place}: `{key}` is missing"));
        match kind.as_str() {
            "array" => return Ok(Shape::Array(Box::new(self.shape(inner("items")?, place, path)?))),
            "map" => return Ok(Shape::Map(Box::new(self.shape(inner("values")?, place, path)?))),
            _ => {}
        }
        let number = object.get("omium.type").and_then(Value::as_str);
        if let Some((name, _)) = NUMBERS.iter().find(|(name, below)| Some(*name) == number && *below == kind)
        {
            return Ok(Shape::Plain((*name).to_owned()));
        }
        let logical = object.get("logicalType").and_then(Value::as_str);
        let digits = |key: &str| object.get(key).and_then(Value::as_u64);
        match (kind.as_str(), logical, number) {
            ("long", Some("timestamp-micros"), None) => Ok(Shape::Plain("Time".to_owned())),
            ("bytes", Some("decimal"), None)
                if digits("precision") == Some(38) && digits("scale") == Some(12) =>
            {
                Ok(Shape::Plain("Money".to_owned()))
            }
            (_, None, None) if object.len() == 1 => self.simple(&kind, place, path),
            _ => Err(format!(
                "{place}: {} is not in the table of types that the catalogue may use; \
                 a named type goes to avsc/types and is used by its full name",
                Value::Object(object.clone())
            )),
        }
    }

    /// A shared type. `path` is what is being read now, so that a type that holds itself is found.
    fn named(&mut self, name: &str, place: &str, path: &mut Vec<String>) -> Result<Shape, String> {
        let shared = self.shared;
        let schema = shared.get(name).and_then(Value::as_object);
        let schema = schema
            .ok_or_else(|| format!("{place}: there is no type `{name}`; shared types live in avsc/types"))?;
        let short = text(schema, "name", place)?;
        doc(schema, place, name)?;
        if path.iter().any(|outer| outer == name) {
            return Err(format!(
                "{place}: `{name}` holds itself; a hostile input could then exhaust the stack"
            ));
        }
        path.push(name.to_owned());
        let shape = match BY_HAND.iter().find(|(known, _)| *known == name) {
            Some((_, "")) => Ok(Shape::Content),
            Some((_, rust)) => Ok(Shape::Plain((*rust).to_owned())),
            None => match schema.get("type").and_then(Value::as_str) {
                Some("enum") => self.enumeration(schema, &short, place),
                Some("record") => self.part(schema, name, path),
                _ => Err(format!(
                    "{place}: `{name}` is neither an enum nor a record nor one of the types by hand"
                )),
            },
        };
        path.pop();
        shape
    }

    fn part(&mut self, schema: &Object, name: &str, path: &mut Vec<String>) -> Result<Shape, String> {
        let record = self.record(schema, &format!("the type {name}"), path)?;
        if record.fields.is_empty() {
            // A list of values without bytes could be made of any length by a few bytes.
            return Err(format!("{name} has no fields; a record that stands inside others has at least one"));
        }
        let shape = Shape::Record(record.name.clone(), record.slots());
        if self.catalogue.parts.iter().all(|known| known.name != record.name) {
            self.catalogue.parts.push(record);
        }
        Ok(shape)
    }

    fn enumeration(&mut self, schema: &Object, name: &str, place: &str) -> Result<Shape, String> {
        if self.catalogue.enums.iter().all(|known| known.name != name) {
            let symbols = schema.get("symbols").and_then(Value::as_array);
            let symbols = symbols.ok_or_else(|| format!("{place}: {name} has no symbols"))?;
            let docs = schema.get("omium.symbols").and_then(Value::as_object);
            let documented = |symbol: &Value| {
                let symbol = symbol.as_str().unwrap_or_default().to_owned();
                let doc = docs.and_then(|docs| docs.get(&symbol)).and_then(Value::as_str);
                let missing =
                    || format!("{place}: symbol {symbol} of {name} has no sentence in `omium.symbols`");
                doc.map(|doc| (symbol.clone(), doc.to_owned())).ok_or_else(missing)
            };
            let symbols = symbols.iter().map(documented).collect::<Result<_, _>>()?;
            self.catalogue.enums.push(Enum {
                name: name.to_owned(),
                doc: doc(schema, place, name)?,
                symbols,
            });
        }
        Ok(Shape::Plain(name.to_owned()))
    }
}

/// Commands carry their origin first; the Rust struct leaves it to `Command::encode` and `Command::decode`.
fn take_origin(record: &mut Record, place: &str) -> Result<(), String> {
    let is_origin = |field: &Field| field.name == "origin" && field.shape.rust() == "Origin";
    if !record.fields.first().is_some_and(is_origin) {
        return Err(format!("{place}: a command's first field is `origin` of type omium.Origin"));
    }
    let origin = record.fields.remove(0);
    // Content is numbered from the command's own fields on, so the origin must not have any.
    if origin.shape.slots() == Slots::default() {
        Ok(())
    } else {
        Err(format!("{place}: omium.Origin holds content, which nobody would seal"))
    }
}

fn check_path(path: &str, family: &str, name: &str, version: u16) -> Result<(), String> {
    let wanted = format!("{family}/{}.v{version}.avsc", snake(name));
    if path.ends_with(&format!("/{wanted}")) {
        Ok(())
    } else {
        Err(format!("{path}: what it says of itself belongs into avsc/{wanted}"))
    }
}

fn snake(name: &str) -> String {
    let mut snake = String::new();
    for c in name.chars() {
        if c.is_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.push(c.to_ascii_lowercase());
    }
    snake
}

fn kind_of(marks: &Object, place: &str) -> Result<Kind, String> {
    match text(marks, "kind", place)?.as_str() {
        "command" => Ok(Kind::Command),
        "event" => Ok(Kind::Event),
        other => Err(format!("{place}: kind `{other}` is neither `command` nor `event`")),
    }
}

fn full_name(schema: &Value, place: &str) -> Result<String, String> {
    let object = schema.as_object().ok_or_else(|| format!("{place}: a schema is a JSON object"))?;
    Ok(format!("{}.{}", text(object, "namespace", place)?, text(object, "name", place)?))
}

fn doc(object: &Object, place: &str, what: &str) -> Result<String, String> {
    text(object, "doc", place)
        .ok()
        .filter(|doc| !doc.trim().is_empty())
        .ok_or_else(|| format!("{place}: {what} has no `doc`; say in one sentence what it is"))
}

fn text(object: &Object, key: &str, place: &str) -> Result<String, String> {
    let value = object.get(key).and_then(Value::as_str);
    value.map(str::to_owned).ok_or_else(|| format!("{place}: `{key}` is missing or not a text"))
}

fn number(object: &Object, key: &str, place: &str) -> Result<u16, String> {
    let value = object.get(key).and_then(Value::as_u64).and_then(|value| u16::try_from(value).ok());
    value
        .filter(|value| *value > 0)
        .ok_or_else(|| format!("{place}: `{key}` is not a number from 1 to 65535"))
}
