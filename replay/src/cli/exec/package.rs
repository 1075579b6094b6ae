//! The Python package that names agents and records tools, unpacked beside the data where Python finds it.

use std::path::{Path, PathBuf};

use omium_schemas::Digest;

use crate::cli::connection::data_dir;

type File = (&'static str, &'static [u8]);

const FILES: &[File] = include!(concat!(env!("OUT_DIR"), "/package.rs"));

/// What PYTHONPATH has to begin with.
pub(super) fn python_path() -> std::io::Result<Vec<PathBuf>> {
    let place = unpacked()?;
    Ok(vec![place.join("omium/_site"), place])
}

/// One folder for each version: programs that run keep theirs. It appears whole or not at all.
fn unpacked() -> std::io::Result<PathBuf> {
    let all: Vec<u8> =
        FILES.iter().flat_map(|(name, bytes)| [name.as_bytes(), b"\0", bytes].concat()).collect();
    let base = data_dir();
    let place = base.join(format!("python-{}", &Digest::of(&all).hex()[..16]));
    if place.is_dir() {
        return Ok(place);
    }
    std::fs::create_dir_all(&base)?;
    let making = tempfile::Builder::new().prefix("python-").tempdir_in(&base)?;
    for (name, bytes) in FILES {
        let file = making.path().join(name);
        std::fs::create_dir_all(file.parent().unwrap_or(Path::new(".")))?;
        std::fs::write(file, bytes)?;
    }
    match std::fs::rename(making.path(), &place) {
        Ok(()) => drop(making.keep()),
        // Somebody else was faster; theirs is the same.
        Err(_) if place.is_dir() => {}
        Err(error) => return Err(error),
    }
    Ok(place)
}
