//! The connections to PostgreSQL: bounded in number and in time, so that a database that hangs can neither hold requests
//! for long nor pile them up.

use super::connect::Connector;
use super::figures::Work;
use crate::config::PostgresqlSettings;
use crate::store::{Result, StoreError};
use crate::telemetry::Causes;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgListener, PgPoolOptions};
use sqlx::{Connection, PgConnection, PgPool, Postgres};
use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tracing::warn;

/// How long a free connection is waited for, or a new one.
const ACQUIRE: Duration = Duration::from_secs(3);
/// After how long of that it is looked why there is none: the pool tries again and again, and does not tell.
const LOOK: Duration = Duration::from_millis(200);
/// For how long after that nobody tries again, and for how long what is known of it is told.
const REFUSED: Duration = Duration::from_secs(1);
const KNOWN: Duration = Duration::from_secs(5);
/// A connection that was used so lately is taken to be good.
const FRESH: Duration = Duration::from_secs(1);
/// How much longer than PostgreSQL itself we wait for it to give up.
const MARGIN: Duration = Duration::from_secs(2);
/// How long a transaction may stand idle. It holds a lock on the volume's row, and whoever was stopped inside one must
/// not keep others out for longer than a lease lasts.
const IDLE: Duration = Duration::from_secs(5);
/// After how long a connection that is not used is closed.
const SPARE: Duration = Duration::from_secs(300);

/// Has a server that can (14 and later) look while it works whether anybody still waits for the answer.
const ABANDONED: &str = "SELECT set_config('client_connection_check_interval', '1000', false) \
                         WHERE current_setting('server_version_num')::integer >= 140000";

/// A PostgreSQL database, and our schema in it.
#[derive(Debug, Clone)]
pub struct Database {
    pool: PgPool,
    connector: Arc<Connector>,
    connections: u32,
    schema: String,
    limit: Duration,
    search_cache: u64,
    renames_others: bool,
    health: Arc<Health>,
    fitness: Arc<Fitness>,
    work: Work,
}

/// What was seen of the server lately.
#[derive(Debug, Default)]
struct Health {
    /// When no connection was to be had, and why.
    refused: Mutex<Option<(Instant, String)>>,
    /// Why there is none, for all that is known, also while one is still waited for.
    trouble: Mutex<Option<(Instant, String)>>,
    /// Held by whoever finds that out.
    looking: tokio::sync::Mutex<()>,
    /// When work on a connection did not come to its end.
    failed: Mutex<Option<Instant>>,
    /// When a server would not write: a connection to it that is older may be to one that now would.
    read_only: Mutex<Option<Instant>>,
    /// Connections that are in use.
    used: AtomicU32,
}

/// Whether the server can be worked with, which is found out at the first connection, and again after there was none.
#[derive(Debug, Default)]
struct Fitness {
    found: tokio::sync::Mutex<bool>,
    /// Why it never can.
    unusable: watch::Sender<Option<String>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Health {
    /// Why there is no use in asking for a connection again so soon.
    fn refusal(&self) -> Option<String> {
        recent(&self.refused, REFUSED)
    }

    /// Notes whether there was a connection, and why not, and tells the log.
    fn note(&self, told: &Causes, refusal: Option<&str>) {
        if let Some(why) = refusal {
            if let Some(left_out) = told.met(why) {
                warn!(left_out, error = %why, "no connection to the database");
            }
            *lock(&self.refused) = Some((Instant::now(), why.to_owned()));
        } else {
            *lock(&self.refused) = None;
            *lock(&self.trouble) = None;
        }
    }

    /// Whether a connection that was idle for so long may be dead: after a while, and when others failed meanwhile, as all do
    /// when a server restarts.
    fn is_suspect(&self, idle: Duration) -> bool {
        idle > FRESH || lock(&self.failed).is_some_and(|at| at.elapsed() <= idle)
    }

    fn fail(&self) {
        *lock(&self.failed) = Some(Instant::now());
    }

    /// Whether a connection of this age may be to a server that does not write, while there is one that does.
    fn is_outdated(&self, age: Duration) -> bool {
        lock(&self.read_only).is_some_and(|at| at.elapsed() <= age)
    }
}

fn recent(told: &Mutex<Option<(Instant, String)>>, within: Duration) -> Option<String> {
    lock(told).as_ref().filter(|(at, _)| at.elapsed() < within).map(|(_, why)| why.clone())
}

impl Database {
    /// The database that is configured, for a process that goes by this name there. Nothing is connected yet. `limit` is
    /// how long one piece of work may take, `connections` how many there may be at once.
    ///
    /// # Errors
    /// Where what is configured contradicts itself.
    pub fn new(settings: &PostgresqlSettings, name: &str, connections: u32, limit: Duration) -> Result<Database> {
        Database::with(settings, name, connections, limit, Arc::default(), Work::default())
    }

