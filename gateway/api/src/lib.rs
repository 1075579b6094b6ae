//! The API: REST, event streams, and the stream of workers, over one port.

mod follow;
mod metrics;
pub mod port;
mod problem;
mod request;
mod rest;
pub mod views;

use std::sync::Arc;

/// Everything that is served, on top of an engine.
pub fn router(engine: Arc<dyn port::Engine>) -> axum::Router {
    rest::routes(request::Shared { engine })
}
