//! What is measured for `/metrics` only when somebody asks.

use std::sync::{Arc, Weak};

use crate::port::Engine;

/// Open executions, and whether the parts are well.
pub(crate) fn watch(engine: &Arc<dyn Engine>) {
    let meters = engine.meters();
    let weak: Weak<dyn Engine> = Arc::downgrade(engine);
    let active = weak.clone();
    meters
        .instruments()
        .watch_active(move || active.upgrade().map(|engine| engine.active()).unwrap_or_default());
    meters
        .instruments()
        .watch_health(move || weak.upgrade().map(|engine| engine.health()).unwrap_or_default());
}
