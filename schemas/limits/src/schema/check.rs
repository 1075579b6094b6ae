//! Holds a value against a schema, step by step, each of them paid for.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use serde_json::{Map, Number, Value};

use super::compare::{is_multiple, key, order, same};
use super::rules::{Choices, Id, Lists, Node, Numbers, Objects, Rules, TYPES, Texts, types_of};
use super::{Schema, Violation};
use crate::{Fuel, Spent, told};

/// How deep schemas and values may lie in each other together. A reference that leads back to itself ends here.
const DEEPEST: usize = 400;

pub(super) fn violations(
    schema: &Schema,
    value: &Value,
    most: usize,
    fuel: &mut Fuel,
) -> Result<Vec<Violation>, Spent> {
    let mut check = Check { schema, fuel, found: Vec::new(), most: most.max(1), quiet: 0, depth: 0 };
    let fits = check.node(0, value, None)?;
    debug_assert!(fits == check.found.is_empty(), "what does not fit says why");
    Ok(check.found)
}

struct Check<'s, 'f> {
    schema: &'s Schema,
    fuel: &'f mut Fuel,
    found: Vec<Violation>,
    most: usize,
    /// Whether it only matters that something does not fit, not what.
    quiet: usize,
    depth: usize,
}

/// What of a value other parts of the same schema have looked at.
#[derive(Default)]
struct Seen<'v> {
    names: BTreeSet<&'v str>,
    items: BTreeSet<usize>,
    /// Items before this one.
    first: usize,
}

impl<'v> Seen<'v> {
    fn take(&mut self, other: Seen<'v>) {
        self.names.extend(other.names);
        self.items.extend(other.items);
        self.first = self.first.max(other.first);
    }
}

