//! `POST /dataproductsearch`: a range of dates and a list of `key:value` pairs.

use super::{BadSearch, Comparison, Filter, Key, MAX_CONDITIONS, Test, Text, bounded};
use crate::query::Query;
use chrono::NaiveDate;
use serde_json::Value;

/// The message for a pair without a colon, by contract.
const BAD_PAIR: &str = "Invalid search key pair.";

/// Reads the body of a search. `date_format` is the `strftime` format of its dates; `limit` the most rows answered.
///
/// # Errors
/// What a client must put right: a body that is no object, a date that does not read, a pair without a colon.
pub fn parse(body: &Value, date_format: &str, limit: usize) -> Result<Query, BadSearch> {
    let body = body.as_object().ok_or_else(|| BadSearch::new("The search must be a JSON object."))?;
    let date = |name: &str, default: (i32, u32, u32)| match body.get(name) {
        None | Some(Value::Null) => Ok(NaiveDate::from_ymd_opt(default.0, default.1, default.2).unwrap_or_default()),
        Some(Value::String(text)) => NaiveDate::parse_from_str(text, date_format)
            .map_err(|_| BadSearch::new(format!("{name}: '{text}' is not a date of the form {date_format}."))),
        Some(other) => Err(BadSearch::new(format!("{name}: {other} is not a date of the form {date_format}."))),
    };
    let on = |comparison, day| Filter::Any(Key::Path("date_created".into()), Test::Date(comparison, day));
    let mut all = vec![
        on(Comparison::GreaterOrEqual, date("start_date", (2020, 1, 1))?),
        on(Comparison::LessOrEqual, date("end_date", (2100, 1, 1))?),
    ];
    let pairs = match body.get("key_value_pairs") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(pairs)) => {
            bounded("key_value_pairs", pairs.len(), MAX_CONDITIONS)?;
            pairs.iter().map(split).collect::<Result<_, _>>()?
        }
        Some(_) => return Err(BadSearch::new("key_value_pairs must be a list of 'key:value' strings.")),
    };
    all.extend(pairs.iter().map(|(key, value)| contains(key, value)));
    let exact = pairs.iter().map(|(key, value)| equals(key, value)).collect();
    Ok(Query {
        filter: Filter::And(all),
        first: (!pairs.is_empty()).then_some(Filter::And(exact)),
        sort: Vec::new(),
        after: None,
        offset: 0,
        limit,
    })
}

/// The key and the value of a pair. Only the first colon splits, so that a value may hold more.
fn split(pair: &Value) -> Result<(&str, &str), BadSearch> {
    match pair.as_str().and_then(|text| text.split_once(':')) {
        Some((key, value)) if !key.is_empty() => Ok((key, value)),
        _ => Err(BadSearch::new(BAD_PAIR)),
    }
}

/// What a pair asks: the value is contained in a leaf whose path is the key or ends in it.
pub(super) fn contains(key: &str, value: &str) -> Filter {
    Filter::Any(Key::Ending(key.to_owned()), Test::Contains(Text::new(value)))
}

/// What puts a product before those that a pair only partly matches.
fn equals(key: &str, value: &str) -> Filter {
    Filter::Any(Key::Ending(key.to_owned()), Test::Equals(Text::new(value)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::Leaf;
    use serde_json::json;

    fn leaves() -> Vec<Leaf> {
        [
            ("date_created", json!("2023-10-31")),
            ("config.cmdline", json!("-dump a:b")),
            ("files.size", json!(0)),
            ("x", json!(false)),
        ]
        .map(|(key, value)| Leaf { key: key.to_owned(), value })
        .into()
    }

    fn finds(body: Value) -> bool {
        parse(&body, "%Y-%m-%d", 10).expect("a search").filter.matches(&leaves())
    }

    #[test]
    fn pairs_and_dates_join() {
        assert!(finds(json!({})));
        assert!(finds(json!({"start_date": "2023-10-31", "end_date": "2023-10-31"})));
        assert!(!finds(json!({"start_date": "2023-11-01"})));
        assert!(!finds(json!({"end_date": "2023-10-30"})));
        assert!(finds(json!({"key_value_pairs": ["cmdline:A:B", "size:0", "x:false"]})));
        assert!(!finds(json!({"key_value_pairs": ["cmdline:a:b", "size:1"]})));
        assert!(finds(json!({"key_value_pairs": null, "start_date": null})));
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        for body in [
            json!([]),
            json!({"start_date": "31.10.2023"}),
            json!({"start_date": 20231031}),
            json!({"key_value_pairs": "a:b"}),
            json!({"key_value_pairs": ["novalue"]}),
            json!({"key_value_pairs": [":x"]}),
            json!({"key_value_pairs": [5]}),
        ] {
            assert!(parse(&body, "%Y-%m-%d", 10).is_err(), "{body}");
        }
        assert_eq!(parse(&json!({"key_value_pairs": ["x"]}), "%Y-%m-%d", 10), Err(BadSearch(BAD_PAIR.into())));
    }
}
