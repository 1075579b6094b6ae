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

/// Names one blob: random, drawn by whoever writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct BlobId(pub [u8; 16]);

impl BlobId {
    /// Lower-case hexadecimal, 32 characters.
    pub fn hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Reads what [`BlobId::hex`] writes.
    pub fn from_hex(text: &str) -> Option<BlobId> {
        let digits = |at: usize| u8::from_str_radix(text.get(at * 2..at * 2 + 2)?, 16).ok();
        let mut id = [0; 16];
        let right = text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        for (at, byte) in id.iter_mut().enumerate() {
            *byte = digits(at).filter(|_| right)?;
        }
        Some(BlobId(id))
    }
}

/// Where cipher text lies that is too long for a frame: a run of bytes of one blob. It says all that it takes to open
/// them, wherever it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct BlobRef {
    /// The data key they are sealed under.
    pub key: KeyId,
    /// The blob.
    pub blob: BlobId,
    /// The first byte of the run.
    pub at: u64,
    /// How many sealed bytes there are.
    pub length: u64,
    /// Their SHA-256.
    pub sha256: Digest,
}

/// Content in one of its forms. Only the sealed forms can be written.
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
    /// Cipher text that lies in the blob store.
    Blob(Box<BlobRef>),
    /// Plain bytes that lie sealed in the blob store already. A frame holds the reference.
    Moved(Box<Moved>),
    /// Sealed content together with what it takes to open it again: the form in which state holds it. It is written
    /// like what it holds; the rest is known from its place in the log.
    Kept(Box<Kept>),
}

/// Plain bytes, and where their cipher text lies.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// The plain bytes.
    pub plain: Bytes,
    /// Where they lie sealed.
    pub to: BlobRef,
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

    /// The data key that it is sealed under; nothing where it is plain.
    pub fn sealed_under(&self) -> Option<KeyId> {
        match self {
            Content::Open(_) => None,
            Content::Sealed { key, .. } => Some(*key),
            Content::Blob(blob) => Some(blob.key),
            Content::Moved(moved) => Some(moved.to.key),
            Content::Kept(kept) => kept.content.sealed_under(),
        }
    }

    /// How many bytes it holds, in whichever form.
    pub fn length(&self) -> u64 {
        match self {
            Content::Open(bytes) | Content::Sealed { bytes, .. } => bytes.len() as u64,
            Content::Blob(blob) => blob.length,
            Content::Moved(moved) => moved.to.length,
            Content::Kept(kept) => kept.content.length(),
        }
    }

    /// The plain bytes, where they are at hand.
    pub fn plain(&self) -> Option<&Bytes> {
        match self {
            Content::Open(bytes) => Some(bytes),
            Content::Moved(moved) => Some(&moved.plain),
            Content::Sealed { .. } | Content::Blob(_) | Content::Kept(_) => None,
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
            Content::Blob(blob) => {
                write!(f, "blob({}, {} bytes under key {})", blob.blob.hex(), blob.length, blob.key.0)
            }
            Content::Moved(moved) => write!(f, "moved({} bytes)", moved.plain.len()),
        }
    }
}

/// The Avro record `omium.Sealed`: `key` long, `bytes` bytes, `blob` null or `omium.BlobRef` (`blob`, `at`, `length`,
/// `sha256`).
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
            Content::Blob(blob) => write_blob(blob, out),
            Content::Moved(moved) => write_blob(&moved.to, out),
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
                let blob = BlobId(reader.fixed()?);
                let at = natural(reader, "a blob's offset")?;
                let length = natural(reader, "a blob's length")?;
                let sha256 = Digest::read(reader)?;
                Ok(Content::Blob(Box::new(BlobRef { key, blob, at, length, sha256 })))
            }
            index => Err(DecodeError::Branch { what: "omium.Sealed.blob", index }),
        }
    }
}

fn write_blob(blob: &BlobRef, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let natural = |number: u64, what| i64::try_from(number).map_err(|_| EncodeError::TooLarge { what });
    blob.key.write(out)?;
    0_i64.write(out)?;
    1_i64.write(out)?;
    out.extend_from_slice(&blob.blob.0);
    natural(blob.at, "a blob's offset")?.write(out)?;
    natural(blob.length, "a blob's length")?.write(out)?;
    blob.sha256.write(out)
}

fn natural(reader: &mut Reader<'_>, what: &'static str) -> Result<u64, DecodeError> {
    let value = i64::read(reader)?;
    u64::try_from(value).map_err(|_| DecodeError::Negative { what, value })
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
