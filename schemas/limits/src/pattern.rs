//! Regular expressions of others, by an engine that takes time linear in the text, and counted by the size of the pattern.

use std::fmt;

use regex_syntax::hir::{Class, Hir, HirKind};

use crate::{Fuel, Spent, told};

/// How long a pattern may be.
const LONGEST: usize = 1_000;
/// How many states it may have at once, once its repetitions are written out: what each letter of a text costs at worst.
const LARGEST: usize = 5_000;
/// How large it may be when it is built, in ranges of letters.
const BUILT: usize = 100_000;
/// What the engine may take for one, in bytes.
const BUILT_BYTES: usize = 8 << 20;
const DEEPEST: u32 = 50;
/// What a part of one costs to build, in steps.
const STEPS: usize = 8;

/// A regular expression.
#[derive(Clone)]
pub struct Pattern {
    regex: regex::Regex,
    size: Size,
}

/// How large a pattern is once its repetitions are written out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Size {
    /// What a letter of a text costs at worst.
    states: usize,
    /// What building it costs.
    built: usize,
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({})", self.regex.as_str())
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Pattern) -> bool {
        self.regex.as_str() == other.regex.as_str()
    }
}

impl Pattern {
    /// A pattern as Rust and Go write it.
    pub fn new(text: &str) -> Result<Pattern, String> {
        let size = measure(text)?;
        build(text, size)
    }

    /// The same, paid for before anything is built, also where it turns out to be none.
    pub fn paid(text: &str, fuel: &mut Fuel) -> Result<Result<Pattern, String>, Spent> {
        fuel.take(text.len().min(LONGEST) * STEPS)?;
        let size = match measure(text) {
            Ok(size) => size,
            Err(why) => return Ok(Err(why)),
        };
        fuel.take(size.built.saturating_mul(STEPS))?;
        fuel.allocate(size.built.saturating_mul(64))?;
        Ok(build(text, size))
    }

    /// A pattern as JSON Schema writes it, in ECMAScript's way. What takes more than linear time, looking ahead or behind
    /// and references to groups, is refused.
    pub fn ecma(text: &str) -> Result<Pattern, String> {
        if text.len() > LONGEST {
            return Pattern::new(text);
        }
        match jsonschema_regex::to_rust_regex(text) {
            Ok(translated) => Pattern::new(&translated),
            Err(()) => {
                Err(format!("the pattern `{}` cannot be used: it is no regular expression", told(text)))
            }
        }
    }

    /// Whether something in the text fits. Paid for by the length of the text times the size of the pattern.
    pub fn is_match(&self, text: &str, fuel: &mut Fuel) -> Result<bool, Spent> {
        fuel.take(1)?;
        fuel.scan(text.len().saturating_mul(self.size.states))?;
        Ok(self.regex.is_match(text))
    }

    /// It, for messages.
    pub fn shown(&self) -> String {
        format!("pattern `{}`", told(self.regex.as_str()))
    }

    /// What building it cost, in steps.
    pub fn built(&self) -> usize {
        self.size.built
    }
}

fn wrong(text: &str, why: &str) -> String {
    format!("the pattern `{}` cannot be used: {why}", told(text))
}

/// How large a pattern is. Reading it goes no deeper than it may, and writes nothing out.
fn measure(text: &str) -> Result<Size, String> {
    let wrong = |why: &str| wrong(text, why);
    if text.len() > LONGEST {
        return Err(wrong(&format!("it has {} bytes; {LONGEST} are allowed", text.len())));
    }
    let parsed = regex_syntax::ParserBuilder::new().nest_limit(DEEPEST).build().parse(text);
    let size = match parsed {
        Ok(hir) => size(&hir),
        Err(regex_syntax::Error::Parse(why)) => return Err(wrong(&why.kind().to_string())),
        Err(regex_syntax::Error::Translate(why)) => return Err(wrong(&why.kind().to_string())),
        Err(_) => return Err(wrong("it is no regular expression")),
    };
    if size.states > LARGEST || size.built > BUILT {
        return Err(wrong(&format!("its repetitions make more than {LARGEST} parts of it")));
    }
    Ok(size)
}

fn build(text: &str, size: Size) -> Result<Pattern, String> {
    let built = regex::RegexBuilder::new(text).size_limit(BUILT_BYTES).nest_limit(DEEPEST).build();
    Ok(Pattern { regex: built.map_err(|_| wrong(text, "it is too large"))?, size })
}

/// The number of its parts once repetitions are written out.
fn size(hir: &Hir) -> Size {
    let one = |built: usize| Size { states: 1, built };
    let sum = |parts: &[Hir]| {
        parts.iter().map(size).fold(Size::default(), |a, b| Size {
            states: a.states.saturating_add(b.states),
            built: a.built.saturating_add(b.built),
        })
    };
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => one(1),
        HirKind::Literal(literal) => Size { states: literal.0.len(), built: literal.0.len() },
        // A letter is at most four bytes, so no class is in more states than that at once.
        HirKind::Class(Class::Unicode(class)) => Size { states: 4, built: class.ranges().len().max(1) },
        HirKind::Class(Class::Bytes(class)) => one(class.ranges().len().max(1)),
        HirKind::Repetition(repetition) => {
            let times = repetition.max.unwrap_or(repetition.min.saturating_add(1)).max(1) as usize;
            let Size { states, built } = size(&repetition.sub);
            Size { states: states.saturating_mul(times), built: built.saturating_mul(times) }
        }
        HirKind::Capture(capture) => size(&capture.sub),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => sum(parts),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_linear_counted_and_bounded() {
        let pattern = Pattern::ecma(r"^\d{4}-\w+$").unwrap();
        let mut fuel = Fuel::new(1_000, 0);
        assert_eq!(pattern.is_match("2026-abc", &mut fuel), Ok(true));
        assert_eq!(pattern.is_match("20266-abc", &mut fuel), Ok(false));
        assert!(pattern.is_match(&"1".repeat(1 << 20), &mut fuel).is_err());
        assert!(Pattern::ecma(r"^[\p{L} ]{1,100}$").is_ok());
        for (text, part) in [
            ("(?=a)b", "look"),
            (r"(a)\1", "cannot be used"),
            ("(((a{1,100}){1,100}){1,100})", "parts"),
            ("(", "cannot be used"),
            (&"(".repeat(500), "cannot be used"),
            (&"a".repeat(2_000), "bytes"),
        ] {
            let why = Pattern::ecma(text).unwrap_err();
            assert!(why.contains(part), "{why}");
            assert!(why.len() < 400, "{why}");
        }
    }
}
