//! Where the parts of a JSON text stand. What is changed is spliced in at a place; everything else stays the bytes it is,
//! 64-bit integers, unknown fields and odd spacing included.

use omium_limits::{Limits, json};
use serde_json::Value;

/// What a body may be: it stays the bytes it is, and its places take some hundred bytes each.
const LIMITS: Limits = Limits { nodes: 500_000, ..Limits::BYTES };

/// The text is no JSON, or none that can be worked on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Bad(pub String);

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    /// Its first byte.
    pub start: usize,
    /// The byte after its last one.
    pub end: usize,
    /// What it holds.
    pub kind: Kind,
}

/// What a value holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// Names and values, in their order.
    Object(Vec<(String, Place)>),
    /// Values, in their order.
    Array(Vec<Place>),
    /// A text; its quotes belong to the place.
    Text,
    /// A number, `true`, `false` or `null`.
    Other,
}

impl Place {
    /// Finds all places of a JSON text.
    pub fn of(text: &str) -> Result<Place, Bad> {
        // The scanner meets only sound texts of bounded depth and number of values: it goes down as deep as they do, and
        // so does whatever reads or drops what it finds.
        json::check(text.as_bytes(), &LIMITS).map_err(|why| Bad(format!("the body is not taken: {why}")))?;
        let mut scanner = Scanner { text: text.as_bytes(), at: 0 };
        scanner.value().ok_or_else(|| Bad("the body is not JSON".to_owned()))
    }

    /// A member by its name; the last one where there are several, as parsers have it.
    pub fn get(&self, name: &str) -> Option<&Place> {
        match &self.kind {
            Kind::Object(members) => {
                members.iter().rev().find(|(known, _)| known == name).map(|(_, place)| place)
            }
            _ => None,
        }
    }

    /// The items, where it is a list.
    pub fn items(&self) -> &[Place] {
        match &self.kind {
            Kind::Array(items) => items,
            _ => &[],
        }
    }

    /// Whether it is an object.
    pub fn is_object(&self) -> bool {
        matches!(self.kind, Kind::Object(_))
    }

    /// Its bytes.
    pub fn raw<'a>(&self, text: &'a str) -> &'a str {
        text.get(self.start..self.end).unwrap_or_default()
    }

    /// What it says, where it is a text.
    pub fn text(&self, text: &str) -> Option<String> {
        match self.kind {
            Kind::Text => serde_json::from_str(self.raw(text)).ok(),
            _ => None,
        }
    }

    /// Its value.
    pub fn value(&self, text: &str) -> Value {
        serde_json::from_str(self.raw(text)).unwrap_or_default()
    }
}

struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
}

impl Scanner<'_> {
    fn value(&mut self) -> Option<Place> {
        self.blank();
        let start = self.at;
        let kind = match self.text.get(self.at)? {
            b'{' => self.object()?,
            b'[' => self.array()?,
            b'"' => {
                self.string()?;
                Kind::Text
            }
            _ => {
                while self.text.get(self.at).is_some_and(|byte| !b",]} \t\r\n".contains(byte)) {
                    self.at += 1;
                }
                Kind::Other
            }
        };
        Some(Place { start, end: self.at, kind })
    }

    fn object(&mut self) -> Option<Kind> {
        let mut members = Vec::new();
        self.at += 1;
        loop {
            self.blank();
            match self.text.get(self.at)? {
                b'}' => break,
                b',' => self.at += 1,
                _ => {
                    let name = self.string()?;
                    self.blank();
                    self.at += 1;
                    members.push((name, self.value()?));
                }
            }
        }
        self.at += 1;
        Some(Kind::Object(members))
    }

    fn array(&mut self) -> Option<Kind> {
        let mut items = Vec::new();
        self.at += 1;
        loop {
            self.blank();
            match self.text.get(self.at)? {
                b']' => break,
                b',' => self.at += 1,
                _ => items.push(self.value()?),
            }
        }
        self.at += 1;
        Some(Kind::Array(items))
    }

    fn string(&mut self) -> Option<String> {
        let start = self.at;
        self.at += 1;
        while *self.text.get(self.at)? != b'"' {
            self.at += if self.text[self.at] == b'\\' { 2 } else { 1 };
        }
        self.at += 1;
        serde_json::from_slice(self.text.get(start..self.at)?).ok()
    }

    fn blank(&mut self) {
        while self.text.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_is_found_where_it_stands() {
        let text = r#" {"a" : [1, {"b\"": "x\\"}, 12345678901234567890], "c":null,"a":2.50 } "#;
        let place = Place::of(text).unwrap();
        assert_eq!(place.get("a").unwrap().raw(text), "2.50");
        assert_eq!(place.get("c").unwrap().raw(text), "null");
        let Kind::Object(members) = &place.kind else { panic!("it is an object") };
        let list = members[0].1.items();
        assert_eq!(list[1].get("b\"").unwrap().text(text).unwrap(), "x\\");
        assert_eq!(list[2].raw(text), "12345678901234567890");
        assert_eq!(place.raw(text), text.trim());
    }

    #[test]
    fn what_is_no_json_or_nests_without_end_is_refused() {
        for text in ["", "{", "[1,]", "{\"a\":}", "NaN", &"[".repeat(100_000)] {
            assert!(Place::of(text).is_err());
        }
        let nested = |open: &str, close: &str, n: usize| open.repeat(n) + "1" + &close.repeat(n);
        for (open, close) in [("[", "]"), ("{\"a\":", "}"), ("[{\"a\":", "}]")] {
            let why = Place::of(&nested(open, close, 200_000)).unwrap_err();
            assert!(why.0.contains("nested more than 127 deep"), "{why}");
            let deepest = Place::of(&nested(open, close, 63)).unwrap();
            drop(deepest.clone());
        }
    }

    #[test]
    fn what_holds_too_many_values_is_refused_before_it_takes_memory() {
        let why = Place::of(&format!("[{}1]", "1,".repeat(600_000))).unwrap_err();
        assert!(why.0.contains("more than 500000 values"), "{why}");
        let why = Place::of(&format!("[{}1]", "{\"a\":{}},".repeat(240_000))).unwrap_err();
        assert!(why.0.contains("bytes of memory"), "{why}");
    }

    #[test]
    fn names_that_the_library_keeps_for_itself_are_refused() {
        let why = Place::of(r#"{"x": {"$serde_json::private::RawValue": "[1]"}}"#).unwrap_err();
        assert!(why.0.contains("reserved"), "{why}");
    }
}