    /// The same with connections of its own, for what must not wait for one of those.
    ///
    /// # Errors
    /// Where what is configured contradicts itself.
    pub fn beside(
        &self,
        settings: &PostgresqlSettings,
        name: &str,
        connections: u32,
        limit: Duration,
    ) -> Result<Database> {
        Database::with(settings, name, connections, limit, self.fitness.clone(), self.work.clone())
    }

    fn with(
        settings: &PostgresqlSettings,
        name: &str,
        connections: u32,
        limit: Duration,
        fitness: Arc<Fitness>,
        work: Work,
    ) -> Result<Database> {
        // Without `jit`, which compiles what is estimated to take long. Each search is another statement, and compiling
        // one of many conditions takes longer than executing it: for 200 it was 20 s against 0.2.
        let set = format!(
            "SET search_path TO \"{}\"; SET statement_timeout TO {}; SET idle_in_transaction_session_timeout TO {}; \
             SET tcp_keepalives_idle TO 10; SET tcp_keepalives_interval TO 5; SET tcp_keepalives_count TO 3; \
             SET client_min_messages TO warning; SET jit TO off; {ABANDONED}",
            settings.schema,
            limit.as_millis(),
            IDLE.as_millis(),
        );
        let health = Arc::new(Health::default());
        let connector = Connector::new(&settings.server, name)?;
        let pool = PgPoolOptions::new()
            .max_connections(connections)
            .min_connections(0)
            .acquire_timeout(ACQUIRE)
            .idle_timeout(SPARE)
            // A round trip for those that may be dead only.
            .test_before_acquire(false)
            .before_acquire({
                let health = health.clone();
                move |connection, metadata| {
                    let outdated = health.is_outdated(metadata.age);
                    let suspect = health.is_suspect(metadata.idle_for);
                    Box::pin(async move { Ok(!outdated && (!suspect || connection.ping().await.is_ok())) })
                }
            })
            .after_connect(move |connection, _| {
                let set = sqlx::AssertSqlSafe(set.clone());
                Box::pin(async move { sqlx::raw_sql(set).execute(connection).await.map(drop) })
            })
            .connect_lazy_with(connector.configured());
        let (connector, schema, search_cache) = (Arc::new(connector), settings.schema.clone(), settings.search_cache);
        let renames_others = settings.renames_others;
        Ok(Database {
            pool,
            connector,
            connections,
            schema,
            limit,
            search_cache,
            renames_others,
            health,
            fitness,
            work,
        })
    }

    /// Our schema's name.
    pub(super) fn schema(&self) -> &str {
        &self.schema
    }

    /// Whether relations that have our names and are others' are renamed.
    pub(super) fn renames_others(&self) -> bool {
        self.renames_others
    }

    /// How long one piece of work may take.
    pub(super) fn limit(&self) -> Duration {
        self.limit
    }

    /// How many connections there may be at once.
    pub(super) fn connections(&self) -> usize {
        usize::try_from(self.connections).unwrap_or(usize::MAX)
    }

    /// How many bytes a process keeps of what searches read.
    pub(super) fn search_cache(&self) -> u64 {
        self.search_cache
    }

    /// What is counted of it.
    pub(super) fn work(&self) -> &Work {
        &self.work
    }

    /// How many connections are in use at the moment, and how many are not.
    pub(super) fn connections_now(&self) -> (u32, usize) {
        (self.health.used.load(Ordering::Relaxed), self.pool.num_idle())
    }

    /// A connection for one piece of work. Where none was to be had a moment ago, that is said at once, so that not
    /// everybody waits for the same.
    pub(super) async fn session(&self) -> Result<Session> {
        let (connection, used) = self.acquire(self.pool.acquire()).await?;
        Ok(Session { connection: Some(connection), health: self.health.clone(), _used: used })
    }

