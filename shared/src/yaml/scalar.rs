//! Which value a scalar is: the resolver and constructors of PyYAML's `safe_load` (YAML 1.1).
//!
//! Written as small hand-made recognisers, since every scalar of every file passes here. Three things that JSON
//! can't hold keep their text as written, so that nothing is lost: timestamps, `.inf`/`.nan` (and floats too large for
//! a double), and integers beyond 64 bits.

use serde_json::{Number, Value};

/// What a plain, untagged scalar stands for.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Resolved {
    /// A value of its own.
    Value(Value),
    /// `<<`: merges when it is a key; PyYAML refuses it as a value.
    Merge,
    /// `=`: a string when it is a key; PyYAML refuses it as a value.
    Default,
}

/// Resolves a plain scalar by its text. `Err` names a text that PyYAML takes for a number and then cannot read.
pub(super) fn resolve(text: &str) -> Result<Resolved, String> {
    let value = match text.as_bytes().first() {
        None => Value::Null,
        Some(b'<') if text == "<<" => return Ok(Resolved::Merge),
        Some(b'=') if text == "=" => return Ok(Resolved::Default),
        Some(b'~' | b'n' | b'N') if is_null(text) => Value::Null,
        Some(b'y' | b'Y' | b'n' | b'N' | b't' | b'T' | b'f' | b'F' | b'o' | b'O') => match boolean(text) {
            Some(b) => Value::Bool(b),
            None => Value::from(text),
        },
        Some(b'-' | b'+' | b'.' | b'0'..=b'9') => number(text)?,
        Some(_) => Value::from(text),
    };
    Ok(Resolved::Value(value))
}

fn is_null(text: &str) -> bool {
    matches!(text, "~" | "null" | "Null" | "NULL")
}

/// A boolean as YAML 1.1 spells it, in lower case, capitalised or in capitals.
fn boolean(text: &str) -> Option<bool> {
    let lower = text.to_ascii_lowercase();
    let mut capitalised = lower.clone();
    capitalised[..1].make_ascii_uppercase();
    if text != lower && text != capitalised && text != text.to_ascii_uppercase() {
        return None;
    }
    lenient_boolean(&lower)
}

/// The words that `!!bool` takes, already in lower case.
pub(super) fn lenient_boolean(lower: &str) -> Option<bool> {
    match lower {
        "yes" | "true" | "on" => Some(true),
        "no" | "false" | "off" => Some(false),
        _ => None,
    }
}

fn number(text: &str) -> Result<Value, String> {
    if is_int(text) {
        return integer(text);
    }
    if is_float(text) {
        return float(text);
    }
    Ok(Value::from(text))
}

fn unsigned(text: &str) -> &str {
    text.strip_prefix(['-', '+']).unwrap_or(text)
}

fn all(text: &str, accept: impl Fn(u8) -> bool) -> bool {
    text.bytes().all(accept)
}

fn digit_or_underscore(b: u8) -> bool {
    b.is_ascii_digit() || b == b'_'
}

/// One or more `:[0-5]?[0-9]` groups.
fn is_sexagesimal_tail(tail: &str) -> bool {
    tail.strip_prefix(':').is_some_and(|groups| {
        groups.split(':').all(|group| match group.as_bytes() {
            [unit] => unit.is_ascii_digit(),
            [ten, unit] => (b'0'..=b'5').contains(ten) && unit.is_ascii_digit(),
            _ => false,
        })
    })
}

/// PyYAML's regular expression for `tag:yaml.org,2002:int`.
fn is_int(text: &str) -> bool {
    let body = unsigned(text);
    if let Some(bits) = body.strip_prefix("0b") {
        return !bits.is_empty() && all(bits, |b| matches!(b, b'0' | b'1' | b'_'));
    }
    if let Some(hex) = body.strip_prefix("0x") {
        return !hex.is_empty() && all(hex, |b| b.is_ascii_hexdigit() || b == b'_');
    }
    match body.as_bytes() {
        [] => false,
        [b'0'] => true,
        [b'0', rest @ ..] => rest.iter().all(|b| matches!(b, b'0'..=b'7' | b'_')),
        [b'1'..=b'9', ..] => {
            let (head, tail) = body.split_at(body.find(':').unwrap_or(body.len()));
            all(head, digit_or_underscore) && (tail.is_empty() || is_sexagesimal_tail(tail))
        }
        _ => false,
    }
}

/// PyYAML's regular expression for `tag:yaml.org,2002:float`. An exponent needs both a dot and a sign.
fn is_float(text: &str) -> bool {
    let body = unsigned(text);
    if matches!(body, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return true;
    }
    let Some((head, fraction)) = body.split_once('.') else { return false };
    if let Some(colon) = head.find(':') {
        let (first, tail) = head.split_at(colon);
        return starts_with_digit(first)
            && all(first, digit_or_underscore)
            && is_sexagesimal_tail(tail)
            && all(fraction, digit_or_underscore);
    }
    let (digits, exponent) = match fraction.find(['e', 'E']) {
        Some(at) => (&fraction[..at], Some(&fraction[at + 1..])),
        None => (fraction, None),
    };
    let exponent_fits = exponent
        .is_none_or(|e| e.strip_prefix(['-', '+']).is_some_and(|e| !e.is_empty() && all(e, |b| b.is_ascii_digit())));
    let mantissa_fits = if head.is_empty() {
        // `.5`, unsigned only.
        body.len() == text.len() && starts_with_digit(digits)
    } else {
        starts_with_digit(head) && all(head, digit_or_underscore)
    };
    mantissa_fits && exponent_fits && all(digits, digit_or_underscore)
}

