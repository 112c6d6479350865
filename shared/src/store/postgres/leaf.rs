//! A leaf as the columns of a row.

use crate::date;
use crate::filter::lower_text;
use chrono::{Datelike, NaiveDate};
use serde_json::Value;

/// What searches compare of a value.
#[derive(Debug)]
pub(super) struct Columns {
    pub(super) value: Vec<u8>,
    pub(super) number: Option<f64>,
    pub(super) day: Option<i32>,
}

impl Columns {
    pub(super) fn of(value: &Value) -> Columns {
        Columns {
            value: lower_text(value).into_owned().into_bytes(),
            number: value.as_f64(),
            day: value.as_str().and_then(date::parse).map(day),
        }
    }
}

/// A date as the columns `day` have it: days since 0000-12-31.
pub(super) fn day(date: NaiveDate) -> i32 {
    date.num_days_from_ce()
}
