//! Where the sources of a log's partitions are attached, for logs that have one thread which takes from all of them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Thread;

use bytes::Bytes;
use omium_schemas::block::read_head;
use omium_schemas::{Offset, Partition};

use crate::contract::{Appender, LogError, Refused, Source};

/// The sources of all partitions, and what wakes the thread that takes from them.
pub(crate) struct Slots {
    slots: Vec<Slot>,
    thread: OnceLock<Thread>,
    closing: AtomicBool,
    ended: OnceLock<LogError>,
    /// What sources were told to refuse: those that are attached later are told too.
    refused: Mutex<Option<Refused>>,
}

/// Where one partition's source is attached.
#[derive(Default)]
struct Slot {
    attached: Mutex<Option<Arc<Attached>>>,
    /// There is something to take. Whoever sets it first wakes the thread, so that a thousand calls cost one wake.
    ready: AtomicBool,
}

struct Attached {
    source: Arc<dyn Source>,
    gone: Arc<AtomicBool>,
}

/// A block that was taken, and who has to be told what became of it.
pub(crate) struct Taken {
    index: usize,
    attached: Arc<Attached>,
}

impl Slots {
    pub(crate) fn new(partitions: u16) -> Arc<Slots> {
        Arc::new(Slots {
            slots: (0..partitions).map(|_| Slot::default()).collect(),
            thread: OnceLock::new(),
            closing: AtomicBool::new(false),
            ended: OnceLock::new(),
            refused: Mutex::default(),
        })
    }

    pub(crate) fn partitions(&self) -> u16 {
        self.slots.len() as u16
    }

    /// Names the thread that takes, once it runs.
    pub(crate) fn taken_by(&self, thread: &Thread) {
        let _ = self.thread.set(thread.clone());
        self.wake();
    }

    pub(crate) fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    /// Asks the thread to end when it has written what is open.
    pub(crate) fn close(&self) {
        self.closing.store(true, Ordering::Release);
        self.wake();
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended.get().is_some()
    }

    /// Makes `source` the partition's source; an older one hears nothing more.
    pub(crate) fn attach(
        self: &Arc<Slots>,
        index: usize,
        source: Arc<dyn Source>,
    ) -> Result<Box<dyn Appender>, LogError> {
        if let Some(error) = self.ended.get() {
            return Err(error.clone());
        }
        let gone = Arc::new(AtomicBool::new(false));
        let attached = Arc::new(Attached { source: source.clone(), gone: gone.clone() });
        // The older source is told and dropped without the lock: it may hold the appender that detaches it.
        let older = self.slots[index].lock().replace(attached);
        if let Some(older) = older {
            older.gone.store(true, Ordering::Release);
        }
        let refused = self.refused();
        if refused.is_some() {
            source.refuse(refused.clone());
        }
        drop(refused);
        Ok(Box::new(Attachment { slots: self.clone(), index, gone }))
    }

    /// Takes a partition's open block, if it has one. What is no block of this partition is refused to its source: it
    /// would make the log unreadable from there on.
    pub(crate) fn take(&self, index: usize) -> Option<(Bytes, Taken)> {
        let slot = &self.slots[index];
        if !slot.ready.swap(false, Ordering::AcqRel) {
            return None;
        }
        let attached = slot.attached()?;
        let block = attached.source.take()?;
        match is_of(&block, index) {
            Ok(()) => Some((block, Taken { index, attached })),
            Err(error) => {
                attached.gone.store(true, Ordering::Release);
                attached.source.settled(Err(error));
                None
            }
        }
    }

    /// Tells a source what became of the block that was taken from it, and asks it for more in the next round.
    pub(crate) fn settle(&self, taken: Taken, outcome: Result<Offset, LogError>) {
        let failed = outcome.is_err();
        if taken.attached.is_here() {
            taken.attached.source.settled(outcome);
        }
        taken.attached.gone.fetch_or(failed, Ordering::AcqRel);
        self.slots[taken.index].ready.store(true, Ordering::Release);
    }

    /// Tells all sources to refuse new work, or to welcome it again.
    pub(crate) fn refuse(&self, what: Option<Refused>) {
        // Held while they are told, so that one that is being attached hears the same in the same order.
        let mut refused = self.refused();
        refused.clone_from(&what);
        for attached in self.slots.iter().filter_map(Slot::attached) {
            attached.source.refuse(what.clone());
        }
    }

    fn refused(&self) -> MutexGuard<'_, Option<Refused>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing will be taken any more.
    pub(crate) fn end(&self, why: LogError) {
        let _ = self.ended.set(why.clone());
        self.refuse(Some(Refused::All(why)));
        // A source usually holds its appender, and so these slots: the circle is opened here.
        for slot in &self.slots {
            let attached = slot.lock().take();
            drop(attached);
        }
    }
}

impl Slot {
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Arc<Attached>>> {
        self.attached.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn attached(&self) -> Option<Arc<Attached>> {
        self.lock().clone().filter(|attached| attached.is_here())
    }
}

impl Attached {
    fn is_here(&self) -> bool {
        !self.gone.load(Ordering::Acquire)
    }
}

impl Taken {
    pub(crate) fn index(&self) -> usize {
        self.index
    }
}

/// A source's hold on its partition. A call to the source that is under way when it is replaced or dropped may still
/// end after that; none begins.
struct Attachment {
    slots: Arc<Slots>,
    index: usize,
    gone: Arc<AtomicBool>,
}

impl Appender for Attachment {
    fn wake(&self) {
        let gone = self.gone.load(Ordering::Acquire);
        if !gone && !self.slots.slots[self.index].ready.swap(true, Ordering::AcqRel) {
            self.slots.wake();
        }
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        self.gone.store(true, Ordering::Release);
        let mut slot = self.slots.slots[self.index].lock();
        let ours = slot.take_if(|attached| Arc::ptr_eq(&attached.gone, &self.gone));
        // The source is dropped without the lock: it may hold another appender of this log.
        drop(slot);
        drop(ours);
    }
}

fn is_of(block: &Bytes, index: usize) -> Result<(), LogError> {
    let refused = |why: String| LogError::NotABlock { why };
    let (head, length) = read_head(block).map_err(|error| refused(error.to_string()))?;
    if length != block.len() {
        return Err(refused(format!("it says it has {length} bytes and has {}", block.len())));
    }
    if head.partition != Partition(index as u16) {
        return Err(refused(format!(
            "it is of partition {}, its source of partition {index}",
            head.partition
        )));
    }
    Ok(())
}
