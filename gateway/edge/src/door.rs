//! One request: looked at before any route sees it, and its answer on the way out.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderValue, Request, Response, StatusCode, Version, header};
use hyper::body::Incoming;
use tower::ServiceExt as _;

use crate::connection::Connection;
use crate::host;
use crate::reader::Leaving;
use crate::refusal::Refusal;
use crate::server::Node;
use crate::slot::Slot;

/// What hyper asks for each request of a connection.
#[derive(Clone)]
pub(crate) struct Door {
    pub(crate) node: Arc<Node>,
    pub(crate) connection: Arc<Connection>,
    pub(crate) router: Router,
}

impl hyper::service::Service<Request<Incoming>> for Door {
    type Response = Response<Leaving>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Leaving>, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let door = self.clone();
        Box::pin(async move { Ok(door.answer(request).await) })
    }
}

impl Door {
    async fn answer(self, mut request: Request<Incoming>) -> Response<Leaving> {
        let http2 = request.version() >= Version::HTTP_2;
        let slot = Slot::new(self.node.clone(), self.connection.clone(), http2);
        if let Err(refusal) = self.looked_at(&request) {
            let mut response = refusal.response();
            if !http2 {
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            self.node.refusals.note(&response);
            return response.map(Leaving::short);
        }
        request.extensions_mut().insert(slot.clone());
        let answered = self.router.oneshot(request.map(Body::new)).await;
        let mut response = answered.unwrap_or_else(|never| match never {});
        // On HTTP/2 it is left to be a stranger, which rests for a short while and yields to others.
        if !http2 && self.connection.is_turned_away() {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            self.connection.becomes_socket();
        }
        self.node.refusals.note(&response);
        let (parts, body) = response.into_parts();
        match Leaving::new(body, &slot) {
            Some(body) => Response::from_parts(parts, body),
            None => {
                let response = Refusal::readers_behind().response();
                self.node.refusals.note(&response);
                response.map(Leaving::short)
            }
        }
    }

    fn looked_at<B>(&self, request: &Request<B>) -> Result<(), Refusal> {
        if self.node.loopback {
            host::check(request, &self.node.limits.hosts)?;
        }
        // Whoever watches the node may see how it ends.
        if self.node.stop.has_begun() && !matches!(request.uri().path(), "/health" | "/metrics") {
            return Err(Refusal::stopping());
        }
        Ok(())
    }
}
