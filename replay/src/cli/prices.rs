//! `omium prices …`: what models cost.

use clap::Args;
use serde_json::{Value, json};

use super::connection::{Ask, Connection, Trouble};
use super::output::{document, print, table, text};
use super::{Act, End, Target};

/// Lists what models cost, in dollars for a million tokens.
#[derive(Args, Debug)]
pub(crate) struct List {}

/// Sets what a model costs, for executions that begin from now on.
#[derive(Args, Debug)]
pub(crate) struct Set {
    /// The model, as agents and programs name it.
    model: String,
    /// Dollars for a million tokens of requests: 2.50
    #[arg(long, value_name = "USD")]
    input: String,
    /// Of those that the provider had cached; else as all others.
    #[arg(long, value_name = "USD")]
    cached: Option<String>,
    /// Dollars for a million tokens of answers.
    #[arg(long, value_name = "USD")]
    output: String,
}

impl Act for List {
    async fn act(&self, target: &Target) -> Result<End, Trouble> {
        let list = Connection::new(target).get("/api/v1/prices").await?;
        if target.json {
            document(&list);
            return Ok(End::Done);
        }
        let items = list["items"].as_array().map(Vec::as_slice).unwrap_or_default();
        let rows: Vec<Vec<String>> = items.iter().map(|price| row(price).to_vec()).collect();
        print(&table(&["MODEL", "INPUT $/1M", "CACHED $/1M", "OUTPUT $/1M"], &rows));
        if rows.is_empty() {
            eprintln!("no model has a price: their calls are shown as unpriced; `omium prices set` sets one");
        }
        Ok(End::Done)
    }
}

fn row(price: &Value) -> [String; 4] {
    ["model", "input_usd", "cached_usd", "output_usd"].map(|field| text(&price[field]))
}

impl Act for Set {
    async fn act(&self, target: &Target) -> Result<End, Trouble> {
        let Set { model, input, cached, output } = self;
        let body = json!({ "model": model, "input_usd": input, "cached_usd": cached, "output_usd": output });
        let set = Connection::new(target).ask("/api/v1/prices", Ask::Put(body), None).await?;
        if target.json {
            document(&set);
        } else {
            let [model, input, cached, output] = row(&set);
            print(&format!(
                "{model}: ${input} input, ${cached} cached, ${output} output for a million tokens"
            ));
        }
        Ok(End::Done)
    }
}
