//! JSON of which no more is made than may be: a value takes up to sixty times the bytes of its text, so that what is too much
//! is to be noticed while it is read, and not when it is there.

use serde::Deserializer;
use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use std::cell::Cell;
use std::fmt;

/// The most values that a text from outside may have, lists and maps among them.
pub const MOST: usize = 500_000;

/// Why a text is not read.
#[derive(Debug, thiserror::Error)]
pub enum NotRead {
    /// It has more values than it may have.
    #[error("it has more than {0} values")]
    TooMuch(usize),
    /// It is no JSON.
    #[error("{0}")]
    Syntax(#[from] serde_json::Error),
}

/// Reads JSON of at most `most` values as [`serde_json`] does.
///
/// # Errors
/// Where it is no JSON, or has more.
pub fn from_slice(text: &[u8], most: usize) -> Result<Value, NotRead> {
    let left = Cell::new(Some(most));
    let mut reader = serde_json::Deserializer::from_slice(text);
    let read = Counted(&left).deserialize(&mut reader).and_then(|value| reader.end().map(|()| value));
    read.map_err(|error| if left.get().is_none() { NotRead::TooMuch(most) } else { error.into() })
}

/// One value, counted: how many more there may be, `None` once there was one too many.
#[derive(Clone, Copy)]
struct Counted<'a>(&'a Cell<Option<usize>>);

impl<'de> DeserializeSeed<'de> for Counted<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        self.0.set(self.0.get().and_then(|left| left.checked_sub(1)));
        match self.0.get() {
            Some(_) => reader.deserialize_any(self),
            None => Err(D::Error::custom("too many values")),
        }
    }
}

impl<'de> Visitor<'de> for Counted<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            list.push(item);
        }
        Ok(list.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = entries.next_key()? {
            map.insert(key, entries.next_value_seed(self)?);
        }
        Ok(map.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_as_ever() {
        for text in [
            "null",
            "[true, false, 0, -1, 18446744073709551615, 0.5, 1e308, -0.0]",
            r#"{"b": {"a": []}, "a": "\ud83d\ude00\u0000", "b": [{}]}"#,
            "\"x\"",
            "5 5",
            "[1,",
            "{\"a\" 1}",
            "",
            "1e400",
            "\"\\ud800\"",
        ] {
            let (read, usual) = (from_slice(text.as_bytes(), MOST), serde_json::from_str::<Value>(text));
            match (read, usual) {
                (Ok(read), Ok(usual)) => assert_eq!(read, usual, "{text}"),
                (Err(read), Err(usual)) => assert_eq!(read.to_string(), usual.to_string(), "{text}"),
                (read, usual) => panic!("{text}: {read:?} and {usual:?}"),
            }
        }
        let deep = "[".repeat(100_000);
        assert!(matches!(from_slice(deep.as_bytes(), MOST), Err(NotRead::Syntax(_))));
    }

    #[test]
    fn what_is_too_much_is_not_read_to_its_end() {
        for (text, values) in [("[1, [2], {\"a\": 3}]", 6), ("{}", 1), ("\"x\"", 1), ("{\"a\": 1, \"a\": 2}", 3)] {
            assert!(from_slice(text.as_bytes(), values).is_ok(), "{text}");
            assert!(matches!(from_slice(text.as_bytes(), values - 1), Err(NotRead::TooMuch(_))), "{text}");
        }
        // What stands behind it is not looked at.
        assert!(matches!(from_slice(b"[1, 2, 3 x", 2), Err(NotRead::TooMuch(2))));
    }
}
