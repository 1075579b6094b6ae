//! Avro's binary encoding, written and read directly: the hot path cannot afford a value tree in between.
//!
//! Every length is held against the bytes that are left before anything is allocated, so a hostile input of n bytes
//! never costs more than a small multiple of n.

use std::collections::BTreeMap;

use bytes::Bytes;

/// Why bytes are not what they claim to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The value goes on beyond the end of the input.
    #[error("{wanted} more bytes are needed where {left} are left")]
    Short {
        /// How many bytes the value says it has.
        wanted: u64,
        /// How many there are.
        left: usize,
    },
    /// A variable-length integer has more than ten bytes or more than 64 bits.
    #[error("a variable-length integer is longer than 64 bits")]
    Varint,
    /// A number is outside of what its type can hold.
    #[error("{value} is outside of what {what} can hold")]
    Negative {
        /// The type.
        what: &'static str,
        /// The number found.
        value: i64,
    },
    /// A boolean is neither 0 nor 1.
    #[error("a boolean is {0}, neither 0 nor 1")]
    Boolean(u8),
    /// A union or an enum names a branch that it does not have.
    #[error("{what} has no branch {index}")]
    Branch {
        /// The union or enum.
        what: &'static str,
        /// The branch asked for.
        index: i64,
    },
    /// A string is not UTF-8.
    #[error("a string is not UTF-8")]
    Utf8,
    /// A map says the same key twice, or not in order, so that it is not the canonical form.
    #[error("a map's keys are not in strictly rising order")]
    MapOrder,
    /// A decimal has no bytes, or more than 38 digits.
    #[error("an amount of {length} bytes is not a decimal(38, 12)")]
    Money {
        /// How many bytes it has.
        length: usize,
    },
    /// Bytes are left after the value's end.
    #[error("{0} bytes are left after the end of the value")]
    Trailing(usize),
    /// The type is not in this program's catalogue.
    #[error("record type {0} is not known to this version of omium; upgrade omium to read this log")]
    UnknownType(u16),
    /// An identifier breaks its rule.
    #[error("{what} is malformed: {why}")]
    Malformed {
        /// What it should be.
        what: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
}

/// Why a value cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// Content must be sealed before it goes anywhere near the log.
    #[error("content is still open; it must be sealed before it is written")]
    Unsealed,
    /// A number does not fit its Avro type.
    #[error("{what} is too large for its Avro type")]
    TooLarge {
        /// The type.
        what: &'static str,
    },
}

/// A value with one Avro binary form.
pub trait Avro: Sized {
    /// Appends the value to `out`.
    fn write(&self, out: &mut Vec<u8>) -> Result<(), EncodeError>;
    /// Reads one value.
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError>;
}

/// A place in bytes that are being read.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    left: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Starts at the front of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { left: bytes }
    }

    /// What has not been read yet.
    pub fn left(&self) -> &'a [u8] {
        self.left
    }

    /// The next `count` bytes.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        if count > self.left.len() {
            return Err(DecodeError::Short { wanted: count as u64, left: self.left.len() });
        }
        let (taken, left) = self.left.split_at(count);
        self.left = left;
        Ok(taken)
    }

    /// The next `N` bytes as an array.
    pub fn fixed<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    /// A run of bytes behind its length.
    pub fn bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = i64::read(self)?;
        let length =
            u64::try_from(length).map_err(|_| DecodeError::Negative { what: "a length", value: length })?;
        match usize::try_from(length) {
            Ok(count) if count <= self.left.len() => self.take(count),
            _ => Err(DecodeError::Short { wanted: length, left: self.left.len() }),
        }
    }

    /// An unsigned LEB128 number.
    pub fn varint(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0_u64;
        for shift in 0..10 {
            let [byte] = self.fixed()?;
            if shift == 9 && byte > 1 {
                return Err(DecodeError::Varint);
            }
            value |= u64::from(byte & 0x7f) << (shift * 7);
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(DecodeError::Varint)
    }

    /// The count of an array's or map's next block. Each item takes at least one byte here, which bounds the count.
    fn block_count(&mut self) -> Result<usize, DecodeError> {
        let count = i64::read(self)?;
        if count < 0 {
            // A negative count is followed by the block's size in bytes, for readers that skip.
            i64::read(self)?;
        }
        let count = count.unsigned_abs();
        match usize::try_from(count) {
            Ok(items) if items <= self.left.len() => Ok(items),
            _ => Err(DecodeError::Short { wanted: count, left: self.left.len() }),
        }
    }

    /// Fails where anything is left.
    pub fn end(&self) -> Result<(), DecodeError> {
        if self.left.is_empty() { Ok(()) } else { Err(DecodeError::Trailing(self.left.len())) }
    }
}

/// Appends an unsigned LEB128 number.
pub fn write_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

impl Avro for i64 {
    #[inline]
    fn write(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        write_varint(((self << 1) ^ (self >> 63)) as u64, out);
        Ok(())
    }

