//! What is asked beside searches: products by name, keys, how it all stands, and what the walk needs to know.

use super::lease::HELD;
use super::text::{escaped, unescaped};
use super::{dictionary, flows};
use crate::access::Viewer;
use crate::column::{ColumnKeys, KeyCount};
use crate::folder::Folder;
use crate::product::{Product, Stored};
use crate::status::{Coordination, Dlm, Failing, Indexing, Sdp, UnreadableFolder};
use crate::store::{Hit, LOOKED_AT, Lookup, Result, StoreError, Summary};
use crate::volume::Stamp;
use chrono::{DateTime, Utc};
use futures::TryStreamExt;
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{PgConnection, Row};
use std::sync::Arc;
use uuid::Uuid;

/// The columns of a [`hit`], of a product `p` and its document `d`.
pub(super) const HIT: &str = "p.id, p.uid, p.date_created, p.folder, p.metadata_file, p.store_name, p.size, p.flows::text AS flows, \
     d.metadata::text AS metadata";

/// The condition that a folder is below the one that begins with $2 and ends before $3.
pub(super) const BELOW: &str = "folder >= $2 AND folder < $3";

/// What guards products.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct Rule {
    pub(super) id: i32,
}

/// A viewer's groups as rules have them.
fn groups(viewer: &Viewer) -> Vec<String> {
    let of_flows = viewer.sees_flows().then(|| dictionary::FLOWS.to_owned());
    viewer.groups().map(|group| escaped(group).into_owned()).chain(of_flows).collect()
}

/// The rules that let a viewer pass.
pub(super) async fn visible_rules(connection: &mut PgConnection, prefix: &str, viewer: &Viewer) -> Result<Vec<Rule>> {
    let groups = groups(viewer);
    let rules = sqlx::query_as(
        "SELECT id FROM access_rule WHERE volume_prefix = $1 AND (groups IS NULL OR groups && $2 OR $3)",
    );
    Ok(rules.bind(prefix).bind(groups).bind(viewer.is_unrestricted()).fetch_all(connection).await?)
}

/// Their numbers.
pub(super) async fn visible_rule_ids(connection: &mut PgConnection, prefix: &str, viewer: &Viewer) -> Result<Vec<i32>> {
    Ok(visible_rules(connection, prefix, viewer).await?.into_iter().map(|rule| rule.id).collect())
}

/// A product of a row with the columns [`HIT`].
pub(super) fn hit(row: &PgRow) -> Result<Hit> {
    let broken = |what: &dyn std::fmt::Display| StoreError::Damaged(format!("the database holds a broken row: {what}"));
    let metadata: &str = row.try_get("metadata")?;
    let metadata = serde_json::from_str(metadata).map_err(|error| broken(&error))?;
    let folder = row.try_get::<Option<String>, _>("folder")?;
    let folder = folder.map(|folder| folder.parse()).transpose().map_err(|error| broken(&error))?;
    let stored = Stored {
        uid: row.try_get("uid")?,
        date_created: row.try_get("date_created")?,
        folder,
        metadata_file: row.try_get("metadata_file")?,
        store_name: row.try_get("store_name")?,
        flows: row.try_get::<Option<&str>, _>("flows")?.map(flows::read).unwrap_or_default(),
    };
    let product = Product::restored(metadata, stored);
    let (id, size): (i64, Option<i64>) = (row.try_get("id")?, row.try_get("size")?);
    let size = size.and_then(|size| u64::try_from(size).ok());
    Ok(Hit { id: u64::try_from(id).unwrap_or_default(), product: Arc::new(product), size })
}

pub(super) async fn product(connection: &mut PgConnection, prefix: &str, uid: Uuid, viewer: &Viewer) -> Result<Lookup> {
    let row = sqlx::query(hits(
        "FROM data_product p JOIN document d ON d.product = p.id WHERE p.volume_prefix = $1 AND p.uid = $2",
    ))
    .bind(prefix)
    .bind(uid)
    .fetch_optional(connection)
    .await?;
    Ok(match row.as_ref().map(hit).transpose()? {
        None => Lookup::Unknown,
        Some(hit) if viewer.may_see(&hit.product.access) => Lookup::Found(hit),
        Some(_) => Lookup::Forbidden,
    })
}

/// The statement that answers [`HIT`] of what a clause names.
fn hits(from: &'static str) -> sqlx::AssertSqlSafe<String> {
    sqlx::AssertSqlSafe(format!("SELECT {HIT} {from}"))
}

