//! Which of the volumes in the database a process answers for.

use super::database::Database;
use super::lease::HELD;
use super::schema;
use crate::identity::{self, VolumePrefix};
use crate::store::{Result, StoreError};
use crate::volume::Volume;
use sqlx::{AssertSqlSafe, PgConnection, Row};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;
use tracing::{info, warn};
use uuid::Uuid;

/// How long the mount may take to tell which volume it is.
const MOUNT: Duration = Duration::from_secs(2);
/// How many products are looked for on a volume that may be one that was known by its name.
const LOOKED_FOR: i64 = 100;
/// How often it is looked whether a volume that was found by its name is still the one.
const LOOK: Duration = Duration::from_secs(5);

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
    let sql = format!(
        "SELECT s.volume_prefix, coalesce(sum(r.products_on_volume), 0)::bigint AS products, {HELD} AS held \
         FROM dpd_indexing_state s LEFT JOIN access_rule r USING (volume_prefix) \
         WHERE s.volume_name = $1 GROUP BY s.volume_prefix ORDER BY s.volume_prefix",
    );
    let rows = sqlx::query(AssertSqlSafe(sql)).bind(name).fetch_all(connection).await?;
    let registered = |row: &sqlx::postgres::PgRow| {
        Ok(Registered {
            prefix: VolumePrefix::stored(row.try_get("volume_prefix")?),
            products: u64::try_from(row.try_get::<i64, _>("products")?).unwrap_or_default(),
            held: row.try_get("held")?,
        })
    };
    rows.iter().map(registered).collect()
}

/// What the rows of a volume with an identity are keyed by. Where it had none before and was known by its name, that stays
/// what they are keyed by, and is noted for ever: whatever hangs on it, annotations too, is kept.
///
/// # Errors
/// When the database cannot be used, or the volume does not tell what is on it.
pub async fn prefix_of(database: &Database, volume: &Arc<Volume>, id: Uuid) -> Result<VolumePrefix> {
    let work = async {
        let mut session = database.session().await?;
        let prefix = match known_prefix(&mut session, volume, id).await? {
            Known::For(prefix) => prefix,
            Known::ByName(prefix) => {
                // Somebody else may do the same, for this volume or for another of its name.
                let adopted = sqlx::query(
                    "UPDATE dpd_indexing_state SET volume_id = $2 WHERE volume_prefix = $1 AND volume_id IS NULL",
                )
                .bind(prefix.as_str())
                .bind(id)
                .execute(&mut *session)
                .await?;
                if adopted.rows_affected() == 1 {
                    info!(%prefix, %id, "this volume was known by its name, and has an identity now: its index is kept");
                }
                match known_prefix(&mut session, volume, id).await? {
                    Known::For(prefix) | Known::ByName(prefix) => prefix,
                    Known::Not => VolumePrefix::of(id),
                }
            }
            Known::Not => VolumePrefix::of(id),
        };
        session.settle(Ok(prefix))
    };
    database.bounded(work).await
}

/// What a volume that cannot hold an identity is known by: its name. An error where the volume of this name has one.
///
/// # Errors
/// Also when the database cannot be used.
pub async fn prefix_by_name(database: &Database, name: &str) -> Result<VolumePrefix> {
    let prefix = VolumePrefix::of_name(name);
    let work = async {
        let mut session = database.session().await?;
        let id: Option<Uuid> = sqlx::query_scalar("SELECT volume_id FROM dpd_indexing_state WHERE volume_prefix = $1")
            .bind(prefix.as_str())
            .fetch_optional(&mut *session)
            .await?
            .flatten();
        session.settle(Ok(id))
    };
    match database.bounded(work).await? {
        None => Ok(prefix),
        Some(id) => Err(StoreError::Unavailable(format!(
            "the storage path holds no identity, and the volume that is called {name} has one: is it mounted? If it is, \
             write '{id}' into its identity file; if this is another volume, give it another name by PVCNAME"
        ))),
    }
}

/// How a volume with an identity is known.
enum Known {
    /// By that identity.
    For(VolumePrefix),
    /// By its name, from when it had none.
    ByName(VolumePrefix),
    /// Not at all.
    Not,
}

async fn known_prefix(connection: &mut PgConnection, volume: &Arc<Volume>, id: Uuid) -> Result<Known> {
    let (own, of_name) = (VolumePrefix::of(id), VolumePrefix::of_name(&volume.origin().name));
    let known: Option<String> = sqlx::query_scalar(
        "SELECT volume_prefix FROM dpd_indexing_state WHERE volume_prefix = $1 OR volume_id = $2 \
         ORDER BY volume_id IS NULL LIMIT 1",
    )
    .bind(own.as_str())
    .bind(id)
    .fetch_optional(&mut *connection)
    .await?;
    if let Some(known) = known {
        return Ok(Known::For(VolumePrefix::stored(known)));
    }
    let unnamed: Option<bool> = sqlx::query_scalar(
        "SELECT holder IS NOT NULL AND clock_timestamp() <= last_heartbeat + make_interval(secs => lease_seconds) \
         FROM dpd_indexing_state WHERE volume_prefix = $1 AND volume_name = $2 AND volume_id IS NULL",
    )
    .bind(of_name.as_str())
    .bind(&volume.origin().name)
    .fetch_optional(&mut *connection)
    .await?;
    let Some(is_indexed) = unnamed else { return Ok(Known::Not) };
    // Two volumes may be called the same. It is the one on which something is that was on it.
    let folders: Vec<String> = sqlx::query_scalar(
        "SELECT folder FROM data_product WHERE volume_prefix = $1 AND folder IS NOT NULL ORDER BY number DESC LIMIT $2",
    )
    .bind(of_name.as_str())
    .bind(LOOKED_FOR)
    .fetch_all(&mut *connection)
    .await?;
    let is_same = if folders.is_empty() { !is_indexed } else { holds_any(volume, folders).await? };
    Ok(if is_same { Known::ByName(of_name) } else { Known::Not })
}