    #[inline]
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let zigzag = reader.varint()?;
        Ok((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64))
    }
}

impl Avro for i32 {
    fn write(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        i64::from(*self).write(out)
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let value = i64::read(reader)?;
        i32::try_from(value).map_err(|_| DecodeError::Negative { what: "int", value })
    }
}

impl Avro for bool {
    fn write(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.push(u8::from(*self));
        Ok(())
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match reader.fixed()? {
            [0] => Ok(false),
            [1] => Ok(true),
            [other] => Err(DecodeError::Boolean(other)),
        }
    }
}

/// Appends a length and the bytes: the one form that bytes and strings share.
pub fn write_bytes(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), EncodeError> {
    (bytes.len() as i64).write(out)?;
    out.extend_from_slice(bytes);
    Ok(())
}

impl Avro for Bytes {
    fn write(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        write_bytes(self, out)
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.bytes().map(Bytes::copy_from_slice)
    }
}

impl Avro for String {
    fn write(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        write_bytes(self.as_bytes(), out)
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        std::str::from_utf8(reader.bytes()?).map(str::to_owned).map_err(|_| DecodeError::Utf8)
    }
}

/// The union `["null", T]`.
impl<T: Avro> Avro for Option<T> {
    fn write(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        match self {
            None => 0_i64.write(out),
            Some(value) => {
                1_i64.write(out)?;
                value.write(out)
            }
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match i64::read(reader)? {
            0 => Ok(None),
            1 => T::read(reader).map(Some),
            index => Err(DecodeError::Branch { what: "an optional value", index }),
        }
    }
}

/// An array, written as one block.
impl<T: Avro> Avro for Vec<T> {
    fn write(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        if !self.is_empty() {
            (self.len() as i64).write(out)?;
            for item in self {
                item.write(out)?;
            }
        }
        0_i64.write(out)
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut items = Vec::new();
        loop {
            let count = reader.block_count()?;
            if count == 0 {
                return Ok(items);
            }
            // Not reserved by the count: an item may be larger in memory than on the wire.
            for _ in 0..count {
                items.push(T::read(reader)?);
            }
        }
    }
}

/// A map, written as one block with rising keys: equal maps give equal bytes.
impl<T: Avro> Avro for BTreeMap<String, T> {
    fn write(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        if !self.is_empty() {
            (self.len() as i64).write(out)?;
            for (key, value) in self {
                key.write(out)?;
                value.write(out)?;
            }
        }
        0_i64.write(out)
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut map = BTreeMap::new();
        loop {
            let count = reader.block_count()?;
            if count == 0 {
                return Ok(map);
            }
            for _ in 0..count {
                let key = String::read(reader)?;
                if map.last_key_value().is_some_and(|(last, _)| *last >= key) {
                    return Err(DecodeError::MapOrder);
                }
                map.insert(key, T::read(reader)?);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_beyond_the_input_is_refused_before_anything_is_allocated() {
        let mut hostile = Vec::new();
        i64::MAX.write(&mut hostile).expect("a long always encodes");
        assert!(matches!(Bytes::read(&mut Reader::new(&hostile)), Err(DecodeError::Short { .. })));
        assert!(matches!(Vec::<i64>::read(&mut Reader::new(&hostile)), Err(DecodeError::Short { .. })));
    }

    #[test]
    fn negative_lengths_and_counts_are_refused() {
        let mut hostile = Vec::new();
        i64::MIN.write(&mut hostile).expect("a long always encodes");
        assert!(matches!(Bytes::read(&mut Reader::new(&hostile)), Err(DecodeError::Negative { .. })));
        hostile.push(0);
        assert!(matches!(Vec::<bool>::read(&mut Reader::new(&hostile)), Err(DecodeError::Short { .. })));
    }

    #[test]
    fn a_varint_of_more_than_64_bits_is_refused() {
        assert_eq!(Reader::new(&[0xff; 11]).varint(), Err(DecodeError::Varint));
        let mut ten = [0xff; 10];
        ten[9] = 1;
        assert_eq!(Reader::new(&ten).varint(), Ok(u64::MAX));
    }

    #[test]
    fn an_array_in_several_blocks_with_byte_sizes_is_read() {
        let mut bytes = Vec::new();
        for number in [-1_i64, 1, 7, 1, 9, 0] {
            number.write(&mut bytes).expect("a long always encodes");
        }
        assert_eq!(Vec::<i64>::read(&mut Reader::new(&bytes)), Ok(vec![7, 9]));
    }

    #[test]
    fn a_map_that_repeats_a_key_is_not_canonical() {
        let mut bytes = Vec::new();
        2_i64.write(&mut bytes).expect("a long always encodes");
        for _ in 0..2 {
            "k".to_owned().write(&mut bytes).expect("a string always encodes");
            1_i64.write(&mut bytes).expect("a long always encodes");
        }
        bytes.push(0);
        assert_eq!(BTreeMap::<String, i64>::read(&mut Reader::new(&bytes)), Err(DecodeError::MapOrder));
    }
}
