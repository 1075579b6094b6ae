//! Writes the model as Rust.

use std::fmt::Write as _;

use super::model::{Catalogue, Enum, Field, Kind, Record, Shape, TopRecord};

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
fn doc(text: &str, indent: &str) -> String {
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

fn slots(record: &Record) -> String {
    let name = &record.name;
    let body = |change: &str| -> String {
        let step = |field: &Field| visit(&field.shape, &format!("&{change}self.{}", field.name), change, 2);
        record.fields.iter().map(step).collect()
    };
    let asks: Vec<String> = record
        .fields
        .iter()
        .filter(|field| field.shape.slots().any())
        .map(|field| holds(&field.shape, &format!("self.{}", field.name)))
        .collect();
    let certain = asks.iter().any(|ask| ask == "true");
    let asks = if certain { "true".to_owned() } else { asks.join(" || ") };
    let (see, change) = (body(""), body("mut "));
    let mut rust = format!(
        "
impl {name} {{
    fn has_content(&self) -> bool {{
        {asks}
    }}

    fn contents_from(&self, number: &mut u16, visit: &mut dyn FnMut(u16, &Content)) {{
{see}    }}

    fn contents_mut_from(&mut self, number: &mut u16, visit: &mut dyn FnMut(u16, &mut Content)) {{
{change}    }}
"
    );
    if record.slots().varying {
        let _ = write!(
            rust,
            "
    /// Content beyond the last number would be sealed under the nonce of another, so it is never written.
    fn numbered(&self) -> Result<&Self, EncodeError> {{
        let mut number = 0;
        self.contents_from(&mut number, &mut |_, _| {{}});
        if number == u16::MAX {{ Err(EncodeError::TooLarge {{ what: \"the contents of {name}\" }}) }} else {{ Ok(self) }}
    }}
"
        );
    }
    rust + "}\n"
}

/// Statements that hand each content of `place`, a reference, to `visit` and move `number` on.
fn visit(shape: &Shape, place: &str, change: &str, depth: usize) -> String {
    let indent = "    ".repeat(depth);
    let suffix = if change.is_empty() { "" } else { "_mut" };
    if !shape.slots().any() {
        return String::new();
    }
    match shape {
        Shape::Plain(_) => String::new(),
        Shape::Content => {
            format!("{indent}visit(*number, {place});\n{indent}*number = number.saturating_add(1);\n")
        }
        Shape::Record(..) => {
            let owner = place.strip_prefix(&format!("&{change}")).unwrap_or(place);
            format!("{indent}{owner}.contents{suffix}_from(number, visit);\n")
        }
        Shape::Optional(inner) => {
            let some = visit(inner, "inner", change, depth + 1);
            let fixed = inner.slots().fixed;
            // An absent content keeps its number, so that a field's number does not hang on other fields.
            let none = if fixed == 0 {
                String::new()
            } else {
                format!(" else {{\n{indent}    *number = number.saturating_add({fixed});\n{indent}}}")
            };
            format!("{indent}if let Some(inner) = {place} {{\n{some}{indent}}}{none}\n")
        }
        Shape::Array(items) => {
            let each = visit(items, "item", change, depth + 1);
            format!("{indent}for item in {place} {{\n{each}{indent}}}\n")
        }
        Shape::Map(values) => {
            let owner = place.strip_prefix(&format!("&{change}")).unwrap_or(place);
            let each = visit(values, "value", change, depth + 1);
            format!("{indent}for value in {owner}.values{suffix}() {{\n{each}{indent}}}\n")
        }
    }
}

/// An expression that says whether `place` holds content.
fn holds(shape: &Shape, place: &str) -> String {
    match shape {
        Shape::Plain(_) => "false".to_owned(),
        Shape::Content => "true".to_owned(),
        Shape::Record(..) => format!("{place}.has_content()"),
        Shape::Optional(inner) => match holds(inner, "inner").as_str() {
            "true" => format!("{place}.is_some()"),
            asked => format!("{place}.as_ref().is_some_and(|inner| {asked})"),
        },
        Shape::Array(items) => match holds(items, "item").as_str() {
            "true" => format!("!{place}.is_empty()"),
            asked => format!("{place}.iter().any(|item| {asked})"),
        },
        Shape::Map(values) => match holds(values, "value").as_str() {
            "true" => format!("!{place}.is_empty()"),
            asked => format!("{place}.values().any(|value| {asked})"),
        },
    }
}

fn sum_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Command => "Command",
        Kind::Event => "Event",
    }
}

fn sum(kind: Kind, records: &[&TopRecord]) -> String {
    let name = sum_name(kind);
    let docs = match kind {
        Kind::Command => "/// What somebody asks of a stream: the first record of a frame.",
        Kind::Event => "/// What has happened to a stream.",
    };
    let arms = |arm: &dyn Fn(&TopRecord) -> String| records.iter().map(|top| arm(top)).collect::<String>();
    let variants = arms(&|top| format!("{}    {1}({1}),\n", doc(&top.record.doc, "    "), top.record.name));
    let ids = arms(&|top| format!("            {name}::{0}(_) => {0}::TYPE_ID,\n", top.record.name));
    let names = arms(&|top| format!("            {name}::{0}(_) => \"{0}\",\n", top.record.name));
    let content: Vec<&&TopRecord> = records.iter().filter(|top| top.record.slots().any()).collect();
    let on_content = |call: &str| -> String {
        let arm = |top: &&&TopRecord| {
            format!("            {name}::{}(record) => record.{call},\n", top.record.name)
        };
        content.iter().map(arm).collect()
    };
    format!(
        "
{docs}
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum {name} {{
{variants}}}

impl {name} {{
    /// The number that names the type in a frame.
    #[inline]
    pub const fn type_id(&self) -> TypeId {{
        match self {{
{ids}        }}
    }}

    /// The type's name.
    pub const fn name(&self) -> &'static str {{
        match self {{
{names}        }}
    }}

{codec}
    /// Whether any content is in it.
    pub fn has_content(&self) -> bool {{
        match self {{
{has}            _ => false,
        }}
    }}

    /// Shows each content with its number, in the order of the schema. An absent content keeps its number.
    pub fn contents(&self, visit: &mut dyn FnMut(u16, &Content)) {{
        match self {{
{see}            _ => {{}}
        }}
    }}

    /// Hands out each content with its number, to be sealed or opened in place.
    pub fn contents_mut(&mut self, visit: &mut dyn FnMut(u16, &mut Content)) {{
        match self {{
{change}            _ => {{}}
        }}
    }}
}}
",
        codec = codec(kind, records),
        has = on_content("has_content()"),
        see = on_content("contents_from(&mut 0, visit)"),
        change = on_content("contents_mut_from(&mut 0, visit)"),
    )
}

fn codec(kind: Kind, records: &[&TopRecord]) -> String {
    let name = sum_name(kind);
    let write = |top: &&TopRecord| {
        let checked = if top.record.slots().varying { "record.numbered()?" } else { "record" };
        format!("            {name}::{}(record) => {checked}.write(out),\n", top.record.name)
    };
    let writes: String = records.iter().map(write).collect();
    let read = |top: &&TopRecord| {
        format!("            {} => {name}::{1}({1}::read(reader)?),\n", top.id, top.record.name)
    };
    let reads: String = records.iter().map(read).collect();
    match kind {
        Kind::Event => format!(
            "    /// Appends the Avro form.
    #[inline]
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {{
        match self {{
{writes}        }}
    }}

    /// Reads one event that is all of `bytes`.
    #[inline]
    pub fn decode(id: TypeId, bytes: &[u8]) -> Result<Event, DecodeError> {{
        let reader = &mut Reader::new(bytes);
        let event = match id.0 {{
{reads}            unknown => return Err(DecodeError::UnknownType(unknown)),
        }};
        reader.end()?;
        Ok(event)
    }}
"
        ),
        Kind::Command => format!(
            "    /// Appends the Avro form, with where the command came from.
    #[inline]
    pub fn encode(&self, origin: &Origin, out: &mut Vec<u8>) -> Result<(), EncodeError> {{
        origin.write(out)?;
        match self {{
{writes}        }}
    }}

    /// Reads one command, and where it came from, that are all of `bytes`.
    #[inline]
    pub fn decode(id: TypeId, bytes: &[u8]) -> Result<(Origin, Command), DecodeError> {{
        if !matches!(id.0, {ids}) {{
            return Err(DecodeError::UnknownType(id.0));
        }}
        let reader = &mut Reader::new(bytes);
        let origin = Origin::read(reader)?;
        let command = match id.0 {{
{reads}            unknown => return Err(DecodeError::UnknownType(unknown)),
        }};
        reader.end()?;
        Ok((origin, command))
    }}
",
            ids = records.iter().map(|top| top.id.to_string()).collect::<Vec<_>>().join(" | "),
        ),
    }
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
