//! The connections to PostgreSQL: bounded in number and in time, so that a database that hangs can neither hold requests
//! for long nor pile them up.

use crate::config::{PostgresqlSettings, Server};
use crate::store::{Result, StoreError};
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions, PgSslMode};
use sqlx::{ConnectOptions, Connection, PgConnection, PgPool, Postgres};
use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a free connection is waited for, or a new one.
const ACQUIRE: Duration = Duration::from_secs(3);
/// For how long after that nobody tries again.
const REFUSED: Duration = Duration::from_secs(1);
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
    schema: String,
    limit: Duration,
    search_cache: u64,
    health: Arc<Health>,
}

/// What was seen of the server lately.
#[derive(Debug, Default)]
struct Health {
    /// When no connection was to be had, and why.
    refused: Mutex<Option<(Instant, String)>>,
    /// When work on a connection did not come to its end.
    failed: Mutex<Option<Instant>>,
}

impl Health {
    /// Why there is no use in asking for a connection again so soon.
    fn refusal(&self) -> Option<String> {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.as_ref().filter(|(at, _)| at.elapsed() < REFUSED).map(|(_, why)| why.clone())
    }

    fn note(&self, refusal: Option<String>) {
        let refusal = refusal.map(|why| (Instant::now(), why));
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = refusal;
    }

    /// Whether a connection that was idle for so long may be dead: after a while, and when others failed meanwhile, as all do
    /// when a server restarts.
    fn is_suspect(&self, idle: Duration) -> bool {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        idle > FRESH || failed.is_some_and(|at| at.elapsed() <= idle)
    }

    fn fail(&self) {
        *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }
}

impl Database {
    /// The database that is configured, for a process that goes by this name there. Nothing is connected yet. `limit` is
    /// how long one piece of work may take, `connections` how many there may be at once.
    ///
    /// # Errors
    /// Where `DATABASE_URL` is none.
    pub fn new(settings: &PostgresqlSettings, name: &str, connections: u32, limit: Duration) -> Result<Database> {
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
                    let suspect = health.is_suspect(metadata.idle_for);
                    Box::pin(async move { if suspect { Ok(connection.ping().await.is_ok()) } else { Ok(true) } })
                }
            })
            .after_connect(move |connection, _| {
                let set = sqlx::AssertSqlSafe(set.clone());
                Box::pin(async move { sqlx::raw_sql(set).execute(connection).await.map(drop) })
            })
            .connect_lazy_with(options(settings, name)?);
        let (schema, search_cache) = (settings.schema.clone(), settings.search_cache);
        Ok(Database { pool, schema, limit, search_cache, health })
    }

    /// Our schema's name.
    pub(super) fn schema(&self) -> &str {
        &self.schema
    }

    /// How many bytes a process keeps of what searches read.
    pub(super) fn search_cache(&self) -> u64 {
        self.search_cache
    }

    /// A connection for one piece of work. Where none was to be had a moment ago, that is said at once, so that not
    /// everybody waits for the same.
    pub(super) async fn session(&self) -> Result<Session> {
        if self.pool.num_idle() == 0
            && let Some(why) = self.health.refusal()
        {
            return Err(StoreError::Unavailable(why));
        }
        let acquired = self.pool.acquire().await;
        self.health.note(acquired.as_ref().err().map(unavailable));
        Ok(Session { connection: Some(acquired?), health: self.health.clone() })
    }

    /// A connection that hears notifications.
    pub(super) async fn listener(&self) -> std::result::Result<PgListener, sqlx::Error> {
        PgListener::connect_with(&self.pool).await
    }

    /// Does a piece of work within the limit of time.
    pub(super) async fn bounded<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        self.bounded_by(self.limit, work).await
    }

    /// Does a piece of work within a limit of its own.
    pub(super) async fn bounded_by<T>(&self, limit: Duration, work: impl Future<Output = Result<T>>) -> Result<T> {
        let too_long = |_| Err(StoreError::TooLong(TOO_LONG.to_owned()));
        tokio::time::timeout(limit + MARGIN, work).await.unwrap_or_else(too_long)
    }
}

fn options(settings: &PostgresqlSettings, name: &str) -> Result<PgConnectOptions> {
    let options = match &settings.server {
        Server::Url(url) => url
            .0
            .parse::<PgConnectOptions>()
            .map_err(|error| StoreError::Unavailable(format!("DATABASE_URL cannot be used: {error}")))?,
        Server::Parts { host, port, user, password, database } => {
            let options = PgConnectOptions::new_without_pgpass().port(*port).username(user).database(database);
            let options = if host.starts_with('/') { options.socket(host) } else { options.host(host) };
            let options = options.ssl_mode(PgSslMode::Prefer);
            if password.0.is_empty() { options } else { options.password(&password.0) }
        }
    };
    Ok(options.application_name(name).log_slow_statements(tracing::log::LevelFilter::Warn, Duration::from_secs(2)))
}

/// A connection that goes back to the pool only from work that was finished: one on which something failed, or whose
/// work was given up, is closed.
#[derive(Debug)]
pub(super) struct Session {
    connection: Option<PoolConnection<Postgres>>,
    health: Arc<Health>,
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
            _ => StoreError::Unavailable(unavailable(&error)),
        }
    }
}

const TOO_LONG: &str =
    "It took PostgreSQL longer than it may take; ask for less, or raise DPD_POSTGRESQL_TIMEOUT_SECONDS.";

/// What a caller is told. Addresses and statements stay out of it.
fn unavailable(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::PoolTimedOut => "PostgreSQL takes no connection, or all that there may be are in use".to_owned(),
        sqlx::Error::Io(error) => format!("PostgreSQL cannot be reached: {error}"),
        sqlx::Error::Database(error) => format!("PostgreSQL says: {}", error.message()),
        other => format!("PostgreSQL cannot be used: {other}"),
    }
}
