//! Reads a rule, within bounds: the parser goes as deep as the text does.

use cel::common::ast::{EntryExpr, Expr, IdedExpr};
use cel::parser::PrattParser;
use omium_limits::clipped;

/// How long a rule may be.
const MAX_RULE: usize = 1_024;
/// How deep its brackets, signs and choices may nest: the parser goes down as deep.
const MAX_NESTING: usize = 32;
/// How deep the parser may go: some three steps for each bracket.
const MAX_RECURSION: u16 = 96;
/// How deep the expression may be once it is read: operators in a row make it deeper than brackets do.
const MAX_DEPTH: usize = 200;
/// How much of what the parser says is told, in bytes.
const TOLD: usize = 500;

pub(crate) fn read(rule: &str) -> Result<IdedExpr, String> {
    if rule.len() > MAX_RULE {
        return Err(format!("the rule has {} bytes; {MAX_RULE} are allowed", rule.len()));
    }
    if nesting(rule) > MAX_NESTING {
        return Err(format!("the rule is nested more than {MAX_NESTING} deep"));
    }
    // The parser that is written by hand: the generated one needs a large stack for a few brackets.
    let parsed = PrattParser::new().max_recursion_depth(MAX_RECURSION).parse(rule);
    let parsed = parsed.map_err(|error| {
        format!("`{}` is not a rule: {}", clipped(rule, super::TOLD), clipped(&error.to_string(), TOLD))
    })?;
    match depth(&parsed) {
        deep if deep > MAX_DEPTH => Err(format!("the rule has more than {MAX_DEPTH} operators in a row")),
        _ => Ok(parsed),
    }
}

/// An upper bound of how deep a parser has to go. Texts inside quotes count too, which only makes it stricter.
fn nesting(rule: &str) -> usize {
    let (mut depth, mut deepest, mut signs, mut choices) = (0_usize, 0, 0, 0);
    for character in rule.chars() {
        match character {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            '?' => choices += 1,
            _ => {}
        }
        signs = match character {
            '-' | '!' => signs + 1,
            character if character.is_whitespace() => signs,
            _ => 0,
        };
        deepest = deepest.max(depth + signs + choices);
    }
    deepest
}

/// How deep an expression is, without going down it: on a stack of its own.
fn depth(whole: &IdedExpr) -> usize {
    let (mut open, mut deepest) = (vec![(whole, 1)], 0);
    while let Some((expression, depth)) = open.pop() {
        deepest = deepest.max(depth);
        open.extend(parts(expression).into_iter().map(|part| (part, depth + 1)));
    }
    deepest
}

/// What an expression is made of.
pub(crate) fn parts(expression: &IdedExpr) -> Vec<&IdedExpr> {
    match &expression.expr {
        Expr::Call(call) => call.target.iter().map(|target| &**target).chain(&call.args).collect(),
        Expr::Select(select) => vec![&select.operand],
        Expr::List(list) => list.elements.iter().collect(),
        Expr::Map(map) => map.entries.iter().flat_map(|entry| entry_parts(&entry.expr)).collect(),
        Expr::Struct(fields) => fields.entries.iter().flat_map(|entry| entry_parts(&entry.expr)).collect(),
        Expr::Comprehension(one) => {
            vec![&one.iter_range, &one.accu_init, &one.loop_cond, &one.loop_step, &one.result]
        }
        Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => Vec::new(),
    }
}

fn entry_parts(entry: &EntryExpr) -> Vec<&IdedExpr> {
    match entry {
        EntryExpr::MapEntry(entry) => vec![&entry.key, &entry.value],
        EntryExpr::StructField(field) => vec![&field.value],
    }
}