pub(super) async fn products_of(
    connection: &mut PgConnection,
    prefix: &str,
    execution_block: &str,
    viewer: &Viewer,
) -> Result<Vec<Hit>> {
    let rules = visible_rule_ids(connection, prefix, viewer).await?;
    let rows = sqlx::query(hits(
        "FROM data_product p JOIN document d ON d.product = p.id WHERE p.volume_prefix = $1 AND p.access = ANY($2) \
         AND substring(p.execution_block FROM 1 FOR 100) = substring($3 FROM 1 FOR 100) AND p.execution_block = $3",
    ))
    .bind(prefix)
    .bind(rules)
    .bind(escaped(execution_block))
    .fetch_all(connection)
    .await?;
    let mut hits = rows.iter().map(hit).collect::<Result<Vec<Hit>>>()?;
    hits.sort_by_cached_key(Hit::nearness);
    Ok(hits)
}

/// Whether a viewer may be told of a folder, as [`Store::may_know`](crate::store::Store::may_know) says.
pub(super) async fn may_know(
    connection: &mut PgConnection,
    prefix: &str,
    folder: &Folder,
    viewer: &Viewer,
) -> Result<Option<bool>> {
    let rules = visible_rule_ids(connection, prefix, viewer).await?;
    let at_or_around: Vec<&str> = folder.up().chain([""]).collect();
    let (hidden, known): (bool, bool) = sqlx::query_as(
        "SELECT coalesce(bool_or(access <> ALL($3)), false), coalesce(bool_or(folder = $4), false) FROM data_product \
         WHERE volume_prefix = $1 AND folder = ANY($2)",
    )
    .bind(prefix)
    .bind(at_or_around)
    .bind(rules)
    .bind(folder.as_str())
    .fetch_one(connection)
    .await?;
    Ok((hidden || known).then_some(!hidden))
}

/// The bounds of the folders below one, as [`BELOW`] takes them.
pub(super) fn below(folder: &Folder) -> (String, String) {
    let from = folder.prefix_below();
    // What is below `a/` is before `a0`: 0 is what follows the slash. And everything is before so many U+10FFFF, the last
    // character there is: no file system has a name of that length.
    let last = || "\u{10ffff}".repeat(100);
    let to = from.strip_suffix('/').map_or_else(last, |folder| format!("{folder}0"));
    (from, to)
}

/// The keys of the rows that these rules guard.
pub(super) async fn keys(connection: &mut PgConnection, rules: &[i32]) -> Result<ColumnKeys> {
    let rows: Vec<(String, i64, i64, i64)> = sqlx::query_as(
        "SELECT k.path, c.products, c.numbers, count(*) OVER () FROM \
         (SELECT key, sum(products)::bigint AS products, sum(numbers)::bigint AS numbers FROM key_count \
          WHERE access = ANY($1) GROUP BY key HAVING sum(products) > 0) c \
         JOIN metadata_key k ON k.id = c.key ORDER BY c.products DESC, k.path COLLATE \"C\" LIMIT $2",
    )
    .bind(rules)
    .bind(i64::try_from(ColumnKeys::MOST).unwrap_or(i64::MAX))
    .fetch_all(connection)
    .await?;
    let all = rows.first().map_or(0, |(.., all)| usize::try_from(*all).unwrap_or_default());
    let left_out = all.saturating_sub(rows.len());
    let count = |n| u64::try_from(n).unwrap_or_default();
    let counts = rows.into_iter().map(|(path, values, numbers, _)| {
        (unescaped(&path), KeyCount { values: count(values), numbers: count(numbers) })
    });
    Ok(ColumnKeys { counts: counts.collect(), left_out })
}

