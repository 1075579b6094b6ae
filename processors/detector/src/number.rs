//! Numbers in prose, as people write them in several countries. What can be read in two ways is read in none.

/// A number and where it stands, in letters.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Number {
    pub(crate) start: usize,
    pub(crate) end: usize,
    /// What it says, or why nobody can tell.
    pub(crate) reading: Result<f64, &'static str>,
}

/// What stands around a number that makes it a part of something else, in letters.
const AROUND: usize = 12;
/// No number that somebody means is longer, in letters.
const LONGEST: usize = 60;

/// The numbers that begin between two places. Digits inside of a word are none.
pub(crate) fn numbers(letters: &[char], from: usize, to: usize) -> Vec<Number> {
    let mut found = Vec::new();
    let mut at = from;
    // A number that began before is not cut in two.
    while at > 0 && from - at < LONGEST && (digit(letters[at - 1]).is_some() || is_point(letters[at - 1])) {
        at -= 1;
    }
    while at < to.min(letters.len()) {
        match number(letters, at) {
            Some(number) => {
                at = number.end;
                found.push(number);
            }
            None if letters[at].is_alphabetic() => {
                while letters.get(at).is_some_and(|letter| letter.is_alphanumeric() || *letter == '_') {
                    at += 1;
                }
            }
            None => at += 1,
        }
    }
    found
}

/// ASCII digits and the wide ones of East Asian texts. Other digits begin a number too, but one that is not read.
fn digit(letter: char) -> Option<char> {
    match letter {
        '0'..='9' => Some(letter),
        '０'..='９' => char::from_digit(letter as u32 - '０' as u32, 10),
        letter if letter.is_numeric() => Some('?'),
        _ => None,
    }
}

fn is_point(letter: char) -> bool {
    matches!(letter, '.' | ',' | '．' | '，')
}

fn is_minus(letter: char) -> bool {
    matches!(letter, '-' | '−' | '－' | '﹣')
}

fn is_dash(letter: char) -> bool {
    is_minus(letter) || matches!(letter, '–' | '—' | '‒' | '―' | '~' | '〜' | '…')
}

fn is_blank(letter: char) -> bool {
    letter == ' ' || letter == '\t'
}

/// What separates groups of three digits, or the whole from its fraction.
fn separator(letter: char) -> Option<char> {
    match letter {
        '.' | '．' => Some('.'),
        ',' | '，' => Some(','),
        '\'' | '’' | '_' => Some('\''),
        // Blanks that do not break a line.
        '\u{a0}' | '\u{202f}' | '\u{2009}' => Some('\''),
        _ => None,
    }
}

fn number(letters: &[char], start: usize) -> Option<Number> {
    let is_digit = |at: usize| letters.get(at).is_some_and(|letter| digit(*letter).is_some());
    let leads = is_point(letters[start]) && is_digit(start + 1);
    if !is_digit(start) && !leads {
        return None;
    }
    let mut text = String::new();
    let mut at = start;
    while let Some(letter) = letters.get(at) {
        match (digit(*letter), separator(*letter)) {
            (Some(digit), _) => text.push(digit),
            (None, Some(separator)) if is_digit(at + 1) => text.push(separator),
            _ => break,
        }
        at += 1;
    }
    let mut exponent = None;
    if matches!(letters.get(at), Some('e' | 'E')) {
        let signed = matches!(letters.get(at + 1), Some('+' | '-' | '−'));
        let from = at + 1 + usize::from(signed);
        let mut end = from;
        while is_digit(end) {
            end += 1;
        }
        if end > from {
            let digits: String = letters[from..end].iter().filter_map(|letter| digit(*letter)).collect();
            let minus = if signed && letters[at + 1] != '+' { "-" } else { "" };
            exponent = Some(format!("e{minus}{digits}"));
            at = end;
        }
    }
    let reading =
        read(&text, leads, exponent.as_deref()).and_then(|number| signed(letters, start, at, number));
    Some(Number { start, end: at, reading })
}

