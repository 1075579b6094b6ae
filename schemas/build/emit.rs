//! Writes the model as Rust: types, their codec, the table of schemas.

use std::fmt::Write as _;

use super::contents::slots;
use super::model::{Catalogue, Enum, Field, Kind, Record, TopRecord};
use super::sums::{sum, sum_name};

/// The whole generated file.
pub(crate) fn catalogue(catalogue: &Catalogue) -> String {
    let mut out = String::new();
    catalogue.enums.iter().for_each(|found| out.push_str(&enumeration(found)));
    catalogue.parts.iter().for_each(|part| out.push_str(&structure(part, None)));
    for top in &catalogue.records {
        out.push_str(&structure(&top.record, Some(top)));
    }
    for kind in [Kind::Command, Kind::Event] {
        let records: Vec<&TopRecord> = catalogue.records.iter().filter(|top| top.kind == kind).collect();
        out.push_str(&sum(kind, &records));
    }
    out.push_str(&schemas(&catalogue.records));
    out
}

/// Doc comments.
pub(crate) fn doc(text: &str, indent: &str) -> String {
    text.lines().fold(String::new(), |docs, line| docs + indent + "/// " + line.trim() + "\n")
}

fn variant(symbol: &str) -> String {
    let word = |word: &str| word[..1].to_owned() + &word[1..].to_ascii_lowercase();
    symbol.split('_').filter(|part| !part.is_empty()).map(word).collect()
}

fn enumeration(found: &Enum) -> String {
    let Enum { name, doc: text, symbols } = found;
    let mut variants = String::new();
    let mut reads = String::new();
    let mut names = String::new();
    let mut all = String::new();
    for (index, (symbol, text)) in symbols.iter().enumerate() {
        let variant = variant(symbol);
        let _ = writeln!(variants, "{}    {variant} = {index},", doc(text, "    "));
        let _ = writeln!(reads, "            {index} => Ok({name}::{variant}),");
        let _ = writeln!(names, "            {name}::{variant} => \"{symbol}\",");
        let _ = write!(all, "{name}::{variant}, ");
    }
    let count = symbols.len();
    let docs = doc(text, "");
    format!(
        "
{docs}#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub enum {name} {{
{variants}}}

impl {name} {{
    /// Every one, in the schema's order.
    pub const ALL: [{name}; {count}] = [{all}];

    /// The symbol in the schema.
    pub const fn symbol(self) -> &'static str {{
        match self {{
{names}        }}
    }}
}}

impl Avro for {name} {{
    #[inline]
    fn write(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {{
        (*self as i64).write(out)
    }}

    #[inline]
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {{
        match i64::read(reader)? {{
{reads}            index => Err(DecodeError::Branch {{ what: \"omium.{name}\", index }}),
        }}
    }}
}}
"
    )
}

fn structure(record: &Record, top: Option<&TopRecord>) -> String {
    let Record { name, doc: text, fields } = record;
    let mut declared = String::new();
    let mut writes = String::new();
    let mut reads = String::new();
    for Field { name, doc: text, shape } in fields {
        let _ = writeln!(declared, "{}    pub {name}: {},", doc(text, "    "), shape.rust());
        let _ = writeln!(writes, "        Avro::write(&self.{name}, out)?;");
        let _ = writeln!(reads, "            {name}: Avro::read(reader)?,");
    }
    let (out, reader) = if fields.is_empty() { ("_out", "_reader") } else { ("out", "reader") };
    let mut rust = format!(
        "
{docs}#[derive(Clone, Debug, PartialEq, Eq{states})]
pub struct {name} {{
{declared}}}

impl Avro for {name} {{
    #[inline]
    fn write(&self, {out}: &mut Vec<u8>) -> Result<(), EncodeError> {{
{writes}        Ok(())
    }}

    #[inline]
    fn read({reader}: &mut Reader<'_>) -> Result<Self, DecodeError> {{
        Ok({name} {{
{reads}        }})
    }}
}}
",
        docs = doc(text, ""),
        // What stands inside records also stands in the states that processors keep.
        states = if top.is_none() { ", serde::Serialize, serde::Deserialize" } else { "" },
    );
    if let Some(top) = top {
        rust.push_str(&constants(top));
    }
    if record.slots().any() {
        rust.push_str(&slots(record));
    }
    rust
}

fn constants(top: &TopRecord) -> String {
    let (name, id) = (&top.record.name, top.id);
    let sum = sum_name(top.kind);
    format!(
        "
impl {name} {{
    /// The number that names this type in a frame.
    pub const TYPE_ID: TypeId = TypeId({id});
}}

impl From<{name}> for {sum} {{
    #[inline]
    fn from(record: {name}) -> {sum} {{
        {sum}::{name}(record)
    }}
}}
"
    )
}

fn schemas(records: &[TopRecord]) -> String {
    let mut rows = String::new();
    for TopRecord { id, version, family, kind, json, fingerprint, record } in records {
        let name = record.name.strip_suffix(&format!("V{version}")).unwrap_or(&record.name);
        let kind = sum_name(*kind);
        let _ = writeln!(
            rows,
            "    Schema {{ id: TypeId({id}), name: {name:?}, version: {version}, family: {family:?}, \
             kind: RecordKind::{kind}, fingerprint: {fingerprint:#018x}, json: {json:?} }},"
        );
    }
    format!(
        "\n/// Every schema of the catalogue, by rising id.\npub const SCHEMAS: &[Schema] = &[\n{rows}];\n"
    )
}
