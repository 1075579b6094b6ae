//! What models cost: each change makes another version of a tenant's price list, and every version stays known, because
//! executions are charged to their end by the one that was in force when they began.

use std::collections::BTreeMap;

use omium_processor::{Refusal, Why};
use omium_schemas::catalogue::{Event, PriceSet, SetPrice};
use omium_schemas::{Digest, Money, Price};
use serde::{Deserialize, Serialize};

use crate::draft::invalid;

/// How many models a list may name.
const MAX_MODELS: usize = 10_000;
/// How often a list may change.
const MAX_VERSIONS: usize = 100_000;
/// A token that costs more than this is a mistake: a thousand dollars.
const MOST: Money = Money::dollars(1_000);

/// A tenant's price list, in all of its versions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Prices {
    /// The names of the versions, the first one first.
    versions: Vec<Digest>,
    /// What each model costs, from which version on.
    models: BTreeMap<String, Vec<(u32, Price)>>,
}

impl Prices {
    /// The version in force; nothing where no price was ever set.
    pub fn version(&self) -> Option<Digest> {
        self.versions.last().copied()
    }

    /// What a model costs by a version of the list.
    pub fn of(&self, version: Digest, model: &str) -> Option<Price> {
        let at = self.versions.iter().rposition(|known| *known == version)?;
        let known = self.models.get(model)?;
        known.iter().rev().find(|(from, _)| *from as usize <= at).map(|(_, price)| *price)
    }

    /// All prices in force, by model.
    pub fn now(&self) -> impl Iterator<Item = (&str, Price)> {
        self.models.iter().filter_map(|(model, known)| Some((model.as_str(), known.last()?.1)))
    }

    pub(crate) fn apply(&mut self, set: &PriceSet, price: Price) {
        let version = self.versions.len() as u32;
        self.versions.push(set.list);
        self.models.entry(set.model.clone()).or_default().push((version, price));
    }

    /// The name of the list with this change: the digest of all that it says.
    fn with(&self, model: &str, price: Price) -> Digest {
        let mut all: BTreeMap<&str, Price> = self.now().collect();
        all.insert(model, price);
        let line = |(model, Price { input, cached, output }): (&str, Price)| {
            format!("{model}\0{}\0{}\0{}\n", input.0, cached.0, output.0)
        };
        Digest::of(all.into_iter().map(line).collect::<String>().as_bytes())
    }
}

/// The price that a command sets.
pub(crate) fn said(set: &SetPrice) -> Price {
    Price { input: set.input, cached: set.cached, output: set.output }
}

pub(crate) fn decide(prices: Option<&Prices>, set: &SetPrice) -> Result<Vec<Event>, Refusal> {
    let empty = Prices::default();
    let (prices, price) = (prices.unwrap_or(&empty), said(set));
    let SetPrice { tenant, model, .. } = set.clone();
    if model.is_empty() || model.len() > 256 || model.trim() != model || model.contains(char::is_control) {
        return invalid(
            "a model's name has 1 to 256 bytes, without blanks around it and control characters; `omium prices list` shows those that have a price",
        );
    }
    if [price.input, price.cached, price.output].iter().any(|each| *each < Money::ZERO || *each > MOST) {
        return invalid(
            "a token costs nothing or more, and at most a thousand dollars; write dollars for a million tokens",
        );
    }
    let known = prices.models.get(&model);
    // The same price again is no change.
    if known.and_then(|known| known.last()).is_some_and(|(_, last)| *last == price) {
        return Ok(Vec::new());
    }
    if prices.versions.len() >= MAX_VERSIONS || (known.is_none() && prices.models.len() >= MAX_MODELS) {
        let text =
            format!("a price list has at most {MAX_MODELS} models and changes at most {MAX_VERSIONS} times");
        return Err(Refusal::new(Why::Exhausted, text));
    }
    let list = prices.with(&model, price);
    Ok(vec![PriceSet { tenant, model, list }.into()])
}

#[cfg(test)]
mod tests {
    use omium_schemas::TenantId;

    use super::*;

    fn set(model: &str, input: i128) -> SetPrice {
        let (tenant, model) = (TenantId([7; 16]), model.to_owned());
        SetPrice { tenant, model, input: Money(input), cached: Money(1), output: Money(2) }
    }

    fn happens(prices: &mut Prices, command: &SetPrice) -> usize {
        let events = decide(Some(prices), command).expect("it is a price");
        for event in &events {
            let Event::PriceSet(event) = event else { panic!("{}", event.name()) };
            prices.apply(event, said(command));
        }
        events.len()
    }

    #[test]
    fn each_version_of_a_list_stays_known_and_the_same_list_has_the_same_name() {
        let mut prices = Prices::default();
        assert_eq!(prices.version(), None);
        happens(&mut prices, &set("a", 10));
        let first = prices.version().expect("there is one");
        happens(&mut prices, &set("b", 20));
        let second = prices.version().expect("there is one");
        assert_eq!(happens(&mut prices, &set("b", 20)), 0, "the same again is no change");
        happens(&mut prices, &set("a", 11));
        let input = |version, model| prices.of(version, model).map(|price| price.input.0);
        assert_eq!((input(first, "a"), input(first, "b")), (Some(10), None));
        assert_eq!((input(second, "a"), input(second, "b")), (Some(10), Some(20)));
        assert_eq!(prices.of(Digest::of(b"none of these"), "a"), None);
        assert_eq!(
            prices.now().map(|(model, price)| (model, price.input.0)).collect::<Vec<_>>(),
            [("a", 11), ("b", 20)]
        );
        happens(&mut prices, &set("a", 10));
        assert_eq!(prices.version(), Some(second));
        assert_eq!(prices.of(second, "a").map(|price| price.input.0), Some(10));
    }

    #[test]
    fn what_is_no_price_of_a_model_is_refused() {
        for wrong in [
            set("", 1),
            set(" a", 1),
            set("a\n", 1),
            set(&"a".repeat(257), 1),
            set("a", -1),
            set("a", i128::MAX),
        ] {
            assert!(decide(None, &wrong).is_err(), "{wrong:?}");
        }
    }
}
