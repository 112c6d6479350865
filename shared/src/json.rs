//! JSON as clients send it: in every encoding that Python's `json.loads` takes, and with numbers of any size.
//!
//! Numbers that neither 64 bits nor a double can hold keep their text, as those of metadata files do: a JSON parser would
//! make others of them in silence.

use crate::bounded::{self, NotRead};
use memchr::memchr2;
use serde_json::Value;
use std::borrow::Cow;

/// Why bytes are no JSON.
#[derive(Debug, thiserror::Error)]
pub enum BadJson {
    /// They are no text in the encoding that they begin in.
    #[error("the bytes are no {0}")]
    Encoding(&'static str),
    /// The text is no JSON, or more than is read.
    #[error(transparent)]
    NotRead(#[from] NotRead),
}

/// Reads JSON in UTF-8, UTF-16 or UTF-32 of either byte order, with or without a byte order mark.
///
/// # Errors
/// Where the bytes are no text, or the text is no JSON or has more than [`bounded::MOST`] values.
pub fn parse(bytes: &[u8]) -> Result<Value, BadJson> {
    let text = decode(bytes)?;
    let exact = exact(&text);
    let read = |text: &str| bounded::from_slice(text.as_bytes(), bounded::MOST);
    match (read(&exact), &exact) {
        // Places in the text are those that the client knows.
        (Err(NotRead::Syntax(error)), Cow::Owned(_)) => Err(read(&text).err().unwrap_or(error.into()).into()),
        (read, _) => Ok(read?),
    }
}

/// The text of bytes whose encoding shows in what they begin with: a byte order mark, or else the zeros around the first
/// characters, which are ASCII in all JSON.
fn decode(bytes: &[u8]) -> Result<Cow<'_, str>, BadJson> {
    let (big, little) = (true, false);
    match bytes {
        [0, 0, 0xFE, 0xFF, rest @ ..] => utf32(rest, big),
        [0xFF, 0xFE, 0, 0, rest @ ..] => utf32(rest, little),
        [0xFE, 0xFF, rest @ ..] => utf16(rest, big),
        [0xFF, 0xFE, rest @ ..] => utf16(rest, little),
        [0xEF, 0xBB, 0xBF, rest @ ..] => utf8(rest),
        [0, 0, _, _, ..] => utf32(bytes, big),
        [_, 0, 0, 0, ..] => utf32(bytes, little),
        [0, _, _, _, ..] | [0, _] => utf16(bytes, big),
        [_, 0, _, _, ..] | [_, 0] => utf16(bytes, little),
        _ => utf8(bytes),
    }
}

fn utf8(bytes: &[u8]) -> Result<Cow<'_, str>, BadJson> {
    std::str::from_utf8(bytes).map(Cow::Borrowed).map_err(|_| BadJson::Encoding("UTF-8"))
}

fn utf16(bytes: &[u8], big_endian: bool) -> Result<Cow<'_, str>, BadJson> {
    let (units, rest) = bytes.as_chunks::<2>();
    let read = |bytes: &[u8; 2]| if big_endian { u16::from_be_bytes(*bytes) } else { u16::from_le_bytes(*bytes) };
    let text = char::decode_utf16(units.iter().map(read)).collect::<Result<String, _>>();
    text.ok().filter(|_| rest.is_empty()).map(Cow::Owned).ok_or(BadJson::Encoding("UTF-16"))
}

fn utf32(bytes: &[u8], big_endian: bool) -> Result<Cow<'_, str>, BadJson> {
    let (characters, rest) = bytes.as_chunks::<4>();
    let read = |bytes: &[u8; 4]| {
        char::from_u32(if big_endian { u32::from_be_bytes(*bytes) } else { u32::from_le_bytes(*bytes) })
    };
    let text = characters.iter().map(read).collect::<Option<String>>().filter(|_| rest.is_empty());
    text.map(Cow::Owned).ok_or(BadJson::Encoding("UTF-32"))
}

/// The text with numbers that no [`Value`] can hold in quotes.
fn exact(text: &str) -> Cow<'_, str> {
    let bytes = text.as_bytes();
    let (mut written, mut copied, mut at) = (String::new(), 0, 0);
    while let Some(byte) = bytes.get(at) {
        at = match byte {
            b'"' => after_string(bytes, at + 1),
            b'-' | b'0'..=b'9' => {
                let end = at + bytes[at..].iter().take_while(|byte| is_of_number(**byte)).count();
                if is_too_large(&text[at..end]) && !is_key(&bytes[end..]) {
                    written.push_str(&text[copied..at]);
                    written.extend(["\"", &text[at..end], "\""]);
                    copied = end;
                }
                end
            }
            _ => at + 1,
        };
    }
    match copied {
        0 => Cow::Borrowed(text),
        _ => Cow::Owned(written + &text[copied..]),
    }
}

/// Where what stands behind a string begins.
fn after_string(bytes: &[u8], mut at: usize) -> usize {
    while let Some(next) = bytes.get(at..).and_then(|rest| memchr2(b'"', b'\\', rest)) {
        match bytes[at + next] {
            b'"' => return at + next + 1,
            _ => at += next + 2,
        }
    }
    bytes.len()
}

