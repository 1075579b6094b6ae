//! What a rule speaks of.

use std::collections::BTreeSet;

use cel::common::ast::{Expr, IdedExpr, LiteralValue, operators};

use crate::functions::TYPES;
use crate::read::parts;

pub(crate) fn paths(rule: &IdedExpr) -> Vec<Vec<String>> {
    let mut found = BTreeSet::new();
    collect(rule, &mut Vec::new(), &mut found);
    found.into_iter().collect()
}

fn collect<'e>(expression: &'e IdedExpr, bound: &mut Vec<&'e str>, found: &mut BTreeSet<Vec<String>>) {
    if let Some(path) = path(expression) {
        let is_type = path.len() == 1 && TYPES.contains(&path[0].as_str());
        if !is_type && !bound.contains(&path[0].as_str()) {
            found.insert(path);
        }
        return;
    }
    let Expr::Comprehension(one) = &expression.expr else {
        parts(expression).into_iter().for_each(|part| collect(part, bound, found));
        return;
    };
    collect(&one.iter_range, bound, found);
    collect(&one.accu_init, bound, found);
    let before = bound.len();
    bound.extend([one.accu_var.as_str(), one.iter_var.as_str()]);
    bound.extend(one.iter_var2.as_deref());
    for inner in [&one.loop_cond, &one.loop_step, &one.result] {
        collect(inner, bound, found);
    }
    bound.truncate(before);
}

/// A name with the fields behind it: `a.b["c"]`.
fn path(expression: &IdedExpr) -> Option<Vec<String>> {
    match &expression.expr {
        Expr::Ident(name) => Some(vec![name.clone()]),
        Expr::Select(select) => {
            let mut path = path(&select.operand)?;
            path.push(select.field.clone());
            Some(path)
        }
        Expr::Call(call) if call.func_name == operators::INDEX => match call.args.as_slice() {
            [of, IdedExpr { expr: Expr::Literal(LiteralValue::String(field)), .. }] => {
                let mut path = path(of)?;
                path.push(field.inner().to_owned());
                Some(path)
            }
            _ => None,
        },
        _ => None,
    }
}
