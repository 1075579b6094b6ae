//! Evaluates a rule that was read. Every expression, every item and every byte is paid for before it is touched, and fuel
//! that is spent is an answer that nothing makes up for.

use cel::common::ast::{
    CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, SelectExpr, operators as op,
};
use omium_limits::{Fuel, told};
use serde_json::Value as Json;

use crate::Error;
use crate::functions::{Library, TYPES};
use crate::operators::{binary, field, items, map, room, unary};
use crate::value::{Text, Value};

pub(crate) struct Evaluation<'v, 'f> {
    /// Names and what they stand for, the innermost last.
    scope: Vec<(&'v str, Value<'v>)>,
    library: Library,
    fuel: &'f mut Fuel,
}

impl<'v, 'f> Evaluation<'v, 'f> {
    pub(crate) fn new(names: &[(&'v str, &'v Json)], fuel: &'f mut Fuel) -> Evaluation<'v, 'f> {
        let scope = names.iter().map(|(name, value)| (*name, Value::from(*value))).collect();
        Evaluation { scope, library: Library::default(), fuel }
    }

    pub(crate) fn whole(mut self, rule: &'v IdedExpr) -> Result<Value<'v>, Error> {
        self.value(rule)
    }

    fn value(&mut self, expression: &'v IdedExpr) -> Result<Value<'v>, Error> {
        self.fuel.take(1)?;
        match &expression.expr {
            Expr::Literal(literal) => self.literal(literal),
            Expr::Ident(name) => self.named(name),
            Expr::Select(select) => self.select(select),
            Expr::Call(call) => self.call(call),
            Expr::List(list) => {
                room(list.elements.len(), self.fuel)?;
                let items: Result<Vec<_>, Error> =
                    list.elements.iter().map(|item| self.value(item)).collect();
                items.map(Value::own_list)
            }
            Expr::Map(written) => {
                let entries: Result<Vec<_>, Error> =
                    written.entries.iter().map(|entry| self.entry(&entry.expr)).collect();
                map(entries?, self.fuel)
            }
            Expr::Comprehension(one) => self.comprehension(one),
            Expr::Struct(one) => Err(Error::Wrong(format!("there is no type `{}`", told(&one.type_name)))),
            Expr::Unspecified => Err(Error::Wrong("a part of the rule is empty".to_owned())),
        }
    }

    fn literal(&mut self, literal: &'v LiteralValue) -> Result<Value<'v>, Error> {
        Ok(match literal {
            LiteralValue::Null => Value::Null,
            LiteralValue::Boolean(value) => Value::Bool(*value.inner()),
            LiteralValue::Int(value) => Value::Int(*value.inner()),
            LiteralValue::UInt(value) => Value::UInt(*value.inner()),
            LiteralValue::Double(value) => Value::Double(*value.inner()),
            LiteralValue::String(text) => Value::Text(Text::Lent(text.inner())),
            LiteralValue::Bytes(bytes) => {
                self.fuel.copy(bytes.inner().len())?;
                Value::Bytes(bytes.inner().into())
            }
        })
    }

    fn named(&mut self, name: &'v str) -> Result<Value<'v>, Error> {
        self.fuel.scan(self.scope.len())?;
        if let Some((_, value)) = self.scope.iter().rev().find(|(known, _)| *known == name) {
            return Ok(value.clone());
        }
        let found = TYPES.into_iter().find(|known| *known == name);
        found.map(Value::Type).ok_or_else(|| Error::Wrong(format!("there is no `{}`", told(name))))
    }

    fn select(&mut self, select: &'v SelectExpr) -> Result<Value<'v>, Error> {
        let of = self.value(&select.operand)?;
        let found = field(&of, &select.field, self.fuel)?;
        if select.test {
            return Ok(Value::Bool(found.is_some()));
        }
        found.ok_or_else(|| Error::Wrong(format!("there is no `{}`", told(&select.field))))
    }

    fn entry(&mut self, entry: &'v EntryExpr) -> Result<(Value<'v>, Value<'v>), Error> {
        match entry {
            EntryExpr::MapEntry(entry) => Ok((self.value(&entry.key)?, self.value(&entry.value)?)),
            EntryExpr::StructField(_) => Err(Error::Wrong("a map has keys, no fields".to_owned())),
        }
    }

    fn call(&mut self, call: &'v CallExpr) -> Result<Value<'v>, Error> {
        match (call.func_name.as_str(), call.args.as_slice()) {
            (op::CONDITIONAL, [when, then, otherwise]) => {
                let chosen = if self.truth(when)? { then } else { otherwise };
                self.value(chosen)
            }
            (op::LOGICAL_AND, [a, b]) => self.logical(a, b, false),
            (op::LOGICAL_OR, [a, b]) => self.logical(a, b, true),
            (op::NOT_STRICTLY_FALSE, [of]) => match self.truth(of) {
                Ok(value) => Ok(Value::Bool(value)),
                Err(Error::Wrong(_)) => Ok(Value::Bool(true)),
                Err(spent) => Err(spent),
            },
            (name, [a, b]) if name.starts_with('_') || name.starts_with('@') => {
                let (a, b) = (self.value(a)?, self.value(b)?);
                binary(name, &a, &b, self.fuel).unwrap_or_else(|| Err(unknown(name)))
            }
            (name, [of]) if name.ends_with('_') => {
                let of = self.value(of)?;
                unary(name, &of).unwrap_or_else(|| Err(unknown(name)))
            }
            (name, arguments) => self.function(name, call.target.as_deref(), arguments),
        }
    }

    fn function(
        &mut self,
        name: &str,
        target: Option<&'v IdedExpr>,
        written: &'v [IdedExpr],
    ) -> Result<Value<'v>, Error> {
        room(written.len() + 1, self.fuel)?;
        let mut arguments: Vec<Value<'v>> = Vec::with_capacity(written.len() + 1);
        for argument in target.into_iter().chain(written) {
            arguments.push(self.value(argument)?);
        }
        self.library.call(name, target.is_some(), &arguments, self.fuel)
    }

    fn truth(&mut self, expression: &'v IdedExpr) -> Result<bool, Error> {
        match self.value(expression)? {
            Value::Bool(value) => Ok(value),
            other => Err(Error::Wrong(format!("{} is neither true nor false", other.kind()))),
        }
    }

    /// `&&` and `||`: one side that decides is enough, also where the other has no answer.
    fn logical(&mut self, a: &'v IdedExpr, b: &'v IdedExpr, decides: bool) -> Result<Value<'v>, Error> {
        let left = self.truth(a);
        match left {
            Err(Error::Spent(spent)) => return Err(spent.into()),
            Ok(value) if value == decides => return Ok(Value::Bool(decides)),
            _ => {}
        }
        let right = self.truth(b)?;
        match left {
            Ok(_) => Ok(Value::Bool(right)),
            Err(_) if right == decides => Ok(Value::Bool(decides)),
            Err(why) => Err(why),
        }
    }

    fn comprehension(&mut self, one: &'v ComprehensionExpr) -> Result<Value<'v>, Error> {
        let begin = self.value(&one.accu_init)?;
        let over = self.value(&one.iter_range)?;
        let over = items(&over, self.fuel)?;
        let before = self.scope.len();
        let result = match Append::of(one) {
            Some(append) => self.append(one, &append, over),
            None => self.fold(one, begin, over),
        };
        self.scope.truncate(before);
        result
    }

    fn fold(
        &mut self,
        one: &'v ComprehensionExpr,
        begin: Value<'v>,
        over: Vec<Value<'v>>,
    ) -> Result<Value<'v>, Error> {
        let place = self.scope.len();
        self.scope.push((&one.accu_var, begin));
        self.scope.push((&one.iter_var, Value::Null));
        // What one item has no answer for, a later one may decide; what that is, the step's own sign says.
        let decides = decided_by(one);
        let mut pending = None;
        for item in over {
            if !self.truth(&one.loop_cond)? {
                break;
            }
            self.scope[place + 1].1 = item;
            match (self.value(&one.loop_step), decides) {
                (Ok(value), Some(decides)) if pending.is_some() => {
                    if matches!(value, Value::Bool(value) if value == decides) {
                        (pending, self.scope[place].1) = (None, value);
                    }
                }
                (Ok(value), _) => self.scope[place].1 = value,
                (Err(Error::Wrong(why)), Some(_)) => pending = Some(Error::Wrong(why)),
                (Err(why), _) => return Err(why),
            }
        }
        match pending {
            Some(why) => Err(why),
            None => {
                // The result speaks of what was gathered, not of the last item.
                self.scope.truncate(place + 1);
                self.value(&one.result)
            }
        }
    }

    /// `map` and `filter` gather in one list, instead of a longer one for each item.
    fn append(
        &mut self,
        one: &'v ComprehensionExpr,
        append: &Append<'v>,
        over: Vec<Value<'v>>,
    ) -> Result<Value<'v>, Error> {
        let place = self.scope.len();
        self.scope.push((&one.iter_var, Value::Null));
        let mut gathered = Vec::new();
        for item in over {
            self.scope[place].1 = item;
            if let Some(guard) = append.guard
                && !self.truth(guard)?
            {
                continue;
            }
            for item in append.items {
                room(2, self.fuel)?;
                gathered.push(self.value(item)?);
            }
        }
        Ok(Value::own_list(gathered))
    }
}

/// What decides the outcome of `all` and `exists`, whatever else has no answer.
fn decided_by(one: &ComprehensionExpr) -> Option<bool> {
    let Expr::Call(call) = &one.loop_step.expr else { return None };
    let folds = matches!(call.args.first().map(|first| &first.expr), Some(Expr::Ident(name)) if *name == one.accu_var);
    match call.func_name.as_str() {
        op::LOGICAL_AND if folds => Some(false),
        op::LOGICAL_OR if folds => Some(true),
        _ => None,
    }
}

/// The step of `map` and `filter`: `@result + [item]`, with or without a condition.
struct Append<'v> {
    guard: Option<&'v IdedExpr>,
    items: &'v [IdedExpr],
}

impl<'v> Append<'v> {
    fn of(one: &'v ComprehensionExpr) -> Option<Append<'v>> {
        let is_gathered =
            |expression: &IdedExpr| matches!(&expression.expr, Expr::Ident(name) if *name == one.accu_var);
        let begins_empty = matches!(&one.accu_init.expr, Expr::List(list) if list.elements.is_empty());
        let goes_on =
            matches!(&one.loop_cond.expr, Expr::Literal(LiteralValue::Boolean(value)) if *value.inner());
        if !begins_empty || !goes_on || !is_gathered(&one.result) {
            return None;
        }
        let items = |step: &'v IdedExpr| match &step.expr {
            Expr::Call(call) if call.func_name == op::ADD => match call.args.as_slice() {
                [gathered, IdedExpr { expr: Expr::List(list), .. }] if is_gathered(gathered) => {
                    Some(list.elements.as_slice())
                }
                _ => None,
            },
            _ => None,
        };
        match &one.loop_step.expr {
            Expr::Call(call) if call.func_name == op::CONDITIONAL => match call.args.as_slice() {
                [guard, step, otherwise] if is_gathered(otherwise) => {
                    Some(Append { guard: Some(guard), items: items(step)? })
                }
                _ => None,
            },
            _ => Some(Append { guard: None, items: items(&one.loop_step)? }),
        }
    }
}

fn unknown(name: &str) -> Error {
    Error::Wrong(format!("there is no operator `{}`", told(name)))
}
