//! Keys that no product has any more, and their removal: whoever brings many and takes them back leaves nothing behind.
//!
//! A key of rows is counted, so it is known when nobody has it. One that occurs in lists alone is not; whether somebody has it
//! is seen in the segments, and in the tail. All that is looked at outside of any lock, in one snapshot. Then the volume's row
//! is locked, what came since is looked at, and the rest is removed together with the
//! [incarnation](super::history::HISTORY), so that everybody forgets what numbers he remembers.

use super::history::{self, Moment};
use super::read::{self, HIT};
use super::text::unescaped;
use super::view::View;
use super::{PostgresStore, Role, WHOLE, allow, flows, plan};
use crate::row;
use crate::segment;
use crate::store::{Result, StoreError};
use futures::TryStreamExt;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use tracing::info;

/// The most keys that are removed at once, since the volume's row is locked meanwhile.
const AT_ONCE: usize = 10_000;

/// Keys by their numbers.
type Candidates = HashMap<i32, String>;

impl PostgresStore {
    /// Removes keys that no product has any more, unless nothing changed since that was done.
    pub(super) async fn remove_unused_keys(&self, settled: &mut Option<Moment>) -> Result<()> {
        loop {
            let work = async {
                let (mut session, prefix) = self.open().await?;
                let removed = self.remove_some(&mut session, prefix.as_str(), settled).await;
                session.settle(removed)
            };
            let removed = self.database.bounded_by(WHOLE, work).await?;
            if removed == 0 {
                return Ok(());
            }
            info!(keys = removed, "removed keys that no product has any more");
        }
    }

    /// Removes some of them, and tells how many.
    async fn remove_some(
        &self,
        connection: &mut PgConnection,
        prefix: &str,
        settled: &mut Option<Moment>,
    ) -> Result<u64> {
        if let Role::Indexer { lease, .. } = &self.role {
            lease.check()?;
        }
        let mut snapshot = connection.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        allow(&mut snapshot, WHOLE).await?;
        let moment: Moment = history::moment(&mut snapshot, prefix).await?;
        if settled.as_ref() == Some(&moment) {
            return Ok(0);
        }
        let mut unused = candidates(&mut snapshot, prefix).await?;
        let mut last = 0;
        if !unused.is_empty() {
            let view = Arc::new(View::without_tail(&mut snapshot, prefix).await?);
            self.spare_sealed(&mut snapshot, &view, &mut unused).await?;
            last = spare_newer(&mut snapshot, prefix, view.last, &mut unused).await?;
        }
        snapshot.rollback().await?;
        if unused.is_empty() {
            *settled = Some(moment);
            return Ok(0);
        }
        self.remove_keys(connection, prefix, &moment, last, unused).await
    }

    /// Takes out the keys that a product in a segment has.
    async fn spare_sealed(
        &self,
        connection: &mut PgConnection,
        view: &Arc<View>,
        unused: &mut Candidates,
    ) -> Result<()> {
        // The newest first: what is in use is in use there, as a rule, and needs not be looked for in others.
        for (at, sealed) in view.segments.iter().enumerate().rev() {
            if unused.is_empty() {
                return Ok(());
            }
            let keys: BTreeSet<i32> = unused.keys().copied().collect();
            let read: Vec<i32> = [segment::NUMBERS].into_iter().chain(keys.iter().copied()).collect();
            let (pages, _) = self.searcher.pages(connection, sealed, Some(&read)).await?;
            let view = view.clone();
            let look = tokio::task::spawn_blocking(move || {
                let sealed = &view.segments[at];
                let superseded = view.superseded(sealed);
                segment::used(&segment::Segment { products: sealed.products, pages: &pages, superseded }, &keys)
            });
            let used = look.await.map_err(|error| StoreError::Unavailable(error.to_string()))?;
            let used = used.map_err(|error| StoreError::Unavailable(error.to_string()))?;
            used.iter().for_each(|key| drop(unused.remove(key)));
        }
        Ok(())
    }

    /// Removes keys that no product has whose number is up to `last`, less those that newer ones have.
    async fn remove_keys(
        &self,
        connection: &mut PgConnection,
        prefix: &str,
        moment: &Moment,
        last: u64,
        mut unused: Candidates,
    ) -> Result<u64> {
        let mut transaction = connection.begin().await?;
        allow(&mut transaction, WHOLE).await?;
        let locked = self.lock(&mut transaction, prefix).await?;
        if locked.history != moment.history {
            // All of it is to be looked at again.
            return Ok(0);
        }
        spare_newer(&mut transaction, prefix, last, &mut unused).await?;
        let ids: Vec<i32> = unused.into_keys().take(AT_ONCE).collect();
        sqlx::query("DELETE FROM key_count WHERE key = ANY($1) AND products <= 0")
            .bind(&ids)
            .execute(&mut *transaction)
            .await?;
        let removed = sqlx::query(
            "DELETE FROM metadata_key k WHERE id = ANY($1) AND NOT EXISTS (SELECT FROM key_count c WHERE c.key = k.id)",
        )
        .bind(&ids)
        .execute(&mut *transaction)
        .await?
        .rows_affected();
        sqlx::query(
            "UPDATE dpd_indexing_state SET incarnation = CASE WHEN $3 THEN gen_random_uuid() ELSE incarnation END, \
             written = coalesce($2, written) WHERE volume_prefix = $1",
        )
        .bind(prefix)
        .bind(locked.written)
        .bind(removed > 0)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        self.committed(&locked);
        Ok(removed)
    }
}

/// The keys that no row has. Those that all products have are none.
async fn candidates(connection: &mut PgConnection, prefix: &str) -> Result<Candidates> {
    let rows: Vec<(i32, String)> = sqlx::query_as(
        "SELECT id, path FROM metadata_key k WHERE volume_prefix = $1 \
         AND NOT EXISTS (SELECT FROM key_count c WHERE c.key = k.id AND c.products > 0)",
    )
    .bind(prefix)
    .fetch_all(connection)
    .await?;
    let of_flows = flows::keys();
    let always = plan::keys([]);
    let always = |key: &str| always.contains(key) || of_flows.contains(key);
    let named = rows.into_iter().map(|(id, path)| (id, unescaped(&path)));
    Ok(named.filter(|(_, key)| !always(key)).collect())
}

/// Takes out the keys of products whose number is greater than one, and tells the greatest.
async fn spare_newer(connection: &mut PgConnection, prefix: &str, after: u64, unused: &mut Candidates) -> Result<u64> {
    let sql = format!(
        "SELECT {HIT}, p.number FROM data_product p JOIN document d ON d.product = p.id \
         WHERE p.volume_prefix = $1 AND p.number > $2"
    );
    let mut rows = sqlx::query(AssertSqlSafe(sql)).bind(prefix).bind(after.cast_signed()).fetch(connection);
    let mut last = after;
    while let Some(row) = rows.try_next().await? {
        last = last.max(row.try_get::<i64, _>("number")?.cast_unsigned());
        // One that cannot be read is in no search.
        if let Ok(hit) = read::hit(&row) {
            let keys = row::leaf_keys(&hit.product);
            unused.retain(|_, key| !keys.contains(key));
        }
    }
    Ok(last)
}
