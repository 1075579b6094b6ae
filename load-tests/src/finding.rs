//! What a measurement found, and whether it is enough.

use std::fmt;
use std::path::Path;
use std::process::Command;

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::series::Series;

/// One figure against its bar.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    /// What was measured, with its unit.
    pub(crate) what: String,
    /// The median of ours.
    pub(crate) value: f64,
    /// The median of what it is held against, or the fixed figure.
    pub(crate) reference: f64,
    /// The bar in words.
    pub(crate) bar: String,
    /// Whether it is met.
    pub(crate) pass: bool,
    /// How many runs the medians are of.
    pub(crate) n: usize,
    /// The distance of the farthest two runs, as a share of the median.
    pub(crate) spread: f64,
}

impl Part {
    /// At least this share of the reference, measured in turn with it.
    pub(crate) fn share(what: &str, series: &Series, least: f64) -> Part {
        let pass = series.value() >= series.reference() * least;
        Part::against(what, series, format!("at least {:.0}% of the reference", least * 100.0), pass)
    }

    /// At least so many times the reference, measured in turn with it.
    pub(crate) fn times(what: &str, series: &Series, least: f64) -> Part {
        let pass = series.value() >= series.reference() * least;
        Part::against(what, series, format!("at least {least} x the reference"), pass)
    }

    /// At most this part of the reference, measured in turn with it.
    pub(crate) fn fraction(what: &str, series: &Series, most: f64) -> Part {
        let pass = series.value() <= series.reference() * most;
        Part::against(what, series, format!("at most {most} x the reference"), pass)
    }

    fn against(what: &str, series: &Series, bar: String, pass: bool) -> Part {
        let (value, reference, n, spread) = (series.value(), series.reference(), series.n(), series.spread());
        Part { what: what.to_owned(), value, reference, bar, pass, n, spread }
    }

    /// At least a fixed figure.
    pub(crate) fn at_least(what: &str, values: &[f64], least: f64) -> Part {
        let series = Series::alone(values);
        let (value, bar) = (series.value(), format!("at least {least}"));
        let pass = value >= least;
        Part {
            what: what.to_owned(),
            value,
            reference: least,
            bar,
            pass,
            n: series.n(),
            spread: series.spread(),
        }
    }

    /// At most a fixed figure.
    pub(crate) fn at_most(what: &str, values: &[f64], most: f64) -> Part {
        let series = Series::alone(values);
        let (value, bar) = (series.value(), format!("at most {most}"));
        let pass = value <= most;
        Part {
            what: what.to_owned(),
            value,
            reference: most,
            bar,
            pass,
            n: series.n(),
            spread: series.spread(),
        }
    }

    fn ratio(&self) -> f64 {
        if self.reference == 0.0 { f64::NAN } else { self.value / self.reference }
    }

    fn json(&self) -> Value {
        let Part { what, value, reference, bar, pass, n, spread } = self;
        let (value, reference, ratio) = (round(*value), round(*reference), round(self.ratio()));
        json!({ "what": what, "value": value, "reference": reference, "ratio": ratio, "bar": bar, "pass": pass, "n": n, "spread": round(*spread) })
    }
}

/// Four significant digits: what a measurement is worth.
fn round(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return value;
    }
    let scale = 10_f64.powf(3.0 - value.abs().log10().floor());
    (value * scale).round() / scale
}

/// All figures of one measurement; the first one is its headline.
#[derive(Clone, Debug, Default)]
pub(crate) struct Finding {
    pub(crate) parts: Vec<Part>,
    /// What is good to know beside them.
    pub(crate) notes: Vec<String>,
}

impl Finding {
    pub(crate) fn pass(&self) -> bool {
        !self.parts.is_empty() && self.parts.iter().all(|part| part.pass)
    }

    pub(crate) fn json(&self, name: &str, quick: bool, class: &Value) -> Value {
        let mut result = self.parts.first().map_or_else(|| json!({}), Part::json);
        result["name"] = json!(name);
        result["pass"] = json!(self.pass());
        result["commit"] = json!(commit());
        result["class"] = class.clone();
        result["parts"] = json!(self.parts.iter().map(Part::json).collect::<Vec<_>>());
        result["notes"] = json!(self.notes);
        if quick {
            result["quick"] = json!(true);
        }
        result
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in &self.parts {
            let verdict = if part.pass { "ok" } else { "MISSED" };
            let (value, reference, ratio) = (round(part.value), round(part.reference), round(part.ratio()));
            writeln!(
                f,
                "{verdict:<7} {:<58} {value:>12} / {reference:>12} = {ratio:<7} {}",
                part.what, part.bar
            )?;
        }
        self.notes.iter().try_for_each(|note| writeln!(f, "        {note}"))
    }
}

fn commit() -> String {
    let git = |args: &[&str]| {
        let output = Command::new("git").args(args).current_dir(env!("CARGO_MANIFEST_DIR")).output().ok()?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned()).filter(|_| output.status.success())
    };
    let changed = git(&["status", "--porcelain", "-uno"]).is_some_and(|changes| !changes.is_empty());
    let head = git(&["rev-parse", "--short=12", "HEAD"]).unwrap_or_else(|| "unknown".to_owned());
    if changed { format!("{head}+") } else { head }
}

/// Writes the result of a full run, good or bad, beside the others.
pub(crate) fn keep(name: &str, result: &Value) -> anyhow::Result<()> {
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("results").join(format!("{name}.json"));
    let text = serde_json::to_string_pretty(result)? + "\n";
    std::fs::create_dir_all(place.parent().context("results have a directory")?)?;
    std::fs::write(&place, text).with_context(|| format!("{} could not be written", place.display()))
}