fn is_of_number(byte: u8) -> bool {
    byte.is_ascii_digit() || matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E')
}

/// Whether a colon follows: keys that are numbers are no JSON, and are not to become it.
fn is_key(rest: &[u8]) -> bool {
    rest.iter().find(|byte| !matches!(byte, b' ' | b'\t' | b'\n' | b'\r')) == Some(&b':')
}

/// Whether a token is a number of JSON that no [`Value`] holds: an integer beyond 64 bits, or a float beyond a double.
fn is_too_large(token: &str) -> bool {
    let digits = |text: &str| text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let body = token.strip_prefix('-').unwrap_or(token);
    let (whole, rest) = body.split_at(digits(body));
    if whole.is_empty() || whole.len() > 1 && whole.starts_with('0') {
        return false;
    }
    if rest.is_empty() {
        return whole.len() > 18 && token.parse::<i64>().is_err() && token.parse::<u64>().is_err();
    }
    let (fraction, exponent) = match rest.strip_prefix('.') {
        Some(rest) => (Some(digits(rest)), &rest[digits(rest)..]),
        None => (None, rest),
    };
    let exponent = exponent.strip_prefix(['e', 'E']).map(|text| text.strip_prefix(['+', '-']).unwrap_or(text));
    let is_number = fraction != Some(0) && exponent.is_none_or(|text| !text.is_empty() && digits(text) == text.len());
    is_number && token.parse().is_ok_and(f64::is_infinite)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_keep_what_they_say() {
        for (text, value) in [
            ("18446744073709551615", json!(u64::MAX)),
            ("18446744073709551616", json!("18446744073709551616")),
            ("-9223372036854775808", json!(i64::MIN)),
            ("-9223372036854775809", json!("-9223372036854775809")),
            ("[1e308,1e400 , -1.5E+999]", json!([1e308, "1e400", "-1.5E+999"])),
            (r#"{"18446744073709551616":"\"18446744073709551616","a":[{"b":99999999999999999999}]}"#, {
                json!({"18446744073709551616": "\"18446744073709551616", "a": [{"b": "99999999999999999999"}]})
            }),
            (r#""\\" "#, json!("\\")),
            ("1e-400", json!(0.0)),
        ] {
            assert_eq!(parse(text.as_bytes()).expect(text), value, "{text}");
        }
    }

    #[test]
    fn what_is_no_json_stays_none() {
        let big = "99999999999999999999";
        for text in [
            format!("{{{big}: 1}}"),
            format!("{{{big}\n :1}}"),
            format!("0{big}"),
            format!("+{big}"),
            format!("{big}x"),
            format!("{big}{big}-"),
            format!("\"a{big}"),
            format!("\"a\\\"{big}\\"),
            "1.e400".to_owned(),
            "1e".to_owned(),
            "1e400e".to_owned(),
            "-".to_owned(),
            "NaN".to_owned(),
            "\"\\".to_owned(),
            String::new(),
        ] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
        // The place is that of the text as it came.
        assert!(parse(format!("[{big}, x]").as_bytes()).is_err_and(|error| error.to_string().contains("column 24")));
    }

    #[test]
    fn every_encoding_of_python_is_read() {
        let bytes = |units: &[u32], width: usize, big: bool| -> Vec<u8> {
            let of = |unit: &u32| match big {
                true => unit.to_be_bytes()[4 - width..].to_vec(),
                false => unit.to_le_bytes()[..width].to_vec(),
            };
            units.iter().flat_map(of).collect()
        };
        for text in ["5", "[]", r#"{"é😀": "x"}"#, "\"\u{10ffff}\""] {
            let value: Value = serde_json::from_str(text).expect("JSON");
            let utf16: Vec<u32> = text.encode_utf16().map(u32::from).collect();
            let utf32: Vec<u32> = text.chars().map(u32::from).collect();
            assert_eq!(parse(format!("\u{feff}{text}").as_bytes()).expect("UTF-8"), value);
            for big in [true, false] {
                for (units, width) in [(&utf16, 2), (&utf32, 4)] {
                    let with_mark = [vec![0xFEFF], units.clone()].concat();
                    assert_eq!(parse(&bytes(&with_mark, width, big)).expect("marked"), value, "{text} {width} {big}");
                    // Of four bytes alone it shows which of them are zeros; Python cannot tell either for fewer.
                    assert_eq!(parse(&bytes(units, width, big)).expect("bare"), value, "{text} {width} {big}");
                }
            }
        }
        for (bad, name) in [
            (&b"\xef\xbb\xbf\xff"[..], "UTF-8"),
            (b"\xff\xfe5", "UTF-16"),
            (b"\xfe\xff\xd8\x00", "UTF-16"),
            (b"\x00\x00\xfe\xff\x00\x11\x00\x00", "UTF-32"),
            (b"5\x00\x00\x00\x00", "UTF-32"),
        ] {
            let error = parse(bad).expect_err("no JSON").to_string();
            assert_eq!(error, format!("the bytes are no {name}"), "{bad:?}");
        }
    }
}
