//! From `.avsc` files to Rust. Works on texts in memory, so that a test can hand it a catalogue with a mistake in it.

mod canonical;
mod contents;
mod emit;
mod model;
mod records;
mod sums;

/// One `.avsc` file.
pub(crate) struct File {
    /// `avsc/<family>/<name>.v<version>.avsc`, or `avsc/types/<name>.avsc` for a type that several records share.
    pub(crate) path: String,
    /// Its JSON.
    pub(crate) text: String,
}

/// The catalogue's Rust, or one sentence about what is wrong with the files.
pub(crate) fn generate(files: &[File]) -> Result<String, String> {
    let catalogue = records::read(files)?;
    Ok(emit::catalogue(&catalogue))
}
