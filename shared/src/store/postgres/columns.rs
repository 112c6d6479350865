//! Values as columns: what is written many rows at a time goes to PostgreSQL as one array a column.

use crate::date;
use crate::filter::folded_text;
use crate::volume::Stamp;
use chrono::{Datelike, NaiveDate};
use serde_json::Value;

/// What searches compare of an annotation's text.
#[derive(Debug)]
pub(super) struct Cells {
    pub(super) value: Vec<u8>,
    pub(super) day: Option<i32>,
}

impl Cells {
    pub(super) fn of(value: &Value) -> Cells {
        Cells {
            value: folded_text(value).into_owned().into_bytes(),
            day: value.as_str().and_then(date::parse).map(day),
        }
    }
}

/// A date as the columns `day` have it: days since 0000-12-31.
pub(super) fn day(date: NaiveDate) -> i32 {
    date.num_days_from_ce()
}

/// Versions of files, as columns.
#[derive(Default)]
pub(super) struct Stamps {
    pub(super) size: Vec<Option<i64>>,
    pub(super) inode: Vec<Option<i64>>,
    pub(super) modified: Vec<Option<i64>>,
    pub(super) changed: Vec<Option<i64>>,
}

impl Stamps {
    pub(super) fn of(stamps: impl Iterator<Item = Option<Stamp>>) -> Stamps {
        let mut columns = Stamps::default();
        for stamp in stamps {
            columns.size.push(stamp.map(|stamp| stamp.size.cast_signed()));
            columns.inode.push(stamp.map(|stamp| stamp.inode.cast_signed()));
            columns.modified.push(stamp.map(|stamp| stamp.modified));
            columns.changed.push(stamp.map(|stamp| stamp.changed));
        }
        columns
    }
}