/// Reads digits with their separators.
fn read(text: &str, leads: bool, exponent: Option<&str>) -> Result<f64, &'static str> {
    if text.contains('?') || text.len() > LONGEST {
        return Err("its digits are not read");
    }
    let separators: Vec<char> = text.chars().filter(|letter| !letter.is_ascii_digit()).collect();
    let groups: Vec<&str> = text.split(|letter: char| !letter.is_ascii_digit()).collect();
    let plain = match separators.as_slice() {
        [] => text.to_owned(),
        ['.'] if leads => format!("0.{}", groups[1]),
        [point @ ('.' | ',')] if !leads => {
            let thousands = groups[1].len() == 3 && is_head(groups[0]);
            if thousands {
                return Err(if *point == '.' {
                    "it is a number with three decimals or one of thousands"
                } else {
                    "it is one of thousands or a number with three decimals"
                });
            }
            format!("{}.{}", groups[0], groups[1])
        }
        separators if !leads => grouped(separators, &groups)?,
        _ => return Err("it begins with a comma or has several points"),
    };
    let number: f64 =
        format!("{plain}{}", exponent.unwrap_or_default()).parse().map_err(|_| "it is no number")?;
    if number.is_finite() { Ok(number) } else { Err("it is too large") }
}

/// The first group of a number in thousands: `20` in `20,000`, but not `0`.
fn is_head(group: &str) -> bool {
    (1..=3).contains(&group.len()) && !group.starts_with('0')
}

/// A number in groups: of three digits each, with at most one point behind them that is another sign.
fn grouped(separators: &[char], groups: &[&str]) -> Result<String, &'static str> {
    let of_groups = separators[0];
    let same = separators.iter().take_while(|separator| **separator == of_groups).count();
    let thousands = &groups[1..=same];
    let is_sound = is_head(groups[0]) && thousands.iter().all(|group| group.len() == 3);
    let rest = &separators[same..];
    match rest {
        [] if is_sound => Ok(groups.concat()),
        ['.' | ','] if is_sound => Ok(format!("{}.{}", groups[..=same].concat(), groups[same + 1])),
        _ => Err("its points and commas can be read in several ways"),
    }
}

/// What stands before and behind a number: its sign, and whether it is a part of a range, of a bound or of a word.
fn signed(letters: &[char], start: usize, end: usize, number: f64) -> Result<f64, &'static str> {
    let before = |back: usize| start.checked_sub(back).map(|at| letters[at]);
    if letters.get(end).is_some_and(|letter| letter.is_alphabetic()) {
        return Err("letters follow it");
    }
    if grows(letters, start, end) {
        return Err("a group of three digits stands beside it");
    }
    if is_range(letters, start, end) {
        return Err("it is one end of a range");
    }
    let last = letters[..start].iter().rev().take(AROUND).find(|letter| !is_blank(**letter));
    if matches!(last, Some('±' | '∓' | '<' | '>' | '≤' | '≥')) {
        return Err("the sign before it makes it a bound");
    }
    let attached = |letter: Option<char>| {
        letter.is_some_and(|letter| letter.is_alphanumeric() || ")]%\"'’".contains(letter))
    };
    match before(1) {
        Some('.' | ',' | '．' | '，' | '…' | '\'' | '’')
            if attached(before(2)) || before(2).is_some_and(is_point) =>
        {
            Err("a point stands before it")
        }
        Some('.') if letters[start] != '.' => Err("a point stands before it"),
        Some(letter) if is_minus(letter) => {
            if attached(before(2)) || before(2).is_some_and(is_dash) {
                Err("the sign before it may be a dash")
            } else {
                Ok(-number)
            }
        }
        Some('–' | '—' | '‒' | '―') => Err("the dash before it may be a sign"),
        Some('/' | '⁄' | '^' | '#' | '№' | '§') => Err("the sign before it makes it something else"),
        Some(letter) if letters[start] == '.' && letter.is_alphanumeric() => {
            Err("the point before it may end a sentence")
        }
        _ => after(letters, end, number),
    }
}

fn after(letters: &[char], end: usize, number: f64) -> Result<f64, &'static str> {
    match letters.get(end) {
        Some('/' | '⁄' | '^' | '×' | '½' | '¼' | '¾' | '‰' | '‱') => {
            Err("the sign behind it makes it something else")
        }
        _ => Ok(number),
    }
}

/// `1 250`: with a plain blank nobody can tell whether these are two numbers or one.
fn grows(letters: &[char], start: usize, end: usize) -> bool {
    let is_digit = |at: usize| letters.get(at).is_some_and(|letter| digit(*letter).is_some());
    let three = |from: usize| (from..from + 3).all(is_digit) && !is_digit(from + 3);
    let short = end - start <= 3 && letters[start..end].iter().all(|letter| digit(*letter).is_some());
    let behind = short && letters.get(end).copied().is_some_and(is_blank) && three(end + 1);
    let begins = start >= 2 && is_blank(letters[start - 1]) && is_digit(start - 2);
    behind || (begins && three(start) && !is_point(letters[start]))
}

