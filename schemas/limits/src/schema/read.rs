//! Reads a schema: every part of it once, whatever refers to it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::{Map, Number, Value};

use super::rules::{Choices, Contains, Id, Lists, Node, Numbers, Objects, Rules, TYPES, Texts, bit};
use super::{Schema, Unusable, format};
use crate::json::nodes;
use crate::{Pattern, clipped, told};

/// How many schemas there may be in one.
const MOST: usize = 20_000;
const DEEPEST: usize = 128;
/// How much all patterns together may cost to build.
const PATTERNS: usize = 200_000;
/// What building a part of a pattern costs, in steps.
const PATTERN_STEPS: usize = 8;
/// How much of a place is told, in bytes.
const PLACE: usize = 200;
/// How many mistakes are told at once.
const MOST_WRONG: usize = 20;

/// A schema, or all that is wrong with it, which is never nothing.
pub(super) fn read(schema: &Value) -> Result<Schema, Vec<Unusable>> {
    let named = schema.get("$schema").and_then(Value::as_str).unwrap_or_default();
    let mut reader = Reader {
        root: schema,
        id: schema.get("$id").or(schema.get("id")).and_then(Value::as_str).unwrap_or_default(),
        // Up to draft 7 a reference hides what stands beside it, and formats are checked.
        old: ["draft-03", "draft-04", "draft-06", "draft-07"].iter().any(|draft| named.contains(draft)),
        anchors: BTreeMap::new(),
        known: BTreeMap::new(),
        nodes: Vec::new(),
        later: Vec::new(),
        patterns: BTreeMap::new(),
        built: 0,
        seen: 0,
        remembers: false,
        path: Vec::new(),
        wrong: Vec::new(),
    };
    if let Err(last) = reader.whole() {
        reader.wrong.push(last);
    }
    if !reader.wrong.is_empty() {
        return Err(reader.wrong);
    }
    let cost = reader.seen + 2 * reader.nodes.len() + PATTERN_STEPS * reader.built;
    Ok(Schema { nodes: reader.nodes, remembers: reader.remembers, cost })
}

/// Where values stand and no schemas.
const VALUES: [&str; 5] = ["enum", "const", "default", "example", "examples"];

struct Reader<'s> {
    root: &'s Value,
    id: &'s str,
    old: bool,
    anchors: BTreeMap<&'s str, &'s Value>,
    /// Where the schema at an address stands in the list. The text of the schema does not move while it is read.
    known: BTreeMap<usize, Id>,
    nodes: Vec<Node>,
    /// What is referred to and was not read yet.
    later: Vec<(&'s str, &'s Value, Id)>,
    patterns: BTreeMap<&'s str, Pattern>,
    built: usize,
    /// How many values of the schema's text were gone over.
    seen: usize,
    remembers: bool,
    path: Vec<Cow<'s, str>>,
    /// What is wrong and hinders nobody from reading on.
    wrong: Vec<Unusable>,
}

type Entries = Map<String, Value>;

impl<'s> Reader<'s> {
    fn whole(&mut self) -> Result<(), Unusable> {
        self.look_through(self.root, 0, false)?;
        self.node(self.root)?;
        while let Some((to, schema, id)) = self.later.pop() {
            self.path = path_of(to);
            self.fill(schema, id)?;
        }
        Ok(())
    }

    /// Finds all places that have a name of their own, and references that would be read against another base.
    fn look_through(&mut self, schema: &'s Value, depth: usize, inside: bool) -> Result<(), Unusable> {
        if depth > DEEPEST {
            return Err(self.unusable("", format!("it is nested more than {DEEPEST} deep")));
        }
        self.seen += 1;
        match schema {
            Value::Object(entries) => {
                for key in ["$anchor", "$dynamicAnchor"] {
                    if let Some(name) = entries.get(key).and_then(Value::as_str) {
                        self.anchors.entry(name).or_insert(schema);
                    }
                }
                let id = entries.get("$id").and_then(Value::as_str);
                if let Some(name) = id.and_then(|id| id.strip_prefix('#')) {
                    self.anchors.entry(name).or_insert(schema);
                }
                let inside = inside || (depth > 0 && id.is_some_and(|id| !id.starts_with('#')));
                if inside && entries.get("$ref").is_some_and(Value::is_string) {
                    return Err(
                        self.unusable("", "a `$ref` stands inside of a schema with an `$id` of its own")
                    );
                }
                let mut schemas = entries.iter().filter(|(key, _)| !VALUES.contains(&key.as_str()));
                schemas.try_for_each(|(_, inner)| self.look_through(inner, depth + 1, inside))
            }
            Value::Array(items) => {
                items.iter().try_for_each(|inner| self.look_through(inner, depth + 1, inside))
            }
            _ => Ok(()),
        }
    }