pub(super) async fn summary(
    connection: &mut PgConnection,
    prefix: &str,
    viewer: &Viewer,
    failing: usize,
) -> Result<Summary> {
    let sql = format!(
        "SELECT s.*, {HELD} AS held, EXISTS (SELECT FROM reindex_request r WHERE r.volume_prefix = s.volume_prefix) AS waits \
         FROM dpd_indexing_state s WHERE volume_prefix = $1",
    );
    let state = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(prefix).fetch_one(&mut *connection).await?;
    // After the state, so that what a walk found is counted once it tells of its end.
    let Rules { ids, products, products_on_volume, sees_all, updated } =
        rules(&mut *connection, prefix, viewer).await?;
    // Where he sees nothing, nothing of it changed since anybody began to index.
    let began = if sees_all { "updated_at" } else { "started_at" };
    let began: Option<DateTime<Utc>> = state.try_get(began)?;
    let (failing_files, first_failing) = failing_for(connection, prefix, &ids, viewer, failing).await?;
    let held: bool = state.try_get("held")?;
    let progress: Option<Json<Indexing>> = state.try_get("progress")?;
    // What a process that is no more was doing is not being done.
    let indexing_running = state.try_get::<bool, _>("indexing_running")? && held;
    let indexing: Indexing = progress.map(|Json(indexing)| indexing).unwrap_or_default();
    let mut indexing = Indexing { in_progress: indexing_running, ..indexing };
    keep_what_may_be_told(&mut *connection, prefix, &ids, failing, &mut indexing.unreadable.first).await?;
    let count = |n: i64| u64::try_from(n).unwrap_or_default();
    let sdp: Option<Json<Sdp>> = state.try_get("sdp")?;
    let dlm: Option<Json<Dlm>> = state.try_get("dlm")?;
    Ok(Summary {
        sees_all,
        products: count(products),
        products_on_volume: count(products_on_volume),
        updated: updated.or(began).unwrap_or_default(),
        indexing,
        coordination: Some(Coordination {
            volume_prefix: prefix.to_owned(),
            indexed_by: state.try_get("indexed_by")?,
            indexing_running,
            started_at: state.try_get("started_at")?,
            last_heartbeat: state.try_get("last_heartbeat")?,
            completed_at: state.try_get("completed_at")?,
            files_indexed: count(state.try_get("files_indexed")?),
            epoch: count(state.try_get("epoch")?),
            indexer_alive: held,
            reindex_waits: state.try_get("waits")?,
        }),
        sdp: sdp.map(|Json(sdp)| sdp),
        dlm: dlm.map(|Json(dlm)| dlm),
        failing: count(failing_files),
        first_failing,
    })
}

/// What the access rules of a volume come to for a viewer.
#[derive(Debug, sqlx::FromRow)]
struct Rules {
    /// Those that let him pass.
    ids: Vec<i32>,
    products: i64,
    products_on_volume: i64,
    sees_all: bool,
    updated: Option<DateTime<Utc>>,
}

async fn rules(connection: &mut PgConnection, prefix: &str, viewer: &Viewer) -> Result<Rules> {
    let groups = groups(viewer);
    // One statement: what is counted and when that changed are of one moment.
    let rules = sqlx::query_as(
        "SELECT coalesce(array_agg(id) FILTER (WHERE visible), '{}') AS ids, \
         coalesce(sum(products) FILTER (WHERE visible), 0)::bigint AS products, \
         coalesce(sum(products_on_volume) FILTER (WHERE visible), 0)::bigint AS products_on_volume, \
         coalesce(bool_and(visible) FILTER (WHERE products > 0), true) AS sees_all, \
         max(updated_at) FILTER (WHERE visible) AS updated \
         FROM (SELECT *, (groups IS NULL OR groups && $2 OR $3) AS visible FROM access_rule WHERE volume_prefix = $1) r",
    );
    Ok(rules.bind(prefix).bind(groups).bind(viewer.is_unrestricted()).fetch_one(connection).await?)
}

/// How many metadata files do not read of which a viewer may be told, and the first `most` of them.
async fn failing_for(
    connection: &mut PgConnection,
    prefix: &str,
    rules: &[i32],
    viewer: &Viewer,
    most: usize,
) -> Result<(i64, Vec<Failing>)> {
    let told = "FROM failing_file WHERE volume_prefix = $1 \
                AND (access = ANY($2) OR access IS NULL AND $3 AND ($4 OR NOT starts_with(error, $5)))";
    let (count, listed) =
        (format!("SELECT count(*) {told}"), format!("SELECT path, error, since {told} ORDER BY folder LIMIT $6"));
    let count: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(count))
        .bind(prefix)
        .bind(rules)
        .bind(viewer.is_told_of_unknown())
        .bind(viewer.is_unrestricted())
        .bind(Failing::guarded_prefix())
        .fetch_one(&mut *connection)
        .await?;
    if count == 0 || most == 0 {
        return Ok((count, Vec::new()));
    }
    let listed: Vec<(String, String, DateTime<Utc>)> = sqlx::query_as(sqlx::AssertSqlSafe(listed))
        .bind(prefix)
        .bind(rules)
        .bind(viewer.is_told_of_unknown())
        .bind(viewer.is_unrestricted())
        .bind(Failing::guarded_prefix())
        .bind(i64::try_from(most).unwrap_or(i64::MAX))
        .fetch_all(connection)
        .await?;
    Ok((count, listed.into_iter().map(|(path, error, since)| Failing { path, error, since }).collect()))
}

