//! What the story's processes say to their narrator, one line each.

use std::fmt;
use std::str::FromStr;

use omium_schemas::{Digest, Seq};

/// One thing that a process of the story has to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// An event is in the log for good.
    Event { stream: String, seq: Seq, name: String, detail: String },
    /// A worker does something in the world outside.
    Work(String),
    /// The process may be killed now.
    Cut,
    /// What a stream has come to.
    Hash { stream: String, seq: Seq, hash: Digest },
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Line::Event { stream, seq, name, detail } => {
                write!(f, "event\t{stream}\t{seq}\t{name}\t{detail}")
            }
            Line::Work(text) => write!(f, "work\t{text}"),
            Line::Cut => write!(f, "cut"),
            Line::Hash { stream, seq, hash } => write!(f, "hash\t{stream}\t{seq}\t{hash}"),
        }
    }
}

impl FromStr for Line {
    type Err = anyhow::Error;

    fn from_str(line: &str) -> Result<Line, anyhow::Error> {
        let parts: Vec<&str> = line.split('\t').collect();
        let seq = |text: &str| text.parse().map(Seq);
        Ok(match *parts {
            ["event", stream, at, name, detail] => {
                let (stream, name, detail) = (stream.to_owned(), name.to_owned(), detail.to_owned());
                Line::Event { stream, seq: seq(at)?, name, detail }
            }
            ["work", text] => Line::Work(text.to_owned()),
            ["cut"] => Line::Cut,
            ["hash", stream, at, hash] => {
                let hash = Digest::from_hex(hash).ok_or_else(|| anyhow::anyhow!("not a hash: {hash}"))?;
                Line::Hash { stream: stream.to_owned(), seq: seq(at)?, hash }
            }
            _ => anyhow::bail!("a process of the story said what nobody understands: {line}"),
        })
    }
}
