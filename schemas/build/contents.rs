//! Writes how a record's contents are found, counted and changed.

use std::fmt::Write as _;

use super::model::{Field, Record, Shape};

/// The methods of a record that has places for content.
pub(crate) fn slots(record: &Record) -> String {
    let name = &record.name;
    let body = |change: &str| -> String {
        let step = |field: &Field| visit(&field.shape, &format!("&{change}self.{}", field.name), change, 2);
        record.fields.iter().map(step).collect()
    };
    let asks: Vec<String> = record
        .fields
        .iter()
        .filter(|field| field.shape.slots().any())
        .map(|field| holds(&field.shape, &format!("self.{}", field.name)))
        .collect();
    let certain = asks.iter().any(|ask| ask == "true");
    let asks = if certain { "true".to_owned() } else { asks.join(" || ") };
    let (see, change) = (body(""), body("mut "));
    let mut rust = format!(
        "
impl {name} {{
    fn has_content(&self) -> bool {{
        {asks}
    }}

    fn contents_from(&self, number: &mut u16, visit: &mut dyn FnMut(u16, &Content)) {{
{see}    }}

    fn contents_mut_from(&mut self, number: &mut u16, visit: &mut dyn FnMut(u16, &mut Content)) {{
{change}    }}
"
    );
    if record.slots().varying {
        let _ = write!(
            rust,
            "
    /// Content beyond the last number would be sealed under the nonce of another, so it is never written.
    fn numbered(&self) -> Result<&Self, EncodeError> {{
        let mut number = 0;
        self.contents_from(&mut number, &mut |_, _| {{}});
        if number == u16::MAX {{ Err(EncodeError::TooLarge {{ what: \"the contents of {name}\" }}) }} else {{ Ok(self) }}
    }}
"
        );
    }
    rust + "}\n"
}

/// Statements that hand each content of `place`, a reference, to `visit` and move `number` on.
fn visit(shape: &Shape, place: &str, change: &str, depth: usize) -> String {
    let indent = "    ".repeat(depth);
    let suffix = if change.is_empty() { "" } else { "_mut" };
    if !shape.slots().any() {
        return String::new();
    }
    match shape {
        Shape::Plain(_) => String::new(),
        Shape::Content => {
            format!("{indent}visit(*number, {place});\n{indent}*number = number.saturating_add(1);\n")
        }
        Shape::Record(..) => {
            let owner = place.strip_prefix(&format!("&{change}")).unwrap_or(place);
            format!("{indent}{owner}.contents{suffix}_from(number, visit);\n")
        }
        Shape::Optional(inner) => {
            let some = visit(inner, "inner", change, depth + 1);
            let fixed = inner.slots().fixed;
            // An absent content keeps its number, so that a field's number does not hang on other fields.
            let none = if fixed == 0 {
                String::new()
            } else {
                format!(" else {{\n{indent}    *number = number.saturating_add({fixed});\n{indent}}}")
            };
            format!("{indent}if let Some(inner) = {place} {{\n{some}{indent}}}{none}\n")
        }
        Shape::Array(items) => {
            let each = visit(items, "item", change, depth + 1);
            format!("{indent}for item in {place} {{\n{each}{indent}}}\n")
        }
        Shape::Map(values) => {
            let owner = place.strip_prefix(&format!("&{change}")).unwrap_or(place);
            let each = visit(values, "value", change, depth + 1);
            format!("{indent}for value in {owner}.values{suffix}() {{\n{each}{indent}}}\n")
        }
    }
}

/// An expression that says whether `place` holds content.
fn holds(shape: &Shape, place: &str) -> String {
    match shape {
        Shape::Plain(_) => "false".to_owned(),
        Shape::Content => "true".to_owned(),
        Shape::Record(..) => format!("{place}.has_content()"),
        Shape::Optional(inner) => match holds(inner, "inner").as_str() {
            "true" => format!("{place}.is_some()"),
            asked => format!("{place}.as_ref().is_some_and(|inner| {asked})"),
        },
        Shape::Array(items) => match holds(items, "item").as_str() {
            "true" => format!("!{place}.is_empty()"),
            asked => format!("{place}.iter().any(|item| {asked})"),
        },
        Shape::Map(values) => match holds(values, "value").as_str() {
            "true" => format!("!{place}.is_empty()"),
            asked => format!("{place}.values().any(|value| {asked})"),
        },
    }
}