/// Keeps of the folders that cannot be read the first `most` that who sees products of these rules may be told of.
async fn keep_what_may_be_told(
    connection: &mut PgConnection,
    prefix: &str,
    rules: &[i32],
    most: usize,
    unreadable: &mut Vec<UnreadableFolder>,
) -> Result<()> {
    let mut kept = Vec::new();
    for candidate in std::mem::take(unreadable) {
        let Ok(folder) = candidate.path.parse::<Folder>() else { continue };
        let (from, to) = below(&folder);
        let above: Vec<&str> = folder.up().chain([""]).collect();
        let sql = format!(
            "SELECT coalesce(bool_or(access = ANY($4)), false), coalesce(bool_or(access <> ALL($4)), false), \
             EXISTS (SELECT FROM data_product WHERE volume_prefix = $1 AND folder = ANY($6) AND access <> ALL($4)) \
             FROM ((SELECT access FROM data_product WHERE volume_prefix = $1 AND folder = $5) UNION ALL \
             (SELECT access FROM data_product WHERE volume_prefix = $1 AND {BELOW} ORDER BY folder LIMIT {LOOKED_AT})) p"
        );
        let (visible, hidden, inside): (bool, bool, bool) = sqlx::query_as(sqlx::AssertSqlSafe(sql))
            .bind(prefix)
            .bind(from)
            .bind(to)
            .bind(rules)
            .bind(folder.as_str())
            .bind(above)
            .fetch_one(&mut *connection)
            .await?;
        if UnreadableFolder::may_be_told(visible, hidden, inside) {
            kept.push(candidate);
        }
        if kept.len() >= most {
            break;
        }
    }
    *unreadable = kept;
    Ok(())
}

/// The version of a metadata file, in a row that has one.
pub(super) fn stamp(row: &PgRow) -> Result<Option<Stamp>> {
    let size: Option<i64> = row.try_get("file_size")?;
    let Some(size) = size else { return Ok(None) };
    Ok(Some(Stamp {
        size: size.cast_unsigned(),
        inode: row.try_get::<i64, _>("file_inode")?.cast_unsigned(),
        modified: row.try_get("file_modified")?,
        changed: row.try_get("file_changed")?,
    }))
}

/// Tells what is known at and below a folder. Rows of another generation are to be read anew.
pub(super) async fn known(
    connection: &mut PgConnection,
    prefix: &str,
    scope: &Folder,
    generation: i32,
    tell: &mut (dyn FnMut(Folder, Option<Stamp>) + Send),
) -> Result<()> {
    // A file that fails now was known by another version before: what is read last counts.
    for (table, current) in [("data_product", "generation = $5"), ("failing_file", "$5 IS NOT NULL")] {
        let sql = format!(
            "SELECT folder, CASE WHEN {current} THEN file_size END AS file_size, file_inode, file_modified, \
             file_changed FROM {table} WHERE volume_prefix = $1 AND ({BELOW} OR folder = $4)"
        );
        let (from, to) = below(scope);
        let mut rows = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(prefix)
            .bind(from)
            .bind(to)
            .bind(scope.as_str())
            .bind(generation)
            .fetch(&mut *connection);
        while let Some(row) = rows.try_next().await? {
            if let Ok(folder) = row.try_get::<&str, _>("folder")?.parse() {
                tell(folder, stamp(&row)?);
            }
            // There is always one more to be had, for seconds. What else the task does goes on meanwhile.
            tokio::task::consume_budget().await;
        }
    }
    Ok(())
}

/// The folders whose metadata files did not read.
pub(super) async fn failing(connection: &mut PgConnection, prefix: &str) -> Result<Vec<Folder>> {
    let folders: Vec<String> = sqlx::query_scalar("SELECT folder FROM failing_file WHERE volume_prefix = $1")
        .bind(prefix)
        .fetch_all(connection)
        .await?;
    Ok(folders.iter().filter_map(|folder| folder.parse().ok()).collect())
}

/// Those of some folders that hold products.
pub(super) async fn products_at(
    connection: &mut PgConnection,
    prefix: &str,
    folders: &[Folder],
) -> Result<Vec<Folder>> {
    let found: Vec<String> =
        sqlx::query_scalar("SELECT folder FROM data_product WHERE volume_prefix = $1 AND folder = ANY($2)")
            .bind(prefix)
            .bind(folders.iter().map(Folder::as_str).collect::<Vec<_>>())
            .fetch_all(connection)
            .await?;
    Ok(found.iter().filter_map(|folder| folder.parse().ok()).collect())
}

/// The folders of products that are to be measured, the first `limit` of them.
pub(super) async fn unmeasured(connection: &mut PgConnection, prefix: &str, limit: usize) -> Result<Vec<Folder>> {
    let folders: Vec<String> = sqlx::query_scalar(
        "SELECT folder FROM data_product WHERE volume_prefix = $1 AND folder IS NOT NULL AND NOT measured LIMIT $2",
    )
    .bind(prefix)
    .bind(i64::try_from(limit).unwrap_or(i64::MAX))
    .fetch_all(connection)
    .await?;
    Ok(folders.iter().filter_map(|folder| folder.parse().ok()).collect())
}
