//! Prompts, answers, inputs and tool results: sealed before they come near the log, opened only for who may read them.

use std::fmt;

use bytes::Bytes;

use serde::{Deserialize, Serialize};

use crate::avro::{Avro, DecodeError, EncodeError, Reader};
use crate::digest::Digest;
use crate::position::Seq;

/// Names a data key. The key itself is never in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct KeyId(pub u64);

/// Content in one of its three forms. Only the sealed forms can be written.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Content {
    /// Plain bytes, as a command brings them and `decide` makes them. The shell seals them.
    Open(Bytes),
    /// AES-256-GCM cipher text with its tag, in place.
    Sealed {
        /// The data key it is sealed under.
        key: KeyId,
        /// Cipher text and tag.
        bytes: Bytes,
    },
    /// Cipher text too long for a frame, kept in the blob store under the digest of its sealed bytes.
    Blob {
        /// The data key it is sealed under.
        key: KeyId,
        /// SHA-256 of the sealed bytes: the blob's name.
        sha256: Digest,
        /// How many sealed bytes there are.
        length: u64,
    },
    /// Sealed content together with what it takes to open it again: the form in which state holds it. It is written
    /// like what it holds; the rest is known from its place in the log.
    Kept(Box<Kept>),
}

/// Sealed content and its place.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// The sealed content.
    pub content: Content,
    /// The record it stands in.
    pub seq: Seq,
    /// Which content field of that record, in schema order.
    pub field: u16,
    /// The recorded entropy of the record's command. The nonce follows from it, and is made when it is needed: most
    /// content that is folded is never opened.
    pub entropy: [u8; 16],
}

impl Content {
    /// Plain content.
    pub fn open(bytes: impl Into<Bytes>) -> Content {
        Content::Open(bytes.into())
    }

    /// How many bytes it holds, in whichever form.
    pub fn length(&self) -> u64 {
        match self {
            Content::Open(bytes) | Content::Sealed { bytes, .. } => bytes.len() as u64,
            Content::Blob { length, .. } => *length,
            Content::Kept(kept) => kept.content.length(),
        }
    }

    /// The plain bytes, where they are at hand.
    pub fn plain(&self) -> Option<&Bytes> {
        match self {
            Content::Open(bytes) => Some(bytes),
            Content::Sealed { .. } | Content::Blob { .. } | Content::Kept(_) => None,
        }
    }
}

/// Content never reaches a log line, whatever form it is in.
impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Content::Open(bytes) => write!(f, "open({} bytes)", bytes.len()),
            Content::Kept(kept) => fmt::Debug::fmt(&kept.content, f),
            Content::Sealed { key, bytes } => write!(f, "sealed({} bytes under key {})", bytes.len(), key.0),
            Content::Blob { key, sha256, length } => {
                write!(f, "blob({sha256:?}, {length} bytes under key {})", key.0)
            }
        }
    }
}

/// The Avro record `omium.Sealed`: `key` long, `bytes` bytes, `blob` null or `omium.BlobRef` (`sha256`, `length`).
impl Avro for Content {
    fn write(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        match self {
            Content::Open(_) => Err(EncodeError::Unsealed),
            Content::Kept(kept) => kept.content.write(out),
            Content::Sealed { key, bytes } => {
                key.write(out)?;
                bytes.write(out)?;
                0_i64.write(out)
            }
            Content::Blob { key, sha256, length } => {
                key.write(out)?;
                0_i64.write(out)?;
                1_i64.write(out)?;
                sha256.write(out)?;
                i64::try_from(*length)
                    .map_err(|_| EncodeError::TooLarge { what: "a blob's length" })?
                    .write(out)
            }
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let key = KeyId::read(reader)?;
        let bytes = Bytes::read(reader)?;
        match i64::read(reader)? {
            0 => Ok(Content::Sealed { key, bytes }),
            1 if !bytes.is_empty() => {
                Err(DecodeError::Malformed { what: "omium.Sealed", why: "it has bytes in place and a blob" })
            }
            1 => {
                let sha256 = Digest::read(reader)?;
                let length = i64::read(reader)?;
                let length = u64::try_from(length)
                    .map_err(|_| DecodeError::Negative { what: "a blob's length", value: length })?;
                Ok(Content::Blob { key, sha256, length })
            }
            index => Err(DecodeError::Branch { what: "omium.Sealed.blob", index }),
        }
    }
}

impl Avro for KeyId {
    fn write(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        i64::try_from(self.0).map_err(|_| EncodeError::TooLarge { what: "KeyId" })?.write(out)
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let value = i64::read(reader)?;
        u64::try_from(value).map(KeyId).map_err(|_| DecodeError::Negative { what: "KeyId", value })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_content_cannot_be_written() {
        let mut out = Vec::new();
        assert_eq!(Content::open("a prompt").write(&mut out), Err(EncodeError::Unsealed));
    }

    #[test]
    fn open_content_is_not_shown_by_debug() {
        assert_eq!(format!("{:?}", Content::open("secret")), "open(6 bytes)");
    }
}
