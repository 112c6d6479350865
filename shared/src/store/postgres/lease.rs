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
//!
//! What was written under a lease is counted in its row. A holder that finds fewer transactions there than were committed
//! knows that the database went back to an earlier state, and gives up the lease and all that it believes.

use super::database::Database;
use super::schema;
use super::silence::{Beat, Silence};
use crate::config::IndexingSettings;
use crate::identity::VolumePrefix;
use crate::process::Place;
use crate::product::Origin;
use crate::store::{Result, StoreError};
use serde::{Deserialize, Serialize};
use sqlx::types::Json;
use sqlx::{Connection, PgConnection, Row};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tracing::info;
use uuid::Uuid;

/// The channel on which all of this is told: `released PREFIX`, `reindex PREFIX`.
pub(super) const CHANNEL: &str = "dpd";

/// The condition that the lease in a volume's row is held. A heartbeat that is further in the future than a term is of a
/// clock that was set back since, and tells nothing.
pub(super) const HELD: &str = "coalesce(holder IS NOT NULL AND clock_timestamp() BETWEEN \
     last_heartbeat - make_interval(secs => lease_seconds) AND last_heartbeat + make_interval(secs => lease_seconds), false)";

/// Goes up when what is derived from the same metadata file becomes another, so that everything is read anew.
const DERIVATION: u32 = 2;

/// Why a lease is held no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Loss {
    /// Another process has it.
    #[error("another indexer took over")]
    TakenOver,
    /// What was written under it is not there any more.
    #[error(
        "the database went back to an earlier state, as one does from which a copy was made or a standby that is behind: \
         what it lost is written again"
    )]
    WentBack,
    /// The tables are not there, or not as this program needs them.
    #[error("the database's tables are not what they were: they are made anew")]
    NoTables,
}

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
    silence: Arc<Mutex<Silence>>,
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
    /// How many transactions that wrote are surely committed.
    written: AtomicI64,
    lost: watch::Sender<Option<Loss>>,
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
        let (holder, place, silence) = (Uuid::new_v4(), Place::own(), Arc::default());
        let (term, found) = (settings.term, Arc::default());
        Candidate { database, prefix, origin, holder, name, term, place, found, silence }
    }

    /// Takes the lease if it is free, if its holder was silent for longer than the term that he promised, or if he is
    /// surely no more. The silence is counted on the database's clock, or, since that may have been set back, as seen from
    /// here. A lease that an earlier state of the database has as ours is free as well.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn acquire(&self) -> Result<Attempt> {
        let attempted = Instant::now();
        let silent = self.silence().outlasted();
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
                 generation = generation + (origin <> $6)::integer, place = $7, incarnation = gen_random_uuid(), written = 0 \
                 WHERE volume_prefix = $1 AND (holder IS NULL OR holder = $2 OR holder = $8 OR \
                 clock_timestamp() > last_heartbeat + make_interval(secs => lease_seconds) OR \
                 (epoch = $9 AND last_heartbeat = $10)) \
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
            .bind(silent.map(|beat| beat.epoch))
            .bind(silent.map(|beat| beat.at))
            .fetch_optional(&mut *transaction)
            .await?;
            if row.is_none() {
                let beat = Beat::read(&mut transaction, &self.prefix).await?;
                self.silence().hear(beat);
            }
            transaction.commit().await?;
            session.settle(Ok((row, dead, place)))
        };
        let (row, dead, place) = self.database.bounded(work).await?;
        let Some(row) = row else { return Ok(Attempt::Held(place)) };
        if dead.is_some() {
            info!("the indexer that held the lease is no more; it is succeeded before its term ends");
        }
        *self.silence() = Silence::default();
        Ok(Attempt::Taken(Box::new(Lease {
            candidate: self.clone(),
            epoch: row.try_get("epoch")?,
            generation: row.try_get("generation")?,
            valid_until: Mutex::new(attempted + self.term),
            written: AtomicI64::new(0),
            lost: watch::Sender::new(None),
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

    fn silence(&self) -> MutexGuard<'_, Silence> {
        self.silence.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// Renews it. False when it is lost.
    ///
    /// # Errors
    /// When the database cannot be used; then it may still be ours.
    pub async fn renew(&self) -> Result<bool> {
        let attempted = Instant::now();
        // Before it is asked: what is committed meanwhile may be seen or not.
        let expected = self.written();
        let work = async {
            let mut session = self.candidate.database.session().await?;
            let renewed = sqlx::query_scalar(
                "UPDATE dpd_indexing_state SET last_heartbeat = clock_timestamp() \
                 WHERE volume_prefix = $1 AND epoch = $2 AND holder = $3 RETURNING written",
            )
            .bind(self.candidate.prefix.as_str())
            .bind(self.epoch)
            .bind(self.candidate.holder)
            .fetch_optional(&mut *session)
            .await;
            match renewed {
                Err(error) if schema::is_missed_by(&error) => {
                    self.lose(Loss::NoTables);
                    Err(StoreError::Superseded)
                }
                renewed => session.settle(renewed.map_err(StoreError::from)),
            }
        };
        let renewed = match self.candidate.database.bounded_by(self.candidate.term / 3, work).await {
            Ok(Some(written)) => self.expect_written(expected, written),
            Ok(None) => {
                self.lose(Loss::TakenOver);
                Err(StoreError::Superseded)
            }
            Err(error) => Err(error),
        };
        match renewed {
            Ok(()) => {
                *self.valid_until.lock().unwrap_or_else(PoisonError::into_inner) = attempted + self.candidate.term;
                Ok(true)
            }
            Err(StoreError::Superseded) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// How many transactions that wrote are surely committed.
    pub(super) fn written(&self) -> i64 {
        self.written.load(Ordering::Relaxed)
    }

    /// A transaction was committed, which is the one of this number.
    pub(super) fn wrote(&self, written: i64) {
        self.written.fetch_max(written, Ordering::Relaxed);
    }

    /// Compares what the database counts of the lease's transactions with what it must count at the least. Where it has
    /// lost some, the lease is lost: nothing that is believed of the database need be so.
    pub(super) fn expect_written(&self, expected: i64, written: i64) -> Result<()> {
        if written < expected {
            self.lose(Loss::WentBack);
            return Err(StoreError::Superseded);
        }
        // Also what was committed without our hearing of it is built upon from now on.
        self.wrote(written);
        Ok(())
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
        if self.lost.borrow().is_some() {
            return Err(StoreError::Superseded);
        }
        if self.is_believed() {
            return Ok(());
        }
        Err(StoreError::Unavailable("the lease could not be renewed in time, so nothing is written".to_owned()))
    }

    /// Marks that it is held no more.
    pub(super) fn lose(&self, loss: Loss) {
        self.lost.send_if_modified(|lost| lost.replace(loss).is_none());
    }

    /// Waits until it is held no more, and tells why.
    pub async fn lost(&self) -> Loss {
        // The sender is ours, so that the wait ends with the value only.
        let lost = self.lost.subscribe().wait_for(Option::is_some).await.map(|lost| *lost);
        lost.ok().flatten().unwrap_or(Loss::TakenOver)
    }
}
