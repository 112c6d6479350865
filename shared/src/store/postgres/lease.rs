//! The lease on a volume: who may write its index.
//!
//! It is a row, on the database's clock, with an epoch that goes up at each takeover. Every transaction that writes
//! locks the row and compares the epoch, so that nobody writes after somebody else took over, however late he wakes: the
//! lease and what it guards are in one database. Beside that the holder doubts himself: when he could not renew
//! within the term, counted from before the attempt on his own monotonic clock, he does not even try to write.
//!
//! The term is for holders of whom nobody knows. Of two it is known that they are no more, and they are succeeded at once:
//! a process in the place of the candidate that is [gone](Place::is_left), and one that was called as the candidate is when
//! this one came, as a container that is started again. The latter may be wrong, where two are called the same; it costs
//! one takeover, for who comes later finds a holder that came after him.

use super::database::Database;
use crate::config::IndexingSettings;
use crate::identity::VolumePrefix;
use crate::process::Place;
use crate::product::Origin;
use crate::store::{Result, StoreError};
use serde::{Deserialize, Serialize};
use sqlx::types::Json;
use sqlx::{Connection, PgConnection, Row};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tracing::info;
use uuid::Uuid;

/// The channel on which all of this is told: `released PREFIX`, `reindex PREFIX`.
pub(super) const CHANNEL: &str = "dpd";

/// Goes up when what is derived from the same metadata file becomes another, so that everything is read anew.
const DERIVATION: u32 = 2;

/// Who wants to hold a lease, and on what.
#[derive(Debug, Clone)]
pub struct Candidate {
    database: Database,
    prefix: VolumePrefix,
    origin: Origin,
    /// This process.
    holder: Uuid,
    /// What people know it by.
    name: String,
    term: Duration,
    place: Option<Place>,
    /// The epoch that was when it came.
    found: Arc<OnceLock<i64>>,
}

/// Where a holder runs, as the volume's row has it. Of another holder than the row's it tells nothing.
#[derive(Debug, Serialize, Deserialize)]
struct PlaceOf {
    holder: Uuid,
    #[serde(flatten)]
    place: Place,
}

/// What trying to take a lease came to.
#[derive(Debug)]
pub enum Attempt {
    /// It is ours.
    Taken(Box<Lease>),
    /// Another holds it, who runs here, where that is known.
    Held(Option<Place>),
}

/// A lease that was taken.
#[derive(Debug)]
pub struct Lease {
    candidate: Candidate,
    epoch: i64,
    generation: i32,
    valid_until: Mutex<Instant>,
    lost: watch::Sender<bool>,
}

impl Candidate {
    /// A process that wants the lease on a volume. `name` is what people know it by.
    pub fn new(
        database: Database,
        prefix: VolumePrefix,
        origin: Origin,
        name: String,
        settings: &IndexingSettings,
    ) -> Candidate {
        let (holder, place) = (Uuid::new_v4(), Place::own());
        Candidate { database, prefix, origin, holder, name, term: settings.term, place, found: Arc::default() }
    }

    /// Takes the lease if it is free, if its holder was silent for longer than the term that he promised, or if he is
    /// surely no more.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn acquire(&self) -> Result<Attempt> {
        let attempted = Instant::now();
        let work = async {
            let mut session = self.database.session().await?;
            let mut transaction = session.begin().await?;
            sqlx::query(
                "INSERT INTO dpd_indexing_state (volume_prefix, volume_name, origin) VALUES ($1, $2, $3) \
                 ON CONFLICT (volume_prefix) DO NOTHING",
            )
            .bind(self.prefix.as_str())
            .bind(&self.origin.name)
            .bind(self.derivation())
            .execute(&mut *transaction)
            .await?;
            let (dead, place) = self.look_at_holder(&mut transaction).await?;
            let row = sqlx::query(
                "UPDATE dpd_indexing_state SET epoch = epoch + 1, holder = $2, indexed_by = $3, lease_seconds = $4, \
                 last_heartbeat = clock_timestamp(), indexing_running = false, volume_name = $5, origin = $6, \
                 generation = generation + (origin <> $6)::integer, place = $7 \
                 WHERE volume_prefix = $1 AND (holder IS NULL OR holder = $8 OR \
                 clock_timestamp() > last_heartbeat + make_interval(secs => lease_seconds)) \
                 RETURNING epoch, generation",
            )
            .bind(self.prefix.as_str())
            .bind(self.holder)
            .bind(&self.name)
            .bind(self.term.as_secs_f64())
            .bind(&self.origin.name)
            .bind(self.derivation())
            .bind(self.place.clone().map(|place| Json(PlaceOf { holder: self.holder, place })))
            .bind(dead)
            .fetch_optional(&mut *transaction)
            .await?;
            transaction.commit().await?;
            session.settle(Ok((row, dead, place)))
        };
        let (row, dead, place) = self.database.bounded(work).await?;
        let Some(row) = row else { return Ok(Attempt::Held(place)) };
        if dead.is_some() {
            info!("the indexer that held the lease is no more; it is succeeded before its term ends");
        }
        Ok(Attempt::Taken(Box::new(Lease {
            candidate: self.clone(),
            epoch: row.try_get("epoch")?,
            generation: row.try_get("generation")?,
            valid_until: Mutex::new(attempted + self.term),
            lost: watch::Sender::new(false),
        })))
    }

    /// The holder, where he is surely no more, and where he runs or ran, where that is known.
    async fn look_at_holder(&self, connection: &mut PgConnection) -> Result<(Option<Uuid>, Option<Place>)> {
        let row =
            sqlx::query("SELECT epoch, holder, indexed_by, place FROM dpd_indexing_state WHERE volume_prefix = $1")
                .bind(self.prefix.as_str())
                .fetch_one(connection)
                .await?;
        let epoch: i64 = row.try_get("epoch")?;
        let was_there = *self.found.get_or_init(|| epoch) == epoch;
        let Some(holder) = row.try_get::<Option<Uuid>, _>("holder")? else { return Ok((None, None)) };
        let named: Option<String> = row.try_get("indexed_by")?;
        // What another release writes there is as good as nothing.
        let place: Option<Json<serde_json::Value>> = row.try_get("place")?;
        let place = place.and_then(|Json(place)| serde_json::from_value::<PlaceOf>(place).ok());
        let place = place.filter(|place| place.holder == holder).map(|place| place.place);
        let came_again = was_there && named.as_ref() == Some(&self.name);
        let is_dead = came_again || place.as_ref().is_some_and(Place::is_left);
        Ok((is_dead.then_some(holder), place))
    }

    /// All that decides on a product beside its metadata file.
    fn derivation(&self) -> String {
        let Origin { storage_path, name, metadata_file } = &self.origin;
        serde_json::json!([DERIVATION, storage_path, name, metadata_file]).to_string()
    }

    /// The volume.
    pub fn prefix(&self) -> &VolumePrefix {
        &self.prefix
    }

    /// How long a silent holder keeps the lease.
    pub fn term(&self) -> Duration {
        self.term
    }

    /// This process, as the coordination row names it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where the lease is.
    pub fn database(&self) -> &Database {
        &self.database
    }
}

