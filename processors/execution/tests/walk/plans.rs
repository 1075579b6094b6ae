//! Plans of all shapes: chains and graphs, humans, rules, budgets, attempts, times.

use omium_schemas::catalogue::{OnFailure, PlannedStep, StartExecution};
use omium_schemas::{Content, Digest, Money};

use crate::chance::Chance;

/// What money is counted in here.
pub(crate) const CENT: i128 = 10_000_000_000;
/// The signals that steps wait for; fewer than steps, so that two may wait for one.
pub(crate) const SIGNALS: [&str; 3] = ["review", "sign", "pay"];

pub(crate) fn start(chance: &mut Chance) -> StartExecution {
    // Compiling rules takes longer than all else, so most plans have none.
    let ruled = chance.percent(8);
    let length = 1 + chance.below(6);
    let plan = (1..=length).map(|n| step(chance, n, ruled)).collect();
    StartExecution {
        workflow: "w".into(),
        workflow_version: chance.percent(30).then(|| Digest::of(b"version")),
        inputs: Some(Content::open(r#"{"amount": 7}"#)),
        account: None,
        steps: 0,
        plan,
        on_failure: on_failure(chance),
        slice: money(chance, 25, 12),
        timeout_ms: chance.percent(20).then(|| 1 + chance.below(200_000) as i64),
        price_list: None,
        keep_ms: None,
    }
}

pub(crate) fn on_failure(chance: &mut Chance) -> OnFailure {
    if chance.percent(50) { OnFailure::FinishOthers } else { OnFailure::CancelOthers }
}

fn money(chance: &mut Chance, share: u64, cents: u64) -> Option<Money> {
    chance.percent(share).then(|| Money(i128::from(chance.below(cents)) * CENT))
}

/// Steps come after some of those before them, which is every graph up to the order of its steps.
fn step(chance: &mut Chance, n: u64, ruled: bool) -> PlannedStep {
    let after: Vec<i32> = (1..n as i32).filter(|_| chance.percent(45)).collect();
    let signal = chance.percent(25).then(|| chance.pick(&SIGNALS).copied()).flatten();
    let before = after.first().copied();
    let require = before.filter(|_| ruled && chance.percent(40));
    PlannedStep {
        agent: format!("s{n}"),
        framework: if signal.is_some() { "human".into() } else { "program".into() },
        after,
        attempts: 1 + chance.below(3) as i32,
        backoff_ms: chance.below(3) as i64 * 2_000,
        timeout_ms: chance.below(3) as i64 * 10_000,
        budget: money(chance, 10, 6),
        require: require.map(|before| format!("outputs.s{before}.n >= 3.0")),
        ensure: (ruled && chance.percent(40)).then(|| "output.n >= 2.0".into()),
        signal: signal.map(Into::into),
    }
}
