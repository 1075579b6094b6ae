//! What lies beside the log on this node, and which log it belongs to. A node that works with the keys of another log, or
//! with none, would show nothing of what is there and seal new content beyond reach, so it does not start; what is only a
//! copy of the log's own content is made anew.

use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::seen::Seen;
use omium_log::disk::{Disk as _, RealDisk, read_small, replace};

/// More than an id is no id.
const LONGEST: usize = 100;
/// The file that says which log a folder belongs to.
const OF: &str = "of-log";

/// Makes a data folder and the folders above it, for this user alone, durable under its name.
pub(super) fn make_folder(root: &Path) -> std::io::Result<()> {
    if root.is_dir() {
        return Ok(());
    }
    let parent = root.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(parent) = parent {
        make_folder(parent)?;
    }
    match fs::DirBuilder::new().mode(0o700).create(root) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let synced = RealDisk.sync_dir(parent.unwrap_or(Path::new(".")));
    synced.map_err(|error| std::io::Error::other(error.to_string()))
}

/// The folders and files that a node has to find again while it runs.
#[derive(Debug)]
pub(super) struct Places {
    root: Option<PathBuf>,
    /// Each with the device and inode that it had when the node was opened.
    known: Vec<(PathBuf, (u64, u64))>,
    /// What was wrong from the beginning.
    found: Vec<String>,
    now: Mutex<Vec<String>>,
}

impl Places {
    /// Looks at what lies in the data folder of a node on this log. `new` is a log that holds nothing yet.
    pub(super) fn open(root: Option<&Path>, log: [u8; 16], new: bool) -> Places {
        let mut found = Vec::new();
        let mut known = Vec::new();
        if let Some(root) = root {
            let blobs = root.join("blobs");
            found.extend(belongs(&blobs, log, new).err());
            found.extend(Seen::new(root, log).blobs_are_older());
            let places = ["", "blobs", "keys", "state", "log", "log/journal", "log/FORMAT"];
            let there =
                places.iter().map(|name| if name.is_empty() { root.to_owned() } else { root.join(name) });
            known.extend(there.filter_map(|path| Some((path.clone(), identity(&path)?))));
        }
        let now = Mutex::new(found.clone());
        Places { root: root.map(Path::to_owned), known, found, now }
    }

    /// Looks again. Told from the thread that watches, so that who asks never waits for a disk.
    pub(super) fn look(&self) {
        let gone = self.known.iter().filter(|(path, was)| identity(path) != Some(*was));
        let text = |(path, _): &(PathBuf, _)| {
            format!(
                "{} was removed or replaced while this node runs; stop it and restore the folder",
                path.display()
            )
        };
        let mut now = self.found.clone();
        now.extend(gone.map(text));
        let mut before = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        for reason in now.iter().filter(|reason| !before.contains(reason)) {
            tracing::error!("{reason}");
        }
        *before = now;
    }

    /// Why this node is not whole; nothing where it is.
    pub(super) fn wholeness(&self) -> Vec<String> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether it has any.
    pub(super) fn any(&self) -> bool {
        self.root.is_some()
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let found = fs::metadata(path).ok()?;
    Some((found.dev(), found.ino()))
}

/// Whether a folder belongs to this log. One that says nothing is told so where the log is new.
fn belongs(folder: &Path, log: [u8; 16], new: bool) -> Result<(), String> {
    let (file, place) = (folder.join(OF), folder.display());
    let id: String = log.iter().map(|byte| format!("{byte:02x}")).collect();
    match read_small(&RealDisk, &file, LONGEST) {
        Ok(Some(text)) if text == id.as_bytes() => return Ok(()),
        Ok(Some(_)) => {
            return Err(format!(
                "{place} belongs to another log: long content of this one cannot be read here. Bring the folder that \
                 belongs to this log"
            ));
        }
        Ok(None) => {}
        Err(error) => return Err(format!("whose folder {place} is cannot be told: {error}")),
    }
    // What is missing stays missing at the next start: only an operator can say that it need not come back.
    if !new {
        return Err(format!(
            "{place} was made anew beside a log that is older: long content from before cannot be read. Restore the \
             folder from a backup; to go on without that content, write {id} into {}",
            file.display()
        ));
    }
    let said = replace(&RealDisk, &file, id.as_bytes());
    said.map_err(|error| format!("whose folder {place} is cannot be noted: {error}"))
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test looks at files")]
mod tests {
    use super::*;

    const LOG: [u8; 16] = [7; 16];

    #[test]
    fn a_folder_that_is_removed_replaced_or_of_another_log_is_told() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = dir.path().join("a/b");
        make_folder(&root.join("blobs")).expect("folders");
        fs::write(root.join("keys"), "keys").expect("a file");
        let places = Places::open(Some(&root), LOG, true);
        places.look();
        assert!(places.wholeness().is_empty());
        assert!(Places::open(Some(&root), LOG, false).wholeness().is_empty());
        assert!(Places::open(Some(&root), [8; 16], true).wholeness()[0].contains("another log"));
        fs::rename(root.join("keys"), root.join("elsewhere")).expect("it is there");
        fs::write(root.join("keys"), "keys").expect("a file");
        fs::remove_dir_all(root.join("blobs")).expect("it is there");
        places.look();
        assert_eq!(places.wholeness().len(), 2, "{:?}", places.wholeness());
        make_folder(&root.join("blobs")).expect("a folder");
        for _ in 0..2 {
            assert!(
                Places::open(Some(&root), LOG, false).wholeness()[0].contains("made anew"),
                "at each start"
            );
        }
        fs::write(root.join("blobs/of-log"), "07".repeat(16)).expect("a file");
        assert!(Places::open(Some(&root), LOG, false).wholeness().is_empty(), "an operator has said so");
    }
}
