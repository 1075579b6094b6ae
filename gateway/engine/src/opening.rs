//! How far an engine is that is being opened.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use omium_log::LogError;
use omium_runtime::OpenError;
use omium_schemas::{Offset, Partition};

/// What whoever asks a node that is being opened is told.
#[derive(Debug, Default)]
pub struct Opening(Mutex<BTreeMap<Partition, Folded>>);

/// How far a partition is folded.
#[derive(Clone, Copy, Debug)]
struct Folded {
    from: Offset,
    at: Offset,
    end: Offset,
}

impl Opening {
    pub(crate) fn folds(&self, partition: Partition, at: Offset, end: Offset) {
        let mut partitions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let folded = partitions.entry(partition).or_insert(Folded { from: at, at, end });
        (folded.at, folded.end) = (at, end.max(at));
    }

    /// How many records of the log are folded, of how many that have to be.
    pub fn records(&self) -> (u64, u64) {
        let partitions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of = |folded: &Folded| (folded.at.0 - folded.from.0, folded.end.0 - folded.from.0);
        partitions.values().map(of).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    }
}

impl fmt::Display for Opening {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.records() {
            (_, 0) => write!(out, "the log is being opened: its files are read"),
            (done, all) if done == all => write!(out, "the log is being opened: all {all} records are read"),
            (done, all) => write!(out, "the log is being opened: {done} of {all} records are read"),
        }
    }
}

/// Why an engine was not opened, where parts of its data folder are older than others; one sentence each.
pub fn of_other_ages(error: &anyhow::Error) -> Option<Vec<String>> {
    match error.downcast_ref()? {
        OpenError::OtherAges(reasons) => Some(reasons.clone()),
        OpenError::Log(why @ LogError::Older { .. }) => Some(vec![why.to_string()]),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_how_many_records_there_are_and_how_many_are_read() {
        let opening = Opening::default();
        assert!(opening.to_string().contains("its files are read"));
        opening.folds(Partition(0), Offset(10), Offset(40));
        opening.folds(Partition(1), Offset(0), Offset(5));
        opening.folds(Partition(0), Offset(30), Offset(40));
        assert!(opening.to_string().contains("20 of 35 records"), "{opening}");
        opening.folds(Partition(0), Offset(40), Offset(40));
        opening.folds(Partition(1), Offset(5), Offset(5));
        assert!(opening.to_string().contains("all 35 records"), "{opening}");
    }
}
