//! An account: a balance, and slices of it that jobs may spend without asking again.

use std::collections::BTreeMap;

use omium_schemas::catalogue::{
    AccountCarried, AccountCredited, AccountDebited, Event, Message, MessageKind, MessageSent, Slice,
    SliceGranted, SliceRefused, SliceReturned,
};
use omium_schemas::{Content, Money, Partition, StreamId, TenantId};
use serde::{Deserialize, Serialize};

use crate::{Refusal, Why};

/// What a note says that comes with money.
pub const NOTE: &str = "a note that is sealed";
/// Amounts that are a multiple of it come with a note.
const WITH_NOTE: i128 = 3_000_000_000;

/// What an account holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Account {
    /// Money that is not set aside.
    pub balance: Money,
    /// Money that is set aside, by the job that may spend it.
    pub slices: BTreeMap<StreamId, Money>,
    /// All money that ever came in.
    pub credited: Money,
    /// All money that ever left for another account.
    pub debited: Money,
    /// All money that jobs have spent.
    pub spent: Money,
}

/// A message as a processor makes it: the shell fills in where it goes and its number.
pub(super) fn send(tenant: TenantId, to: StreamId, kind: MessageKind, amount: Option<Money>) -> Event {
    send_with(tenant, to, kind, amount, None)
}

fn send_with(
    to_tenant: TenantId,
    to: StreamId,
    kind: MessageKind,
    amount: Option<Money>,
    body: Option<Content>,
) -> Event {
    let message = Message { to_tenant, to, kind, amount, count: 0, label: None, body };
    MessageSent { to_partition: Partition(0), number: 0, message }.into()
}

impl Account {
    pub(super) fn top_up(&self, amount: Money) -> Result<Vec<Event>, Refusal> {
        positive(amount)?;
        if self.credited.plus(amount).is_none() {
            return Err(Refusal::new(Why::Invalid, format!("{amount} is more than an account can hold")));
        }
        Ok(vec![AccountCredited { amount }.into()])
    }

    pub(super) fn transfer(
        &self,
        tenant: TenantId,
        to: StreamId,
        amount: Money,
    ) -> Result<Vec<Event>, Refusal> {
        positive(amount)?;
        self.has(amount)?;
        let body = (amount.0 % WITH_NOTE == 0).then(|| Content::open(NOTE));
        let sent = send_with(tenant, to, MessageKind::MoneyMoved, Some(amount), body);
        Ok(vec![AccountDebited { amount }.into(), sent])
    }

    pub(super) fn hear(&self, tenant: TenantId, from: StreamId, message: &Message) -> Vec<Event> {
        let amount = message.amount.unwrap_or_default();
        match message.kind {
            MessageKind::MoneyMoved => vec![AccountCredited { amount }.into()],
            MessageKind::SliceAsked if self.has(amount).is_ok() => {
                let told = send(tenant, from, MessageKind::SliceGranted, Some(amount));
                vec![SliceGranted { to: from, amount }.into(), told]
            }
            MessageKind::SliceAsked => {
                let told = send(tenant, from, MessageKind::SliceRefused, Some(amount));
                vec![SliceRefused { to: from, amount }.into(), told]
            }
            MessageKind::SliceReturned => vec![SliceReturned { from, amount }.into()],
            _ => Vec::new(),
        }
    }

    fn has(&self, amount: Money) -> Result<(), Refusal> {
        if amount <= self.balance {
            return Ok(());
        }
        let text = format!("{amount} is more than the balance of {}; top the account up first", self.balance);
        Err(Refusal::new(Why::Exhausted, text))
    }

    pub(super) fn carry(&self) -> Event {
        let slices = self.slices.iter().map(|(holder, amount)| Slice { holder: *holder, amount: *amount });
        let Account { balance, credited, debited, spent, .. } = *self;
        AccountCarried { balance, per_execution: None, slices: slices.collect(), credited, debited, spent }
            .into()
    }

    pub(super) fn apply(&mut self, event: &Event) {
        let add = |a: &mut Money, b: Money| a.0 += b.0;
        match event {
            Event::AccountCredited(AccountCredited { amount }) => {
                add(&mut self.balance, *amount);
                add(&mut self.credited, *amount);
            }
            Event::AccountDebited(AccountDebited { amount }) => {
                self.balance.0 -= amount.0;
                add(&mut self.debited, *amount);
            }
            Event::SliceGranted(SliceGranted { to, amount }) => {
                self.balance.0 -= amount.0;
                add(self.slices.entry(*to).or_default(), *amount);
            }
            Event::SliceReturned(SliceReturned { from, amount }) => {
                let held = self.slices.remove(from).unwrap_or_default();
                add(&mut self.balance, *amount);
                self.spent.0 += held.0 - amount.0;
            }
            Event::AccountCarried(AccountCarried { balance, slices, credited, debited, spent, .. }) => {
                let slices = slices.iter().map(|Slice { holder, amount }| (*holder, *amount)).collect();
                let (balance, credited, debited, spent) = (*balance, *credited, *debited, *spent);
                *self = Account { balance, slices, credited, debited, spent };
            }
            _ => {}
        }
    }
}

fn positive(amount: Money) -> Result<(), Refusal> {
    if amount.0 > 0 {
        return Ok(());
    }
    Err(Refusal::new(
        Why::Invalid,
        format!("{amount} is not an amount that can be moved; it must be above zero"),
    ))
}