    /// A schema where it stands.
    fn node(&mut self, schema: &'s Value) -> Result<Id, Unusable> {
        let (id, is_new) = self.place(schema)?;
        if is_new {
            self.fill(schema, id)?;
        }
        Ok(id)
    }

    /// The place of a schema in the list, and whether it is a new one.
    fn place(&mut self, schema: &'s Value) -> Result<(Id, bool), Unusable> {
        let address = std::ptr::from_ref(schema) as usize;
        if let Some(id) = self.known.get(&address) {
            return Ok((*id, false));
        }
        let id = self.nodes.len();
        if id >= MOST {
            return Err(self.unusable("", format!("there are more than {MOST} schemas in it")));
        }
        self.known.insert(address, id);
        self.nodes.push(Node::Bool(true));
        Ok((id, true))
    }

    fn fill(&mut self, schema: &'s Value, id: Id) -> Result<(), Unusable> {
        if self.path.len() > 2 * DEEPEST {
            return Err(self.unusable("", format!("it is nested more than {DEEPEST} deep")));
        }
        self.nodes[id] = match schema {
            Value::Bool(fits) => Node::Bool(*fits),
            Value::Object(entries) => Node::Rules(Box::new(self.rules(entries)?)),
            _ => {
                self.note("", "a schema is a mapping, `true` or `false`");
                Node::Bool(true)
            }
        };
        Ok(())
    }

    fn rules(&mut self, entries: &'s Entries) -> Result<Rules, Unusable> {
        let reference = self.reference(entries)?;
        if self.old && reference.is_some() {
            return Ok(Rules { reference, ..Rules::default() });
        }
        let rules = Rules {
            reference,
            types: self.types(entries),
            any_of_values: self.values(entries),
            numbers: self.numbers(entries),
            texts: self.texts(entries)?,
            lists: self.lists(entries)?,
            objects: self.objects(entries)?,
            choices: self.choices(entries)?,
            other_items: self.inner(entries, "unevaluatedItems")?,
            other_properties: self.inner(entries, "unevaluatedProperties")?,
        };
        // What nothing uses has to be right as well: it is told where it is written, not when it is first needed.
        for key in ["$defs", "definitions"] {
            self.mapping(entries, key)?;
        }
        self.remembers |= rules.other_items.is_some() || rules.other_properties.is_some();
        Ok(rules)
    }

    fn reference(&mut self, entries: &'s Entries) -> Result<Option<Id>, Unusable> {
        let found = ["$ref", "$dynamicRef", "$recursiveRef"]
            .iter()
            .find_map(|key| entries.get(*key).map(|to| (*key, to)));
        let Some((key, to)) = found else { return Ok(None) };
        let Some(to) = to.as_str() else {
            self.note(key, format!("`{key}` is not a text"));
            return Ok(None);
        };
        let local = match to.strip_prefix(self.id).filter(|_| !self.id.is_empty()) {
            Some(rest) => rest,
            None => to,
        };
        let Some(fragment) = local.strip_prefix('#') else {
            let outside = "refers to something outside of the schema; write it under `$defs`";
            self.note(key, format!("`{}` {outside}", told(to)));
            return Ok(None);
        };
        let fragment = unescape(fragment);
        let target = match fragment.as_str() {
            "" => Some(self.root),
            pointer if pointer.starts_with('/') => self.root.pointer(pointer),
            name => self.anchors.get(name).copied(),
        };
        let Some(target) = target else {
            self.note(key, format!("`{}` refers to nothing", told(to)));
            return Ok(None);
        };
        // Read later, so that a long chain of references goes no deeper than its schemas stand.
        let (id, is_new) = self.place(target)?;
        if is_new {
            self.later.push((to, target, id));
        }
        Ok(Some(id))
    }

    fn types(&mut self, entries: &'s Entries) -> Option<u8> {
        let written = entries.get("type")?;
        let names = match written {
            Value::Array(names) => names.as_slice(),
            one => std::slice::from_ref(one),
        };
        let mut types = 0;
        for name in names {
            match name.as_str().and_then(bit) {
                Some(known) => types |= known,
                None => {
                    let written = told(name.as_str().unwrap_or("something else"));
                    let what = format!("there is no type `{written}`; there are: {}", TYPES.join(", "));
                    self.note("type", what);
                }
            }
        }
        Some(types)
    }

    fn values(&mut self, entries: &'s Entries) -> Option<Vec<Value>> {
        let written = [entries.get("enum"), entries.get("const")];
        self.seen += written.into_iter().flatten().map(nodes).sum::<usize>();
        match written.into() {
            (None, None) => None,
            (None, Some(only)) => Some(vec![only.clone()]),
            (Some(Value::Array(values)), None) => Some(values.clone()),
            // Both have to hold, so only what stands in both is left.
            (Some(Value::Array(values)), Some(only)) => {
                Some(values.iter().filter(|value| *value == only).cloned().collect())
            }
            _ => {
                self.note("enum", "`enum` is not a list");
                None
            }
        }
    }

