//! What is written at once.

/// A key and its value.
pub type Row = (Vec<u8>, Vec<u8>);

/// What becomes of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It has this value.
    Put(Vec<u8>),
    /// It goes.
    Delete,
    /// It goes, and was put just once since it last went.
    TakeBack,
}

/// Changes that become visible and durable together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Every key that changes. Later entries win.
    pub changes: Vec<(Vec<u8>, Change)>,
}

impl Batch {
    /// Sets a key.
    pub fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.changes.push((key, Change::Put(value)));
    }

    /// Removes a key.
    pub fn delete(&mut self, key: Vec<u8>) {
        self.changes.push((key, Change::Delete));
    }

    /// Removes a key that was put just once since it last went, if ever, and that is never removed by
    /// [`Batch::delete`]. Both leave the store together when they first meet, where a plain removal stays, and is walked
    /// over by every scan, until it has come down to the oldest file.
    pub fn take_back(&mut self, key: Vec<u8>) {
        self.changes.push((key, Change::TakeBack));
    }
}