impl Lease {
    /// The takeovers that there were up to this one.
    pub fn epoch(&self) -> i64 {
        self.epoch
    }

    /// Which version of the volume's origin and of the derivation rows are of now.
    pub(super) fn generation(&self) -> i32 {
        self.generation
    }

    pub(super) fn holder(&self) -> Uuid {
        self.candidate.holder
    }

    /// Whom it was given to.
    pub fn candidate(&self) -> &Candidate {
        &self.candidate
    }

    /// Renews it. False when somebody else took over.
    ///
    /// # Errors
    /// When the database cannot be used; then it may still be ours.
    pub async fn renew(&self) -> Result<bool> {
        let attempted = Instant::now();
        let work = async {
            let mut session = self.candidate.database.session().await?;
            let renewed = sqlx::query(
                "UPDATE dpd_indexing_state SET last_heartbeat = clock_timestamp() \
                 WHERE volume_prefix = $1 AND epoch = $2 AND holder = $3",
            )
            .bind(self.candidate.prefix.as_str())
            .bind(self.epoch)
            .bind(self.candidate.holder)
            .execute(&mut *session)
            .await?;
            session.settle(Ok(renewed.rows_affected() == 1))
        };
        let renewed = self.candidate.database.bounded_by(self.candidate.term / 3, work).await?;
        if renewed {
            *self.valid_until.lock().unwrap_or_else(PoisonError::into_inner) = attempted + self.candidate.term;
        } else {
            self.lose();
        }
        Ok(renewed)
    }

    /// Gives it back, so that another process has it at once.
    ///
    /// # Errors
    /// When the database cannot be used; then the term has to pass.
    pub async fn release(&self) -> Result<()> {
        let work = async {
            let mut session = self.candidate.database.session().await?;
            sqlx::query(
                "WITH released AS (UPDATE dpd_indexing_state SET holder = NULL, indexing_running = false \
                 WHERE volume_prefix = $1 AND epoch = $2 AND holder = $3 RETURNING volume_prefix) \
                 SELECT pg_notify($4, 'released ' || volume_prefix) FROM released",
            )
            .bind(self.candidate.prefix.as_str())
            .bind(self.epoch)
            .bind(self.candidate.holder)
            .bind(CHANNEL)
            .execute(&mut *session)
            .await?;
            session.settle(Ok(()))
        };
        self.candidate.database.bounded_by(Duration::from_secs(2), work).await
    }

    /// Whether the holder may believe that it is his.
    pub fn is_believed(&self) -> bool {
        Instant::now() < *self.valid_until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The holder's doubt, before anything is written.
    pub(super) fn check(&self) -> Result<()> {
        if *self.lost.borrow() {
            return Err(StoreError::Superseded);
        }
        if self.is_believed() {
            return Ok(());
        }
        Err(StoreError::Unavailable("the lease could not be renewed in time, so nothing is written".to_owned()))
    }

    /// Marks that somebody else took over.
    pub(super) fn lose(&self) {
        self.lost.send_replace(true);
    }

    /// Waits until somebody else took over.
    pub async fn lost(&self) {
        // The sender is ours, so that the wait ends with the value only.
        let _ = self.lost.subscribe().wait_for(|lost| *lost).await;
    }
}
