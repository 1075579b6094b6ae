//! What `omium dev` brings along, so that there is something to see.

use std::sync::Arc;

use omium_api::port::{Executions as _, Failure, FailureKind, Keys as _, StartRequest, Workflows as _};
use omium_engine::Engine;
use omium_schemas::{Money, Price};

use super::models::Models;
use super::options::Kind;

/// What the scripted model costs, so that there is something to see: $0.50, $0.25 and $1.50 for a million tokens.
const SCRIPTED: Price = Price { input: Money(500_000), cached: Money(250_000), output: Money(1_500_000) };

/// Brings it.
pub(super) async fn prepare(
    engine: &Arc<Engine>,
    kind: &Kind,
    models: &Models,
    key: &str,
) -> anyhow::Result<()> {
    if matches!(models, Models::Scripted(_)) {
        let set = engine.suggest_price(key, "default", SCRIPTED).await;
        needs_room(set)?;
    }
    if matches!(kind, Kind::Dev { sample: true }) {
        needs_room(sample(engine, key).await)?;
    }
    Ok(())
}

/// What is only brought along is left out where there is no room for it.
fn needs_room(made: Result<(), Failure>) -> anyhow::Result<()> {
    match made {
        Err(failure) if failure.kind == FailureKind::Full => {
            tracing::warn!("what `omium dev` brings along is left out: {}", failure.detail);
            Ok(())
        }
        made => made.map_err(|failure| anyhow::anyhow!("what `omium dev` brings along: {}", failure.detail)),
    }
}

/// The same keys each time, so that a second start brings nothing twice.
async fn sample(engine: &Arc<Engine>, key: &str) -> Result<(), Failure> {
    let Some(caller) = engine.authenticate(key).await? else { return Ok(()) };
    engine.publish(&caller, "loan.yaml", crate::demo::LOAN).await?;
    for (number, amount) in [20_000, 35_000, 5_000].into_iter().enumerate() {
        let inputs = serde_json::json!({ "amount": amount, "income": 85_000 });
        let idempotency = Some(format!("sample-{number}"));
        let request = StartRequest { workflow: "loan-decision".into(), inputs, idempotency, budget: None };
        engine.start(&caller, request).await?;
    }
    Ok(())
}