/// Whether a plain scalar of this text is a float that JSON cannot hold.
pub(super) fn is_non_finite(text: &str) -> bool {
    is_float(text) && float(text).is_ok_and(|value| value.is_string())
}

fn starts_with_digit(text: &str) -> bool {
    text.as_bytes().first().is_some_and(u8::is_ascii_digit)
}

/// What `construct_yaml_int` makes of a text; also of a tagged one that no regular expression looked at.
pub(super) fn integer(text: &str) -> Result<Value, String> {
    let bad = || format!("'{text}' cannot be read as an integer");
    let plain = text.replace('_', "");
    let negative = plain.starts_with('-');
    let body = unsigned(&plain);
    let radix = |digits: &str, radix| {
        if digits.is_empty() || digits.starts_with(['-', '+']) {
            return Err(bad());
        }
        match u64::from_str_radix(digits, radix) {
            Ok(value) => Ok(Some(i128::from(value))),
            Err(e) if *e.kind() == std::num::IntErrorKind::PosOverflow => Ok(None),
            Err(_) => Err(bad()),
        }
    };
    let magnitude = if let Some(bits) = body.strip_prefix("0b") {
        radix(bits, 2)?
    } else if let Some(hex) = body.strip_prefix("0x") {
        radix(hex, 16)?
    } else if body.len() > 1 && body.starts_with('0') {
        radix(body, 8)?
    } else if body.contains(':') {
        sexagesimal(body).ok_or_else(bad)?
    } else {
        radix(body, 10)?
    };
    let value = magnitude.map(|m| if negative { -m } else { m });
    Ok(value.and_then(json_integer).unwrap_or_else(|| Value::from(text)))
}

/// Base-60 groups, most significant first. `None` inside when the value is beyond any 64-bit integer.
fn sexagesimal(body: &str) -> Option<Option<i128>> {
    let mut sum = Some(0i128);
    for group in body.split(':') {
        let digit: i128 = group.parse().ok()?;
        sum = sum.and_then(|s| s.checked_mul(60)?.checked_add(digit));
    }
    Some(sum)
}

fn json_integer(value: i128) -> Option<Value> {
    i64::try_from(value).map(Value::from).or_else(|_| u64::try_from(value).map(Value::from)).ok()
}

/// What `construct_yaml_float` makes of a text; also of a tagged one that no regular expression looked at.
pub(super) fn float(text: &str) -> Result<Value, String> {
    let bad = || format!("'{text}' cannot be read as a float");
    let plain = text.replace('_', "").to_ascii_lowercase();
    let sign = if plain.starts_with('-') { -1.0 } else { 1.0 };
    let body = unsigned(&plain);
    let magnitude = match body {
        ".inf" | ".nan" => return Ok(Value::from(text)),
        _ if body.contains(':') => {
            let mut groups = Vec::new();
            for group in body.split(':') {
                groups.push(group.parse::<f64>().map_err(|_| bad())?);
            }
            let mut base = 1.0;
            groups.iter().rev().fold(0.0, |sum, digit| {
                let next = sum + digit * base;
                base *= 60.0;
                next
            })
        }
        _ => body.parse::<f64>().map_err(|_| bad())?,
    };
    Ok(Number::from_f64(sign * magnitude).map_or_else(|| Value::from(text), Value::Number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn value(text: &str) -> Value {
        match resolve(text) {
            Ok(Resolved::Value(v)) => v,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn resolves_as_yaml_1_1() {
        for (text, expected) in [
            ("12345e10", json!("12345e10")),
            ("1.5e3", json!("1.5e3")),
            ("1.5e+3", json!(1500.0)),
            ("0777", json!(511)),
            ("08", json!("08")),
            ("0o17", json!("0o17")),
            ("1_000", json!(1000)),
            ("12:30:45", json!(45045)),
            ("190:20:30.15", json!(685_230.15)),
            ("0x1F", json!(31)),
            ("0b101", json!(5)),
            ("+12", json!(12)),
            ("-", json!("-")),
            ("yes", json!(true)),
            ("Off", json!(false)),
            ("yEs", json!("yEs")),
            ("y", json!("y")),
            ("~", Value::Null),
            ("", Value::Null),
            ("None", json!("None")),
            (".5", json!(0.5)),
            ("-.5", json!("-.5")),
            ("5.", json!(5.0)),
            (".inf", json!(".inf")),
            ("1.0e+999", json!("1.0e+999")),
            ("2023-10-31", json!("2023-10-31")),
            ("18446744073709551615", json!(u64::MAX)),
            ("18446744073709551616", json!("18446744073709551616")),
            ("-9223372036854775808", json!(i64::MIN)),
        ] {
            assert_eq!(value(text), expected, "{text:?}");
        }
    }

    #[test]
    fn floats_that_json_cannot_hold() {
        for text in [".inf", "+.Inf", "-.INF", ".nan", ".NaN", "1.0e+999", "-1.5E+400"] {
            assert!(is_non_finite(text), "{text}");
        }
        for text in
            ["", ".", "inf", "nan", "+.nan", "-.nan", ".iNF", "1.0", "1e999", "99999999999999999999", "x.inf", ".infx"]
        {
            assert!(!is_non_finite(text), "{text}");
        }
    }

    #[test]
    fn merge_and_default_are_no_values() {
        assert_eq!(resolve("<<"), Ok(Resolved::Merge));
        assert_eq!(resolve("="), Ok(Resolved::Default));
    }

    #[test]
    fn what_looks_like_a_number_and_is_none_is_an_error() {
        assert!(resolve("0b_").is_err());
        assert!(resolve("0x_").is_err());
    }
}
