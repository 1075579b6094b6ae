//! Bodies in pieces, with pauses and breaks between them.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::server::Shared;

/// How long what was written has to leave the process.
const FLUSHED: Duration = Duration::from_millis(10);

/// A part of a body.
#[derive(Clone, Debug)]
pub(super) enum Piece {
    /// As it stands.
    Text(String),
    /// The connection breaks here.
    Break,
}

pub(super) fn body(shared: Arc<Shared>, pieces: Vec<Piece>, between: Duration) -> Body {
    if let [Piece::Text(whole)] = pieces.as_slice() {
        return Body::from(whole.clone());
    }
    let (send, receive) = mpsc::channel::<Result<Bytes, std::io::Error>>(1);
    tokio::spawn(async move {
        for piece in pieces {
            let item = match piece {
                Piece::Text(text) => Ok(Bytes::from(text)),
                Piece::Break => {
                    // What was written has to leave before the connection is reset, or the client sees no middle.
                    tokio::time::sleep(FLUSHED).await;
                    Err(std::io::Error::other("the script breaks the connection here"))
                }
            };
            if send.send(item).await.is_err() {
                return;
            }
            if !between.is_zero() {
                tokio::select! {
                    () = tokio::time::sleep(between) => {}
                    () = shared.stopped() => return,
                }
            }
        }
    });
    Body::from_stream(ReceiverStream::new(receive))
}
