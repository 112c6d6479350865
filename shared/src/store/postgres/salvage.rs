//! Products of which PostgreSQL cannot read some: a part of a table that is damaged costs the products that are in it, and no
//! others.

use super::read::HIT;
use crate::store::{Result, StoreError};
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tracing::warn;

/// What products are named by.
#[derive(Debug, Clone, Copy)]
pub(super) enum By {
    Id,
    Number,
}

/// The rows with [`HIT`], number and access of the products of these ids or numbers, in any order; of those alone that one of
/// `rules` lets pass, where there are any. What PostgreSQL cannot read is left out, and the log tells it. It must be asked
/// within a transaction: of what fails only the part that is tried is rolled back.
pub(super) async fn readable(
    connection: &mut PgConnection,
    by: By,
    wanted: &[i64],
    rules: Option<&[i32]>,
) -> Result<Vec<PgRow>> {
    let (mut rows, mut parts) = (Vec::new(), vec![wanted]);
    while let Some(part) = parts.pop() {
        if part.is_empty() {
            continue;
        }
        let mut savepoint = connection.begin().await?;
        match fetch(&mut savepoint, by, part, rules).await {
            Ok(some) => {
                savepoint.commit().await?;
                rows.extend(some);
            }
            Err(StoreError::Damaged(error)) => {
                savepoint.rollback().await?;
                match part {
                    [one] => warn!(?by, product = one, %error, "a product cannot be read"),
                    _ => parts.extend(<[_; 2]>::from(part.split_at(part.len() / 2))),
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(rows)
}

async fn fetch(connection: &mut PgConnection, by: By, wanted: &[i64], rules: Option<&[i32]>) -> Result<Vec<PgRow>> {
    let column = match by {
        By::Id => "id",
        By::Number => "number",
    };
    let sql = format!(
        "SELECT {HIT}, p.number, p.access FROM data_product p JOIN document d ON d.product = p.id \
         WHERE p.{column} = ANY($1) AND ($2::integer[] IS NULL OR p.access = ANY($2))"
    );
    Ok(sqlx::query(AssertSqlSafe(sql)).bind(wanted).bind(rules).fetch_all(connection).await?)
}
