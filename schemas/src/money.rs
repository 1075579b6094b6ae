//! Money is an integer of pico-dollars: per-token prices are not whole nano-dollars, and sums must be exact.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::avro::{Avro, DecodeError, EncodeError, Reader, write_bytes};
use crate::catalogue::Usage;

/// An amount in pico-dollars. On the wire it is Avro's `decimal(38, 12)`: dollars with twelve decimals.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Money(pub i128);

impl Money {
    /// Nothing.
    pub const ZERO: Money = Money(0);
    /// The largest amount that `decimal(38, 12)` can say.
    pub const MAX: Money = Money(10_i128.pow(38) - 1);

    /// Whole dollars.
    pub const fn dollars(dollars: i64) -> Money {
        Money(dollars as i128 * 1_000_000_000_000)
    }

    /// The sum, or nothing where it cannot be said in 38 digits.
    pub fn plus(self, other: Money) -> Option<Money> {
        self.0.checked_add(other.0).map(Money).filter(|sum| sum.0.abs() <= Money::MAX.0)
    }

    /// The difference, or nothing where it cannot be said in 38 digits.
    pub fn minus(self, other: Money) -> Option<Money> {
        self.plus(Money(-other.0))
    }

    /// Nano-dollars, as shown to people: rounded half away from zero.
    pub const fn nano_dollars(self) -> i128 {
        let half = if self.0 < 0 { -500 } else { 500 };
        (self.0 + half) / 1000
    }
}

/// What one token of a model costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Price {
    /// Of the request.
    pub input: Money,
    /// Of the request, where the provider had it cached.
    pub cached: Money,
    /// Of the answer.
    pub output: Money,
}

impl Price {
    /// What was used costs, exactly.
    pub fn of(&self, usage: &Usage) -> Money {
        let cached = usage.cached.clamp(0, usage.input.max(0));
        let parts = [(self.input, usage.input - cached), (self.cached, cached), (self.output, usage.output)];
        let sum = parts.iter().try_fold(0_i128, |sum, (each, count)| {
            each.0.checked_mul(i128::from((*count).max(0))).and_then(|part| sum.checked_add(part))
        });
        sum.map_or(Money::MAX, |sum| Money(sum.min(Money::MAX.0)))
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.nano_dollars();
        let sign = if nanos < 0 { "-" } else { "" };
        let nanos = nanos.unsigned_abs();
        write!(f, "{sign}${}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000)
    }
}

impl fmt::Debug for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Avro for Money {
    /// Two's complement, big-endian, as short as it can be: the one canonical form, so that equal amounts hash alike.
    fn write(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let bytes = self.0.to_be_bytes();
        let mut start = 0;
        while start < 15 {
            let redundant = (bytes[start] == 0 && bytes[start + 1] < 0x80)
                || (bytes[start] == 0xff && bytes[start + 1] >= 0x80);
            if !redundant {
                break;
            }
            start += 1;
        }
        write_bytes(&bytes[start..], out)
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let bytes = reader.bytes()?;
        if bytes.is_empty() || bytes.len() > 16 {
            return Err(DecodeError::Money { length: bytes.len() });
        }
        let fill = if bytes[0] >= 0x80 { 0xff } else { 0 };
        let mut whole = [fill; 16];
        whole[16 - bytes.len()..].copy_from_slice(bytes);
        Some(Money(i128::from_be_bytes(whole)))
            .filter(|money| money.0.unsigned_abs() <= Money::MAX.0.unsigned_abs())
            .ok_or(DecodeError::Money { length: bytes.len() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn round_trip(amount: i128, length: usize) {
        let mut out = Vec::new();
        Money(amount).write(&mut out).expect("money always encodes");
        assert_eq!(out.len(), length + 1, "{amount}");
        assert_eq!(Money::read(&mut Reader::new(&out)).expect("what was written"), Money(amount));
    }

    #[test]
    fn is_written_as_short_as_it_can_be() {
        round_trip(0, 1);
        round_trip(-1, 1);
        round_trip(127, 1);
        round_trip(128, 2);
        round_trip(-128, 1);
        round_trip(-129, 2);
        round_trip(Money::MAX.0, 16);
        round_trip(-Money::MAX.0, 16);
    }

    #[test]
    fn refuses_a_sum_that_38_digits_cannot_say() {
        assert_eq!(Money::MAX.plus(Money(1)), None);
        assert_eq!(Money(-Money::MAX.0).minus(Money(1)), None);
        assert_eq!(Money(3).minus(Money(5)), Some(Money(-2)));
    }

    #[test]
    fn refuses_an_amount_of_no_bytes_or_too_many() {
        assert!(Money::read(&mut Reader::new(&[0])).is_err());
        assert!(Money::read(&mut Reader::new(&[34; 18])).is_err());
    }

    #[test]
    fn tokens_cost_what_their_kind_costs() {
        let price = Price { input: Money(10), cached: Money(1), output: Money(100) };
        let usage = |input, cached, output| Usage { input, cached, output, reasoning: 0 };
        assert_eq!(price.of(&usage(7, 0, 3)), Money(370));
        assert_eq!(price.of(&usage(7, 5, 3)), Money(325));
        // What a provider says wrongly costs neither less than nothing nor more than there is.
        assert_eq!(price.of(&usage(2, 9, -3)), Money(2));
        assert_eq!(Price { input: Money::MAX, ..price }.of(&usage(i64::MAX, 0, 0)), Money::MAX);
    }

    #[test]
    fn shows_nano_dollars() {
        assert_eq!(Money(1_500).to_string(), "$0.000000002");
        assert_eq!(Money::dollars(-2).to_string(), "-$2.000000000");
    }
}
