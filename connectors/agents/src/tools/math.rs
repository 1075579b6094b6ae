//! Arithmetic on one line: descent over the text, bounded in length and depth.

const LONGEST: usize = 1_000;
const DEEPEST: usize = 50;

/// The value of an expression.
pub(super) fn compute(text: &str) -> Result<f64, String> {
    if text.len() > LONGEST {
        return Err(format!("the expression is longer than {LONGEST} letters"));
    }
    let mut parser = Parser { text, at: 0, depth: 0 };
    let value = parser.sum()?;
    parser.skip();
    if parser.at < text.len() {
        return Err(format!("`{}` cannot stand at letter {}", &text[parser.at..], parser.at + 1));
    }
    if value.is_finite() { Ok(value) } else { Err(format!("`{text}` has no finite value")) }
}

struct Parser<'t> {
    text: &'t str,
    at: usize,
    depth: usize,
}

impl Parser<'_> {
    fn sum(&mut self) -> Result<f64, String> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(format!("the expression is nested more than {DEEPEST} deep"));
        }
        let mut value = self.product()?;
        loop {
            if self.eat('+') {
                value += self.product()?;
            } else if self.eat('-') {
                value -= self.product()?;
            } else {
                self.depth -= 1;
                return Ok(value);
            }
        }
    }

    fn product(&mut self) -> Result<f64, String> {
        let mut value = self.signed()?;
        loop {
            if self.eat('*') {
                value *= self.signed()?;
            } else if self.eat('/') {
                value /= self.signed()?;
            } else if self.eat('%') {
                value %= self.signed()?;
            } else {
                return Ok(value);
            }
        }
    }

    // -2^2 is -4, as everywhere in mathematics; 2^-1 works, and 2^3^2 is 2^9.
    fn signed(&mut self) -> Result<f64, String> {
        let mut negative = false;
        while let Some(minus) = self.sign() {
            negative ^= minus;
        }
        let value = self.power()?;
        Ok(if negative { -value } else { value })
    }

    fn sign(&mut self) -> Option<bool> {
        if self.eat('-') { Some(true) } else { self.eat('+').then_some(false) }
    }

    fn power(&mut self) -> Result<f64, String> {
        let base = self.value()?;
        if !self.eat('^') {
            return Ok(base);
        }
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(format!("the expression is nested more than {DEEPEST} deep"));
        }
        let exponent = self.signed()?;
        self.depth -= 1;
        Ok(base.powf(exponent))
    }

    fn value(&mut self) -> Result<f64, String> {
        if self.eat('(') {
            let value = self.sum()?;
            return self.close().map(|()| value);
        }
        let rest = &self.text[self.at..];
        let word: &str = &rest[..rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len())];
        if word.starts_with(|c: char| c.is_ascii_alphabetic()) {
            let word = word.to_owned();
            self.at += word.len();
            return self.named(&word);
        }
        self.number()
    }

    fn number(&mut self) -> Result<f64, String> {
        let bytes = self.text.as_bytes();
        let mut end = self.at;
        while let Some(byte) = bytes.get(end) {
            let exponent = b"+-".contains(byte) && end > self.at && b"eE".contains(&bytes[end - 1]);
            if !(byte.is_ascii_digit() || b".eE".contains(byte) || exponent) {
                break;
            }
            end += 1;
        }
        let text = &self.text[self.at..end];
        let value = text.parse().map_err(|_| match self.text[self.at..].chars().next() {
            Some(found) => format!("a number is missing before `{found}` at letter {}", self.at + 1),
            None => "a number is missing at the end".to_owned(),
        })?;
        self.at = end;
        Ok(value)
    }

    fn named(&mut self, word: &str) -> Result<f64, String> {
        match word {
            "pi" => return Ok(std::f64::consts::PI),
            "e" => return Ok(std::f64::consts::E),
            _ => {}
        }
        if !self.eat('(') {
            return Err(format!("`{word}` is no number; functions want parentheses"));
        }
        let mut arguments = vec![self.sum()?];
        while self.eat(',') {
            arguments.push(self.sum()?);
        }
        self.close()?;
        apply(word, &arguments)
    }

    fn close(&mut self) -> Result<(), String> {
        if self.eat(')') { Ok(()) } else { Err(format!("a `)` is missing at letter {}", self.at + 1)) }
    }

    fn skip(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start().len();
    }

    fn eat(&mut self, wanted: char) -> bool {
        self.skip();
        let found = self.text[self.at..].starts_with(wanted);
        if found {
            self.at += wanted.len_utf8();
            self.skip();
        }
        found
    }
}

fn apply(name: &str, arguments: &[f64]) -> Result<f64, String> {
    Ok(match (name, arguments) {
        ("sqrt", [x]) => x.sqrt(),
        ("abs", [x]) => x.abs(),
        ("floor", [x]) => x.floor(),
        ("ceil", [x]) => x.ceil(),
        ("ln", [x]) => x.ln(),
        ("exp", [x]) => x.exp(),
        ("round", [x]) => x.round(),
        ("round", [x, digits]) => {
            let scale = 10_f64.powi(digits.clamp(-15.0, 15.0) as i32);
            (x * scale).round() / scale
        }
        ("min", all) => all.iter().copied().fold(f64::INFINITY, f64::min),
        ("max", all) => all.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        _ => return Err(format!("there is no function `{name}` of {} numbers", arguments.len())),
    })
}

#[cfg(test)]
mod tests {
    use super::compute;

    #[test]
    fn expressions_mean_what_they_mean_on_paper() {
        for (text, value) in [
            ("1 + 2 * 3", 7.0),
            ("-2 ^ 2", -4.0),
            ("2 ^ 3 ^ 2", 512.0),
            ("2^-1", 0.5),
            ("--3 % 2", 1.0),
            ("round(1000 * 5.25 / 12 / 100, 2) + max(1, min(3, 2))", 6.38),
            ("1.5e3 - sqrt(4)", 1498.0),
        ] {
            assert_eq!(compute(text), Ok(value), "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused_and_named() {
        for (text, part) in [
            ("", "missing at the end"),
            ("1 +", "missing at the end"),
            ("1 / 0", "no finite value"),
            ("2 2", "cannot stand"),
            ("(1", "`)` is missing"),
            ("rm(1)", "no function `rm`"),
            ("ä", "before `ä`"),
            (&"(".repeat(400), "nested more"),
            (&"2^".repeat(400), "nested more"),
            (&"1".repeat(1001), "longer than"),
        ] {
            assert!(compute(text).unwrap_err().contains(part), "{text}: {:?}", compute(text));
        }
    }
}
