//! Room for something that is put together: how long its text may get, and how much memory its values may take.

use serde_json::Value;

use crate::json::DEPTH;

/// What one thing that is put together may come to.
const BYTES: usize = 16 << 20;
const MEMORY: u64 = 256 << 20;

/// What may still be added to something. Asked for before anything is copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    bytes: usize,
    memory: u64,
    most: usize,
}

/// There is no room for what comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "what is put together here gets longer than {most} bytes, holds too many values, or nests too deep; leave something out"
)]
pub struct TooLarge {
    /// How long it may get.
    pub most: usize,
}

impl Default for Room {
    fn default() -> Room {
        Room::of(BYTES)
    }
}

impl Room {
    /// Room for a text of so many bytes, and for as many values as such a text may hold.
    pub fn of(bytes: usize) -> Room {
        Room { bytes, memory: MEMORY, most: bytes }
    }

    /// Takes room for a text.
    pub fn text(&mut self, bytes: usize) -> Result<(), TooLarge> {
        self.bytes = self.bytes.checked_sub(bytes).ok_or(TooLarge { most: self.most })?;
        Ok(())
    }

    /// Takes room for a copy of a value. No more of it is looked at than there is room for.
    pub fn value(&mut self, value: &Value) -> Result<(), TooLarge> {
        self.value_at(value, 0)
    }

    /// The same for a value that will lie so deep in others. What nobody could read again finds no room.
    pub fn value_at(&mut self, value: &Value, depth: usize) -> Result<(), TooLarge> {
        if depth > DEPTH {
            return Err(TooLarge { most: self.most });
        }
        let (bytes, memory) = match value {
            Value::Null | Value::Bool(_) => (4, VALUE),
            Value::Number(_) => (8, VALUE),
            Value::String(text) => (text.len() + 2, VALUE + text.len() as u64),
            Value::Array(_) => (2, 2 * VALUE),
            Value::Object(_) => (2, OBJECT),
        };
        self.text(bytes)?;
        self.memory = self.memory.checked_sub(memory).ok_or(TooLarge { most: self.most })?;
        match value {
            Value::Array(items) => items.iter().try_for_each(|item| self.value_at(item, depth + 1)),
            Value::Object(entries) => entries.iter().try_for_each(|(name, item)| {
                self.text(name.len() + 3)?;
                self.value_at(item, depth + 1)
            }),
            _ => Ok(()),
        }
    }
}

/// What a value takes in memory, and an object with the first names of its tree.
const VALUE: u64 = 40;
const OBJECT: u64 = 640;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn room_is_asked_for_before_anything_is_copied() {
        let mut room = Room::of(100);
        assert_eq!(room.value(&json!({"name": "x".repeat(50)})), Ok(()));
        assert_eq!(room.text(100), Err(TooLarge { most: 100 }));
        assert!(Room::of(1 << 30).value(&json!(vec![json!({}); 500_000])).is_err());
    }
}
