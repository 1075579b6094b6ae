//! Values in prose: `apr: number near "APR"`. By rule, not by a model, so that the same text always gives the same value.

use std::fmt;
use std::str::FromStr;

use omium_limits::Fuel;
use serde_json::Value;

use crate::number::{Number, numbers};

/// How far from its word a value may stand, in characters.
const NEAR: usize = 80;

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

/// How many times the word may stand in a text: beyond that nobody knows which of them is meant.
const MENTIONS: usize = 1_000;
/// What may stand between the word and its number: `the APR is about 5.2 %`.
const BETWEEN: &[&str] = &[
    "a",
    "about",
    "amounts",
    "an",
    "approximately",
    "are",
    "as",
    "at",
    "be",
    "beträgt",
    "ca",
    "comes",
    "currently",
    "equals",
    "is",
    "ist",
    "now",
    "of",
    "only",
    "rate",
    "roughly",
    "set",
    "the",
    "then",
    "thus",
    "to",
    "value",
    "von",
    "was",
    "will",
    "would",
    "your",
];
/// The longest that this may get, in letters.
const CONNECTED: usize = 40;

impl Extraction {
    /// The number that the word is written with. Where several could be meant, or the one that is can be read in several
    /// ways, there is none: it is said why.
    pub fn find(&self, text: &str, fuel: &mut Fuel) -> Result<Value, String> {
        let unreadable = |why: &str| {
            format!("\"{}\" cannot be read: {why}, so `{}` cannot be checked", self.word, self.name)
        };
        fuel.take(text.len()).map_err(|spent| unreadable(&spent.to_string()))?;
        let letters: Vec<char> = text.chars().collect();
        let word: Vec<char> = self.word.chars().map(small).collect();
        let (mut said, mut near) = (Vec::new(), Vec::new());
        for (count, at) in mentions(&letters, &word).enumerate() {
            if count >= MENTIONS {
                return Err(unreadable("the text names it too often"));
            }
            fuel.take(2 * NEAR).map_err(|spent| unreadable(&spent.to_string()))?;
            let (connected, others) = around(&letters, at, at + word.len());
            said.extend(connected);
            near.extend(others);
        }
        let mut candidates = if said.is_empty() { near } else { said };
        candidates.sort_by_key(|number| number.start);
        candidates.dedup_by_key(|number| number.start);
        one_of(&candidates).map(Value::from).map_err(|why| match why {
            None => self.not_found(),
            Some(why) => unreadable(why),
        })
    }

    fn not_found(&self) -> String {
        format!("no number stands near \"{}\", so `{}` cannot be checked", self.word, self.name)
    }
}

/// The one number that all candidates say; nothing where there is none.
fn one_of(candidates: &[Number]) -> Result<f64, Option<&'static str>> {
    let first = candidates.first().ok_or(None)?;
    for number in candidates {
        match (first.reading, number.reading) {
            (_, Err(why)) | (Err(why), _) => return Err(Some(why)),
            (Ok(first), Ok(number)) if first != number => return Err(Some("several numbers stand near it")),
            _ => {}
        }
    }
    first.reading.map_err(Some)
}

/// The numbers that a mention is written with, and all that stand near it.
fn around(letters: &[char], from: usize, to: usize) -> (Vec<Number>, Vec<Number>) {
    let near = numbers(letters, from.saturating_sub(NEAR), to + NEAR);
    // The word itself may hold digits.
    let near: Vec<Number> =
        near.into_iter().filter(|number| number.end <= from || number.start >= to).collect();
    let behind = near.iter().find(|number| number.start >= to);
    let before = near.iter().rev().find(|number| number.end <= from);
    let behind = behind.filter(|number| is_connected(&letters[to..sign(letters, number.start)]));
    let before = before.filter(|number| is_connected(&letters[number.end..from]));
    (behind.into_iter().chain(before).cloned().collect(), near)
}

/// Where a number begins with its sign.
fn sign(letters: &[char], start: usize) -> usize {
    match start.checked_sub(1).map(|at| letters[at]) {
        Some(letter) if "-−－﹣+".contains(letter) => start - 1,
        _ => start,
    }
}

