//! Searches: one condition, counted and paged over the narrow rows; documents are fetched for the page alone.

use super::filter::{self, Keys};
use super::read::{self, hit};
use crate::access::Viewer;
use crate::filter::Filter;
use crate::query::{Place, Query, Sort, SortValue};
use crate::store::{Hits, Result};
use sqlx::postgres::PgRow;
use sqlx::{Connection, PgConnection, Postgres, QueryBuilder};

/// Executes a search on a volume.
pub(super) async fn search(
    connection: &mut PgConnection,
    prefix: &str,
    query: &Query,
    viewer: &Viewer,
) -> Result<Hits> {
    let mut transaction = connection.begin().await?;
    // One snapshot for the total and the page.
    sqlx::query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY").execute(&mut *transaction).await?;
    let keys = Keys::of(&mut transaction, prefix, query).await?;
    let rules = read::visible_rules(&mut transaction, prefix, viewer).await?;
    let total = if query.filter == Filter::everything() {
        rules.iter().map(|rule| rule.products).sum()
    } else {
        let mut sql = QueryBuilder::new("SELECT count(*) FROM data_product p");
        push_condition(&mut sql, prefix, query, &rules, &keys);
        let total: i64 = sql.build_query_scalar().persistent(false).fetch_one(&mut *transaction).await?;
        u64::try_from(total).unwrap_or_default()
    };
    let rows = if query.limit == 0 || total == 0 {
        Vec::new()
    } else {
        page(&mut transaction, prefix, query, &rules, &keys).await?
    };
    transaction.commit().await?;
    let hits = rows.iter().map(hit).collect::<Result<_>>()?;
    Ok(Hits { total: usize::try_from(total).unwrap_or(usize::MAX), hits })
}

fn push_condition(sql: &mut QueryBuilder<Postgres>, prefix: &str, query: &Query, rules: &[read::Rule], keys: &Keys) {
    let rules: Vec<i32> = rules.iter().map(|rule| rule.id).collect();
    sql.push(" WHERE p.volume_prefix = ").push_bind(prefix.to_owned());
    sql.push(" AND p.access = ANY(").push_bind(rules).push(") AND ");
    filter::push(sql, &query.filter, keys);
}

async fn page(
    connection: &mut PgConnection,
    prefix: &str,
    query: &Query,
    rules: &[read::Rule],
    keys: &Keys,
) -> Result<Vec<PgRow>> {
    // The page is found first, over narrow rows, and numbered in its order.
    let mut sql = QueryBuilder::new(
        "WITH page AS (SELECT id, row_number() OVER () AS place FROM (SELECT p.id FROM data_product p",
    );
    filter::push_sort_values(&mut sql, &query.sort, keys);
    push_condition(&mut sql, prefix, query, rules, keys);
    if let Some(after) = &query.after {
        sql.push(" AND ");
        push_after(&mut sql, &query.sort, after);
    }
    sql.push(" ORDER BY ");
    push_order(&mut sql, query, keys);
    sql.push(" LIMIT ").push_bind(clamped(query.limit));
    sql.push(" OFFSET ").push_bind(clamped(query.offset));
    sql.push(") ordered) SELECT ").push(read::HIT);
    sql.push(" FROM page JOIN data_product p USING (id) JOIN document d ON d.product = p.id ORDER BY place");
    Ok(sql.build().persistent(false).fetch_all(connection).await?)
}

fn clamped(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn push_order(sql: &mut QueryBuilder<Postgres>, query: &Query, keys: &Keys) {
    if let Some(first) = &query.first {
        filter::push(sql, first, keys);
        sql.push(" DESC, ");
    }
    for (n, sort) in query.sort.iter().enumerate() {
        let way = if sort.descending { "DESC NULLS LAST" } else { "ASC NULLS LAST" };
        sql.push(format!("s{n}.kind {way}, s{n}.number {way}, s{n}.value {way}, "));
    }
    sql.push(if query.sort.is_empty() { "p.date_created DESC, p.uid" } else { "p.uid" });
}

/// Writes the condition that holds for what comes after a place, with the sorts' values joined as
/// [`filter::push_sort_values`] does: as [`Query::compare`] says.
fn push_after(sql: &mut QueryBuilder<Postgres>, sorts: &[Sort], place: &Place) {
    if sorts.is_empty() {
        sql.push("(p.date_created < ").push_bind(place.date_created);
        sql.push(" OR p.date_created = ").push_bind(place.date_created);
        sql.push(" AND p.uid > ").push_bind(place.uid).push(")");
        return;
    }
    for (n, (sort, value)) in sorts.iter().zip(&place.values).enumerate() {
        sql.push("(");
        push_beyond(sql, n, sort.descending, value.as_ref());
        sql.push(" OR ");
        push_same(sql, n, value.as_ref());
        sql.push(" AND ");
    }
    sql.push("p.uid > ").push_bind(place.uid);
    sql.push(")".repeat(sorts.len()));
}

/// The value under sort `n` comes after this one.
fn push_beyond(sql: &mut QueryBuilder<Postgres>, n: usize, descending: bool, value: Option<&SortValue>) {
    let (beyond, other_kind) = if descending { ("<", "<") } else { (">", ">") };
    match value {
        None => {
            sql.push("FALSE");
        }
        Some(value) => {
            sql.push(format!("(s{n}.kind IS NULL OR s{n}.kind {other_kind} "));
            match value {
                SortValue::Number(number) => {
                    sql.push(format!("0 OR s{n}.kind = 0 AND s{n}.number {beyond} ")).push_bind(*number);
                }
                SortValue::Text(text) => {
                    sql.push(format!("1 OR s{n}.kind = 1 AND s{n}.value {beyond} "))
                        .push_bind(text.as_bytes().to_vec());
                }
            }
            sql.push(")");
        }
    }
}

/// The value under sort `n` is this one.
fn push_same(sql: &mut QueryBuilder<Postgres>, n: usize, value: Option<&SortValue>) {
    match value {
        None => {
            sql.push(format!("s{n}.kind IS NULL"));
        }
        Some(SortValue::Number(number)) => {
            sql.push(format!("s{n}.kind = 0 AND s{n}.number = ")).push_bind(*number);
        }
        Some(SortValue::Text(text)) => {
            sql.push(format!("s{n}.kind = 1 AND s{n}.value = ")).push_bind(text.as_bytes().to_vec());
        }
    }
}
