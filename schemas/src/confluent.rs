//! The Confluent wire format of public topics: a zero, the registry's id of the schema, the Avro bytes.

use crate::avro::{DecodeError, Reader};

/// The first byte of every record in this format.
const MAGIC: u8 = 0;

/// Puts the registry's id before the Avro bytes.
pub fn frame_public(id: u32, avro: &[u8]) -> Vec<u8> {
    let mut framed = Vec::with_capacity(avro.len() + 5);
    framed.push(MAGIC);
    framed.extend_from_slice(&id.to_be_bytes());
    framed.extend_from_slice(avro);
    framed
}

/// The registry's id and the Avro bytes of a public record.
pub fn parse_public(framed: &[u8]) -> Result<(u32, &[u8]), DecodeError> {
    let mut reader = Reader::new(framed);
    let [magic] = reader.fixed()?;
    if magic != MAGIC {
        return Err(DecodeError::Malformed {
            what: "a public record",
            why: "it does not start with the byte 0 of the Confluent wire format; its producer uses another one",
        });
    }
    let id = u32::from_be_bytes(reader.fixed()?);
    Ok((id, reader.left()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_record_is_magic_then_big_endian_id_then_avro() {
        let framed = frame_public(0x0102_0304, &[9, 8]);
        assert_eq!(framed, [0, 1, 2, 3, 4, 9, 8]);
        assert_eq!(parse_public(&framed), Ok((0x0102_0304, &[9, 8][..])));
    }

    #[test]
    fn what_is_too_short_or_starts_otherwise_is_refused() {
        assert_eq!(parse_public(&[]), Err(DecodeError::Short { wanted: 1, left: 0 }));
        assert_eq!(parse_public(&[0, 1, 2]), Err(DecodeError::Short { wanted: 4, left: 2 }));
        assert!(matches!(parse_public(&[1, 0, 0, 0, 1]), Err(DecodeError::Malformed { .. })));
    }
}