    fn numbers(&mut self, entries: &'s Entries) -> Numbers {
        let (mut least, mut most) = (self.number(entries, "minimum"), self.number(entries, "maximum"));
        // Draft 4 says by a boolean whether the bound itself is meant.
        let mut strict = |key: &'static str, bound: &mut Option<Number>| match entries.get(key) {
            Some(Value::Bool(true)) => bound.take(),
            _ => self.number(entries, key),
        };
        let above = strict("exclusiveMinimum", &mut least);
        let below = strict("exclusiveMaximum", &mut most);
        let multiple_of = self.number(entries, "multipleOf");
        if multiple_of.as_ref().is_some_and(|number| number.as_f64().is_none_or(|number| number <= 0.0)) {
            self.note("multipleOf", "`multipleOf` is not above 0");
        }
        Numbers { least, most, above, below, multiple_of }
    }

    fn number(&mut self, entries: &'s Entries, key: &str) -> Option<Number> {
        match entries.get(key) {
            None | Some(Value::Bool(false)) => None,
            Some(Value::Number(number)) => Some(number.clone()),
            Some(_) => {
                self.note(key, format!("`{key}` is not a number"));
                None
            }
        }
    }

    fn texts(&mut self, entries: &'s Entries) -> Result<Texts, Unusable> {
        let pattern = match entries.get("pattern") {
            Some(Value::String(pattern)) => self.pattern(pattern, "pattern")?,
            Some(_) => {
                self.note("pattern", "`pattern` is not a text");
                None
            }
            None => None,
        };
        let form = entries.get("format").and_then(Value::as_str).filter(|_| self.old);
        Ok(Texts {
            shortest: self.count(entries, "minLength"),
            longest: self.count(entries, "maxLength"),
            pattern,
            format: form.and_then(format::named),
        })
    }

    fn pattern(&mut self, text: &'s str, key: &str) -> Result<Option<Pattern>, Unusable> {
        if let Some(pattern) = self.patterns.get(text) {
            return Ok(Some(pattern.clone()));
        }
        let pattern = match Pattern::ecma(text) {
            Ok(pattern) => pattern,
            Err(why) => {
                self.note(key, why);
                return Ok(None);
            }
        };
        self.built += pattern.built().max(100);
        if self.built > PATTERNS {
            return Err(self.unusable(key, "the patterns of the schema are too large together"));
        }
        self.patterns.insert(text, pattern.clone());
        Ok(Some(pattern))
    }

    fn lists(&mut self, entries: &'s Entries) -> Result<Lists, Unusable> {
        let mut first = self.list(entries, "prefixItems")?;
        let rest = match entries.get("items") {
            // Older drafts: a list of schemas for the first items, and `additionalItems` for the others.
            Some(Value::Array(_)) => {
                first = self.list(entries, "items")?;
                self.inner(entries, "additionalItems")?
            }
            _ => self.inner(entries, "items")?,
        };
        let contains = self.inner(entries, "contains")?;
        let fewest = self.count(entries, "minContains").unwrap_or(1);
        let most = self.count(entries, "maxContains");
        Ok(Lists {
            fewest: self.count(entries, "minItems"),
            most: self.count(entries, "maxItems"),
            unique: entries.get("uniqueItems") == Some(&Value::Bool(true)),
            first,
            rest,
            contains: contains.map(|item| Contains { item, fewest, most }),
        })
    }

    fn objects(&mut self, entries: &'s Entries) -> Result<Objects, Unusable> {
        let mut patterns = Vec::new();
        for (pattern, id) in self.mapping(entries, "patternProperties")? {
            patterns.extend(self.pattern(pattern, "patternProperties")?.map(|pattern| (pattern, id)));
        }
        let own =
            |found: Vec<(&'s String, Id)>| found.into_iter().map(|(name, id)| (name.clone(), id)).collect();
        let mut objects = Objects {
            fewest: self.count(entries, "minProperties"),
            most: self.count(entries, "maxProperties"),
            required: match entries.get("required") {
                // Draft 3 and some generators mark single properties so; it means nothing today.
                None | Some(Value::Bool(_)) => Vec::new(),
                Some(names) => self.names(names, "required"),
            },
            properties: own(self.mapping(entries, "properties")?),
            patterns,
            additional: self.inner(entries, "additionalProperties")?,
            names: self.inner(entries, "propertyNames")?,
            needs: BTreeMap::new(),
            then: own(self.mapping(entries, "dependentSchemas")?),
        };
        for key in ["dependentRequired", "dependencies"] {
            for (name, needed) in self.object(entries, key).into_iter().flatten() {
                if needed.is_array() {
                    objects.needs.insert(name.clone(), self.names(needed, key));
                } else {
                    let id = self.below(key, needed)?;
                    objects.then.insert(name.clone(), id);
                }
            }
        }
        Ok(objects)
    }

    fn choices(&mut self, entries: &'s Entries) -> Result<Choices, Unusable> {
        Ok(Choices {
            all: self.list(entries, "allOf")?,
            any: self.list(entries, "anyOf")?,
            one: self.list(entries, "oneOf")?,
            not: self.inner(entries, "not")?,
            when: self.inner(entries, "if")?,
            then: self.inner(entries, "then")?,
            otherwise: self.inner(entries, "else")?,
        })
    }

    fn below(&mut self, step: impl Into<Cow<'s, str>>, schema: &'s Value) -> Result<Id, Unusable> {
        self.path.push(step.into());
        let id = self.node(schema)?;
        self.path.pop();
        Ok(id)
    }

    fn inner(&mut self, entries: &'s Entries, key: &'static str) -> Result<Option<Id>, Unusable> {
        entries.get(key).map(|schema| self.below(key, schema)).transpose()
    }

    fn list(&mut self, entries: &'s Entries, key: &'static str) -> Result<Vec<Id>, Unusable> {
        match entries.get(key) {
            None => Ok(Vec::new()),
            Some(Value::Array(items)) => {
                self.path.push(key.into());
                let read =
                    items.iter().enumerate().map(|(at, item)| self.below(at.to_string(), item)).collect();
                self.path.pop();
                read
            }
            Some(_) => {
                self.note(key, format!("`{key}` is not a list of schemas"));
                Ok(Vec::new())
            }
        }
    }

    fn object(&mut self, entries: &'s Entries, key: &str) -> Option<&'s Entries> {
        match entries.get(key)? {
            Value::Object(inner) => Some(inner),
            _ => {
                self.note(key, format!("`{key}` is not a mapping"));
                None
            }
        }
    }

    fn mapping(
        &mut self,
        entries: &'s Entries,
        key: &'static str,
    ) -> Result<Vec<(&'s String, Id)>, Unusable> {
        let Some(inner) = self.object(entries, key) else { return Ok(Vec::new()) };
        self.path.push(key.into());
        let read: Result<Vec<_>, Unusable> =
            inner.iter().map(|(name, schema)| Ok((name, self.below(name, schema)?))).collect();
        self.path.pop();
        read
    }

    fn names(&mut self, written: &Value, key: &str) -> Vec<String> {
        let names = written.as_array().map(|names| names.iter().map(|name| name.as_str().map(str::to_owned)));
        let names: Option<Vec<String>> = names.and_then(Iterator::collect);
        names.unwrap_or_else(|| {
            self.note(key, format!("`{key}` is not a list of names"));
            Vec::new()
        })
    }

    fn count(&mut self, entries: &'s Entries, key: &str) -> Option<usize> {
        let written = entries.get(key)?.as_f64();
        let whole = written.filter(|number| number.fract() == 0.0 && (0.0..=9e15).contains(number));
        if whole.is_none() {
            self.note(key, format!("`{key}` is not a whole number"));
        }
        whole.map(|number| number as usize)
    }

    /// Notes what is wrong with a key of the schema that is read; reading goes on.
    fn note(&mut self, key: &str, what: impl Into<String>) {
        if self.wrong.len() < MOST_WRONG {
            let unusable = self.unusable(key, what);
            self.wrong.push(unusable);
        }
    }

    fn unusable(&self, key: &str, what: impl Into<String>) -> Unusable {
        let mut at = String::new();
        for step in &self.path {
            at.push('/');
            at.push_str(&told(step));
            if at.len() > PLACE {
                break;
            }
        }
        let key = Some(key).filter(|key| !key.is_empty());
        let path = self.path.iter().map(|step| &**step).chain(key).map(str::to_owned).collect();
        Unusable { what: what.into(), at: clipped(&at, PLACE), path }
    }
}

/// The steps from the whole to what a reference names.
fn path_of(reference: &str) -> Vec<Cow<'_, str>> {
    match reference.split_once("#/") {
        Some((_, pointer)) => {
            let step = |step: &str| unescape(step).replace("~1", "/").replace("~0", "~").into();
            pointer.split('/').map(step).collect()
        }
        None => vec![reference.into()],
    }
}

/// Percent-encoding of a fragment undone; what is none stays as it is.
fn unescape(text: &str) -> String {
    let mut plain = Vec::with_capacity(text.len());
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let hex = text.get(at + 1..at + 3).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match hex {
            Some(byte) if bytes[at] == b'%' => {
                plain.push(byte);
                at += 3;
            }
            _ => {
                plain.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8(plain).unwrap_or_else(|_| text.to_owned())
}
