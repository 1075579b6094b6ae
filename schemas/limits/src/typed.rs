//! JSON as a type, with numbers as JSON means them: `2101.0` and `1e3` are integers where integers are wanted. Values that
//! are kept as they came (`serde_json::Value`) keep them as they were written.

use std::fmt;

use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess, Unexpected,
    VariantAccess, Visitor,
};

/// From here on not every integer has a floating point number of its own: what was written is not known any more.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// Reads JSON as a type.
pub fn typed<T: DeserializeOwned>(text: &[u8]) -> Result<T, serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_slice(text);
    let value = T::deserialize(Typed(&mut reader))?;
    reader.end()?;
    Ok(value)
}

/// The integer that a number is, if it is one.
pub fn integer(number: f64) -> Option<i64> {
    // The cast is exact below that bound.
    (number.fract() == 0.0 && number.abs() < EXACT).then_some(number as i64)
}

/// A deserializer, a visitor or an access of serde's, passed through down to the integers.
struct Typed<T>(T);

/// A visitor that wants an integer.
struct Integer<V>(V);

macro_rules! passes {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
            self.0.$method(Typed(visitor))
        }
    )*};
}

macro_rules! integers {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
            self.0.$method(Integer(visitor))
        }
    )*};
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Typed<D> {
    type Error = D::Error;

    integers! {
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128
    }

    passes! {
        deserialize_bool deserialize_f32 deserialize_f64 deserialize_char deserialize_str deserialize_string
        deserialize_bytes deserialize_byte_buf deserialize_option deserialize_unit deserialize_seq deserialize_map
        deserialize_identifier
    }

    /// Whoever takes anything takes it as it is.
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_any(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_ignored_any(visitor)
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_unit_struct(name, Typed(visitor))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_newtype_struct(name, Typed(visitor))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_tuple(length, Typed(visitor))
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_tuple_struct(name, length, Typed(visitor))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_struct(name, fields, Typed(visitor))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_enum(name, variants, Typed(visitor))
    }
}

macro_rules! hands_on {
    ($($method:ident: $value:ty),* $(,)?) => {$(
        fn $method<E: Error>(self, value: $value) -> Result<V::Value, E> {
            self.0.$method(value)
        }
    )*};
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Typed<V> {
    type Value = V::Value;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(out)
    }

    hands_on! {
        visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_i128: i128, visit_u128: u128, visit_f64: f64,
        visit_str: &str, visit_borrowed_str: &'de str, visit_string: String, visit_bytes: &[u8],
        visit_borrowed_bytes: &'de [u8], visit_byte_buf: Vec<u8>,
    }

    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.0.visit_none()
    }

    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.0.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, there: D) -> Result<V::Value, D::Error> {
        self.0.visit_some(Typed(there))
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        self.0.visit_newtype_struct(Typed(inner))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<V::Value, A::Error> {
        self.0.visit_seq(Typed(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<V::Value, A::Error> {
        self.0.visit_map(Typed(entries))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, variant: A) -> Result<V::Value, A::Error> {
        self.0.visit_enum(Typed(variant))
    }
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Integer<V> {
    type Value = V::Value;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(out)
    }

    hands_on! { visit_i64: i64, visit_u64: u64, visit_i128: i128, visit_u128: u128 }

    fn visit_f64<E: Error>(self, value: f64) -> Result<V::Value, E> {
        match integer(value) {
            Some(value) if value < 0 => self.0.visit_i64(value),
            Some(value) => self.0.visit_u64(value.unsigned_abs()),
            None => Err(E::invalid_type(Unexpected::Float(value), &self)),
        }
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Typed<S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<S::Value, D::Error> {
        self.0.deserialize(Typed(deserializer))
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Typed<A> {
    type Error = A::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        self.0.next_element_seed(Typed(seed))
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Typed<A> {
    type Error = A::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        self.0.next_key_seed(seed)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        self.0.next_value_seed(Typed(seed))
    }
}

impl<'de, A: EnumAccess<'de>> EnumAccess<'de> for Typed<A> {
    type Error = A::Error;
    type Variant = Typed<A::Variant>;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self::Variant), A::Error> {
        let (value, variant) = self.0.variant_seed(seed)?;
        Ok((value, Typed(variant)))
    }
}

impl<'de, A: VariantAccess<'de>> VariantAccess<'de> for Typed<A> {
    type Error = A::Error;

    fn unit_variant(self) -> Result<(), A::Error> {
        self.0.unit_variant()
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, A::Error> {
        self.0.newtype_variant_seed(Typed(seed))
    }

    fn tuple_variant<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, A::Error> {
        self.0.tuple_variant(length, Typed(visitor))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        self.0.struct_variant(fields, Typed(visitor))
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::{Value, json};

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Body {
        seq: Option<u64>,
        #[serde(default)]
        codes: Vec<i32>,
        #[serde(default)]
        kept: Value,
        one_of: Option<OneOf>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum OneOf {
        None,
        Code(u8),
        Both { a: i64, b: f64 },
    }

    fn read(text: &str) -> Result<Body, String> {
        typed(text.as_bytes()).map_err(|why| why.to_string())
    }

    #[test]
    fn a_number_without_a_fraction_is_an_integer_however_it_is_written() {
        let body = read(
            r#"{"seq": 2101.0, "codes": [1e3, -2.0, 3, -0.0], "kept": {"x": 2101.0}, "one_of": {"code": 7.0}}"#,
        );
        let kept = json!({ "x": 2101.0 });
        let one_of = Some(OneOf::Code(7));
        assert_eq!(body, Ok(Body { seq: Some(2101), codes: vec![1_000, -2, 3, 0], kept, one_of }));
        let both = read(r#"{"one_of": {"both": {"a": 10e0, "b": 3}}}"#).unwrap().one_of;
        assert_eq!(both, Some(OneOf::Both { a: 10, b: 3.0 }));
        assert_eq!(read(r#"{"seq": null, "one_of": "none"}"#).unwrap().one_of, Some(OneOf::None));
        assert_eq!(read(r#"{"seq": 18446744073709551615}"#).unwrap().seq, Some(u64::MAX));
    }

    #[test]
    fn other_numbers_are_refused_where_an_integer_is_wanted() {
        for (text, why) in [
            (r#"{"seq": 2101.5}"#, "invalid type: floating point `2101.5`"),
            (r#"{"seq": 1e300}"#, "invalid type: floating point"),
            (r#"{"seq": 9007199254740993.0}"#, "invalid type: floating point"),
            (r#"{"seq": -1.0}"#, "invalid value: integer `-1`"),
            (r#"{"codes": [3e9]}"#, "invalid value: integer `3000000000`"),
            (r#"{"one_of": {"code": 256.0}}"#, "invalid value: integer `256`"),
            (r#"{"seq": "1"}"#, "invalid type: string"),
            (r#"{"seq": 1} x"#, "trailing characters"),
            (r#"{"sequ": 1}"#, "unknown field"),
        ] {
            let told = read(text).unwrap_err();
            assert!(told.contains(why) && told.contains("line 1"), "{text}: {told}");
        }
    }
}
