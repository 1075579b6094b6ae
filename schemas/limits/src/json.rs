//! JSON texts, counted without being built: how deep, how many values, how large once they are values or written again.

use serde_json::Value;

pub use crate::typed::{integer, typed};

/// What a text may be at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long it may be, in bytes.
    pub bytes: usize,
    /// How deep lists and objects may lie in each other.
    pub depth: usize,
    /// How many values there may be: every text, number, list, object and so on, at every level.
    pub nodes: usize,
    /// How much memory it may take once it is built as values.
    pub memory: u64,
    /// How long it may get when it is read and written again.
    pub written: usize,
    /// Whether it stays the bytes it is. Otherwise it will be read and written again, and what would come back as
    /// something else is refused: integers beyond 64 bits.
    pub as_bytes: bool,
}

impl Limits {
    /// For a text that is read, kept as values and written again.
    pub const VALUES: Limits = Limits {
        bytes: 32 << 20,
        depth: KEPT_DEPTH,
        nodes: 4_000_000,
        memory: 256 << 20,
        written: 48 << 20,
        as_bytes: false,
    };
    /// For a text that is looked at and stays the bytes it is.
    pub const BYTES: Limits =
        Limits { bytes: 64 << 20, depth: DEPTH, written: usize::MAX, as_bytes: true, ..Limits::VALUES };
}

impl Default for Limits {
    fn default() -> Limits {
        Limits::VALUES
    }
}

/// As deep as the parser that builds values goes.
pub const DEPTH: usize = 127;

/// As deep as values are kept: what is put around them later can still be read.
pub const KEPT_DEPTH: usize = 100;

/// What was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// How deep it goes.
    pub depth: usize,
    /// How many values there are.
    pub nodes: usize,
    /// How much memory it takes once it is built as values; never less than it really does.
    pub memory: u64,
    /// How long it is at most when it is read and written again: `1e15` becomes `1000000000000000.0`.
    pub written: usize,
}

/// Why a text is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// It is no JSON.
    #[error("it is not JSON: {what} at byte {at}")]
    NotJson {
        /// Where it goes wrong.
        at: usize,
        /// What is wrong.
        what: &'static str,
    },
    /// It is too long.
    #[error("it has {found} bytes; {most} are allowed")]
    Bytes {
        /// How long it is.
        found: usize,
        /// How long it may be.
        most: usize,
    },
    /// It is too deep.
    #[error("it is nested more than {most} deep at byte {at}; flatten it, or send the inner part as a text")]
    Depth {
        /// Where.
        at: usize,
        /// How deep it may be.
        most: usize,
    },
    /// It would get too long.
    #[error(
        "it gets longer than {most} bytes once it is written again; write its numbers out shorter, or as texts"
    )]
    Written {
        /// How long it may get.
        most: usize,
    },
    /// It holds too many values.
    #[error("it holds more than {most} values; split it, or send it as a text")]
    Nodes {
        /// How many it may hold.
        most: usize,
    },
    /// It would take too much memory.
    #[error("its values would take more than {most} bytes of memory; split it, or send it as a text")]
    Memory {
        /// How much it may take.
        most: u64,
    },
    /// It holds a name that the JSON library keeps for itself, and would come back as something else.
    #[error("the name `{name}` at byte {at} is reserved; choose another one")]
    Reserved {
        /// Where.
        at: usize,
        /// The name.
        name: &'static str,
    },
    /// It holds an integer that would come back as another number.
    #[error(
        "the integer at byte {at} does not fit into 64 bits; send it as a text, so that it stays what it is"
    )]
    Integer {
        /// Where.
        at: usize,
    },
}

/// Names by which the JSON library marks numbers and raw texts of its own.
pub const RESERVED: [&str; 2] = ["$serde_json::private::Number", "$serde_json::private::RawValue"];

/// Looks whether a text is JSON within limits, without building anything. Neither deep nor wide texts cost more than their
/// length.
pub fn check(text: &[u8], limits: &Limits) -> Result<Counted, Refused> {
    if text.len() > limits.bytes {
        return Err(Refused::Bytes { found: text.len(), most: limits.bytes });
    }
    if let Err(why) = std::str::from_utf8(text) {
        return Err(Refused::NotJson { at: why.valid_up_to(), what: "no UTF-8" });
    }
    let mut scanner = Scanner { text, at: 0, limits, open: Vec::new(), counted: Counted::default() };
    scanner.counted.written = text.len();
    scanner.whole()?;
    if scanner.counted.written > limits.written {
        return Err(Refused::Written { most: limits.written });
    }
    Ok(scanner.counted)
}

