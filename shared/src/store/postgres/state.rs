//! What the volume's row tells those who share the database: how indexing stands, and beside it that a walk is wanted.

use super::lease::{CHANNEL, HELD, Lease};
use crate::status::Indexing;
use crate::store::Result;
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, PgConnection};

/// Writes how indexing stands; false where the lease is somebody else's.
pub(super) async fn publish(
    connection: &mut PgConnection,
    prefix: &str,
    lease: &Lease,
    indexing: &Indexing,
) -> Result<bool> {
    // A walk that begins is the one that was asked for.
    let published = sqlx::query(
        "WITH published AS (UPDATE dpd_indexing_state SET indexing_running = $4, \
         started_at = CASE WHEN $4 AND NOT indexing_running THEN clock_timestamp() ELSE started_at END, \
         completed_at = CASE WHEN $5::timestamptz IS NOT NULL AND NOT $4 AND indexing_running \
         THEN clock_timestamp() ELSE completed_at END, \
         files_indexed = $6, progress = $7 \
         WHERE volume_prefix = $1 AND epoch = $2 AND holder = $3 RETURNING volume_prefix), \
         begun AS (DELETE FROM reindex_request USING published \
         WHERE reindex_request.volume_prefix = published.volume_prefix AND $4) \
         SELECT volume_prefix FROM published",
    )
    .bind(prefix)
    .bind(lease.epoch())
    .bind(lease.holder())
    .bind(indexing.in_progress)
    .bind(indexing.ended)
    .bind(i64::try_from(indexing.progress.total_files).unwrap_or(i64::MAX))
    .bind(Json(indexing))
    .fetch_optional(connection)
    .await?;
    Ok(published.is_some())
}

/// Leaves the wish for a reindex; false where one runs or is wished for already.
pub(super) async fn request_reindex(connection: &mut PgConnection, prefix: &str) -> Result<bool> {
    let sql = format!(
        "WITH left_here AS (INSERT INTO reindex_request (volume_prefix) \
         SELECT volume_prefix FROM dpd_indexing_state WHERE volume_prefix = $1 AND NOT (indexing_running AND {HELD}) \
         ON CONFLICT (volume_prefix) DO NOTHING RETURNING volume_prefix) \
         SELECT pg_notify($2, 'reindex ' || volume_prefix) FROM left_here",
    );
    let left = sqlx::query(AssertSqlSafe(sql)).bind(prefix).bind(CHANNEL).fetch_optional(connection).await?;
    Ok(left.is_some())
}
