//! What the generator knows of a schema: only the shapes that the catalogue may use.

/// Everything that is generated.
pub(crate) struct Catalogue {
    pub(crate) enums: Vec<Enum>,
    /// Records that stand inside others.
    pub(crate) parts: Vec<Record>,
    /// Commands and events, by rising id.
    pub(crate) records: Vec<TopRecord>,
}

/// An Avro enum.
pub(crate) struct Enum {
    pub(crate) name: String,
    pub(crate) doc: String,
    /// Symbol and doc.
    pub(crate) symbols: Vec<(String, String)>,
}

/// An Avro record.
pub(crate) struct Record {
    /// The name of the Rust struct.
    pub(crate) name: String,
    pub(crate) doc: String,
    pub(crate) fields: Vec<Field>,
}

/// One field of a record.
pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) doc: String,
    pub(crate) shape: Shape,
}

/// A command or an event.
pub(crate) struct TopRecord {
    pub(crate) id: u16,
    pub(crate) version: u16,
    pub(crate) family: String,
    pub(crate) kind: Kind,
    /// The self-contained schema.
    pub(crate) json: String,
    pub(crate) fingerprint: u64,
    /// Without `origin`, where it is a command.
    pub(crate) record: Record,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Command,
    Event,
}

/// The type of a field.
#[derive(Clone)]
pub(crate) enum Shape {
    /// A type of this crate or of Rust that implements `Avro` and holds no content.
    Plain(String),
    Content,
    /// A record of the catalogue, and where content stands in it.
    Record(String, Slots),
    Optional(Box<Shape>),
    Array(Box<Shape>),
    Map(Box<Shape>),
}

/// How many places for content a value has.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Slots {
    /// Those that the schema alone shows.
    pub(crate) fixed: u16,
    /// Whether items of an array or a map add to them.
    pub(crate) varying: bool,
}

impl Slots {
    pub(crate) fn any(self) -> bool {
        self.fixed > 0 || self.varying
    }
}

impl Shape {
    pub(crate) fn rust(&self) -> String {
        match self {
            Shape::Plain(name) | Shape::Record(name, _) => name.clone(),
            Shape::Content => "Content".to_owned(),
            Shape::Optional(inner) => format!("Option<{}>", inner.rust()),
            Shape::Array(items) => format!("Vec<{}>", items.rust()),
            Shape::Map(values) => format!("std::collections::BTreeMap<String, {}>", values.rust()),
        }
    }

    pub(crate) fn slots(&self) -> Slots {
        match self {
            Shape::Plain(_) => Slots::default(),
            Shape::Content => Slots { fixed: 1, varying: false },
            Shape::Record(_, slots) => *slots,
            Shape::Optional(inner) => inner.slots(),
            Shape::Array(items) | Shape::Map(items) => Slots { fixed: 0, varying: items.slots().any() },
        }
    }
}

impl Record {
    pub(crate) fn slots(&self) -> Slots {
        self.fields.iter().map(|field| field.shape.slots()).fold(Slots::default(), |sum, slots| Slots {
            fixed: sum.fixed + slots.fixed,
            varying: sum.varying || slots.varying,
        })
    }
}