impl<'s> Check<'s, '_> {
    fn node<'v>(&mut self, id: Id, value: &'v Value, seen: Option<&mut Seen<'v>>) -> Result<bool, Spent> {
        self.fuel.take(1)?;
        let schema = self.schema;
        let rules = match &schema.nodes[id] {
            Node::Bool(true) => return Ok(true),
            Node::Bool(false) => return Ok(self.wrong(|| "is not allowed".to_owned())),
            Node::Rules(rules) => rules,
        };
        if self.depth >= DEEPEST {
            return Err(Spent::Depth { most: DEEPEST });
        }
        self.depth += 1;
        let fits = self.rules(rules, value, seen);
        self.depth -= 1;
        fits
    }

    fn rules<'v>(
        &mut self,
        rules: &'s Rules,
        value: &'v Value,
        seen: Option<&mut Seen<'v>>,
    ) -> Result<bool, Spent> {
        let mut own = (self.schema.remembers).then(Seen::default);
        let mut fits = self.plain(rules, value)?;
        if fits || self.goes_on() {
            fits &= self.inner(rules, value, &mut own)?;
        }
        if fits || self.goes_on() {
            fits &= self.choices(&rules.choices, value, &mut own)?;
        }
        if let (Some(reference), true) = (rules.reference, fits || self.goes_on()) {
            fits &= self.beside(reference, value, &mut own)?;
        }
        if let (Some(own), true) = (&mut own, fits) {
            fits &= self.others(rules, value, own)?;
        }
        if let (Some(seen), Some(own), true) = (seen, own, fits) {
            seen.take(own);
        }
        Ok(fits)
    }

    /// What can be said without looking inside.
    fn plain(&mut self, rules: &Rules, value: &Value) -> Result<bool, Spent> {
        if let Some(types) = rules.types
            && types & types_of(value) == 0
        {
            // Nothing else that is wrong with it would be of use.
            return Ok(self.wrong(|| format!("is not of type {}", names_of(types))));
        }
        if let Some(values) = &rules.any_of_values {
            let mut is_one = false;
            for known in values {
                is_one = is_one || same(known, value, self.fuel)?;
            }
            if !is_one {
                return Ok(self.wrong(|| match values.as_slice() {
                    [Value::String(only)] => format!("is not `{}`", told(only)),
                    _ => "is none of the values that are allowed".to_owned(),
                }));
            }
        }
        match value {
            Value::Number(number) => self.number(&rules.numbers, number),
            Value::String(text) => self.text(&rules.texts, text),
            _ => Ok(true),
        }
    }

    fn number(&mut self, rules: &Numbers, number: &Number) -> Result<bool, Spent> {
        self.fuel.take(1)?;
        let than = |bound: &Option<Number>, wrong: &[Ordering]| {
            bound
                .as_ref()
                .is_some_and(|bound| order(number, bound).is_none_or(|order| wrong.contains(&order)))
        };
        let said = |bound: &Option<Number>| bound.as_ref().map(Number::to_string).unwrap_or_default();
        if than(&rules.least, &[Ordering::Less]) {
            return Ok(self.wrong(|| format!("is less than the minimum of {}", said(&rules.least))));
        }
        if than(&rules.most, &[Ordering::Greater]) {
            return Ok(self.wrong(|| format!("is greater than the maximum of {}", said(&rules.most))));
        }
        if than(&rules.above, &[Ordering::Less, Ordering::Equal]) {
            return Ok(self.wrong(|| format!("is not greater than {}", said(&rules.above))));
        }
        if than(&rules.below, &[Ordering::Greater, Ordering::Equal]) {
            return Ok(self.wrong(|| format!("is not less than {}", said(&rules.below))));
        }
        match &rules.multiple_of {
            Some(of) if !is_multiple(number, of) => Ok(self.wrong(|| format!("is not a multiple of {of}"))),
            _ => Ok(true),
        }
    }

    fn text(&mut self, rules: &Texts, text: &str) -> Result<bool, Spent> {
        if rules.shortest.is_some() || rules.longest.is_some() {
            self.fuel.scan(text.len())?;
            let length = text.chars().count();
            if let Some(least) = rules.shortest.filter(|least| length < *least) {
                return Ok(self.wrong(|| format!("has {length} characters, {least} at least are asked for")));
            }
            if let Some(most) = rules.longest.filter(|most| length > *most) {
                return Ok(self.wrong(|| format!("has {length} characters, {most} at most are asked for")));
            }
        }
        if let Some(pattern) = &rules.pattern
            && !pattern.is_match(text, self.fuel)?
        {
            return Ok(self.wrong(|| format!("does not fit the {}", pattern.shown())));
        }
        if let Some((form, check)) = rules.format {
            self.fuel.scan(text.len())?;
            if !check(text) {
                return Ok(self.wrong(|| format!("is no {form}")));
            }
        }
        Ok(true)
    }

    fn inner<'v>(
        &mut self,
        rules: &'s Rules,
        value: &'v Value,
        own: &mut Option<Seen<'v>>,
    ) -> Result<bool, Spent> {
        match value {
            Value::Array(items) => self.list(&rules.lists, items, own),
            Value::Object(entries) => self.object(&rules.objects, value, entries, own),
            _ => Ok(true),
        }
    }

    fn list<'v>(
        &mut self,
        rules: &'s Lists,
        items: &'v [Value],
        own: &mut Option<Seen<'v>>,
    ) -> Result<bool, Spent> {
        let mut fits = self.sizes(items.len(), (rules.fewest, rules.most), "items");
        if rules.unique && (fits || self.goes_on()) {
            fits &= self.unique(items)?;
        }
        if !rules.first.is_empty() || rules.rest.is_some() {
            for (at, item) in items.iter().enumerate() {
                let Some(id) = rules.first.get(at).copied().or(rules.rest) else { break };
                if !fits && !self.goes_on() {
                    return Ok(false);
                }
                fits &= self.below(id, item, || at.to_string())?;
                if let Some(own) = own {
                    own.first = own.first.max(at + 1);
                }
            }
        }
        let Some(contains) = &rules.contains else { return Ok(fits) };
        let mut found = 0;
        for (at, item) in items.iter().enumerate() {
            if self.quietly(contains.item, item, None)? {
                found += 1;
                if let Some(own) = own {
                    self.fuel.allocate(SEEN)?;
                    own.items.insert(at);
                }
            }
        }
        if found < contains.fewest || contains.most.is_some_and(|most| found > most) {
            fits = self.wrong(|| format!("holds {found} items of the kind that is asked for"));
        }
        Ok(fits)
    }

    fn unique(&mut self, items: &[Value]) -> Result<bool, Spent> {
        let mut keys = BTreeSet::new();
        for (at, item) in items.iter().enumerate() {
            let mut bytes = Vec::new();
            key(item, self.fuel, &mut bytes)?;
            // A search compares with some twenty others at most.
            self.fuel.take(2)?;
            self.fuel.scan(bytes.len())?;
            self.fuel.allocate(SEEN)?;
            if !keys.insert(bytes) {
                return Ok(self.wrong(|| format!("holds item {at} twice, which is not allowed")));
            }
        }
        Ok(true)
    }

    fn object<'v>(
        &mut self,
        rules: &'s Objects,
        whole: &'v Value,
        entries: &'v Map<String, Value>,
        own: &mut Option<Seen<'v>>,
    ) -> Result<bool, Spent> {
        let mut fits = self.sizes(entries.len(), (rules.fewest, rules.most), "names");
        for name in &rules.required {
            self.fuel.take(1)?;
            if (fits || self.goes_on()) && !entries.contains_key(name) {
                fits = self.wrong(|| format!("lacks `{}`", told(name)));
            }
        }
        for (name, item) in entries {
            if !fits && !self.goes_on() {
                return Ok(false);
            }
            self.fuel.take(1)?;
            self.fuel.scan(name.len())?;
            fits &= self.entry(rules, name, item, own)?;
            fits &= self.depending(rules, name, whole, entries, own)?;
        }
        Ok(fits)
    }

    fn entry<'v>(
        &mut self,
        rules: &'s Objects,
        name: &'v str,
        item: &'v Value,
        own: &mut Option<Seen<'v>>,
    ) -> Result<bool, Spent> {
        let mut fits = true;
        if let Some(id) = rules.names {
            self.fuel.copy(name.len())?;
            if !self.quietly(id, &Value::from(name), None)? {
                fits = self.wrong(|| format!("holds the name `{}`, which is not allowed", told(name)));
            }
        }
        let mut is_known = false;
        if let Some(id) = rules.properties.get(name) {
            is_known = true;
            fits &= self.below(*id, item, || told(name))?;
        }
        for (pattern, id) in &rules.patterns {
            if pattern.is_match(name, self.fuel)? {
                is_known = true;
                fits &= self.below(*id, item, || told(name))?;
            }
        }
        if let (Some(id), false) = (rules.additional, is_known) {
            is_known = true;
            if matches!(self.schema.nodes[id], Node::Bool(false)) {
                fits = self.wrong(|| format!("holds `{}`, which is not asked for", told(name)));
            } else {
                fits &= self.below(id, item, || told(name))?;
            }
        }
        if let (Some(own), true) = (own, is_known) {
            self.fuel.allocate(SEEN)?;
            own.names.insert(name);
        }
        Ok(fits)
    }

    fn depending<'v>(
        &mut self,
        rules: &'s Objects,
        name: &str,
        whole: &'v Value,
        entries: &'v Map<String, Value>,
        own: &mut Option<Seen<'v>>,
    ) -> Result<bool, Spent> {
        let mut fits = true;
        for needed in rules.needs.get(name).into_iter().flatten() {
            self.fuel.take(1)?;
            if fits && !entries.contains_key(needed) {
                fits = self.wrong(|| format!("lacks `{}`, which `{}` needs", told(needed), told(name)));
            }
        }
        if let Some(id) = rules.then.get(name) {
            fits &= self.beside(*id, whole, own)?;
        }
        Ok(fits)
    }

    fn choices<'v>(
        &mut self,
        rules: &'s Choices,
        value: &'v Value,
        own: &mut Option<Seen<'v>>,
    ) -> Result<bool, Spent> {
        let mut fits = true;
        for id in &rules.all {
            if !fits && !self.goes_on() {
                return Ok(false);
            }
            fits &= self.beside(*id, value, own)?;
        }
        if !rules.any.is_empty() && self.how_many(&rules.any, value, own, 1)? == 0 {
            fits = self.none_of(&rules.any, value)?;
        }
        if !rules.one.is_empty() {
            match self.how_many(&rules.one, value, own, 2)? {
                1 => {}
                0 => fits = self.none_of(&rules.one, value)?,
                _ => {
                    fits =
                        self.wrong(|| "fits more than one of the forms, of which it may have one".to_owned())
                }
            }
        }
        if let Some(id) = rules.not
            && self.quietly(id, value, None)?
        {
            fits = self.wrong(|| "has a form that it must not have".to_owned());
        }
        if let Some(id) = rules.when {
            let mut inner = own.is_some().then(Seen::default);
            let holds = self.quietly(id, value, inner.as_mut())?;
            if let (Some(own), Some(inner), true) = (own.as_mut(), inner, holds) {
                own.take(inner);
            }
            if let Some(id) = if holds { rules.then } else { rules.otherwise } {
                fits &= self.beside(id, value, own)?;
            }
        }
        Ok(fits)
    }

    /// How many of the forms a value has; no more are looked for than matter.
    fn how_many<'v>(
        &mut self,
        forms: &[Id],
        value: &'v Value,
        own: &mut Option<Seen<'v>>,
        enough: usize,
    ) -> Result<usize, Spent> {
        let mut found = 0;
        for id in forms {
            let mut inner = own.is_some().then(Seen::default);
            if self.quietly(*id, value, inner.as_mut())? {
                found += 1;
                if let (Some(own), Some(inner)) = (own.as_mut(), inner) {
                    own.take(inner);
                } else if found >= enough {
                    break;
                }
            }
        }
        Ok(found)
    }

    /// Where only one form is of the value's type, what is wrong is told by that one: `null` or a number, for example.
    fn none_of(&mut self, forms: &[Id], value: &Value) -> Result<bool, Spent> {
        let types = types_of(value);
        let could_be = |id: &&Id| match &self.schema.nodes[**id] {
            Node::Rules(rules) => rules.types.is_none_or(|allowed| allowed & types != 0),
            Node::Bool(fits) => *fits,
        };
        let mut fitting = forms.iter().filter(could_be);
        match (fitting.next().copied(), fitting.next()) {
            (Some(only), None) if self.quiet == 0 => self.node(only, value, None),
            _ => Ok(self.wrong(|| format!("has none of the {} forms that are allowed", forms.len()))),
        }
    }

    /// What no other part has looked at.
    fn others<'v>(&mut self, rules: &'s Rules, value: &'v Value, own: &mut Seen<'v>) -> Result<bool, Spent> {
        let mut fits = true;
        if let (Some(id), Value::Object(entries)) = (rules.other_properties, value) {
            for (name, item) in entries {
                self.fuel.take(1)?;
                if own.names.insert(name) {
                    self.fuel.allocate(SEEN)?;
                    fits &= self.below(id, item, || told(name))?;
                }
            }
        }
        if let (Some(id), Value::Array(items)) = (rules.other_items, value) {
            for (at, item) in items.iter().enumerate().skip(own.first) {
                self.fuel.take(1)?;
                if !own.items.contains(&at) {
                    fits &= self.below(id, item, || at.to_string())?;
                }
            }
            own.first = items.len();
        }
        Ok(fits)
    }

    /// Another schema for the same value.
    fn beside<'v>(&mut self, id: Id, value: &'v Value, own: &mut Option<Seen<'v>>) -> Result<bool, Spent> {
        self.node(id, value, own.as_mut())
    }

    /// A schema for something inside of the value.
    fn below(&mut self, id: Id, value: &Value, step: impl Fn() -> String) -> Result<bool, Spent> {
        let before = self.found.len();
        let fits = self.node(id, value, None)?;
        for found in &mut self.found[before..] {
            found.at.push(step());
        }
        Ok(fits)
    }

    fn quietly<'v>(&mut self, id: Id, value: &'v Value, seen: Option<&mut Seen<'v>>) -> Result<bool, Spent> {
        self.quiet += 1;
        let fits = self.node(id, value, seen);
        self.quiet -= 1;
        fits
    }

    fn sizes(&mut self, found: usize, (fewest, most): (Option<usize>, Option<usize>), of: &str) -> bool {
        if let Some(fewest) = fewest.filter(|fewest| found < *fewest) {
            return self.wrong(|| format!("has {found} {of}, {fewest} at least are asked for"));
        }
        if let Some(most) = most.filter(|most| found > *most) {
            return self.wrong(|| format!("has {found} {of}, {most} at most are asked for"));
        }
        true
    }

    /// Whether more that is wrong is of interest.
    fn goes_on(&self) -> bool {
        self.quiet == 0 && self.found.len() < self.most
    }

    /// Notes what is wrong, where somebody wants to know.
    fn wrong(&mut self, what: impl FnOnce() -> String) -> bool {
        if self.goes_on() {
            self.found.push(Violation { what: what(), at: Vec::new() });
        }
        false
    }
}

/// What remembering one name or item takes.
const SEEN: usize = 64;

fn names_of(types: u8) -> String {
    let names: Vec<&str> =
        TYPES.iter().enumerate().filter(|(at, _)| types & (1 << at) != 0).map(|(_, name)| *name).collect();
    names.join(" or ")
}
