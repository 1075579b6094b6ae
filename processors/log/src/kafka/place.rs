//! What is running for one partition: who appends, who follows, who catches up.

use std::sync::{Arc, Mutex};

use omium_schemas::Offset;
use tokio::sync::watch;

use super::follower::{Follower, locked};
use super::producer::Attachment;
use super::reader::Reader;
use crate::LogError;

/// One partition as this process uses it.
#[derive(Default)]
pub(super) struct Place {
    attached: Mutex<Option<Arc<Attachment>>>,
    follower: Mutex<Option<Arc<Follower>>>,
    /// The reader that catches up; one at a time per partition.
    pub(super) reader: tokio::sync::Mutex<Option<Reader>>,
}

impl Place {
    /// Makes `attachment` the one that appends here; an older one hears nothing more.
    pub(super) fn replace(&self, attachment: Arc<Attachment>) {
        let older = locked(&self.attached).replace(attachment);
        if let Some(older) = older {
            older.detach();
        }
    }

    /// Who follows the end, where somebody does.
    pub(super) fn follower(&self) -> Option<Arc<Follower>> {
        locked(&self.follower).clone()
    }

    /// The tail of the one who follows, who is started where there is none.
    pub(super) fn followed(
        &self,
        start: impl FnOnce() -> Result<Arc<Follower>, LogError>,
    ) -> Result<watch::Receiver<Offset>, LogError> {
        let mut slot = locked(&self.follower);
        if let Some(follower) = slot.as_ref().filter(|follower| follower.is_alive()) {
            return Ok(follower.tail());
        }
        let follower = start()?;
        let tail = follower.tail();
        *slot = Some(follower);
        Ok(tail)
    }

    /// A record of ours is durable: followers hear of it now, and not only when the broker has sent it back.
    pub(super) fn acknowledged(&self, offset: Offset) {
        if let Some(follower) = locked(&self.follower).as_ref() {
            follower.announce(offset.next());
        }
    }

    /// Ends what is running.
    pub(super) fn close(&self) {
        if let Some(attachment) = locked(&self.attached).take() {
            attachment.detach();
        }
        locked(&self.follower).take();
    }
}
