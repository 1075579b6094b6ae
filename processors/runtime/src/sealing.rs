//! Sealing and opening content: AES-256-GCM, bound to its place in the log.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hmac;
use bytes::Bytes;
use omium_log::BlobError;
use omium_schemas::mutant::Mutant;
use omium_schemas::{BlobId, BlobRef, Content, Digest, Kept, KeyId, Seq};
use sha2::{Digest as _, Sha256};

use crate::key::StreamKey;
use crate::vault::VaultError;

/// A data key, ready for use.
#[derive(Clone)]
pub struct DataKey {
    /// Its name in the log.
    pub id: KeyId,
    cipher: std::sync::Arc<LessSafeKey>,
    digest: std::sync::Arc<hmac::Key>,
}

impl DataKey {
    /// A key of 32 random bytes.
    pub fn new(id: KeyId, secret: [u8; 32]) -> DataKey {
        let cipher = UnboundKey::new(&AES_256_GCM, &secret).expect("AES-256 takes 32 bytes");
        // One secret, two uses: the second gets a key of its own, derived from the first.
        let derived = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret), b"omium digest of content");
        let digest = hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref());
        DataKey { id, cipher: LessSafeKey::new(cipher).into(), digest: digest.into() }
    }

    /// A digest of content that confirms no guess once the key is gone.
    pub fn digest(&self, content: &[u8]) -> Digest {
        let mut digest = [0; 32];
        digest.copy_from_slice(hmac::sign(&self.digest, content).as_ref());
        Digest(digest)
    }
}

/// Where data keys are found. Keys are made and made durable before the first command that needs one is submitted.
pub trait Vault: Send + Sync {
    /// The key that new content of this stream is sealed under; nothing where the subject was erased.
    fn sealing(&self, stream: &StreamKey) -> Option<DataKey>;

    /// The same, and nothing also where it was never made: for those who only look.
    fn known(&self, stream: &StreamKey) -> Option<DataKey> {
        if self.has(stream) { self.sealing(stream) } else { None }
    }

    /// A key by its name; nothing where it was destroyed.
    fn opening(&self, stream: &StreamKey, id: KeyId) -> Option<DataKey>;

    /// Whether there is nothing left to be done before content of this stream can be sealed.
    fn has(&self, _stream: &StreamKey) -> bool {
        true
    }

    /// Binds the keys to a log. Keys of another one are refused, and so are fresh keys beside a log that is not `new`:
    /// what it holds could never be opened.
    fn bind(&self, _log: [u8; 16], _new: bool) -> Result<(), VaultError> {
        Ok(())
    }

    /// Whether the keys are there up to the one of this number, the highest that the log names. Older keys than the log
    /// are refused: a fresh key would take the place of one that is missing, and no newer copy could be put back then.
    fn reaches(&self, _newest: KeyId) -> Result<(), VaultError> {
        Ok(())
    }

    /// Makes the keys of these streams where they are missing, and returns when they are durable. May block: whoever
    /// calls it ahead of [`Vault::sealing`] spares the partition the wait.
    fn provide(&self, _streams: &[StreamKey]) -> Result<(), String> {
        Ok(())
    }

    /// Whether another key could be made now; makes none. May block.
    fn has_room(&self) -> bool {
        true
    }
}

/// A piece of content's place: part of what is authenticated, and of the nonce.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// The stream.
    pub stream: StreamKey,
    /// The record.
    pub seq: Seq,
    /// The content field within the record, in schema order.
    pub field: u16,
}

impl Place {
    fn associated(&self) -> [u8; 42] {
        let mut data = [0; 42];
        data[..16].copy_from_slice(&self.stream.tenant.0);
        data[16..32].copy_from_slice(self.stream.stream.bytes());
        data[32..40].copy_from_slice(&self.seq.0.to_le_bytes());
        data[40..].copy_from_slice(&self.field.to_le_bytes());
        data
    }

    /// The command's entropy makes it differ where a lost suffix is decided anew under the same seq.
    fn nonce(&self, entropy: &[u8; 16]) -> [u8; 12] {
        let mut message = [0; 10];
        message[..8].copy_from_slice(&self.seq.0.to_le_bytes());
        message[8..].copy_from_slice(&self.field.to_le_bytes());
        let mut nonce = [0; 12];
        nonce.copy_from_slice(&short_hmac(entropy, &message)[..12]);
        nonce
    }

    fn keep(&self, content: Content, entropy: &[u8; 16]) -> Content {
        Content::Kept(Box::new(Kept { content, seq: self.seq, field: self.field, entropy: *entropy }))
    }
}

