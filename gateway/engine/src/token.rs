//! Tokens of attempts: which execution, which attempt, until when, and the key of the person who began it, under the
//! execution's own key. Nothing has to be kept to know them. They end with the execution's key and with the person's.

use omium_runtime::{DataKey, StreamKey};
use omium_schemas::{StreamId, TenantId, Time};

use crate::readable::hex;

const PREFIX: &str = "omx_";
/// How long one is good for.
const LIFE_MILLIS: u64 = 7 * 24 * 3_600 * 1_000;
const PAYLOAD: usize = 56;
const MAC: usize = 16;
/// The public part of a key, in bytes.
const ISSUER: usize = 8;

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) key: StreamKey,
    pub(super) attempt: i64,
    /// The public part of the key that began the attempt.
    pub(super) issuer: String,
    until: Time,
}

/// A token; nothing where the issuer's key is none of ours.
pub(super) fn issue(
    key: StreamKey,
    attempt: i64,
    issuer: &str,
    now: Time,
    data_key: &DataKey,
) -> Option<String> {
    let issuer = from_hex(issuer).filter(|issuer| issuer.len() == ISSUER)?;
    let mut payload = Vec::with_capacity(PAYLOAD + MAC);
    payload.extend_from_slice(&key.tenant.0);
    payload.extend_from_slice(key.stream.bytes());
    payload.extend_from_slice(&attempt.to_le_bytes());
    payload.extend_from_slice(&now.plus_millis(LIFE_MILLIS).0.to_le_bytes());
    payload.extend_from_slice(&issuer);
    let mac = mac(&payload, data_key);
    payload.extend_from_slice(&mac);
    Some(format!("{PREFIX}{}", hex(&payload)))
}

/// What a token claims, before anybody has looked at its seal.
pub(super) fn claim(token: &str) -> Option<Claim> {
    let bytes = bytes(token)?;
    let tenant = TenantId(bytes[..16].try_into().ok()?);
    let stream = StreamId::from_bytes(bytes[16..32].try_into().ok()?).ok()?;
    let attempt = i64::from_le_bytes(bytes[32..40].try_into().ok()?);
    let until = Time(u64::from_le_bytes(bytes[40..48].try_into().ok()?));
    let issuer = hex(&bytes[48..PAYLOAD]);
    Some(Claim { key: StreamKey::new(tenant, stream), attempt, issuer, until })
}

/// Whether a token is ours and not too old.
pub(super) fn holds(token: &str, claim: &Claim, now: Time, data_key: &DataKey) -> bool {
    let Some(bytes) = bytes(token) else { return false };
    let same = aws_lc_rs::constant_time::verify_slices_are_equal(
        &bytes[PAYLOAD..],
        &mac(&bytes[..PAYLOAD], data_key),
    );
    same.is_ok() && now < claim.until
}

fn mac(payload: &[u8], data_key: &DataKey) -> [u8; MAC] {
    let digest = data_key.digest(&[b"omium attempt token\0", payload].concat());
    let mut mac = [0; MAC];
    mac.copy_from_slice(&digest.0[..MAC]);
    mac
}

fn bytes(token: &str) -> Option<Vec<u8>> {
    let digits = token.strip_prefix(PREFIX)?;
    // A name that is as long as a megabyte is none, and nobody reads it.
    let bytes = (digits.len() == 2 * (PAYLOAD + MAC)).then(|| from_hex(digits)).flatten()?;
    (bytes.len() == PAYLOAD + MAC).then_some(bytes)
}

fn from_hex(digits: &str) -> Option<Vec<u8>> {
    let pairs = digits.as_bytes().chunks(2);
    let byte = |pair: &[u8]| {
        let digits =
            std::str::from_utf8(pair).ok().filter(|text| text.len() == 2 && !text.starts_with('+'))?;
        u8::from_str_radix(digits, 16).ok()
    };
    pairs.map(byte).collect()
}

#[cfg(test)]
mod tests {
    use omium_schemas::{ExecutionId, KeyId};

    use super::*;

    #[test]
    fn a_token_is_known_by_its_key_alone_and_ends() {
        let key = StreamKey::new(TenantId([7; 16]), ExecutionId::new([9; 15]).stream());
        let (ours, other) = (DataKey::new(KeyId(1), [1; 32]), DataKey::new(KeyId(1), [2; 32]));
        let now = Time::from_millis(5_000);
        let issuer = "0123456789abcdef";
        let token = issue(key, 3, issuer, now, &ours).unwrap();
        assert_eq!(issue(key, 3, "none of ours", now, &ours), None);
        let claimed = claim(&token).unwrap();
        assert_eq!((claimed.key, claimed.attempt, claimed.issuer.as_str()), (key, 3, issuer));
        assert!(holds(&token, &claimed, now, &ours));
        assert!(!holds(&token, &claimed, now, &other));
        assert!(!holds(&token, &claimed, now.plus_millis(LIFE_MILLIS), &ours));
        let forged = token.replacen("03000000", "04000000", 1);
        assert!(!holds(&forged, &claim(&forged).unwrap(), now, &ours));
        for nonsense in ["", "omx_", "omx_zz", "om_abc", &token[..token.len() - 2]] {
            assert_eq!(claim(nonsense), None);
        }
    }
}
