//! Values in prose: `apr: number near "APR"`. By rule, not by a model, so that the same text always gives the same value.

use std::fmt;
use std::str::FromStr;

use serde_json::Value;

/// How far from its word a value may stand, in characters.
const NEAR: usize = 80;
/// By how much what stands before the word counts as farther away.
const BEFORE: usize = 3;

/// How a value is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extraction {
    /// How the value is called.
    pub name: String,
    /// The word that it stands near.
    pub word: String,
}

/// The text is no extraction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotAnExtraction(String);

impl fmt::Display for NotAnExtraction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is no extraction; write it as: apr: number near \"APR\"", self.0)
    }
}

impl std::error::Error for NotAnExtraction {}

impl FromStr for Extraction {
    type Err = NotAnExtraction;

    fn from_str(text: &str) -> Result<Extraction, NotAnExtraction> {
        let read = || {
            let (name, rest) = text.split_once(':')?;
            let word = rest.trim().strip_prefix("number")?.trim().strip_prefix("near")?.trim();
            let word = word.strip_prefix('"')?.strip_suffix('"')?;
            let is_name = |name: &str| {
                !name.is_empty() && name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
            };
            let name = name.trim();
            (is_name(name) && !word.trim().is_empty() && word.len() <= 100)
                .then(|| Extraction { name: name.to_owned(), word: word.to_owned() })
        };
        read().ok_or_else(|| NotAnExtraction(text.to_owned()))
    }
}

impl Extraction {
    /// The number that stands nearest to the first mention of the word that has one; what stands behind it counts as
    /// nearer than what stands before.
    pub fn find(&self, text: &str) -> Option<Value> {
        let letters: Vec<char> = text.chars().collect();
        let word: Vec<char> = self.word.to_lowercase().chars().collect();
        let numbers = numbers(&letters);
        mentions(&letters, &word).find_map(|at| nearest(&numbers, at, at + word.len())).map(Value::from)
    }

    /// What is said where there is none.
    pub fn not_found(&self) -> String {
        format!("no number stands near \"{}\", so `{}` cannot be checked", self.word, self.name)
    }
}

fn nearest(numbers: &[(usize, usize, f64)], from: usize, to: usize) -> Option<f64> {
    let near = numbers.iter().filter_map(|(start, end, number)| {
        let distance = if *start >= to { start - to } else { from.checked_sub(*end)? + BEFORE };
        (distance <= NEAR).then_some((distance, *number))
    });
    near.min_by_key(|(distance, _)| *distance).map(|(_, number)| number)
}

fn mentions<'a>(letters: &'a [char], word: &'a [char]) -> impl Iterator<Item = usize> + 'a {
    let bounded = |at: usize| letters.get(at).is_none_or(|letter| !letter.is_alphanumeric());
    (0..letters.len()).filter(move |at| {
        let end = at + word.len();
        end <= letters.len()
            && letters[*at..end].iter().zip(word).all(|(a, b)| a.to_lowercase().eq(b.to_lowercase()))
            && (*at == 0 || bounded(at - 1))
            && bounded(end)
    })
}

/// All numbers, with the places where they begin and end. Digits inside of a word are none.
fn numbers(letters: &[char]) -> Vec<(usize, usize, f64)> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < letters.len() {
        let begins = letters[at].is_ascii_digit()
            && !at.checked_sub(1).is_some_and(|before| letters[before].is_alphabetic());
        if !begins {
            at += 1;
            continue;
        }
        let start = at;
        let inside = |at: usize| {
            letters[at].is_ascii_digit()
                || (matches!(letters[at], '.' | ',') && letters.get(at + 1).is_some_and(char::is_ascii_digit))
        };
        while at < letters.len() && inside(at) {
            at += 1;
        }
        let digits: String = letters[start..at].iter().filter(|letter| **letter != ',').collect();
        let minus = start > 0
            && letters[start - 1] == '-'
            && !start.checked_sub(2).is_some_and(|before| letters[before].is_alphanumeric());
        if let Ok(number) = digits.parse::<f64>() {
            found.push((start, at, if minus { -number } else { number }));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn found(text: &str, expected: Option<f64>) {
        let extraction: Extraction = "apr: number near \"APR\"".parse().unwrap();
        assert_eq!(extraction.find(text), expected.map(Value::from), "{text}");
    }

    #[test]
    fn the_number_next_to_the_word_is_found() {
        found("We offer an APR of 5.2% for 36 months.", Some(5.2));
        found("For 20,000 dollars the apr: 0 %", Some(0.0));
        found("5.2% APR over 36 months", Some(5.2));
        found("The APR is -1.5.", Some(-1.5));
        found("**APR**: 1,250.75", Some(1250.75));
    }

    #[test]
    fn what_only_looks_like_it_is_not() {
        found("The rate is 5.2%.", None);
        found("APRIL 2026 had 30 days", None);
        found("The APR will be told later.", None);
        found(&format!("APR {} 5.2", "x ".repeat(60)), None);
    }

    #[test]
    fn an_extraction_is_written_one_way() {
        for text in [
            "apr",
            "apr: text near \"APR\"",
            "apr: number near APR",
            ": number near \"APR\"",
            "apr: number near \"\"",
        ] {
            assert!(text.parse::<Extraction>().unwrap_err().to_string().contains("write it as"));
        }
    }
}