/// Checks a text and builds its value.
pub fn parse(text: &[u8], limits: &Limits) -> Result<Value, Refused> {
    check(text, limits)?;
    serde_json::from_slice(text).map_err(|why| Refused::NotJson {
        at: why.column(),
        // Beyond the grammar this parser only minds numbers like 1e400 and half of a surrogate pair.
        what: if why.to_string().contains("number") {
            "a number out of range"
        } else {
            "a letter that there is not"
        },
    })
}

/// How many values a value holds, itself included.
pub fn nodes(value: &Value) -> usize {
    // Values are no deeper than their texts were, which are bounded.
    match value {
        Value::Array(items) => 1 + items.iter().map(nodes).sum::<usize>(),
        Value::Object(entries) => 1 + entries.values().map(nodes).sum::<usize>(),
        _ => 1,
    }
}

/// How long the value is once it is written, within a budget: nothing where it is longer. Costs no more than the budget.
pub fn written_within(value: &Value, most: usize) -> Option<usize> {
    struct Counter {
        left: usize,
    }
    impl std::io::Write for Counter {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let left = self.left.checked_sub(bytes.len());
            self.left = left.ok_or_else(|| std::io::Error::other("longer than the budget"))?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut counter = Counter { left: most };
    serde_json::to_writer(&mut counter, value).ok()?;
    Some(most - counter.left)
}

// What one value takes: its own 32 bytes, doubled because lists grow by doubling.
const OF_VALUE: u64 = 64;
/// An object begins with a tree node of eleven names and values.
const OF_OBJECT: u64 = 640;
/// A list or a text is an allocation.
const OF_ALLOCATION: u64 = 32;
/// The longest that a number with a fraction or an exponent gets when it is written again.
const LONGEST_FLOAT: usize = 25;

struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
    limits: &'a Limits,
    /// What is open: `{` or `[`.
    open: Vec<u8>,
    counted: Counted,
}