    /// A connection that hears notifications.
    pub(super) async fn listener(&self) -> Result<(PgListener, Used)> {
        self.acquire(PgListener::connect_with(&self.pool)).await
    }

    /// What comes of asking the pool for a connection.
    async fn acquire<T>(&self, asked: impl Future<Output = sqlx::Result<T>>) -> Result<(T, Used)> {
        if self.pool.num_idle() == 0
            && let Some(why) = self.health.refusal()
        {
            return Err(StoreError::Unavailable(why));
        }
        let begun = Instant::now();
        // What connecting comes to is large, and most often for nothing: it is not to be a part of all that asks.
        let acquired = Box::pin(async {
            // A connection that is there was made when all was well.
            if self.pool.num_idle() == 0 {
                self.examine().await?;
            }
            if self.connector.may_change() {
                match self.connector.options().await {
                    Ok(options) => self.pool.set_connect_options(options),
                    // One that is there needs no password.
                    Err(error) if self.pool.num_idle() == 0 => return Err(error),
                    Err(_) => {}
                }
            }
            let mut asked = pin!(asked);
            if let Ok(acquired) = tokio::time::timeout(LOOK, &mut asked).await {
                return acquired.map_err(|error| StoreError::Unavailable(self.why(&error)));
            }
            let acquired = tokio::select! {
                acquired = &mut asked => acquired,
                () = self.look() => asked.await,
            };
            acquired.map_err(|error| StoreError::Unavailable(self.why(&error)))
        });
        let acquired = acquired.await;
        match &acquired {
            Ok(_) => {
                self.work.acquired(begun);
                self.health.note(self.work.told(), None);
            }
            // It ends the process, which says why.
            Err(StoreError::Unusable(_)) => {}
            Err(error) => {
                // That all are in use says nothing of the server.
                if !self.all_are_used() {
                    self.work.is_down();
                }
                self.health.note(self.work.told(), Some(&error.to_string()));
                // What answers the next time may be another.
                if self.health.used.load(Ordering::Relaxed) == 0
                    && let Ok(mut found) = self.fitness.found.try_lock()
                {
                    *found = false;
                }
            }
        }
        Ok((acquired?, Used::of(&self.health)))
    }

    /// Why the pool gave no connection.
    fn why(&self, error: &sqlx::Error) -> String {
        match error {
            sqlx::Error::PoolTimedOut => recent(&self.health.trouble, KNOWN).unwrap_or_else(|| {
                if self.all_are_used() { self.all_in_use() } else { self.connector.silent(ACQUIRE) }
            }),
            error => self.connector.refusal(error),
        }
    }

    fn all_are_used(&self) -> bool {
        self.health.used.load(Ordering::Relaxed) >= self.connections
    }

    fn all_in_use(&self) -> String {
        format!(
            "all {} connections of this process to PostgreSQL are in use (DPD_POSTGRESQL_CONNECTIONS)",
            self.connections
        )
    }

    /// Finds out why the pool has no connection, and notes it. One does for all who wait.
    async fn look(&self) {
        let _looking = self.health.looking.lock().await;
        if recent(&self.health.trouble, REFUSED).is_some() {
            return;
        }
        let why = if self.all_are_used() { Some(self.all_in_use()) } else { self.connector.trouble().await };
        *lock(&self.health.trouble) = why.map(|why| (Instant::now(), why));
    }

    /// Why there is no connection, where that is so and known.
    pub(super) fn trouble(&self) -> Option<String> {
        self.health.refusal().or_else(|| recent(&self.health.trouble, KNOWN))
    }

    /// Holds once that the server can be worked with.
    async fn examine(&self) -> Result<()> {
        let mut found = self.fitness.found.lock().await;
        if *found {
            return Ok(());
        }
        if let Some(why) = self.health.refusal() {
            return Err(StoreError::Unavailable(why));
        }
        let examined = tokio::time::timeout(ACQUIRE, self.connector.examine()).await;
        let silent = |_| Err(StoreError::Unavailable(self.connector.silent(ACQUIRE)));
        let examined = examined.unwrap_or_else(silent);
        match &examined {
            Ok(()) => *found = true,
            Err(StoreError::Unusable(why)) => self.give_up(why.clone()),
            // For those who wait here.
            Err(error) => self.health.note(self.work.told(), Some(&error.to_string())),
        }
        examined
    }

