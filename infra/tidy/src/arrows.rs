//! Which crate may know which. Arrows point down only.

use crate::Graph;

/// One line per crate: its name, and the crates of ours that it may be linked with.
///
/// `limits <- schemas <- workflow`; `limits <- rules <- workflow`; `schemas <- processor <- the pure processors`; `schemas <- edge <- telemetry <- api, llm, agents`; `schemas, workflow <- gateway, connectors`; `schemas <- log, store`; `processor, log, store <- runtime`;
/// the simulation drives whole shells, so it stands on the runtime; the engine
/// stands behind API, gate and workers and knows all of these; the binary and the measurements see all.
pub const ARROWS: &[(&str, &[&str])] = &[
    ("omium-limits", &[]),
    ("omium-schemas", &["omium-limits"]),
    ("omium-workflow", &["omium-limits", "omium-rules", "omium-schemas"]),
    ("omium-openai", &["omium-limits", "omium-schemas"]),
    ("omium-rules", &["omium-limits"]),
    ("omium-processor", &["omium-limits", "omium-schemas"]),
    ("omium-execution", &["omium-limits", "omium-schemas", "omium-processor", "omium-rules"]),
    ("omium-detector", &["omium-limits", "omium-schemas", "omium-processor", "omium-rules", "omium-openai"]),
    ("omium-recovery", &["omium-schemas", "omium-processor"]),
    ("omium-log", &["omium-schemas"]),
    ("omium-store", &["omium-schemas"]),
    ("omium-runtime", &["omium-schemas", "omium-processor", "omium-log", "omium-store"]),
    ("omium-sim", &["omium-schemas", "omium-processor", "omium-log", "omium-store", "omium-runtime"]),
    ("omium-edge", &["omium-schemas"]),
    ("omium-api", &["omium-limits", "omium-schemas", "omium-workflow", "omium-edge", "omium-telemetry"]),
    ("omium-llm", &["omium-limits", "omium-schemas", "omium-openai", "omium-edge", "omium-telemetry"]),
    ("omium-agents", &["omium-limits", "omium-openai", "omium-schemas", "omium-workflow", "omium-telemetry"]),
    (
        "omium-engine",
        &[
            "omium-limits",
            "omium-schemas",
            "omium-workflow",
            "omium-openai",
            "omium-rules",
            "omium-processor",
            "omium-execution",
            "omium-detector",
            "omium-recovery",
            "omium-log",
            "omium-store",
            "omium-runtime",
            "omium-edge",
            "omium-api",
            "omium-llm",
            "omium-agents",
            "omium-telemetry",
        ],
    ),
    ("omium-telemetry", &["omium-schemas", "omium-edge"]),
    ("omium-memory", &[]),
    ("omium", SEES_ALL),
    ("omium-load", SEES_ALL),
    ("omium-tidy", &[]),
];

/// What the binary and the measurements know: everything.
const SEES_ALL: &[&str] = &[
    "omium-limits",
    "omium-schemas",
    "omium-workflow",
    "omium-openai",
    "omium-rules",
    "omium-processor",
    "omium-execution",
    "omium-detector",
    "omium-recovery",
    "omium-log",
    "omium-store",
    "omium-runtime",
    "omium-sim",
    "omium-edge",
    "omium-api",
    "omium-llm",
    "omium-agents",
    "omium-engine",
    "omium-memory",
    "omium-telemetry",
    "omium",
];

/// Crates that decide. They are told everything and touch nothing.
pub const PURE: &[&str] = &[
    "omium-limits",
    "omium-schemas",
    "omium-workflow",
    "omium-openai",
    "omium-rules",
    "omium-processor",
    "omium-execution",
    "omium-detector",
    "omium-recovery",
];

/// What libraries of pure crates hold inside, where nothing of it shows in what they say: a map that keeps the order of
/// insertion, ids that are never drawn.
pub const TOLERATED: &[(&str, &str)] = &[("saphyr-parser", "hashlink"), ("cel", "antlr4rust")];

/// What no pure crate may be linked with, also not through others: it waits, stores, talks, reads a clock or rolls dice.
pub const IMPURE: &[&str] = &[
    "async-std",
    "axum",
    "chrono",
    "fastrand",
    "getrandom",
    "hyper",
    "mio",
    "openraft",
    "opentelemetry",
    "rand",
    "rand_core",
    "rdkafka",
    "rdkafka-sys",
    "reqwest",
    "rocksdb",
    "librocksdb-sys",
    "rustix",
    "scylla",
    "smol",
    "socket2",
    "tempfile",
    "time",
    "tokio",
    "tonic",
    "ureq",
    "uuid",
    "ahash",
    "foldhash",
    "hashbrown",
];

/// Arrows that are not on the list, and crates that the list does not know.
pub fn forbidden(graph: &Graph) -> Vec<String> {
    let mut found = Vec::new();
    for package in graph.ours() {
        let name = package.name.as_str();
        let Some((_, allowed)) = ARROWS.iter().find(|(known, _)| *known == name) else {
            found.push(format!("`{name}` has no line in ARROWS: say in infra/tidy/src/arrows.rs and ARCHITECTURE.md what it may know"));
            continue;
        };
        for dep in graph.our_names(&package.normal) {
            if !allowed.contains(&dep) {
                found.push(format!("`{name}` must not know `{dep}`: see the arrows in ARCHITECTURE.md"));
            }
        }
        // Tests may look up, not sideways into the crates that wire everything.
        for dep in graph.our_names(&package.dev) {
            if !allowed.contains(&dep) && matches!(dep, "omium" | "omium-load") {
                found.push(format!(
                    "the tests of `{name}` must not know `{dep}`: see the arrows in ARCHITECTURE.md"
                ));
            }
        }
    }
    found
}

/// Pure crates that are linked with something that waits, stores, talks, reads a clock or rolls dice.
pub fn impure(graph: &Graph) -> Vec<String> {
    let mut found = Vec::new();
    for package in graph.ours().filter(|package| PURE.contains(&package.name.as_str())) {
        for (name, path) in graph.linked(package) {
            let tolerated =
                path.windows(2).any(|two| TOLERATED.contains(&(two[0].as_str(), two[1].as_str())));
            if IMPURE.contains(&name.as_str()) && !tolerated {
                found.push(format!(
                    "`{}` is pure and must not know `{name}`: {}",
                    package.name,
                    path.join(" -> ")
                ));
            }
        }
    }
    found
}
