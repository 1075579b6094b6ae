//! Puts the files of the Python package into the binary: `omium exec` needs no installation beside it.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

const PACKAGE: &str = "../connectors/sdk-python/src";

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed={PACKAGE}");
    let root = fs::canonicalize(PACKAGE)?;
    let mut files = Vec::new();
    collect(&root, &mut files)?;
    // The order of a directory is not the same everywhere; what is built must be.
    files.sort();
    let entries: Vec<String> = files
        .iter()
        .filter_map(|file| {
            // Where the checkout lies is asked when the binary is compiled: one target folder may serve several of them.
            let name = file.strip_prefix(&root).ok()?;
            let place = format!("/{PACKAGE}/{}", name.display());
            Some(format!(
                "    ({name:?}, include_bytes!(concat!(env!(\"CARGO_MANIFEST_DIR\"), {place:?}))),\n"
            ))
        })
        .collect();
    let out = env::var("OUT_DIR").map_err(io::Error::other)?;
    fs::write(Path::new(&out).join("package.rs"), format!("&[\n{}]\n", entries.concat()))
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if path.is_dir() {
            if name != "__pycache__" && !name.ends_with(".egg-info") {
                collect(&path, files)?;
            }
        } else if name.ends_with(".py") || name == "py.typed" {
            files.push(path);
        }
    }
    Ok(())
}
