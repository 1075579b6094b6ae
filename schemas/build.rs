//! Reads `avsc/**/*.avsc` and writes the catalogue's Rust into `OUT_DIR`.

#![expect(clippy::disallowed_methods, reason = "a build script reads and writes files; the crate does not")]

use std::path::{Path, PathBuf};
use std::{env, fs, process};

#[path = "build/generator.rs"]
mod generator;

fn main() {
    println!("cargo::rerun-if-changed=avsc");
    println!("cargo::rerun-if-changed=build");
    if let Err(why) = run() {
        println!("cargo::error={why}");
        process::exit(1);
    }
}

fn run() -> Result<(), String> {
    let mut paths = Vec::new();
    collect(Path::new("avsc"), &mut paths)?;
    // The order of a directory is not the same everywhere; what is generated must be.
    paths.sort();
    let files = paths.into_iter().map(read).collect::<Result<Vec<_>, String>>()?;
    let rust = generator::generate(&files)?;
    let out = env::var("OUT_DIR").map_err(|why| format!("OUT_DIR: {why}"))?;
    fs::write(Path::new(&out).join("catalogue.rs"), rust).map_err(|why| format!("{out}: {why}"))
}

fn collect(directory: &Path, found: &mut Vec<PathBuf>) -> Result<(), String> {
    let context = |why| format!("{}: {why}", directory.display());
    for entry in fs::read_dir(directory).map_err(context)? {
        let path = entry.map_err(context)?.path();
        if path.is_dir() {
            collect(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "avsc") {
            found.push(path);
        }
    }
    Ok(())
}

fn read(path: PathBuf) -> Result<generator::File, String> {
    let text = fs::read_to_string(&path).map_err(|why| format!("{}: {why}", path.display()))?;
    Ok(generator::File { path: path.display().to_string().replace('\\', "/"), text })
}
