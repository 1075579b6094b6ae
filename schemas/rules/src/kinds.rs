//! Of what kind a rule's answer is, as far as that can be known before it is asked.

use cel::common::ast::{Expr, IdedExpr, LiteralValue, operators as op};

use crate::functions::TYPES;

/// Whether an expression is neither true nor false, whatever the values are.
pub(crate) fn is_never_boolean(expression: &IdedExpr) -> bool {
    match &expression.expr {
        Expr::Literal(literal) => !matches!(literal, LiteralValue::Boolean(_)),
        Expr::List(_) | Expr::Map(_) | Expr::Struct(_) => true,
        // A name that a rule may speak of hides a type of the same name; there is none that does.
        Expr::Ident(name) => TYPES.contains(&name.as_str()),
        Expr::Call(call) => match (call.func_name.as_str(), call.args.as_slice()) {
            (op::CONDITIONAL, [_, then, otherwise]) => is_never_boolean(then) && is_never_boolean(otherwise),
            // One side that decides makes up for another that has no answer.
            (op::LOGICAL_AND | op::LOGICAL_OR, [a, b]) => is_never_boolean(a) && is_never_boolean(b),
            (op::LOGICAL_NOT, [of]) => is_never_boolean(of),
            (op::ADD | op::SUBSTRACT | op::MULTIPLY | op::DIVIDE | op::MODULO | op::NEGATE, _) => true,
            ("size" | "type" | "int" | "uint" | "double" | "string" | "bytes", _) => true,
            ("dyn", [of]) => is_never_boolean(of),
            _ => false,
        },
        Expr::Comprehension(one) => match &one.result.expr {
            // What `map` and `filter` gather is the list that they begin with; `all` and `exists` begin with a boolean.
            Expr::Ident(name) if *name == one.accu_var => is_never_boolean(&one.accu_init),
            _ => is_never_boolean(&one.result),
        },
        Expr::Select(_) | Expr::Unspecified => false,
    }
}
