//! Why keys cannot be had.

use std::path::PathBuf;

/// Why a vault cannot do what it was asked to.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum VaultError {
    /// The file system failed.
    #[error("{doing} {place} failed: {why}; check the path, its permissions and the space that is left")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To what.
        place: PathBuf,
        /// The system's own words.
        why: String,
    },
    /// The file is no vault, or one of another version.
    #[error("{place} is not a file of keys that this version of omium reads; is it the right path?")]
    Foreign {
        /// The file.
        place: PathBuf,
    },
    /// The file has lost keys or holds damaged ones.
    #[error(
        "{place} is damaged at byte {at}: {why}; nothing was changed. Restore the file from a backup: content whose key is lost cannot be opened by anyone"
    )]
    Damaged {
        /// The file.
        place: PathBuf,
        /// Where.
        at: u64,
        /// What is wrong.
        why: &'static str,
    },
    /// The keys are not those of the log.
    #[error(
        "{keys} {why}. Bring the files `keys` and `master.key` that belong to this log, from a backup or from the node that had it"
    )]
    OtherLog {
        /// The file of keys.
        keys: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The keys are those of an older moment than the log.
    #[error(
        "{keys} is older than the log: the log holds content that is sealed under key {newest}, and the file ends with key \
         {last}. Bring the newest copy of the file back; if there is none, write {newest} into {accept} to go on without \
         the content whose keys are missing{said}"
    )]
    Older {
        /// The file of keys.
        keys: PathBuf,
        /// The number of its last key.
        last: u64,
        /// The highest number that the log names.
        newest: u64,
        /// Where an operator says that it is to go on all the same.
        accept: PathBuf,
        /// What is wrong with what he has said there, if he has.
        said: String,
    },
    /// The keys are there and what opens them is not.
    #[error("{keys} holds keys, but the master key {master} that opens them {why}; restore it from a backup")]
    NoMaster {
        /// The file of keys.
        keys: PathBuf,
        /// The file of the master key.
        master: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
}
