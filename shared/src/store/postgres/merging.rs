//! The making of one segment of several: their pages are read, and a thread brings their columns together.

use super::building::Made;
use crate::segment::{self, Failed, Merged, Page, Segment, Size};
use crate::store::{Result, StoreError};
use sqlx::PgConnection;
use std::collections::HashMap;
use std::sync::Arc;

/// A segment that there is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kept {
    pub(super) id: i64,
    /// The range of numbers of which it has versions.
    pub(super) first: i64,
    pub(super) last: i64,
    pub(super) size: Size,
}

/// The segments that there are, in order.
pub(super) async fn segments(connection: &mut PgConnection, prefix: &str) -> Result<Vec<Kept>> {
    let rows: Vec<(i64, i64, i64, i32, i64, i64)> = sqlx::query_as(
        "SELECT id, first, last, products, weight, (SELECT count(*) FROM superseded u \
         WHERE u.volume_prefix = s.volume_prefix AND u.number BETWEEN s.first AND s.last) \
         FROM segment s WHERE volume_prefix = $1 ORDER BY first",
    )
    .bind(prefix)
    .fetch_all(connection)
    .await?;
    let kept = |(id, first, last, products, weight, dead)| Kept {
        id,
        first,
        last,
        size: Size {
            products: usize::try_from(products).unwrap_or_default(),
            bytes: usize::try_from(weight).unwrap_or_default(),
            dead: usize::try_from(dead).unwrap_or_default(),
        },
    };
    Ok(rows.into_iter().map(kept).collect())
}

/// Makes one segment of some side by side, of which the connection's transaction sees one state. `None` where one of them is
/// damaged.
pub(super) async fn merge(connection: &mut PgConnection, prefix: &str, kept: &[Kept]) -> Result<Option<Made>> {
    let (Some(first), Some(last)) = (kept.first(), kept.last()) else { return Ok(None) };
    let ids: Vec<i64> = kept.iter().map(|segment| segment.id).collect();
    let rows: Vec<(i64, i32, i32, Vec<u8>)> = sqlx::query_as(
        "SELECT segment, first_key, last_key, bytes FROM segment_page WHERE segment = ANY($1) ORDER BY first_key",
    )
    .bind(&ids)
    .fetch_all(&mut *connection)
    .await?;
    let superseded: Vec<i64> = sqlx::query_scalar(
        "SELECT number FROM superseded WHERE volume_prefix = $1 AND number BETWEEN $2 AND $3 ORDER BY number",
    )
    .bind(prefix)
    .bind(first.first)
    .bind(last.last)
    .fetch_all(connection)
    .await?;
    let mut pages: HashMap<i64, Vec<Arc<Page>>> = HashMap::new();
    for (segment, first, last, bytes) in rows {
        pages.entry(segment).or_default().push(Arc::new(Page { first, last, bytes }));
    }
    let superseded: Vec<u64> = superseded.into_iter().map(i64::cast_unsigned).collect();
    let sources: Vec<(usize, Vec<Arc<Page>>)> =
        kept.iter().map(|own| (own.size.products, pages.remove(&own.id).unwrap_or_default())).collect();
    let merging = tokio::task::spawn_blocking(move || {
        let segment = |(products, pages)| Segment { products, pages, superseded: &superseded };
        let segments: Vec<Segment<'_>> = sources.iter().map(|(products, pages)| segment((*products, pages))).collect();
        segment::merge(&segments)
    });
    let broken = |error| StoreError::Unavailable(format!("segments could not become one: {error}"));
    match merging.await.map_err(broken)? {
        Ok(Merged { products, bytes, pages }) => Ok(Some(Made { last: last.last, products, weight: bytes, pages })),
        Err(Failed::Damaged | Failed::GivenUp) => Ok(None),
    }
}
