//! Values as columns: what is written many rows at a time goes to PostgreSQL as one array a column.

use crate::date;
use crate::filter::lower_text;
use crate::store::Result;
use crate::volume::Stamp;
use chrono::{Datelike, NaiveDate};
use serde_json::Value;
use sqlx::PgConnection;

/// What searches compare of a value.
#[derive(Debug)]
pub(super) struct Cells {
    pub(super) value: Vec<u8>,
    pub(super) number: Option<f64>,
    pub(super) day: Option<i32>,
}

impl Cells {
    pub(super) fn of(value: &Value) -> Cells {
        Cells {
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

/// Leaves, as columns.
#[derive(Default)]
pub(super) struct Leaves {
    product: Vec<i64>,
    key: Vec<i32>,
    value: Vec<Vec<u8>>,
    number: Vec<Option<f64>>,
    day: Vec<Option<i32>>,
    /// How much text they are.
    pub(super) bytes: usize,
}

impl Leaves {
    pub(super) fn push(&mut self, product: i64, key: i32, value: &Value) {
        let Cells { value, number, day } = Cells::of(value);
        self.bytes += value.len();
        self.product.push(product);
        self.key.push(key);
        self.value.push(value);
        self.number.push(number);
        self.day.push(day);
    }

    pub(super) async fn insert(self, connection: &mut PgConnection) -> Result<()> {
        if self.product.is_empty() {
            return Ok(());
        }
        sqlx::query(
            "INSERT INTO leaf (product, key, value, number, day) SELECT * FROM \
             unnest($1::bigint[], $2::integer[], $3::bytea[], $4::double precision[], $5::integer[])",
        )
        .bind(self.product)
        .bind(self.key)
        .bind(self.value)
        .bind(self.number)
        .bind(self.day)
        .execute(connection)
        .await?;
        Ok(())
    }
}
