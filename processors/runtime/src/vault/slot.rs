//! One slot of a vault's file: 128 bytes, so that it never crosses a sector and a write of it happens whole or not.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use omium_schemas::{StreamId, TenantId};

use crate::key::StreamKey;

pub(super) const SLOT: usize = 128;
const CRC_AT: usize = SLOT - 4;
const MAGIC: [u8; 8] = *b"OMKEYS\x00\x01";

/// A key sealed under another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wrapped {
    pub(super) nonce: [u8; 12],
    pub(super) bytes: [u8; 48],
}

/// What stands in a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    /// The first slot: that this is a vault, how many slots are certain to be there, and of which log the keys are; zeros
    /// where nobody has said so yet.
    Head { certain: u64, log: [u8; 16] },
    /// A tenant's key, under the master key.
    Tenant(TenantId, Wrapped),
    /// A stream's data key, under its tenant's key.
    Data(StreamKey, Wrapped),
    /// A stream's data key was here. Nobody can open what was sealed under it.
    Destroyed(StreamKey),
    /// A key that an operator has given up was here. Its number stays taken.
    Lost,
}

impl Slot {
    pub(super) fn bytes(&self) -> [u8; SLOT] {
        let mut bytes = [0; SLOT];
        match self {
            Slot::Head { certain, log } => {
                bytes[..8].copy_from_slice(&MAGIC);
                bytes[8..16].copy_from_slice(&certain.to_le_bytes());
                bytes[16..32].copy_from_slice(log);
            }
            Slot::Tenant(tenant, wrapped) => {
                bytes[0] = 1;
                bytes[8..24].copy_from_slice(&tenant.0);
                wrapped.write(&mut bytes);
            }
            Slot::Data(stream, wrapped) => {
                bytes[0] = 2;
                write_stream(stream, &mut bytes);
                wrapped.write(&mut bytes);
            }
            Slot::Destroyed(stream) => {
                bytes[0] = 3;
                write_stream(stream, &mut bytes);
            }
            Slot::Lost => bytes[0] = 4,
        }
        let crc = crc32c::crc32c(&bytes[..CRC_AT]);
        bytes[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads a slot; nothing where it is not whole.
    pub(super) fn read(bytes: &[u8; SLOT]) -> Option<Slot> {
        if crc32c::crc32c(&bytes[..CRC_AT]).to_le_bytes() != bytes[CRC_AT..] {
            return None;
        }
        if bytes[..8] == MAGIC {
            let (certain, log) = (bytes[8..16].try_into().ok()?, bytes[16..32].try_into().ok()?);
            return Some(Slot::Head { certain: u64::from_le_bytes(certain), log });
        }
        match bytes[0] {
            1 => Some(Slot::Tenant(TenantId(bytes[8..24].try_into().ok()?), Wrapped::read(bytes)?)),
            2 => Some(Slot::Data(read_stream(bytes)?, Wrapped::read(bytes)?)),
            3 => Some(Slot::Destroyed(read_stream(bytes)?)),
            4 => Some(Slot::Lost),
            _ => None,
        }
    }
}

fn write_stream(stream: &StreamKey, bytes: &mut [u8; SLOT]) {
    bytes[8..24].copy_from_slice(&stream.tenant.0);
    bytes[24..40].copy_from_slice(stream.stream.bytes());
}

fn read_stream(bytes: &[u8; SLOT]) -> Option<StreamKey> {
    let stream = StreamId::from_bytes(bytes[24..40].try_into().ok()?).ok()?;
    Some(StreamKey::new(TenantId(bytes[8..24].try_into().ok()?), stream))
}

impl Wrapped {
    fn write(&self, bytes: &mut [u8; SLOT]) {
        bytes[40..52].copy_from_slice(&self.nonce);
        bytes[52..100].copy_from_slice(&self.bytes);
    }

    fn read(bytes: &[u8; SLOT]) -> Option<Wrapped> {
        Some(Wrapped { nonce: bytes[40..52].try_into().ok()?, bytes: bytes[52..100].try_into().ok()? })
    }
}

/// A key that seals other keys.
pub(super) struct Wrapper(LessSafeKey);

impl Wrapper {
    pub(super) fn new(secret: &[u8; 32]) -> Wrapper {
        let key = UnboundKey::new(&AES_256_GCM, secret).expect("AES-256 takes 32 bytes");
        Wrapper(LessSafeKey::new(key))
    }

    /// Seals a key for one slot and one owner: elsewhere it does not open.
    pub(super) fn wrap(&self, secret: &[u8; 32], at: u64, owner: &[u8]) -> Wrapped {
        let mut nonce = [0; 12];
        aws_lc_rs::rand::fill(&mut nonce).expect("the system gives random bytes");
        let mut sealed = secret.to_vec();
        self.0
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), place(at, owner), &mut sealed)
            .expect("32 bytes are far below the limit of 64 GiB");
        let mut bytes = [0; 48];
        bytes.copy_from_slice(&sealed);
        Wrapped { nonce, bytes }
    }

    pub(super) fn unwrap(&self, wrapped: &Wrapped, at: u64, owner: &[u8]) -> Option<[u8; 32]> {
        let mut bytes = wrapped.bytes;
        let nonce = Nonce::assume_unique_for_key(wrapped.nonce);
        self.0
            .open_in_place(nonce, place(at, owner), &mut bytes)
            .ok()?
            .try_into()
            .ok()
            .map(|key: &mut [u8; 32]| *key)
    }
}

fn place(at: u64, owner: &[u8]) -> Aad<Vec<u8>> {
    Aad::from([&at.to_le_bytes(), owner].concat())
}