/// Whether there is a metadata file in any of these folders.
async fn holds_any(volume: &Arc<Volume>, folders: Vec<String>) -> Result<bool> {
    let own = volume.clone();
    let look = tokio::task::spawn_blocking(move || {
        let root = own.open()?;
        Ok(folders.iter().filter_map(|folder| folder.parse().ok()).any(|folder| root.stamp(&folder).is_some()))
    });
    let looked: std::io::Result<bool> = look.await.map_err(std::io::Error::other).flatten();
    looked.map_err(|error| StoreError::Unavailable(format!("the volume does not tell what is on it: {error}")))
}

/// The volume that an API answers for.
#[derive(Debug)]
pub(super) struct Answering {
    volume: Arc<Volume>,
    found: Mutex<Option<Found>>,
}

#[derive(Debug, Clone)]
struct Found {
    prefix: VolumePrefix,
    /// When it was looked last whether it is still the one of its name; `None` where the volume itself said which it is.
    looked: Option<Instant>,
}

impl Answering {
    pub(super) fn new(volume: Arc<Volume>) -> Answering {
        Answering { volume, found: Mutex::default() }
    }

    /// What the volume's rows are keyed by. It is found out when it is first asked for, and again until it is known. One that
    /// was found by its name is looked at again now and then: the volume may have been given another identity.
    pub(super) async fn prefix(&self, connection: &mut PgConnection) -> Result<VolumePrefix> {
        let mut found = self.found.lock().await;
        match &mut *found {
            None => {
                schema::check(connection).await?;
                let new = find(connection, &self.volume).await?;
                Ok(found.insert(new).prefix.clone())
            }
            Some(Found { prefix, looked: Some(looked) }) if looked.elapsed() > LOOK => {
                let name = &self.volume.origin().name;
                *looked = Instant::now();
                if let Some(other) = moved(&of_name(connection, name).await?, prefix) {
                    warn!(%other, before = %prefix, name, "the volume of this name is another now, and is answered for");
                    *prefix = other;
                }
                Ok(prefix.clone())
            }
            Some(found) => Ok(found.prefix.clone()),
        }
    }
}

/// The volume that is being indexed instead of one that is not any more, of all that have the same name.
fn moved(all: &[Registered], from: &VolumePrefix) -> Option<VolumePrefix> {
    let mut held = all.iter().filter(|volume| volume.held);
    let (only, more) = (held.next()?, held.next());
    (more.is_none() && only.prefix != *from).then(|| only.prefix.clone())
}

/// Finds out which volume this is: its identity says so where it is mounted, its name otherwise.
async fn find(connection: &mut PgConnection, volume: &Arc<Volume>) -> Result<Found> {
    let name = &volume.origin().name;
    let (prefix, unnamed) = match identity(volume).await {
        Ok(id) => match known_prefix(connection, volume, id).await? {
            Known::For(prefix) | Known::ByName(prefix) => (prefix, None),
            Known::Not => (VolumePrefix::of(id), None),
        },
        Err(why) => (by_name(connection, name).await?, Some(why)),
    };
    let known: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM dpd_indexing_state WHERE volume_prefix = $1)")
        .bind(prefix.as_str())
        .fetch_one(connection)
        .await?;
    if !known {
        return Err(StoreError::NotReady(format!(
            "the volume {name} ({prefix}) was not indexed into this database yet: is dpd-indexer running for it?"
        )));
    }
    let looked = unnamed.is_some().then(Instant::now);
    if let Some(why) = unnamed {
        warn!("{why}, so its name has to do");
    }
    info!(%prefix, name, "answering for this volume");
    Ok(Found { prefix, looked })
}

/// What the volume itself says; the error is why it says nothing.
async fn identity(volume: &Arc<Volume>) -> std::result::Result<Uuid, String> {
    let own = volume.clone();
    // A mount that hangs is as good as none.
    let read = tokio::task::spawn_blocking(move || identity::read(&own));
    match tokio::time::timeout(MOUNT, read).await {
        Ok(Ok(Ok(Some(id)))) => Ok(id),
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
        (Some(_), false) => Err(StoreError::NotReady(format!(
            "several volumes in this database are called {name}: mount the one that is meant, or give it a name of \
             its own by PVCNAME"
        ))),
        (None, _) => Err(StoreError::NotReady(format!(
            "no volume called {name} is indexed into this database: is dpd-indexer running with the same PVCNAME?"
        ))),
    }
}
