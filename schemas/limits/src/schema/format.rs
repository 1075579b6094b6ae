//! Forms of texts, where the draft that a schema names asserts them; newer drafts only note them.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Whether a text has a form.
pub(super) type Check = (&'static str, fn(&str) -> bool);

const FORMS: &[Check] = &[
    ("date", is_date),
    ("time", is_time),
    ("date-time", is_date_time),
    ("email", is_email),
    ("ipv4", |text| text.parse::<Ipv4Addr>().is_ok()),
    ("ipv6", |text| text.parse::<Ipv6Addr>().is_ok()),
    ("uri", is_uri),
    ("uuid", is_uuid),
];

/// The form of a name; nothing where it is not known, which is no mistake.
pub(super) fn named(name: &str) -> Option<Check> {
    FORMS.iter().find(|(known, _)| *known == name).copied()
}

fn digits(text: &str, count: usize) -> Option<(u32, &str)> {
    let (digits, rest) = text.split_at_checked(count)?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok().zip(Some(rest)))?
}

fn date(text: &str) -> Option<&str> {
    let (year, rest) = digits(text, 4)?;
    let (month, rest) = digits(rest.strip_prefix('-')?, 2)?;
    let (day, rest) = digits(rest.strip_prefix('-')?, 2)?;
    let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    let days = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 => 28 + u32::from(leap),
        _ => return None,
    };
    (1..=days).contains(&day).then_some(rest)
}

fn time(text: &str) -> Option<&str> {
    let (hour, rest) = digits(text, 2)?;
    let (minute, rest) = digits(rest.strip_prefix(':')?, 2)?;
    let (second, rest) = digits(rest.strip_prefix(':')?, 2)?;
    let rest = match rest.strip_prefix('.') {
        Some(fraction) => {
            let end = fraction.find(|c: char| !c.is_ascii_digit()).unwrap_or(fraction.len());
            (end > 0).then_some(&fraction[end..])?
        }
        None => rest,
    };
    let rest = match rest.strip_prefix(['Z', 'z']) {
        Some(rest) => rest,
        None => {
            let (hour, rest) = digits(rest.strip_prefix(['+', '-'])?, 2)?;
            let (minute, rest) = digits(rest.strip_prefix(':')?, 2)?;
            (hour < 24 && minute < 60).then_some(rest)?
        }
    };
    (hour < 24 && minute < 60 && second <= 60).then_some(rest)
}

fn is_date(text: &str) -> bool {
    date(text) == Some("")
}

fn is_time(text: &str) -> bool {
    time(text) == Some("")
}

fn is_date_time(text: &str) -> bool {
    date(text).and_then(|rest| time(rest.strip_prefix(['T', 't', ' '])?)) == Some("")
}

fn is_email(text: &str) -> bool {
    text.rsplit_once('@').is_some_and(|(who, host)| {
        !who.is_empty() && !host.is_empty() && !text.contains(char::is_whitespace) && !host.starts_with('.')
    })
}

fn is_uri(text: &str) -> bool {
    text.split_once(':').is_some_and(|(scheme, rest)| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
            && rest.chars().all(|c| c.is_ascii_graphic() && !"<>\"{}|\\^`".contains(c))
    })
}

fn is_uuid(text: &str) -> bool {
    let parts: Vec<&str> = text.splitn(6, '-').collect();
    parts.iter().map(|part| part.len()).eq([8, 4, 4, 4, 12])
        && parts.iter().all(|part| part.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_told_apart() {
        for (form, fine, wrong) in [
            ("date", "2024-02-29", "2023-02-29"),
            ("time", "23:59:60Z", "24:00:00Z"),
            ("date-time", "2026-01-31T10:00:00.5+02:00", "2026-01-31"),
            ("email", "a@b.c", "a b@c"),
            ("ipv4", "127.0.0.1", "127.0.0"),
            ("ipv6", "::1", "::g"),
            ("uri", "https://a/b?c", "/a"),
            ("uuid", "123e4567-e89b-12d3-a456-426614174000", "123e4567"),
        ] {
            let (_, check) = named(form).unwrap();
            assert!(check(fine), "{form}");
            assert!(!check(wrong) && !check("") && !check("ä-"), "{form}");
        }
        assert!(named("hostname").is_none());
    }
}
