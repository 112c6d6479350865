//! Which of the volumes in the database a process answers for.

use super::database::Database;
use crate::identity::{self, VolumePrefix};
use crate::store::{Result, StoreError};
use crate::volume::Volume;
use sqlx::{PgConnection, Row};
use std::sync::Arc;
use std::time::Duration;
use tracing::{info, warn};

/// How long the mount may take to tell which volume it is.
const MOUNT: Duration = Duration::from_secs(2);

/// A volume that the database has an index of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// What its rows are keyed by.
    pub prefix: VolumePrefix,
    /// The products on it.
    pub products: u64,
    held: bool,
}

/// The volumes of this name.
///
/// # Errors
/// When the database cannot be used.
pub async fn registered(database: &Database, name: &str) -> Result<Vec<Registered>> {
    let work = async {
        let mut session = database.session().await?;
        let found = of_name(&mut session, name).await;
        session.settle(found)
    };
    database.bounded(work).await
}

async fn of_name(connection: &mut PgConnection, name: &str) -> Result<Vec<Registered>> {
    let rows = sqlx::query(
        "SELECT s.volume_prefix, coalesce(sum(r.products_on_volume), 0)::bigint AS products, \
         s.holder IS NOT NULL AND clock_timestamp() <= s.last_heartbeat + make_interval(secs => s.lease_seconds) AS held \
         FROM dpd_indexing_state s LEFT JOIN access_rule r USING (volume_prefix) \
         WHERE s.volume_name = $1 GROUP BY s.volume_prefix ORDER BY s.volume_prefix",
    )
    .bind(name)
    .fetch_all(connection)
    .await?;
    let registered = |row: &sqlx::postgres::PgRow| {
        Ok(Registered {
            prefix: VolumePrefix::stored(row.try_get("volume_prefix")?),
            products: u64::try_from(row.try_get::<i64, _>("products")?).unwrap_or_default(),
            held: row.try_get::<Option<bool>, _>("held")?.unwrap_or(false),
        })
    };
    rows.iter().map(registered).collect()
}

/// Finds out which volume this is: its identity says so where it is mounted, its name otherwise.
pub(super) async fn find(connection: &mut PgConnection, volume: &Arc<Volume>) -> Result<VolumePrefix> {
    let name = &volume.origin().name;
    let (prefix, unnamed) = match identity(volume).await {
        Ok(prefix) => (prefix, None),
        Err(why) => (by_name(connection, name).await?, Some(why)),
    };
    let known: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM dpd_indexing_state WHERE volume_prefix = $1)")
        .bind(prefix.as_str())
        .fetch_one(connection)
        .await?;
    if !known {
        return Err(StoreError::Unavailable(format!(
            "the volume {name} ({prefix}) was not indexed into this database yet: is dpd-indexer running for it?"
        )));
    }
    if let Some(why) = unnamed {
        warn!("{why}, so its name has to do");
    }
    info!(%prefix, name, "answering for this volume");
    Ok(prefix)
}

/// What the volume itself says; the error is why it says nothing.
async fn identity(volume: &Arc<Volume>) -> std::result::Result<VolumePrefix, String> {
    let own = volume.clone();
    // A mount that hangs is as good as none.
    let read = tokio::task::spawn_blocking(move || identity::read(&own));
    match tokio::time::timeout(MOUNT, read).await {
        Ok(Ok(Ok(Some(id)))) => Ok(VolumePrefix::of(id)),
        Ok(Ok(Ok(None))) => Err(format!("the volume has no {}", volume.id_file())),
        Ok(Ok(Err(error))) => Err(format!("the volume cannot be read here: {error}")),
        Ok(Err(_)) | Err(_) => Err("the volume's mount does not answer".to_owned()),
    }
}

async fn by_name(connection: &mut PgConnection, name: &str) -> Result<VolumePrefix> {
    let mut all = of_name(connection, name).await?;
    if all.len() > 1 {
        all.retain(|volume| volume.held);
    }
    match (all.pop(), all.is_empty()) {
        (Some(only), true) => Ok(only.prefix),
        (Some(_), false) => Err(StoreError::Unavailable(format!(
            "several volumes in this database are called {name}: mount the one that is meant, or give it a name of \
             its own by PVCNAME"
        ))),
        (None, _) => Err(StoreError::Unavailable(format!(
            "no volume called {name} is indexed into this database: is dpd-indexer running with the same PVCNAME?"
        ))),
    }
}
