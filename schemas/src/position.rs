//! Positions and moments. Each is a type of its own, so that a seq is never taken for an offset.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::avro::{Avro, DecodeError, EncodeError, Reader};

macro_rules! counter {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        pub struct $name(pub u64);

        impl $name {
            /// The one that comes after this one.
            #[must_use]
            pub fn next(self) -> $name {
                $name(self.0 + 1)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl Avro for $name {
            fn write(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
                let value = i64::try_from(self.0).map_err(|_| EncodeError::TooLarge { what: stringify!($name) })?;
                value.write(out)
            }

            fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
                let value = i64::read(reader)?;
                u64::try_from(value).map($name).map_err(|_| DecodeError::Negative { what: stringify!($name), value })
            }
        }
    };
}

counter!(
    /// A place in one stream, part of an event's identity: 1, 2, 3 … without a gap. 0 is "before the first".
    Seq
);
counter!(
    /// A local address in one partition of one log. It changes when a topic is mirrored, so it is never an identity.
    Offset
);
counter!(
    /// The number of a block in its partition: 1, 2, 3 … over all epochs.
    BlockNo
);
counter!(
    /// The generation of a partition's leader. It never falls.
    Epoch
);
counter!(
    /// The generation of a stream's effects. It rises only by a decision (rollback, remedy, manual retry).
    Branch
);
counter!(
    /// Microseconds since 1970-01-01T00:00:00Z.
    Time
);

impl Time {
    /// A moment given in milliseconds.
    pub const fn from_millis(millis: u64) -> Time {
        Time(millis * 1000)
    }

    /// This moment moved on by so many milliseconds, never beyond the end of time.
    #[must_use]
    pub const fn plus_millis(self, millis: u64) -> Time {
        Time(self.0.saturating_add(millis.saturating_mul(1000)))
    }
}

/// The number of one partition, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Partition(pub u16);

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Avro for Partition {
    fn write(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        i32::from(self.0).write(out)
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let value = i32::read(reader)?;
        u16::try_from(value)
            .map(Partition)
            .map_err(|_| DecodeError::Negative { what: "Partition", value: i64::from(value) })
    }
}

/// The number by which calls know which sending of a workflow's step made or was served them. No two sendings of a step
/// share one, whichever leader sent them.
pub fn taking(epoch: Epoch, delivery: i64) -> i64 {
    let epoch = i64::try_from(epoch.0).unwrap_or(i64::MAX >> 40) & (i64::MAX >> 40);
    (epoch << 40) | (delivery & ((1 << 40) - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sendings_of_different_leaders_are_told_apart() {
        assert_ne!(taking(Epoch(1), 7), taking(Epoch(2), 7));
        assert_ne!(taking(Epoch(1), 7), taking(Epoch(1), 8));
        assert!(taking(Epoch(u64::MAX), i64::MAX) >= 0);
    }
}