/// HMAC-SHA-256 under a key of one use. A library that first sets up a key takes three times as long, per frame.
fn short_hmac(key: &[u8; 16], message: &[u8]) -> [u8; 32] {
    let padded = |pad: u8| {
        let mut block = [pad; 64];
        block.iter_mut().zip(key).for_each(|(byte, key)| *byte ^= key);
        block
    };
    let inner = Sha256::new().chain_update(padded(0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(padded(0x5c)).chain_update(inner).finalize().into()
}

/// Why content cannot be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// It has to be fetched first.
    #[error("it lies in blob {} and was not fetched", .0.blob.hex())]
    Elsewhere(Box<BlobRef>),
    /// Nobody can open it any more.
    #[error("its key was destroyed, or is not among the keys of this node")]
    NoKey,
    /// The bytes are not what was sealed here.
    #[error("its bytes are not what was sealed there")]
    Damaged,
    /// The blob store does not give it.
    #[error("{0}")]
    Blob(String),
    /// The blob store does not give it now; later it may.
    #[error("{0}")]
    NotNow(String),
}

impl From<BlobError> for Unreadable {
    fn from(error: BlobError) -> Unreadable {
        if error.passes() {
            Unreadable::NotNow(error.to_string())
        } else {
            Unreadable::Blob(error.to_string())
        }
    }
}

/// The place of a run of bytes in a blob: part of what is authenticated, and of the nonce.
fn in_blob(stream: &StreamKey, blob: BlobId, at: u64) -> ([u8; 12], [u8; 56]) {
    let mut data = [0; 56];
    data[..16].copy_from_slice(&stream.tenant.0);
    data[16..32].copy_from_slice(stream.stream.bytes());
    data[32..48].copy_from_slice(&blob.0);
    data[48..].copy_from_slice(&at.to_le_bytes());
    let mut nonce = [0; 12];
    nonce.copy_from_slice(&short_hmac(&blob.0, &at.to_le_bytes())[..12]);
    (nonce, data)
}

/// Seals values one behind the other for a blob of this name, which must be random and was never used before.
pub fn seal_blob(
    key: &DataKey,
    stream: &StreamKey,
    blob: BlobId,
    values: &[Bytes],
) -> (Vec<u8>, Vec<BlobRef>) {
    let tag = AES_256_GCM.tag_len();
    let room = values.iter().map(|value| value.len() + tag).sum();
    let (mut whole, mut refs) = (Vec::with_capacity(room), Vec::with_capacity(values.len()));
    for value in values {
        let at = whole.len();
        whole.extend_from_slice(value);
        if !Mutant::SealedInName.on() {
            let (nonce, data) = in_blob(stream, blob, at as u64);
            let nonce = Nonce::assume_unique_for_key(nonce);
            let sealed = key.cipher.seal_in_place_separate_tag(nonce, Aad::from(data), &mut whole[at..]);
            whole.extend_from_slice(sealed.expect("content is far below the limit of 64 GiB").as_ref());
        }
        let sha256 = Digest::of(&whole[at..]);
        refs.push(BlobRef { key: key.id, blob, at: at as u64, length: (whole.len() - at) as u64, sha256 });
    }
    (whole, refs)
}

/// Opens what was fetched from a blob.
pub fn open_blob(
    vault: &dyn Vault,
    stream: &StreamKey,
    place: &BlobRef,
    sealed: Bytes,
) -> Result<Bytes, Unreadable> {
    let key = vault.opening(stream, place.key).ok_or(Unreadable::NoKey)?;
    let (nonce, data) = in_blob(stream, place.blob, place.at);
    let mut bytes = sealed.to_vec();
    let opened = key.cipher.open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(data), &mut bytes);
    let plain = opened.map_err(|_| Unreadable::Damaged)?.len();
    bytes.truncate(plain);
    Ok(bytes.into())
}

/// Seals plain bytes for this place.
pub fn seal(key: &DataKey, place: &Place, entropy: &[u8; 16], plain: &[u8]) -> Content {
    let mut bytes = plain.to_vec();
    if Mutant::SealedInName.on() {
        return place.keep(Content::Sealed { key: key.id, bytes: bytes.into() }, entropy);
    }
    let nonce = place.nonce(entropy);
    key.cipher
        .seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(place.associated()),
            &mut bytes,
        )
        .expect("content is far below the limit of 64 GiB");
    place.keep(Content::Sealed { key: key.id, bytes: bytes.into() }, entropy)
}

/// Gives sealed content, as read from this place, what it takes to open it later.
pub fn place(content: Content, place: &Place, entropy: &[u8; 16]) -> Content {
    match content {
        Content::Sealed { .. } => place.keep(content, entropy),
        Content::Open(_) | Content::Kept(_) | Content::Blob(_) | Content::Moved(_) => content,
    }
}