impl Scanner<'_> {
    fn whole(&mut self) -> Result<(), Refused> {
        self.blank();
        loop {
            let opened = self.value()?;
            if opened && !self.closes_at_once()? {
                continue;
            }
            if !self.goes_on()? {
                return Ok(());
            }
        }
    }

    /// A value, or the beginning of a list or an object; whether one was opened.
    fn value(&mut self) -> Result<bool, Refused> {
        self.count(OF_VALUE)?;
        match self.peek() {
            Some(bracket @ (b'{' | b'[')) => {
                if self.open.len() >= self.limits.depth {
                    return Err(Refused::Depth { at: self.at, most: self.limits.depth });
                }
                self.at += 1;
                self.open.push(bracket);
                self.counted.depth = self.counted.depth.max(self.open.len());
                self.remember(if bracket == b'{' { OF_OBJECT } else { OF_ALLOCATION })?;
                return Ok(true);
            }
            Some(b'"') => self.text().map(drop)?,
            Some(b't') => self.word(b"true")?,
            Some(b'f') => self.word(b"false")?,
            Some(b'n') => self.word(b"null")?,
            Some(b'-' | b'0'..=b'9') => self.number()?,
            Some(_) => return Err(self.wrong("a value is missing")),
            None => return Err(self.wrong("the text ends too early")),
        }
        Ok(false)
    }

    /// Behind an opening bracket: whether the closing one follows. An object's first name is read.
    fn closes_at_once(&mut self) -> Result<bool, Refused> {
        self.blank();
        match (self.open.last(), self.peek()) {
            (Some(b'{'), Some(b'}')) | (Some(b'['), Some(b']')) => {
                self.at += 1;
                self.open.pop();
                Ok(true)
            }
            (Some(b'{'), _) => self.name().map(|()| false),
            _ => Ok(false),
        }
    }

    /// Behind a value: whether another one follows. Closes what ends here.
    fn goes_on(&mut self) -> Result<bool, Refused> {
        loop {
            self.blank();
            match (self.open.last(), self.peek()) {
                (None, None) => return Ok(false),
                (None, Some(_)) => return Err(self.wrong("something follows the value")),
                (Some(b'{'), Some(b'}')) | (Some(b'['), Some(b']')) => {
                    self.at += 1;
                    self.open.pop();
                }
                (Some(bracket), Some(b',')) => {
                    let object = *bracket == b'{';
                    self.at += 1;
                    self.blank();
                    if object {
                        self.name()?;
                    }
                    return Ok(true);
                }
                (Some(_), Some(_)) => return Err(self.wrong("a comma or a closing bracket is missing")),
                (Some(_), None) => return Err(self.wrong("the text ends too early")),
            }
        }
    }

    fn name(&mut self) -> Result<(), Refused> {
        if self.peek() != Some(b'"') {
            return Err(self.wrong("a name in quotes is missing"));
        }
        let from = self.at;
        let raw = self.text()?;
        self.remember(OF_VALUE)?;
        self.is_free(from, raw)?;
        self.blank();
        if self.peek() != Some(b':') {
            return Err(self.wrong("a colon is missing"));
        }
        self.at += 1;
        self.blank();
        Ok(())
    }

    fn is_free(&self, at: usize, raw: (usize, usize)) -> Result<(), Refused> {
        let raw = &self.text[raw.0..raw.1];
        let longest = RESERVED.iter().map(|name| name.len() * 6).max().unwrap_or_default();
        if raw.len() > longest + 2 || !(raw.starts_with(b"\"$") || raw.contains(&b'\\')) {
            return Ok(());
        }
        let name: String = serde_json::from_slice(raw).unwrap_or_default();
        match RESERVED.into_iter().find(|reserved| *reserved == name) {
            Some(name) => Err(Refused::Reserved { at, name }),
            None => Ok(()),
        }
    }

    /// A text in quotes; where it begins and ends.
    fn text(&mut self) -> Result<(usize, usize), Refused> {
        let from = self.at;
        self.at += 1;
        loop {
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => self.escape()?,
                Some(byte) if byte < 0x20 => return Err(self.wrong("a control character stands in a text")),
                Some(_) => self.at += 1,
                None => return Err(self.wrong("a text is never closed")),
            }
        }
        self.at += 1;
        self.remember(OF_ALLOCATION + (self.at - from) as u64)?;
        Ok((from, self.at))
    }

    fn escape(&mut self) -> Result<(), Refused> {
        let length = match self.text.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => 2,
            Some(b'u') => {
                let digits = self.text.get(self.at + 2..self.at + 6).unwrap_or_default();
                if digits.len() < 4 || !digits.iter().all(u8::is_ascii_hexdigit) {
                    return Err(self.wrong("an escape has not four digits"));
                }
                6
            }
            _ => return Err(self.wrong("there is no such escape")),
        };
        self.at += length;
        Ok(())
    }

    fn number(&mut self) -> Result<(), Refused> {
        let from = self.at;
        self.at += usize::from(self.peek() == Some(b'-'));
        let whole = self.digits();
        if whole == 0 || (whole > 1 && self.text[self.at - whole] == b'0') {
            return Err(self.wrong("a number is no number"));
        }
        let mut plain = true;
        if self.peek() == Some(b'.') {
            (plain, self.at) = (false, self.at + 1);
            if self.digits() == 0 {
                return Err(self.wrong("digits are missing behind the point"));
            }
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            (plain, self.at) = (false, self.at + 1);
            self.at += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            if self.digits() == 0 {
                return Err(self.wrong("digits are missing in the exponent"));
            }
        }
        let length = self.at - from;
        // `-0` comes back as `-0.0`, and large integers as floats.
        if !plain || length > 20 || &self.text[from..self.at] == b"-0" {
            self.counted.written += LONGEST_FLOAT.saturating_sub(length);
        }
        if plain && !self.limits.as_bytes && !fits_64_bits(&self.text[from..self.at]) {
            return Err(Refused::Integer { at: from });
        }
        Ok(())
    }

    fn digits(&mut self) -> usize {
        let from = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        self.at - from
    }

    fn word(&mut self, word: &[u8]) -> Result<(), Refused> {
        if !self.text[self.at..].starts_with(word) {
            return Err(self.wrong("a value is missing"));
        }
        self.at += word.len();
        Ok(())
    }

    fn count(&mut self, memory: u64) -> Result<(), Refused> {
        self.counted.nodes += 1;
        if self.counted.nodes > self.limits.nodes {
            return Err(Refused::Nodes { most: self.limits.nodes });
        }
        self.remember(memory)
    }

    fn remember(&mut self, memory: u64) -> Result<(), Refused> {
        self.counted.memory += memory;
        if self.counted.memory > self.limits.memory {
            return Err(Refused::Memory { most: self.limits.memory });
        }
        Ok(())
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn blank(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn wrong(&self, what: &'static str) -> Refused {
        Refused::NotJson { at: self.at, what }
    }
}

fn fits_64_bits(digits: &[u8]) -> bool {
    let text = std::str::from_utf8(digits).unwrap_or_default();
    text.parse::<i64>().is_ok() || text.parse::<u64>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(text: &str) -> Result<Counted, Refused> {
        check(text.as_bytes(), &Limits::default())
    }

    #[track_caller]
    fn refused(text: &str, part: &str) {
        let why = counted(text).expect_err("it has to be refused").to_string();
        assert!(why.contains(part), "{why}");
    }

    #[test]
    fn values_are_counted_without_being_built() {
        let counted = counted(r#" {"a": [1, {"b": "x"}], "c": null} "#).unwrap();
        assert_eq!((counted.depth, counted.nodes), (3, 6));
    }

    #[test]
    fn what_is_no_json_is_refused_with_its_place() {
        for (text, part) in [
            ("", "ends too early at byte 0"),
            ("{", "a name in quotes is missing at byte 1"),
            ("[1,]", "a value is missing at byte 3"),
            ("{\"a\":}", "a value is missing"),
            ("{\"a\" 1}", "a colon"),
            ("[1 2]", "a comma or a closing bracket"),
            ("[1}", "a comma or a closing bracket"),
            ("{\"a\":1]", "a comma or a closing bracket"),
            ("01", "no number"),
            ("1.", "behind the point"),
            ("1e", "exponent"),
            ("-", "no number"),
            ("nul", "a value is missing"),
            ("\"\\x\"", "no such escape"),
            ("\"\\u12\"", "four digits"),
            ("\"a", "never closed"),
            ("\"\n\"", "control character"),
            ("1 1", "follows the value"),
            ("NaN", "a value is missing"),
        ] {
            refused(text, part);
        }
        assert!(matches!(check(&[b'"', 255, b'"'], &Limits::default()), Err(Refused::NotJson { at: 1, .. })));
    }

    #[test]
    fn depth_number_of_values_and_memory_are_bounded_for_closed_texts_too() {
        let deep = |n: usize| "[".repeat(n) + &"]".repeat(n);
        assert_eq!(counted(&deep(KEPT_DEPTH)).unwrap().depth, KEPT_DEPTH);
        assert!(parse(deep(DEPTH).as_bytes(), &Limits::BYTES).is_ok());
        refused(&deep(KEPT_DEPTH + 1), "more than 100 deep at byte 100");
        refused(&deep(1_000_000), "more than 100 deep");
        refused(&("{\"a\":".repeat(200_000) + "1" + &"}".repeat(200_000)), "deep");
        refused(&format!("[{}1]", "1,".repeat(4_000_000)), "more than 4000000 values");
        refused(&format!("[{}1]", "{\"a\":{}},".repeat(1_000_000)), "bytes of memory");
    }

    #[test]
    fn the_memory_that_is_told_is_no_less_than_what_values_take() {
        // An object with one name: its own 32 bytes, a tree node of 632, the text of its name.
        let counted = counted("{\"a\":{}}").unwrap();
        assert!(counted.memory >= 2 * 32 + 632 + 24);
    }

    #[test]
    fn names_that_the_library_keeps_for_itself_are_refused_however_they_are_written() {
        refused(r#"{"$serde_json::private::RawValue": "[[1]]"}"#, "reserved");
        refused(r#"[{"\u0024serde_json::private::Number": "1"}]"#, "reserved");
        refused(r#"{"a": 1, "$serde_json::private::Number": "1"}"#, "at byte 9");
        assert!(counted(r#"{"$serde_json": 1, "$ref": 2, "a\\": 3}"#).is_ok());
        assert!(counted(r#"["$serde_json::private::RawValue"]"#).is_ok());
    }

    #[test]
    fn an_integer_beyond_64_bits_is_refused_where_it_would_come_back_as_another() {
        for fine in ["18446744073709551615", "-9223372036854775808", "1e30", "-0", "0.5"] {
            assert!(counted(fine).is_ok(), "{fine}");
        }
        for wrong in ["18446744073709551616", "-9223372036854775809", &"9".repeat(400)] {
            refused(wrong, "64 bits");
            assert!(check(wrong.as_bytes(), &Limits::BYTES).is_ok());
        }
    }

    #[test]
    fn what_is_written_again_is_no_longer_than_was_told() {
        for text in [
            "[1e15,1e15,-1e-7,123456789.5e10,1E5]",
            "{\"a\\/b\": \"\\u0041\", \"b\": [ 1 , 2 ]}",
            "-0",
            "1e-300",
        ] {
            let value: Value = serde_json::from_str(text).unwrap();
            let written = value.to_string().len();
            assert!(written <= counted(text).unwrap().written, "{text}: {written}");
            assert_eq!(written_within(&value, written), Some(written));
            assert_eq!(written_within(&value, written - 1), None);
        }
    }

    #[test]
    fn a_value_is_built_only_within_the_limits() {
        assert_eq!(parse(b"[1]", &Limits::default()), Ok(serde_json::json!([1])));
        let growing = format!("[{}1]", "1e15,".repeat(3_000_000));
        assert!(
            check(growing.as_bytes(), &Limits::VALUES).unwrap_err().to_string().contains("written again")
        );
        assert!(parse(b"1e400", &Limits::default()).unwrap_err().to_string().contains("out of range"));
        assert!(parse(b"\"\\ud800\"", &Limits::default()).is_err());
        assert_eq!(nodes(&serde_json::json!({"a": [1, {}]})), 4);
    }
}
