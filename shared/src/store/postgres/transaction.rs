//! Transactions that write the index: the volume's row is locked, and what is written under a lease is counted in it.

use super::history::HISTORY;
use super::lease::Loss;
use super::plan::{self, Derived, Prepared};
use super::write::{Author, Writer};
use super::{PostgresStore, Role, flows};
use crate::access::{Ingested, Viewer};
use crate::store::{Outcome, Result, StoreError};
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};
use std::collections::BTreeSet;
use uuid::Uuid;

impl PostgresStore {
    /// Locks the volume's row until the transaction ends. All who write the index do so first. Rows that only refer to it
    /// may be made by others meanwhile.
    pub(super) async fn lock(&self, connection: &mut PgConnection, prefix: &str) -> Result<Locked> {
        let sql = format!(
            "SELECT epoch, generation, holder, written, {HISTORY} AS history, \
             EXISTS (SELECT FROM flow f WHERE f.volume_prefix = s.volume_prefix) AS flows \
             FROM dpd_indexing_state s WHERE volume_prefix = $1 FOR NO KEY UPDATE",
        );
        let row = sqlx::query(AssertSqlSafe(sql)).bind(prefix).fetch_one(connection).await?;
        let (epoch, generation): (i64, i32) = (row.try_get("epoch")?, row.try_get("generation")?);
        let (history, flows) = (row.try_get("history")?, row.try_get("flows")?);
        let author = Author { generation, epoch, defers: true, flows };
        match &self.role {
            Role::Api { .. } => Ok(Locked { author, history, written: None }),
            Role::Indexer { lease, .. } => {
                let held = epoch == lease.epoch() && row.try_get::<Option<Uuid>, _>("holder")? == Some(lease.holder());
                let written: i64 = row.try_get("written")?;
                if !held {
                    lease.lose(Loss::TakenOver);
                    return Err(StoreError::Superseded);
                }
                lease.expect_written(lease.written(), written)?;
                Ok(Locked { author: Author { defers: false, ..author }, history, written: Some(written + 1) })
            }
        }
    }

    /// Notes that a transaction which counted itself was committed.
    pub(super) fn committed(&self, locked: &Locked) {
        if let (Role::Indexer { lease, .. }, Some(written)) = (&self.role, locked.written) {
            lease.wrote(written);
        }
    }

    /// Writes, and answers what each change came to, and what became of what a caller brought.
    pub(super) async fn write(&self, work: Work<'_>) -> Result<(Vec<Outcome>, Ingested)> {
        if let Role::Indexer { lease, .. } = &self.role {
            lease.check()?;
        }
        let (mut session, prefix) = self.open().await?;
        let prefix = prefix.as_str();
        let mut kept = match &self.role {
            Role::Indexer { keys, .. } => Some(keys.lock().await),
            Role::Api { .. } => None,
        };
        // Put back with what was added once that is surely there. What fails may have failed for what is remembered.
        let mut keys = kept.as_deref_mut().map(std::mem::take).unwrap_or_default();
        let of_flows = flows::keys();
        let needed: BTreeSet<&str> =
            plan::keys(work.derived()).into_iter().chain(of_flows.iter().map(String::as_str)).collect();
        keys.add(&mut session, prefix, &needed).await?;
        let mut transaction = session.begin().await?;
        let locked = self.lock(&mut transaction, prefix).await?;
        if !keys.believe(&locked.history) {
            keys.add(&mut transaction, prefix, &needed).await?;
        }
        let (author, keys_of) = (locked.author, &mut keys);
        let mut writer =
            Writer { connection: &mut transaction, prefix, author, keys: keys_of, versions: 0, superseded: false };
        let written = match &work {
            Work::Changes(changes) => (writer.apply(changes).await?, Ingested::Taken),
            Work::Ingest(derived, viewer) => (Vec::new(), writer.ingest(derived, viewer).await?),
            Work::IngestFirst(derived) => (Vec::new(), writer.ingest_first(derived).await?),
            Work::Placeholders => {
                writer.place_all().await?;
                (Vec::new(), Ingested::Taken)
            }
        };
        let (versions, shows) = (writer.versions, writer.versions > 0 || writer.superseded);
        if shows || locked.written.is_some() {
            sqlx::query(
                "UPDATE dpd_indexing_state SET written = coalesce($2, written), \
                 updated_at = CASE WHEN $3 THEN clock_timestamp() ELSE updated_at END, \
                 revision = CASE WHEN $3 THEN nextval('product_number') ELSE revision END WHERE volume_prefix = $1",
            )
            .bind(prefix)
            .bind(locked.written)
            .bind(shows)
            .execute(&mut *transaction)
            .await?;
        }
        transaction.commit().await?;
        self.committed(&locked);
        if let Some(mut kept) = kept {
            *kept = keys;
        }
        self.sealing.grow(versions);
        session.settle(Ok(written))
    }
}

/// The volume's row, locked by a transaction.
#[derive(Debug)]
pub(super) struct Locked {
    author: Author,
    /// Which history of the database it sees.
    pub(super) history: String,
    /// The transaction's number among those that the lease wrote, where it is under one.
    pub(super) written: Option<i64>,
}

/// What one transaction writes.
pub(super) enum Work<'a> {
    Changes(Vec<Prepared<'a>>),
    Ingest(Derived<'a>, &'a Viewer),
    /// Where nothing is there yet.
    IngestFirst(Derived<'a>),
    /// Those of flows.
    Placeholders,
}

impl<'a> Work<'a> {
    /// The products that it brings.
    fn derived(&self) -> Vec<&Derived<'a>> {
        match self {
            Work::Changes(changes) => changes.iter().filter_map(|(_, derived)| derived.as_ref()).collect(),
            Work::Ingest(derived, _) | Work::IngestFirst(derived) => vec![derived],
            Work::Placeholders => Vec::new(),
        }
    }
}
