//! The API: REST, event streams, and the stream of workers, over one port.

pub mod conformance;
mod grpc;
mod metrics;
mod openapi;
pub mod port;
mod problem;
mod request;
mod routes;
pub mod views;
mod workers;

use std::sync::Arc;

pub use self::grpc::proto;
pub use self::openapi::document as openapi;
pub use self::openapi::postman;
pub use self::routes::paths;
pub use self::workers::WorkerTimes;

/// Everything that is served, on top of an engine.
pub fn router(engine: Arc<dyn port::Engine>) -> axum::Router {
    router_with(engine, WorkerTimes::default())
}

/// The same, with other patience for workers.
pub fn router_with(engine: Arc<dyn port::Engine>, times: WorkerTimes) -> axum::Router {
    let shared = request::Shared::new(engine.clone());
    let checkpoints =
        proto::checkpoints_server::CheckpointsServer::new(grpc::Checkpoints { shared: shared.clone() })
            .max_decoding_message_size(grpc::MAX_QUESTION);
    let workers = proto::workers_server::WorkersServer::new(workers::Workers::new(engine.clone(), times))
        .max_decoding_message_size(grpc::MAX_MESSAGE)
        .max_encoding_message_size(grpc::MAX_MESSAGE);
    let grpc = axum::Router::new()
        .route_service("/omium.v1.Checkpoints/{method}", checkpoints)
        .route_service("/omium.v1.Workers/{method}", workers)
        .layer(axum::middleware::from_fn_with_state(engine, grpc::with_key));
    routes::router(shared).merge(grpc).layer(axum::middleware::from_fn(omium_telemetry::in_request))
}
