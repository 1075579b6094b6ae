//! Doing offline what an opening would do, and nothing else.

use std::fmt;
use std::path::{Path, PathBuf};

use super::journal::{Claim, Cut, Journal, JournalOptions, Opened};
use super::survey::{Survey, survey, tail_must_be_copied};
use super::verify::identify;
use crate::contract::LogError;
use crate::disk::Disk;

/// Whether a repair only says what it would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repair {
    /// It says what it would do, and changes nothing.
    DryRun,
    /// It does it.
    Apply,
}

/// What a repair did, or would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repaired {
    /// Whether it was done.
    pub applied: bool,
    /// The torn end that is cut off.
    pub cut: Option<Cut>,
    /// How many bytes of the last segment are copied and synced; 0 where the log was closed well.
    pub copied: u64,
    /// The segments whose seal is damaged, and written anew from their records, which are not.
    pub resealed: Vec<PathBuf>,
}

impl fmt::Display for Repaired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let would = if self.applied { "" } else { "would be " };
        if let Some(Cut { file, at, why }) = &self.cut {
            writeln!(f, "{would}cut: the torn end of {} at byte {at} ({why})", file.display())?;
        }
        for file in &self.resealed {
            writeln!(f, "{would}written anew: the seal of {}, whose records are sound", file.display())?;
        }
        match self.copied {
            0 => write!(f, "nothing else to repair"),
            bytes => write!(f, "{would}copied and synced: {bytes} bytes of the last segment"),
        }
    }
}

/// Cuts a torn end, writes damaged seals of sound segments anew, and makes sure that the last segment is on the disk, as the next opening would. Whatever goes beyond
/// that is an error that says what was found, and nothing is changed.
pub fn repair<D: Disk>(disk: &D, root: &Path, claims: Vec<Claim>, how: Repair) -> Result<Repaired, LogError> {
    let (layout, identity, lock) = identify(disk, root)?;
    let survey = survey(disk, &layout, identity, &claims)?;
    let resealed = survey.damaged.iter().map(|seal| layout.segment(seal.at.segment)).collect();
    let planned = Repaired { applied: false, cut: survey.cut.clone(), copied: to_copy(&survey), resealed };
    drop((survey, lock));
    if how == Repair::Apply {
        let options =
            JournalOptions { claims, ..JournalOptions::new(root, identity.partitions, identity.id) };
        let journal = Journal::open(disk.clone(), options)?;
        let Opened { cut, copied, resealed, .. } = journal.opened().clone();
        journal.close()?;
        return Ok(Repaired { applied: true, cut, copied, resealed });
    }
    Ok(planned)
}

fn to_copy<D: Disk>(survey: &Survey<D>) -> u64 {
    let used = survey.last.file.is_some() && tail_must_be_copied(survey);
    if used { u64::from(survey.last.sealed.unwrap_or(survey.last.end)) } else { 0 }
}