/// Whether nothing stands between a word and a number but what connects them.
fn is_connected(between: &[char]) -> bool {
    if between.len() > CONNECTED {
        return false;
    }
    let text: String = between.iter().collect::<String>().to_lowercase();
    let mut words = text.split(|letter: char| !letter.is_alphabetic()).filter(|word| !word.is_empty());
    let signs = text.chars().filter(|letter| !letter.is_alphabetic());
    words.all(|word| BETWEEN.contains(&word))
        && signs.into_iter().all(|sign| sign.is_whitespace() || ":=*_`\"'%|(≈~$€£¥-".contains(sign))
}

/// One small letter for each letter, so that places stay what they are.
fn small(letter: char) -> char {
    letter.to_lowercase().next().unwrap_or(letter)
}

fn mentions<'a>(letters: &'a [char], word: &'a [char]) -> impl Iterator<Item = usize> + 'a {
    let bounded = |at: usize| letters.get(at).is_none_or(|letter| !letter.is_alphanumeric());
    (0..letters.len().saturating_sub(word.len() - 1)).filter(move |at| {
        let end = at + word.len();
        (*at == 0 || bounded(at - 1))
            && bounded(end)
            && letters[*at..end].iter().zip(word).all(|(letter, wanted)| small(*letter) == *wanted)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn found(text: &str, expected: Option<f64>) {
        let extraction: Extraction = "apr: number near \"APR\"".parse().unwrap();
        let found = extraction.find(text, &mut Fuel::default());
        assert_eq!(found.clone().ok(), expected.map(Value::from), "{text}: {found:?}");
    }

    #[test]
    fn the_number_next_to_the_word_is_found() {
        for (text, expected) in [
            ("We offer an APR of 5.2% for 36 months.", 5.2),
            ("For 20,000 dollars the apr: 0 %", 0.0),
            ("5.2% APR over 36 months", 5.2),
            ("The APR is -1.5.", -1.5),
            ("**APR**: 1,250.75", 1250.75),
            ("APR: 0,5 %", 0.5),
            ("APR: .5%", 0.5),
            ("APR: −5.0%", -5.0),
            ("APR: 5e-1", 0.5),
            ("APR: 5,2 %", 5.2),
            ("5.2% is the APR, 36 months", 5.2),
            ("| APR | 5.2% |", 5.2),
            ("APR - 5.2%", 5.2),
            ("APR: ５．２％", 5.2),
            ("APR: 5.2%. Again, your APR is 5.2 %.", 5.2),
            ("Your APR for this offer: 5.2%", 5.2),
            ("The APR that we can offer you today comes to 5.2%", 5.2),
        ] {
            found(text, Some(expected));
        }
    }

    #[test]
    fn what_can_be_read_in_several_ways_is_not_read() {
        for text in [
            "APR (Section 4): 0%",
            "APR for the 1st year: 5.2%",
            "APR: 1,250",
            "APR: 2.5 - 8.5%",
            "APR from 2.5% to 8.5%",
            "APR between 2.5 and 8.5 %",
            "APR: 5.2% today, and the APR will be 0% then",
            "APR of a loan over 36 months: 5.2%",
            "5.2% APR 6.1%",
            "APR: <8.5%",
            "APR–5%",
            "APR: 5.2k",
            "APR: 1 250",
        ] {
            found(text, None);
        }
    }

    #[test]
    fn what_only_looks_like_it_is_not() {
        found("The rate is 5.2%.", None);
        found("APRIL 2026 had 30 days", None);
        found("The APR will be told later.", None);
        found(&format!("APR {} 5.2", "x ".repeat(60)), None);
    }

    #[test]
    fn long_texts_cost_little_and_too_many_mentions_are_refused() {
        let extraction: Extraction = "apr: number near \"APR\"".parse().unwrap();
        let many = extraction.find(&"APR 5 ".repeat(40_000), &mut Fuel::default()).unwrap_err();
        assert!(many.contains("too often"), "{many}");
        let mut fuel = Fuel::default();
        let long = format!("{} APR: 5.2%", "1 2 3 AP ".repeat(25_000));
        assert_eq!(extraction.find(&long, &mut fuel), Ok(Value::from(5.2)));
        assert!(fuel.taken() < 300_000);
        let same: Extraction = format!("a: number near \"{}\"", "a".repeat(100)).parse().unwrap();
        assert!(same.find(&"a".repeat(250_000), &mut Fuel::default()).is_err());
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
