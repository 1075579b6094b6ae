//! Writes the enum of all commands and the enum of all events.

use super::emit::doc;
use super::model::{Kind, TopRecord};

/// The enum that holds records of this kind.
pub(crate) fn sum_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Command => "Command",
        Kind::Event => "Event",
    }
}

/// One enum, with its codec.
pub(crate) fn sum(kind: Kind, records: &[&TopRecord]) -> String {
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
#[allow(clippy::large_enum_variant, reason = \"one is made for each frame; a box would be an allocation for each\")]
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
