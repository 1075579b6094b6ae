//! Fuel: steps and bytes that a piece of work may still spend.

/// What a check inside of a frame may spend: some tens of milliseconds at the very most.
const STEPS: u64 = 1_000_000;
/// What it may allocate in all.
const BYTES: u64 = 16 << 20;

/// What a piece of work may still spend. Every step and every byte is paid for before it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fuel {
    steps: u64,
    bytes: u64,
    most_steps: u64,
    most_bytes: u64,
    refused: u32,
}

/// There is no fuel left for what comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Spent {
    /// Too much work.
    #[error("it takes more than {most} steps")]
    Steps {
        /// How many there were.
        most: u64,
    },
    /// Too much memory.
    #[error("it needs more than {most} bytes of memory")]
    Bytes {
        /// How many there were.
        most: u64,
    },
    /// Too deep.
    #[error("it goes more than {most} levels deep")]
    Depth {
        /// How deep it may go.
        most: usize,
    },
}

impl Default for Fuel {
    fn default() -> Fuel {
        Fuel::new(STEPS, BYTES)
    }
}

impl Fuel {
    /// So many steps, and so many bytes of memory.
    pub fn new(steps: u64, bytes: u64) -> Fuel {
        Fuel { steps, bytes, most_steps: steps, most_bytes: bytes, refused: 0 }
    }

    /// Takes steps.
    pub fn take(&mut self, steps: usize) -> Result<(), Spent> {
        let Some(left) = self.steps.checked_sub(steps as u64) else {
            self.refused = self.refused.saturating_add(1);
            return Err(Spent::Steps { most: self.most_steps });
        };
        self.steps = left;
        Ok(())
    }

    /// Takes memory. What is freed does not come back: what counts is the work of filling it, too.
    pub fn allocate(&mut self, bytes: usize) -> Result<(), Spent> {
        let Some(left) = self.bytes.checked_sub(bytes as u64) else {
            self.refused = self.refused.saturating_add(1);
            return Err(Spent::Bytes { most: self.most_bytes });
        };
        self.bytes = left;
        Ok(())
    }

    /// Takes what going over bytes costs, as in comparing or searching them.
    pub fn scan(&mut self, bytes: usize) -> Result<(), Spent> {
        self.take(bytes / SCANNED)
    }

    /// Takes what copying bytes costs.
    pub fn copy(&mut self, bytes: usize) -> Result<(), Spent> {
        self.scan(bytes)?;
        self.allocate(bytes)
    }

    /// How often something was refused because it costs more than is left. Where that grew during a check, the same check of
    /// an answer of the same size has no outcome either.
    pub fn refused(&self) -> u32 {
        self.refused
    }

    /// How many steps were taken.
    pub fn taken(&self) -> u64 {
        self.most_steps - self.steps
    }
}

/// How many bytes are gone over in the time of one step.
const SCANNED: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_taken_beyond_the_last_drop() {
        let mut fuel = Fuel::new(10, 100);
        assert_eq!(fuel.take(10), Ok(()));
        assert_eq!(fuel.take(1), Err(Spent::Steps { most: 10 }));
        assert_eq!(fuel.allocate(101), Err(Spent::Bytes { most: 100 }));
        assert_eq!(fuel.copy(15), Ok(()));
        assert_eq!((fuel.taken(), fuel.refused()), (10, 2));
        assert_eq!(fuel.take(usize::MAX).unwrap_err().to_string(), "it takes more than 10 steps");
    }
}