    /// Notes that the database can never be worked with as it is.
    pub(super) fn give_up(&self, why: String) {
        self.fitness.unusable.send_replace(Some(why));
    }

    /// Waits until it turns out that the server can never be worked with, and answers why. It is asked until that is known.
    pub async fn unusable(&self) -> String {
        let mut told = self.fitness.unusable.subscribe();
        while told.borrow().is_none() {
            if let Ok(session) = self.session().await {
                let _ = session.settle(Ok(()));
                break;
            }
            tokio::time::sleep(REFUSED).await;
        }
        let told = told.wait_for(Option::is_some).await;
        told.ok().and_then(|why| why.clone()).unwrap_or_default()
    }

    /// Does a piece of work within the limit of time.
    pub(super) async fn bounded<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        self.bounded_by(self.limit, work).await
    }

    /// Does a piece of work within a limit of its own.
    pub(super) async fn bounded_by<T>(&self, limit: Duration, work: impl Future<Output = Result<T>>) -> Result<T> {
        let too_long = |_| {
            self.work.is_down();
            Err(StoreError::TooLong(TOO_LONG.to_owned()))
        };
        let done = tokio::time::timeout(limit + MARGIN, Box::pin(work)).await.unwrap_or_else(too_long);
        self.work.note(&done);
        if let Err(StoreError::ReadOnly) = done {
            *lock(&self.health.read_only) = Some(Instant::now());
        }
        done
    }
}

/// A connection's place among those that are in use.
#[derive(Debug)]
pub(super) struct Used(Arc<Health>);

impl Used {
    fn of(health: &Arc<Health>) -> Used {
        health.used.fetch_add(1, Ordering::Relaxed);
        Used(health.clone())
    }
}

impl Drop for Used {
    fn drop(&mut self) {
        self.0.used.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection that goes back to the pool only from work that was finished: one on which something failed, or whose
/// work was given up, is closed.
#[derive(Debug)]
pub(super) struct Session {
    connection: Option<PoolConnection<Postgres>>,
    health: Arc<Health>,
    _used: Used,
}

impl Session {
    /// Ends the work with its answer; the connection goes back where it is a good one.
    pub(super) fn settle<T>(mut self, answer: Result<T>) -> Result<T> {
        if answer.is_ok() {
            drop(self.connection.take());
        }
        answer
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.health.fail();
            drop(connection.detach());
        }
    }
}

impl Deref for Session {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        self.connection.as_ref().expect("a session has its connection")
    }
}

impl DerefMut for Session {
    fn deref_mut(&mut self) -> &mut PgConnection {
        self.connection.as_mut().expect("a session has its connection")
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> StoreError {
        match &error {
            // foreign_key_violation: it refers to what is not there any more; sequence_generator_limit_exceeded;
            // internal_error, data_corrupted and index_corrupted. None of it is the fault of what was to be written.
            sqlx::Error::Database(cause)
                if cause
                    .code()
                    .is_some_and(|code| ["23503", "2200H", "XX000", "XX001", "XX002"].contains(&code.as_ref())) =>
            {
                StoreError::Damaged(unavailable(&error))
            }
            // What was to be written breaks a rule of the tables or is too large for them: trying again is no use.
            sqlx::Error::Database(cause)
                if cause
                    .code()
                    .is_some_and(|code| ["21", "22", "23", "54"].contains(&code.get(..2).unwrap_or_default())) =>
            {
                StoreError::Refused(cause.message().to_owned())
            }
            // query_canceled
            sqlx::Error::Database(cause) if cause.code().as_deref() == Some("57014") => {
                StoreError::TooLong(TOO_LONG.to_owned())
            }
            // read_only_sql_transaction
            sqlx::Error::Database(cause) if cause.code().as_deref() == Some("25006") => StoreError::ReadOnly,
            _ => StoreError::Unavailable(unavailable(&error)),
        }
    }
}

const TOO_LONG: &str =
    "It took PostgreSQL longer than it may take; ask for less, or raise DPD_POSTGRESQL_TIMEOUT_SECONDS.";

/// What a caller is told of work on a connection that there was. Statements stay out of it.
fn unavailable(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Io(error) => format!("the connection to PostgreSQL broke off: {error}"),
        sqlx::Error::Database(error) => format!("PostgreSQL says: {}", error.message()),
        other => format!("PostgreSQL cannot be used: {other}"),
    }
}
