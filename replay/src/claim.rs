//! One server per data folder: which process has it, since when, and where it answers.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context as _, bail};
use rustix::fs::{FlockOperation, fcntl_lock};
use rustix::process::{Flock, FlockType, fcntl_getlk};
use serde::{Deserialize, Serialize};

/// A data folder that this process has until it ends, however it ends.
pub(crate) struct Claim {
    /// The lock goes with any handle of this process on the file, so it is opened once.
    file: File,
    since: SystemTime,
}

/// What stands in the file, for people and `omium doctor`. The lock is what counts.
#[derive(Debug, Serialize, Deserialize)]
struct Noted {
    since: String,
    url: Option<String>,
}

/// Who has a data folder.
#[derive(Debug)]
pub(crate) struct Holder {
    pid: String,
    since: Option<String>,
    pub(crate) url: Option<String>,
}

fn place(data: &Path) -> PathBuf {
    data.join("server.lock")
}

impl Claim {
    /// Fails at once where another process has the folder, and names it.
    pub(crate) fn take(data: &Path) -> anyhow::Result<Claim> {
        let place = place(data);
        let mut options = File::options();
        let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&place);
        let file = file.map_err(|error| match error.kind() {
            std::io::ErrorKind::ReadOnlyFilesystem | std::io::ErrorKind::PermissionDenied => {
                omium_engine::unwritable(data, &error.to_string())
            }
            _ => anyhow::Error::from(error).context(format!("{} cannot be opened", place.display())),
        })?;
        match fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::ACCESS) => bail!(
                "{} is in use by another omium process{}; stop it first, or start this one with another folder \
                 (--data, OMIUM_DATA)",
                data.display(),
                holder(data).map(|holder| holder.told()).unwrap_or_default()
            ),
            Err(error) => return Err(error).context(format!("{} cannot be locked", place.display())),
        }
        let claim = Claim { file, since: SystemTime::now() };
        claim.note(None);
        Ok(claim)
    }

    pub(crate) fn answers_at(&self, url: &str) {
        self.note(Some(url.to_owned()));
    }

    /// It is for people: where there is no room for it, the lock alone has to do.
    fn note(&self, url: Option<String>) {
        let noted = Noted { since: humantime::format_rfc3339_seconds(self.since).to_string(), url };
        let text = serde_json::to_vec(&noted).unwrap_or_default();
        use std::io::Seek as _;
        let mut file = &self.file;
        let _ = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(&text));
    }
}

/// Who has a data folder now; takes no lock itself, so that looking holds nobody up.
pub(crate) fn holder(data: &Path) -> Option<Holder> {
    let place = place(data);
    let file = File::open(&place).ok()?;
    let held = fcntl_getlk(&file, &Flock::from(FlockType::ReadLock)).ok().flatten()?;
    let noted: Option<Noted> =
        std::fs::read(&place).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    // A process of another container has no number here.
    let pid = held.pid.map_or_else(|| "of another container".to_owned(), |pid| pid.as_raw_pid().to_string());
    Some(Holder {
        pid,
        url: noted.as_ref().and_then(|noted| noted.url.clone()),
        since: noted.map(|noted| noted.since),
    })
}

impl Holder {
    /// As the end of "is in use by another omium process".
    fn told(&self) -> String {
        let Holder { pid, since, url } = self;
        let since = since.as_ref().map(|since| format!("since {since}"));
        let details: Vec<String> = since.into_iter().chain(url.clone()).collect();
        if details.is_empty() { format!(" {pid}") } else { format!(" {pid} ({})", details.join(", ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_has_a_folder_is_named_as_far_as_it_is_known() {
        let holder = |since: Option<&str>, url: Option<&str>| {
            let (since, url) = (since.map(str::to_owned), url.map(str::to_owned));
            Holder { pid: "12".to_owned(), since, url }.told()
        };
        assert_eq!(holder(None, None), " 12");
        let (since, url) = (Some("2026-01-01T00:00:00Z"), Some("http://127.0.0.1:7460"));
        assert_eq!(holder(since, None), " 12 (since 2026-01-01T00:00:00Z)");
        assert_eq!(holder(since, url), " 12 (since 2026-01-01T00:00:00Z, http://127.0.0.1:7460)");
    }

    #[test]
    fn a_folder_that_nobody_has_has_no_holder() {
        let data = tempfile::tempdir().unwrap();
        assert!(holder(data.path()).is_none());
        std::fs::write(place(data.path()), "{").unwrap();
        assert!(holder(data.path()).is_none());
        drop(Claim::take(data.path()).unwrap());
    }
}