/// Opens content of this stream that is at hand.
pub fn open(vault: &dyn Vault, stream: StreamKey, content: &Content) -> Result<Bytes, Unreadable> {
    let kept = match content {
        Content::Open(bytes) => return Ok(bytes.clone()),
        Content::Moved(moved) => return Ok(moved.plain.clone()),
        Content::Blob(place) => return Err(Unreadable::Elsewhere(place.clone())),
        Content::Kept(kept) => kept,
        Content::Sealed { .. } => return Err(Unreadable::Damaged),
    };
    let Content::Sealed { key, bytes } = &kept.content else { return Err(Unreadable::Damaged) };
    let key = vault.opening(&stream, *key).ok_or(Unreadable::NoKey)?;
    let place = Place { stream, seq: kept.seq, field: kept.field };
    let mut bytes = bytes.to_vec();
    let nonce = Nonce::assume_unique_for_key(place.nonce(&kept.entropy));
    let opened = key.cipher.open_in_place(nonce, Aad::from(place.associated()), &mut bytes);
    let plain = opened.map_err(|_| Unreadable::Damaged)?.len();
    bytes.truncate(plain);
    Ok(bytes.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use omium_schemas::{StreamId, TenantId};

    struct OneKey(DataKey);

    impl Vault for OneKey {
        fn sealing(&self, _: &StreamKey) -> Option<DataKey> {
            Some(self.0.clone())
        }

        fn opening(&self, _: &StreamKey, _: KeyId) -> Option<DataKey> {
            Some(self.0.clone())
        }
    }

    fn at(seq: u64) -> Place {
        Place { stream: StreamKey::new(TenantId([1; 16]), StreamId::account()), seq: Seq(seq), field: 0 }
    }

    fn inner(content: &Content) -> Content {
        if let Content::Kept(kept) = content {
            kept.content.clone()
        } else {
            panic!("not sealed: {content:?}")
        }
    }

    #[test]
    fn content_opens_only_at_the_place_where_it_was_sealed() {
        let vault = OneKey(DataKey::new(KeyId(1), [5; 32]));
        let content = seal(&vault.0, &at(4), &[9; 16], b"a prompt");
        let read_back = |seq| place(inner(&content), &at(seq), &[9; 16]);
        assert_eq!(read_back(4), content);
        assert_eq!(open(&vault, at(4).stream, &read_back(4)).as_deref(), Ok(&b"a prompt"[..]));
        assert_eq!(open(&vault, at(4).stream, &read_back(5)), Err(Unreadable::Damaged));
        let other = OneKey(DataKey::new(KeyId(1), [6; 32]));
        assert_eq!(open(&other, at(4).stream, &content), Err(Unreadable::Damaged));
    }

    #[test]
    fn a_value_in_a_blob_opens_only_in_its_stream_its_blob_and_its_place() {
        let vault = OneKey(DataKey::new(KeyId(1), [5; 32]));
        let (stream, blob) = (at(1).stream, BlobId([7; 16]));
        let values = [Bytes::from_static(b"first"), Bytes::new(), Bytes::from_static(b"third")];
        let (whole, refs) = seal_blob(&vault.0, &stream, blob, &values);
        let run = |place: &BlobRef| {
            Bytes::copy_from_slice(&whole[place.at as usize..(place.at + place.length) as usize])
        };
        for (place, value) in refs.iter().zip(&values) {
            assert_eq!(open_blob(&vault, &stream, place, run(place)).as_ref(), Ok(value));
        }
        let (here, sealed) = (refs[0], run(&refs[0]));
        let elsewhere = StreamKey::new(TenantId([2; 16]), StreamId::account());
        let open = |stream: &StreamKey, place: BlobRef| open_blob(&vault, stream, &place, sealed.clone());
        assert_eq!(open(&elsewhere, here), Err(Unreadable::Damaged));
        assert_eq!(open(&stream, BlobRef { at: 21, ..here }), Err(Unreadable::Damaged));
        assert_eq!(open(&stream, BlobRef { blob: BlobId([8; 16]), ..here }), Err(Unreadable::Damaged));
    }

    #[test]
    fn the_same_place_decided_anew_gets_another_nonce() {
        let key = DataKey::new(KeyId(1), [5; 32]);
        assert_ne!(seal(&key, &at(4), &[1; 16], b"x"), seal(&key, &at(4), &[2; 16], b"x"));
    }

    #[test]
    fn the_short_hmac_is_the_same_as_any_other() {
        for entropy in [[0; 16], [1; 16], *b"0123456789abcdef"] {
            for message in [&b""[..], b"ten bytes!", &[7; 200]] {
                let known = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &entropy), message);
                assert_eq!(known.as_ref(), short_hmac(&entropy, message));
            }
        }
    }

    #[test]
    fn a_digest_depends_on_the_key() {
        let digest = |secret| DataKey::new(KeyId(1), [secret; 32]).digest(b"a guess");
        assert_eq!(digest(1), digest(1));
        assert_ne!(digest(1), digest(2));
    }
}
