//! What lies in the store is read back by the program that wrote it, or not at all: a type whose shape has changed gets a
//! new layout number, by which the store is made anew. `shapes.txt` holds what each number stands for.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::fmt::Write as _;

use omium_detector::Detector;
use omium_execution::{CallKind, Execution, Outcome, Phase, Status};
use omium_processor::Processor;
use omium_recovery::{Patch, Recovery};
use omium_runtime::{Held, Position, Used};
use omium_schemas::catalogue::{
    FailureClass, FindingKind, GateVerdict, KeyRole, OnFailure, RecoveryMode, RemedyKind, Severity,
    SuspendReason,
};
use omium_schemas::{Content, Digest};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_reflection::{Error, Samples, Tracer, TracerConfig};

/// Every type that this one is made of, with its fields and variants, a line each.
fn shape<T: DeserializeOwned + Serialize>() -> String {
    let mut enums: Vec<String> = Vec::new();
    loop {
        let mut tracer = Tracer::new(TracerConfig::default().is_human_readable(false));
        tracer.trace_type::<T>(&Samples::new()).unwrap();
        enums.iter().for_each(|name| trace_variants(&mut tracer, name));
        match tracer.registry() {
            Ok(types) => {
                return types.iter().fold(String::new(), |mut lines, (name, format)| {
                    writeln!(lines, "{name} {}", serde_json::to_string(format).unwrap()).unwrap();
                    lines
                });
            }
            Err(Error::MissingVariants(missing)) => {
                assert!(missing.iter().any(|name| !enums.contains(name)), "{missing:?}");
                enums.extend(missing);
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// The tracer follows one variant of an enum by itself; for the others it has to be told the type.
fn trace_variants(tracer: &mut Tracer, name: &str) {
    let samples = Samples::new();
    let traced = match name {
        "CallKind" => tracer.trace_type::<CallKind>(&samples).map(drop),
        "Content" => tracer.trace_type::<Content>(&samples).map(drop),
        "FailureClass" => tracer.trace_type::<FailureClass>(&samples).map(drop),
        "FindingKind" => tracer.trace_type::<FindingKind>(&samples).map(drop),
        "GateVerdict" => tracer.trace_type::<GateVerdict>(&samples).map(drop),
        "KeyRole" => tracer.trace_type::<KeyRole>(&samples).map(drop),
        "OnFailure" => tracer.trace_type::<OnFailure>(&samples).map(drop),
        "Outcome" => tracer.trace_type::<Outcome>(&samples).map(drop),
        "Patch" => tracer.trace_type::<Patch>(&samples).map(drop),
        "Phase" => tracer.trace_type::<Phase>(&samples).map(drop),
        "RecoveryMode" => tracer.trace_type::<RecoveryMode>(&samples).map(drop),
        "RemedyKind" => tracer.trace_type::<RemedyKind>(&samples).map(drop),
        "Severity" => tracer.trace_type::<Severity>(&samples).map(drop),
        "Status" => tracer.trace_type::<Status>(&samples).map(drop),
        "SuspendReason" => tracer.trace_type::<SuspendReason>(&samples).map(drop),
        other => panic!("give `{other}` a line here: it is a stored enum, whose variants are to be followed"),
    };
    traced.unwrap();
}

/// The line of a layout, or what has to be done for it.
fn judged(recorded: &str, name: &str, layout: u64, shape: &str) -> Result<String, String> {
    let digest = Digest::of(shape.as_bytes()).to_string();
    let line = format!("{name} {layout} {digest}");
    let before = recorded.lines().find_map(|line| line.strip_prefix(&format!("{name} {layout} ")));
    match before {
        Some(before) if before != digest => Err(format!(
            "what {name} stores has another shape than layout {layout} had: raise its LAYOUT, then run this test with \
             OMIUM_BLESS=1. It is now:\n{shape}"
        )),
        _ => Ok(line),
    }
}

#[test]
fn a_stored_type_that_changed_has_a_new_layout_number() {
    let place = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/shapes.txt");
    let recorded = std::fs::read_to_string(place).unwrap_or_default();
    let stored: BTreeMap<&str, (u64, String)> = BTreeMap::from([
        (Execution::NAME, (Execution::LAYOUT.into(), shape::<<Execution as Processor>::State>())),
        (Detector::NAME, (Detector::LAYOUT.into(), shape::<<Detector as Processor>::State>())),
        (Recovery::NAME, (Recovery::LAYOUT.into(), shape::<<Recovery as Processor>::State>())),
        (
            "runtime",
            (omium_runtime::LAYOUT.into(), shape::<(Position, Used, Held, omium_runtime::StreamState<()>)>()),
        ),
    ]);
    let judged: Result<Vec<String>, String> =
        stored.iter().map(|(name, (layout, shape))| judged(&recorded, name, *layout, shape)).collect();
    let now = judged.unwrap_or_else(|why| panic!("{why}")).join("\n") + "\n";
    if std::env::var("OMIUM_BLESS").is_ok_and(|value| value == "1") {
        std::fs::write(place, &now).unwrap();
    }
    let there = std::fs::read_to_string(place).unwrap();
    assert_eq!(there, now, "shapes.txt does not name these layouts; OMIUM_BLESS=1 writes it again");
}

#[test]
fn a_changed_shape_is_refused_under_its_old_number_and_taken_under_a_new_one() {
    let recorded = judged("", "execution", 1, "Run { steps }").unwrap();
    assert_eq!(judged(&recorded, "execution", 1, "Run { steps }").as_ref(), Ok(&recorded));
    assert!(
        judged(&recorded, "execution", 1, "Run { steps, cost }").unwrap_err().contains("raise its LAYOUT")
    );
    assert!(judged(&recorded, "execution", 2, "Run { steps, cost }").is_ok());
}