/// `2.5 – 8.5`, `2.5 to 8.5`, `between 2.5 and 8.5`.
fn is_range(letters: &[char], start: usize, end: usize) -> bool {
    let numeric = |letter: &char| digit(*letter).is_some();
    let unit = |letter: &char| is_blank(*letter) || "%$€£¥".contains(*letter);
    let behind: Vec<char> = letters[end..].iter().take(AROUND).copied().skip_while(unit).collect();
    let before: Vec<char> = letters[..start].iter().rev().take(AROUND).copied().skip_while(unit).collect();
    let dashed = |near: &[char], needs_number: bool| {
        let dashes = near.iter().take_while(|letter| is_dash(**letter)).count();
        let next = near[dashes..].iter().find(|letter| !unit(letter));
        dashes > 0 && needs_number && next.is_some_and(numeric)
    };
    let word = |near: &[char]| near.iter().take_while(|letter| letter.is_alphabetic()).collect::<String>();
    let joins = |word: &str| {
        matches!(word.to_lowercase().as_str(), "to" | "through" | "bis" | "till" | "until" | "up")
    };
    let next_word = word(&behind);
    let next_number =
        behind[next_word.chars().count()..].iter().find(|letter| !unit(letter)).is_some_and(numeric);
    let last_word: String = word(&before).chars().rev().collect();
    let last_number =
        before[last_word.chars().count()..].iter().find(|letter| !unit(letter)).is_some_and(numeric);
    let is_to = |word: &str| joins(word) || word.eq_ignore_ascii_case("and") && is_between(letters, start);
    dashed(&behind, true)
        || dashed(&before, true)
        || (is_to(&next_word) && next_number)
        || (is_to(&last_word) && last_number)
        || last_word.eq_ignore_ascii_case("between")
        || letters[end..].starts_with(&['.', '.'])
}

/// Whether `between` stands a little before.
fn is_between(letters: &[char], at: usize) -> bool {
    let near: String = letters[at.saturating_sub(2 * AROUND)..at].iter().collect();
    near.to_lowercase().contains("between")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<f64>) {
        let letters: Vec<char> = text.chars().collect();
        let found = numbers(&letters, 0, letters.len());
        let first = found.first().unwrap_or_else(|| panic!("no number in `{text}`"));
        assert_eq!(first.reading.ok(), expected, "{text}: {:?}", first.reading);
    }

    #[test]
    fn a_number_is_read_as_it_is_written_or_not_at_all() {
        for (text, expected) in [
            ("5", Some(5.0)),
            ("5.2", Some(5.2)),
            ("5,2 %", Some(5.2)),
            ("0,5 %", Some(0.5)),
            (".5%", Some(0.5)),
            ("(.5%)", Some(0.5)),
            ("−5.0%", Some(-5.0)),
            ("-5.0%", Some(-5.0)),
            ("－５．２％", Some(-5.2)),
            ("＋5", Some(5.0)),
            ("5e-1", Some(0.5)),
            ("5E+2", Some(500.0)),
            ("0.125", Some(0.125)),
            ("1,250.75", Some(1250.75)),
            ("1.250,75", Some(1250.75)),
            ("1'250.75", Some(1250.75)),
            ("1’250’000", Some(1_250_000.0)),
            ("1\u{202f}250,5", Some(1250.5)),
            ("1,250,000", Some(1_250_000.0)),
            ("12345.678", Some(12345.678)),
            ("５，２", Some(5.2)),
            // What can be read in two ways.
            ("1,250", None),
            ("1.250", None),
            ("20,000", None),
            ("1,2,3", None),
            ("1.2.3", None),
            ("12,34,567", None),
            ("01.02.2026", None),
            ("1,250.75.5", None),
            ("1 250", None),
            (",5", None),
            ("...5", None),
            ("A.5", None),
            ("–5.0%", None),
            ("APR-5", None),
            ("±5", None),
            ("<5", None),
            ("≥ 5", None),
            ("2.5-8.5%", None),
            ("2.5% – 8.5%", None),
            ("2.5 to 8.5", None),
            ("2.5% bis 8.5%", None),
            ("between 2.5 and 8.5", None),
            ("1/2", None),
            ("5k", None),
            ("36months", None),
            ("٥", None),
            ("5½", None),
            ("1e999", None),
        ] {
            check(text, expected);
        }
    }

    #[test]
    fn digits_inside_of_a_word_are_none() {
        let letters: Vec<char> = "model4 gpt_5 x1.5".chars().collect();
        assert_eq!(numbers(&letters, 0, letters.len()).iter().filter(|n| n.reading.is_ok()).count(), 0);
    }
}
